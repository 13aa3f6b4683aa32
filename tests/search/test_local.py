"""Local search changes one thing of the best."""

from __future__ import annotations

import functools
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from hyperopt.base import JOB_STATE_DONE, STATUS_OK

from sparktune.search import local
from tests.search.conformance import SuggestConformance, domain_of, trials_with
from tests.search.spaces import CONDITIONAL, FINITE, FINITE_SIZE, config_of

pytestmark = pytest.mark.unit


class TestLocal(SuggestConformance):
    suggest = staticmethod(local.suggest)
    name = "sparktune.search.local:suggest"


BEST = {"lr": 0.1, "model": 0, "C": 1.5, "shared": 0.25, "shared choice": 1, "seed": 3}


def trials_with_best(domain: hyperopt.Domain) -> hyperopt.Trials:
    trials = trials_with(domain, ["fair"] * 9 + ["good", "early terminated", "failed with a loss"])
    misc = trials._dynamic_trials[9]["misc"]
    misc["vals"] = {label: [BEST[label]] if label in BEST else [] for label in misc["vals"]}
    return trials


def test_one_hyperparameter_changes() -> None:
    domain = domain_of(CONDITIONAL)
    trials = trials_with_best(domain)
    only_local = functools.partial(local.suggest, probab_local=1)
    changes = set()
    for document in only_local(list(range(100, 400)), domain, trials, 0):
        config = config_of(document)
        changed = {label for label, value in BEST.items() if label in config and config[label] != value}
        assert len(changed) == 1
        changes |= changed
        if config["model"] in (0, 2):
            assert ("shared" in changed) != (config["shared"] == BEST["shared"])  # kept in both branches
    assert changes == set(BEST)


def test_random_first_and_at_times() -> None:
    domain = domain_of(CONDITIONAL)
    few = trials_with(domain, ["good"] * 2 + ["running"] * 2)
    first = local.suggest([10], domain, few, 3)[0]
    assert config_of(first)["lr"] not in {config_of(d)["lr"] for d in few._dynamic_trials}
    trials = trials_with_best(domain)
    never = functools.partial(local.suggest, probab_local=0)
    assert all(config_of(d)["lr"] != BEST["lr"] for d in never(list(range(50)), domain, trials, 0))


def test_a_finite_space_is_searched_without_repeats() -> None:
    trials = hyperopt.Trials()
    hyperopt.fmin(
        lambda p: p["width"],
        FINITE,
        local.suggest,
        60,
        trials=trials,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
    )
    assert len({str(d["misc"]["vals"]) for d in trials.trials}) == 60
    assert FINITE_SIZE > 60


def test_an_exhausted_space_is_searched_on() -> None:
    domain = domain_of({"x": hp.randint("x", 3)})
    trials = trials_with(domain, ["good"] * 20)
    assert len(local.suggest([30, 31], domain, trials, 0)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_init_random": -1}, "num_init_random is -1"), ({"probab_local": 1.5}, "probab_local is 1.5")],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        local.suggest([0], domain_of(FINITE), hyperopt.Trials(), 0, **options)


def test_it_beats_random_search() -> None:
    def loss(p: dict[str, float]) -> float:
        return sum((value - 0.3) ** 2 for value in p.values())

    space = {label: hp.uniform(label, 0, 1) for label in "abcdef"}

    def best(algo: Any, seed: int) -> float:
        trials = hyperopt.Trials()
        rng = np.random.default_rng(seed)
        hyperopt.fmin(loss, space, algo, 100, trials=trials, rstate=rng, show_progressbar=False)
        assert all(d["state"] == JOB_STATE_DONE and d["result"]["status"] == STATUS_OK for d in trials.trials)
        return min(trials.losses())

    ours = [best(local.suggest, seed) for seed in range(5)]
    assert np.median(ours) < np.median([best(hyperopt.rand.suggest, seed) for seed in range(5)]) / 2
