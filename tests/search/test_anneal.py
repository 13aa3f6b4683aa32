"""Annealing narrows around good trials."""

from __future__ import annotations

import functools
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp

from sparktune.search import anneal
from tests.search.conformance import SuggestConformance, domain_of, end, trials_with
from tests.search.spaces import CONDITIONAL, config_of

pytestmark = pytest.mark.unit


class TestAnneal(SuggestConformance):
    suggest = staticmethod(anneal.suggest)
    name = "sparktune.search.anneal:suggest"


def values(n_trials: int, outcome: str, n: int = 400, **options: float) -> Any:
    """Suggested ``x`` after one good trial at 0.6 and ``n_trials`` others."""
    domain = domain_of({"x": hp.uniform("x", 0, 1)})
    trials = trials_with(domain, ["good"] + [outcome] * n_trials)
    trials._dynamic_trials[0]["misc"]["vals"]["x"] = [0.6]
    suggest = functools.partial(anneal.suggest, **options)
    return np.array([config_of(d)["x"] for d in suggest(list(range(1000, 1000 + n)), domain, trials, 0)])


def test_the_neighbourhood_is_hyperopts() -> None:
    for n_trials, outcome in ((1, "raised"), (9, "running"), (99, "running")):
        n_counted = 1 if outcome == "raised" else 1 + n_trials
        half = 0.5 / (1 + 0.1 * n_counted)
        found = values(n_trials, outcome)
        centre = min(0.6, 1 - half)  # moved to fit into the bounds
        assert centre - half <= found.min() < centre - 0.9 * half
        assert centre + 0.9 * half < found.max() <= centre + half


def test_one_of_the_best_is_chosen() -> None:
    found = values(99, "fair", avg_best_idx=1, shrink_coef=10)
    assert np.all(np.abs(found - 0.6) < 1e-3)
    spread = values(99, "fair", avg_best_idx=3, shrink_coef=10)
    assert np.mean(np.abs(spread - 0.6) < 1e-3) == pytest.approx(1 / 3, abs=0.08)


def test_values_of_one_trial_stay_together() -> None:
    domain = domain_of(CONDITIONAL)
    trials = trials_with(domain, ["good"] * 30)
    for document in trials._dynamic_trials:
        end(document, "good")
    near = functools.partial(anneal.suggest, shrink_coef=1e9)
    known = [config_of(d) for d in trials._dynamic_trials]
    for document in near(list(range(100, 150)), domain, trials, 0):
        config = config_of(document)
        matching = [c for c in known if abs(c["lr"] - config["lr"]) < 1e-6 * c["lr"]]
        assert [c["model"] for c in matching] == [config["model"]] or config["lr"] not in (
            c["lr"] for c in known
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"avg_best_idx": 0.5}, "avg_best_idx is 0.5"), ({"shrink_coef": -1}, "shrink_coef is -1")],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anneal.suggest([0], domain_of(CONDITIONAL), hyperopt.Trials(), 0, **options)


def test_it_finds_what_hyperopts_finds() -> None:
    def loss(p: dict[str, float]) -> float:
        return sum((value - 0.3) ** 2 for value in p.values())

    space = {label: hp.uniform(label, 0, 1) for label in "abcd"}

    def best(algo: Any, seed: int) -> float:
        trials = hyperopt.Trials()
        rng = np.random.default_rng(seed)
        hyperopt.fmin(loss, space, algo, 100, trials=trials, rstate=rng, show_progressbar=False)
        return float(min(trials.losses()))

    ours, theirs = ([best(a.suggest, s) for s in range(6)] for a in (anneal, hyperopt.anneal))
    assert np.median(ours) < 2 * np.median(theirs)
