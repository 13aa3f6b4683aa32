"""Optuna's samplers as search algorithms."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import pickle
import sys
import warnings
from functools import partial
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_RUNNING, STATUS_OK

from sparktune import Searcher, optuna_sampler
from sparktune.errors import OptunaNotAvailable
from sparktune.search.samplers.dimensions import dimension
from sparktune.search.samplers.mirror import Mirror
from sparktune.search.samplers.seeding import reseed
from sparktune.space.search_space import SearchSpace, space_of
from sparktune.space.view import SpaceView
from sparktune.study.spec import algorithm_name
from tests.search.conformance import OUTCOMES, SuggestConformance, config_of, domain_of, end, trials_with
from tests.search.spaces import CONDITIONAL, KINDS, assert_point_fits

optuna = pytest.importorskip("optuna")
samplers = optuna.samplers
HAS_CMAES = importlib.util.find_spec("cmaes") is not None

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some samplers are experimental to Optuna
    tpe = optuna_sampler(samplers.TPESampler(n_startup_trials=5))
    grouped = optuna_sampler(
        samplers.TPESampler(multivariate=True, group=True, n_startup_trials=5, constant_liar=True)
    )
    random = optuna_sampler(samplers.RandomSampler())
    nsga = optuna_sampler(samplers.NSGAIISampler(population_size=6))
    qmc = optuna_sampler(samplers.QMCSampler(scramble=True, seed=3, warn_independent_sampling=False))
    ALL = {"tpe": tpe, "grouped": grouped, "random": random, "nsga": nsga, "qmc": qmc}
    if HAS_CMAES:
        cma = optuna_sampler(samplers.CmaEsSampler(popsize=6, warn_independent_sampling=False))
        ALL["cma"] = cma


class OfOptuna(SuggestConformance):
    def test_golden_points(self) -> None:
        pytest.skip("the points are Optuna's, and change with its version")


class TestTpe(OfOptuna):
    suggest = staticmethod(tpe)
    name = "tests.search.test_optuna_sampler:tpe"


class TestGrouped(OfOptuna):
    suggest = staticmethod(grouped)
    name = "tests.search.test_optuna_sampler:grouped"


class TestRandom(OfOptuna):
    suggest = staticmethod(random)
    name = "tests.search.test_optuna_sampler:random"


class TestNsga(OfOptuna):
    suggest = staticmethod(nsga)
    name = "tests.search.test_optuna_sampler:nsga"

    def test_points_of_a_continuous_space_are_distinct(self) -> None:
        pytest.skip("a child may be its parents' copy")


class TestQmc(OfOptuna):
    suggest = staticmethod(qmc)
    name = "tests.search.test_optuna_sampler:qmc"


@pytest.mark.skipif(not HAS_CMAES, reason="CmaEsSampler needs cmaes, which is not installed")
class TestCma(OfOptuna):
    suggest = staticmethod(ALL.get("cma", tpe))
    name = "tests.search.test_optuna_sampler:cma"


# -- a function of the trials and the seed -----------------------------------------------------------------


def some_end(document: dict[str, Any], i: int) -> None:
    kinds = [name for name in OUTCOMES if name not in ("running", "waiting")]
    if i % 3:
        document["state"] = JOB_STATE_DONE
        loss = sum(float(value) for value in config_of(document).values()) % 7
        document["result"] = {"status": STATUS_OK, "loss": loss}
    else:
        end(document, kinds[i // 3 % len(kinds)])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("space", [CONDITIONAL, {"x": hp.uniform("x", 0, 1), "k": hp.quniform("k", 1, 9, 2)}])
def test_a_study_that_was_kept_suggests_what_a_new_one_does(name: str, space: Any) -> None:
    """Six trials at once, which end in some order. Each suggestion is made twice: pickled, and as it is."""
    suggest, domain, trials = ALL[name], domain_of(space), hyperopt.Trials()
    for i in range(60):
        restored = pickle.loads(pickle.dumps(trials))
        fresh = pickle.loads(pickle.dumps(suggest))(
            restored.new_trial_ids(1 + i % 2), domain_of(space), restored, i
        )
        documents = suggest(trials.new_trial_ids(1 + i % 2), domain, trials, i)
        assert [d["misc"] for d in documents] == [d["misc"] for d in fresh]
        json.dumps([d["misc"] for d in documents])
        trials.insert_trial_docs(documents)
        trials.refresh()
        running = [d for d in trials._dynamic_trials if d["state"] not in (2, 3, 4)]
        for document in running:
            document["state"] = JOB_STATE_RUNNING
        while len(running) > 6:
            some_end(running.pop(i * 5 % len(running)), i)
    assert sum(document["state"] == JOB_STATE_DONE for document in trials._dynamic_trials) > 40


def test_a_suggestion_that_was_not_taken_is_forgotten() -> None:
    domain = domain_of({"x": hp.uniform("x", 0, 1)})
    trials = trials_with(domain, ["good", "fair"] * 10)
    first = tpe([20], domain, trials, 1)
    tpe([21], domain, trials, 2)
    assert config_of(tpe([20], domain, trials, 1)[0]) == config_of(first[0])


def test_generations_go_on_in_a_restored_study() -> None:
    domain, trials = domain_of({"x": hp.uniform("x", 0, 1)}), hyperopt.Trials()
    for i in range(30):
        trials = pickle.loads(pickle.dumps(trials))
        trials.insert_trial_docs(nsga(trials.new_trial_ids(1), domain, trials, i))
        some_end(trials._dynamic_trials[-1], 1)
        trials.refresh()
    generations = [
        next(value for key, value in d["misc"]["optuna"]["trial"].items() if key.endswith("generation"))
        for d in trials._dynamic_trials
    ]
    assert generations == [i // 6 for i in range(30)]


def test_parents_of_another_study_are_not_taken_for_trials_of_this_one() -> None:
    """A warm start: trials of an earlier study stand before this one's, without those that failed."""
    domain, trials = domain_of({"x": hp.uniform("x", 0, 1)}), hyperopt.Trials()
    for i in range(20):
        trials.insert_trial_docs(nsga([i], domain, trials, i))
        some_end(trials._dynamic_trials[-1], 1)
        trials.refresh()

    def parents(documents: list[Any]) -> set[str]:
        mirror = Mirror(space_of(domain), SpaceView(domain.expr), "NSGAIISampler")
        mirror.follow(documents)
        return {key for key in mirror._storage.get_study_system_attrs(mirror._study_id) if "parent" in key}

    assert len(parents(trials._dynamic_trials)) == 3
    assert not parents(trials._dynamic_trials[1:])
    later = hyperopt.Trials()
    later._dynamic_trials.extend(trials._dynamic_trials[3:])
    assert len(nsga([20], domain, later, 0)) == 1


