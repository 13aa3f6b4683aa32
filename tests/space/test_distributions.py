"""A dict of scipy.stats distributions is a search space."""

from __future__ import annotations

import math
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from scipy import stats

import sparktune
from sparktune.errors import InvalidSpace
from sparktune.space.distributions import as_space
from sparktune.space.search_space import SearchSpace

FROZEN = {
    "uniform": stats.uniform(2, 3),
    "keywords": stats.uniform(loc=-1, scale=2),
    "loguniform": stats.loguniform(1e-2, 10),
    "reciprocal": stats.reciprocal(1, 10, scale=2),
    "randint": stats.randint(32, 40),
    "shifted": stats.randint(0, 3, loc=5),
    "norm": stats.norm(1, 2),
    "lognorm": stats.lognorm(0.5, scale=math.exp(1)),
}


@pytest.mark.parametrize("name", FROZEN)
def test_the_distribution_is_the_same(name: str) -> None:
    space = as_space({"x": FROZEN[name]})
    ours = SearchSpace(space).sample(2000, np.random.default_rng(0))[:, 0]
    theirs = FROZEN[name].rvs(2000, random_state=1)
    if name in ("randint", "shifted"):
        assert set(ours) == set(theirs)
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_fmin_and_space_eval_take_it() -> None:
    space = {
        "lr": stats.loguniform(1e-5, 1),
        "model": hp.choice("model", [{"name": "svm", "C": stats.lognorm(1)}, {"depth": stats.randint(1, 9)}]),
        "fixed": 3,
    }
    for trials in (sparktune.SimulatedTrials(), hyperopt.Trials()):
        best = sparktune.fmin(
            lambda p: p["lr"] + p["fixed"],
            space,
            hyperopt.rand.suggest,
            15,
            trials=trials,
            rstate=0,
            show_progressbar=False,
        )
        assert set(best) in ({"lr", "model", "C"}, {"lr", "model", "depth"})
        point = sparktune.space_eval(space, best)
        assert point["lr"] == best["lr"]
        assert point["fixed"] == 3
    point = sparktune.fmin(
        lambda p: p["lr"],
        space,
        hyperopt.rand.suggest,
        3,
        trials=sparktune.SimulatedTrials(),
        return_argmin=False,
        show_progressbar=False,
    )
    assert 1e-5 <= point["lr"] <= 1


def test_hyperopts_fmin_takes_it_with_our_trials() -> None:
    trials = sparktune.SimulatedTrials()
    space = {"x": stats.uniform(0, 1)}
    hyperopt.fmin(lambda p: p["x"], space, hyperopt.rand.suggest, 3, trials=trials, show_progressbar=False)
    assert len(trials) == 3


def labels(space: Any) -> set[str]:
    return {p.label for p in SearchSpace(as_space(space)).parameters}


def test_labels_are_keys_and_paths_where_keys_clash() -> None:
    u = stats.uniform(0, 1)
    assert labels({"a": {"x": u}, "b": {"y": u}}) == {"x", "y"}
    assert labels({"a": {"lr": u}, "b": {"lr": u}}) == {"a.lr", "b.lr"}
    assert labels({"model": hp.choice("model", [{"C": u}, {"C": u}])}) == {"model", "model.0.C", "model.1.C"}
    assert labels({"m": hp.choice("model", [[u], 0.5])}) == {"model", "m.model.0.0"}
    assert labels({"layers": [u, u]}) == {"layers.0", "layers.1"}
    assert labels({"lr": u, "b": {"rate": hp.uniform("lr", 0, 1)}} | {"lr": {"x": u}}) == {"x", "lr"}


def test_other_spaces_are_left_as_they_are() -> None:
    options = [stats.norm(), stats.t(3)]
    space = {"x": hp.uniform("x", 0, 1), "f": abs, "n": np.arange(3), "noise": hp.choice("noise", options)}
    assert as_space(space) is space
    unfrozen = {"family": stats.norm, "test": stats.ttest_ind}
    assert as_space(unfrozen) is unfrozen


def test_the_users_own_space_is_not_changed() -> None:
    shared = hp.uniform("shared", 0, 1)
    space = hyperopt.pyll.as_apply({"c": hp.choice("c", [{"s": shared, "x": stats.norm()}, {"s": shared}])})
    before = str(space)
    assert labels(space) == labels(space) == {"c", "shared", "x"}
    assert str(space) == before


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"x": stats.beta(1, 2)}, "'x' is scipy.stats' beta.*use one of lognorm, loguniform, norm, randint"),
        ({"x": stats.bernoulli(0.3)}, "'x' is scipy.stats' bernoulli"),
        ({"x": stats.loguniform(1, 2, loc=3)}, "'x' is loguniform with loc=3"),
        ({"x": stats.lognorm(1, loc=3)}, "'x' is lognorm with loc=3"),
        ({"x": stats.uniform(0, -1)}, "'x'.*0, -1"),
        ({"x": stats.norm(0, -1)}, "sigma of 'x'.*is -1"),
        ({"x": stats.randint(5, 2)}, "'x'.*no options"),
        ({"x": stats.loguniform(-1, 2)}, "'x' is loguniform.-1, 2, scale=1.; it needs 0 < a < b"),
        ({"x": stats.lognorm(1, scale=0)}, "'x' is lognorm.1, scale=0."),
        ({"x": stats.norm([0, 1], 1)}, "'x' is scipy.stats' norm of arrays"),
        (stats.norm(), "needs a name"),
        ({"lr": stats.norm(), "b": hp.uniform("lr", 0, 1)}, "the label 'lr' of a scipy.stats.*another"),
    ],
)
def test_what_cannot_be_a_space(space: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        sparktune.fmin(
            lambda p: 0.0, space, hyperopt.rand.suggest, 1, trials=sparktune.SimulatedTrials(), verbose=False
        )