def test_a_sequence_goes_on_across_calls() -> None:
    """QMC: the points of eight calls are those of one sequence, a point per cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suggest = optuna_sampler(partial(samplers.QMCSampler, scramble=True))
        space = {"x": hp.uniform("x", 0, 1)}
        domain, trials = domain_of(space), trials_with(domain_of(space), ["good"])
        for i in range(16):
            trials.insert_trial_docs(suggest(trials.new_trial_ids(1), domain, trials, 100 + i))
            trials.refresh()
        x = [config_of(d)["x"] for d in trials._dynamic_trials[1:]]
        assert sorted(int(16 * value) for value in x) == list(range(16))
        other = config_of(suggest([1], domain, trials_with(domain, ["good"]), 7)[0])["x"]
    assert other != x[0]


def test_every_generator_is_seeded() -> None:
    def drawn(seed: int) -> list[float]:
        sampler = samplers.TPESampler()
        reseed(sampler, seed)
        return [float(s._rng.rng.random()) for s in (sampler, sampler._random_sampler)]

    assert drawn(3) == drawn(3)
    assert not set(drawn(3)) & set(drawn(4))
    assert len(set(drawn(3))) == 2
    generators = {"a": [np.random.default_rng()], "b": np.random.RandomState()}
    reseed(generators, 5)
    first = generators["a"][0].random(), generators["b"].random()
    reseed(generators, 5)
    assert first == (generators["a"][0].random(), generators["b"].random())


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_told_as_they_were_found(kind: str) -> None:
    space = SearchSpace({"x": KINDS[kind]})
    d = dimension(space.parameters[0], is_choice="choice" in kind)
    study = optuna.create_study(sampler=samplers.RandomSampler(seed=0))
    found = [study.ask({"x": d.distribution}).params["x"] for _ in range(200)]
    values = [d.value(x) for x in found]
    for value in values:
        assert_point_fits({"x": KINDS[kind]}, {"x": value})
        assert d.distribution._contains(d.distribution.to_internal_repr(d.for_optuna(value)))
        assert d.value(d.for_optuna(value)) == pytest.approx(value, rel=1e-9, abs=1e-12)
        if d.parameter.q is not None or d.parameter.is_integer:
            assert d.value(d.for_optuna(value)) == value
    of_space = space.sample(200, np.random.default_rng(0))[:, 0]
    for value in of_space:
        assert d.value(d.for_optuna(value)) == pytest.approx(value, rel=1e-9, abs=1e-12)
    if d.form != "coordinate" and len(set(of_space)) < 30 and d.parameter.kind != "normal":
        assert set(of_space) <= set(values)


@pytest.mark.parametrize(
    ("node", "is_choice", "distribution"),
    [
        (hp.quniform("x", 1, 9.5, 0.5), False, "IntDistribution(high=19, log=False, low=2, step=1)"),
        (hp.uniformint("x", 1, 20), False, "IntDistribution(high=20, log=False, low=1, step=1)"),
        (hp.randint("x", -3, 4), False, "IntDistribution(high=3, log=False, low=-3, step=1)"),
        (hp.randint("x", 1, 2_000_001), False, "IntDistribution(high=2000000, log=False, low=1, step=1)"),
        (hp.qloguniform("x", 2, 6, 1), False, "IntDistribution(high=403, log=True, low=7, step=1)"),
        (hp.qloguniform("x", -1, 4, 2), False, "FloatDistribution(high=4.0, log=False, low=-1.0, step=None)"),
        (hp.loguniform("x", -8, 1), False, "FloatDistribution(high=1.0, log=False, low=-8.0, step=None)"),
        (hp.normal("x", 3, 2), False, "FloatDistribution(high=1.0, log=False, low=0.0, step=None)"),
        (hp.quniform("x", 0, 1, 1e-12), False, "FloatDistribution(high=1.0, log=False, low=0.0, step=None)"),
        (hp.choice("x", "abc"), True, "CategoricalDistribution(choices=(0, 1, 2))"),
        (KINDS["pchoice"], True, "CategoricalDistribution(choices=(0, 2))"),
    ],
)
def test_distributions(node: Any, is_choice: bool, distribution: str) -> None:
    (parameter,) = SearchSpace(node).parameters
    assert str(dimension(parameter, is_choice=is_choice).distribution) == distribution


# -- what Optuna is told -----------------------------------------------------------------------------------


class Spy(samplers.RandomSampler):
    """Keeps what it is told of."""

    seen: list[Any] = []  # noqa: RUF012  its copies share it

    def before_trial(self, study: Any, trial: Any) -> None:
        self.seen[:] = study.get_trials()[:-1]


def test_outcomes_are_told() -> None:
    domain = domain_of({"x": hp.uniform("x", 0, 1)})
    trials = trials_with(domain, list(OUTCOMES))
    optuna_sampler(Spy())(trials.new_trial_ids(1), domain, trials, 0)
    told = {name: (t.state.name, t.value) for name, t in zip(OUTCOMES, Spy.seen, strict=True)}
    assert told == {
        "good": ("COMPLETE", 0.1),
        "fair": ("COMPLETE", 2.5),
        "whole number": ("COMPLETE", 3.0),
        "failed by its own word": ("FAIL", None),
        "failed with a loss": ("FAIL", None),
        "NaN": ("FAIL", None),
        "infinite": ("COMPLETE", math.inf),
        "raised": ("FAIL", None),
        "cancelled": ("FAIL", None),
        "timed out": ("FAIL", None),
        "early terminated": ("PRUNED", -5.0),
        "running": ("RUNNING", None),
        "waiting": ("RUNNING", None),
    }
    assert [t.params for t in Spy.seen] == [config_of(d) for d in trials._dynamic_trials]


def test_it_learns() -> None:
    searcher = Searcher({"x": hp.uniform("x", -5, 5), "c": hp.choice("c", [0, 4])}, tpe, seed=0)
    for _ in range(60):
        trial = searcher.ask()
        searcher.tell(trial, (trial.point["x"] - 3) ** 2 + trial.point["c"])
    assert searcher.best is not None
    assert searcher.best.loss < 0.05
    again = pickle.loads(pickle.dumps(searcher))
    assert again.ask().params == searcher.ask().params


# -- the function itself -----------------------------------------------------------------------------------


def test_a_factory_is_given_the_seed() -> None:
    given: list[int] = []

    def make(seed: int) -> Any:
        given.append(seed)
        return samplers.TPESampler(seed=seed)

    suggest, domain = optuna_sampler(make), domain_of({"x": hp.uniform("x", 0, 1)})
    trials = hyperopt.Trials()
    for seed in (5, 6):
        trials.insert_trial_docs(suggest(trials.new_trial_ids(1), domain, trials, seed))
    suggest(trials.new_trial_ids(1), domain, copy.deepcopy(trials), 7)
    assert given == [5, 5, 5]
    assert config_of(suggest([0], domain, hyperopt.Trials(), 5)[0]) != config_of(
        suggest([0], domain, hyperopt.Trials(), 6)[0]
    )


def test_studies_are_recorded_with_the_samplers_name() -> None:
    assert algorithm_name(tpe) == "sparktune.search.optuna_sampler.optuna_sampler(TPESampler)"
    by_class = optuna_sampler(partial(samplers.TPESampler, multivariate=False))
    assert algorithm_name(pickle.loads(pickle.dumps(by_class))) == algorithm_name(tpe)


@pytest.mark.parametrize("sampler", [None, 3, "TPESampler"])
def test_what_is_no_sampler_is_refused(sampler: Any) -> None:
    with pytest.raises(TypeError, match="it takes one of Optuna's samplers, such as"):
        optuna_sampler(sampler)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptunaNotAvailable, match=r"pip install 'sparktune\[optuna\]'"):
        optuna_sampler(lambda seed: None)
