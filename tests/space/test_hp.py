"""Scalings beyond hyperopt's: reverse-logarithmic and auto."""

from __future__ import annotations

import functools
import math
from typing import Any

import hyperopt
import numpy as np
import pytest
from hypothesis import given, strategies as st

import sparktune
from sparktune import hp, local
from sparktune.errors import InvalidPoint, InvalidSpace
from sparktune.space.search_space import SearchSpace
from sparktune.space.view import SpaceView

SPACE = {"momentum": hp.reverseloguniform("momentum", 0.5, 0.999)}
ALGORITHMS = {
    "rand": sparktune.rand.suggest,
    "sobol": sparktune.sobol.suggest,
    "anneal": sparktune.anneal.suggest,
    "local": local.suggest,
    "hyperopt.rand": hyperopt.rand.suggest,
    "hyperopt.tpe": hyperopt.tpe.suggest,
    "hyperopt.anneal": hyperopt.anneal.suggest,
}


def values(space: Any, n: int = 2000) -> Any:
    return sparktune.sample(space, n, 0).iloc[:, 0].to_numpy()


def test_reverse_log_is_uniform_in_the_logarithm_of_the_distance_to_one() -> None:
    found = values(hp.reverseloguniform("m", 0, 0.9999))
    assert found.min() >= 0
    assert found.max() <= 0.9999 + 1e-12
    # As many from 0 to 0.9 as from 0.9 to 0.99, and so on.
    counts, _ = np.histogram(found, [0, 0.9, 0.99, 0.999, 0.9999])
    assert counts == pytest.approx([500] * 4, abs=100)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("loop", ["sparktune", "hyperopt"])
def test_every_algorithm_searches_it(name: str, loop: str) -> None:
    trials = sparktune.SimulatedTrials() if loop == "sparktune" else hyperopt.Trials()
    fmin = (sparktune if loop == "sparktune" else hyperopt).fmin
    seen: list[Any] = []

    def loss(point: Any) -> float:
        seen.append(point["momentum"])
        return abs(point["momentum"] - 0.99)

    rng = np.random.default_rng(0)
    best = fmin(loss, SPACE, ALGORITHMS[name], 30, trials=trials, rstate=rng, show_progressbar=False)
    assert all(type(value) is float and 0.5 - 1e-12 <= value <= 0.999 + 1e-12 for value in seen)
    point = min(seen, key=lambda value: abs(value - 0.99))
    assert best["momentum"] == pytest.approx(math.log(1 - point))
    assert (
        sparktune.space_eval(SPACE, best)["momentum"] == hyperopt.space_eval(SPACE, best)["momentum"] == point
    )
    if isinstance(trials, sparktune.SimulatedTrials):
        assert trials.best_params == {"momentum": point}
        assert trials.to_dataframe()["momentum"].tolist() == seen


@pytest.mark.parametrize("make", [sparktune.SimulatedTrials, hyperopt.Trials])
def test_points_may_be_given_by_value_or_raw(make: Any) -> None:
    seen: list[float] = []
    points = [{"momentum": 0.9}, {"momentum": math.log(0.05)}]
    sparktune.fmin(
        lambda p: seen.append(p["momentum"]) or 0.0,
        SPACE,
        sparktune.rand.suggest,
        2 if make is hyperopt.Trials else 0,
        trials=make(),
        points_to_evaluate=points,
        show_progressbar=False,
    )
    assert seen[:2] == pytest.approx([0.9, 0.95])


def test_the_best_of_one_search_begins_another() -> None:
    options: dict[str, Any] = {"algo": sparktune.rand.suggest, "show_progressbar": False}
    loss = functools.partial(lambda p: (p["momentum"] - 0.97) ** 2)
    best = sparktune.fmin(loss, SPACE, max_evals=5, trials=sparktune.SimulatedTrials(), **options)
    again = sparktune.fmin(
        loss, SPACE, max_evals=0, trials=sparktune.SimulatedTrials(), points_to_evaluate=[best], **options
    )
    assert again == best


def test_a_point_of_one_or_more_is_refused() -> None:
    with pytest.raises(
        InvalidPoint, match=r"sets 'momentum' to 1.5; hp.reverseloguniform has values below 1"
    ):
        SpaceView(SPACE).checked_point({"momentum": 1.5})


def test_other_expressions_of_that_form_are_no_reverse_logs() -> None:
    """Positive raw values of theirs are not taken for values."""
    space = {"x": 1 - hyperopt.pyll.scope.exp(hp.uniform("x", -1, 2))}
    assert SpaceView(space).checked_point({"x": 0.5}) == {"x": 0.5}
    assert SpaceView(space).params({"x": 0.5}) == {"x": 1 - math.exp(0.5)}


@given(st.floats(0, 0.99), st.floats(1e-6, 1))
def test_values_stay_inside_their_bounds(low: float, share: float) -> None:
    high = low + share * (0.9999 - low)
    node = {"m": hp.reverseloguniform("m", low, high)}
    found = values(node, 50)
    assert np.all(found >= low - 1e-12)
    assert np.all(found <= high + 1e-12)
    assert np.all(found >= 0)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.5, 1, r"hp.reverseloguniform\('m', 0.5, 1\).*needs 0 <= low < high < 1; give a high like 0.999"),
        (-0.1, 0.5, r"'m', -0.1, 0.5"),
        (0.9, 0.9, r"'m', 0.9, 0.9"),
        (0.9, 0.1, r"'m', 0.9, 0.1"),
        ("a", 0.1, r"low of hp.reverseloguniform\('m'\) is 'a'; it must be a finite number"),
        (0, math.nan, r"high of hp.reverseloguniform\('m'\) is nan"),
        (False, 0.5, r"low of hp.reverseloguniform\('m'\) is False"),
    ],
)
def test_wrong_bounds_of_reverse_log(low: Any, high: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        hp.reverseloguniform("m", low, high)


@pytest.mark.parametrize(
    ("low", "high", "like"),
    [
        (1e-5, 1, hp.loguniform("x", math.log(1e-5), 0)),
        (1, 100, hp.loguniform("x", 0, math.log(100))),
        (1, 99, hp.uniform("x", 1, 99)),
        (0, 1000, hp.uniform("x", 0, 1000)),
        (-5, 5, hp.uniform("x", -5, 5)),
        (0, 1, hp.uniform("x", 0, 1)),
        (0.9, 0.999, hp.reverseloguniform("x", 0.9, 0.999)),
        (0, 0.99, hp.reverseloguniform("x", 0, 0.99)),
        (0, 0.95, hp.uniform("x", 0, 0.95)),
        (0.001, 0.999, hp.uniform("x", 0.001, 0.999)),
    ],
)
def test_auto_takes_the_scale_of_the_range(low: float, high: float, like: Any) -> None:
    assert SearchSpace(hp.auto("x", low, high)).parameters == SearchSpace(like).parameters


@pytest.mark.parametrize(("low", "high"), [(1, 0), (1, 1), (0, math.inf), (None, 1)])
def test_wrong_bounds_of_auto(low: Any, high: Any) -> None:
    with pytest.raises(InvalidSpace, match="'x'"):
        hp.auto("x", low, high)


def test_what_hyperopt_refuses_is_told_with_the_label() -> None:
    message = r"hp.uniform\('lr', 2, 1\): low should be less than high: 2 is not smaller than 1"
    with pytest.raises(InvalidSpace, match=message):
        hp.uniform("lr", 2, 1)
    with pytest.raises(ValueError, match=r"hp.quniform\('lr', low=2, high=1, q=1\): low should"):
        hp.quniform("lr", low=2, high=1, q=1)
    with pytest.raises(TypeError, match="require string label"):
        hp.uniform(1, 0, 1)


def test_a_choice_of_nothing_can_be_built_as_in_hyperopt() -> None:
    with pytest.raises(InvalidSpace, match=r"hp.choice or hp.randint\('c'\) has no options"):
        sparktune.fmin(abs, hp.choice("c", []), trials=sparktune.SimulatedTrials())
    with pytest.raises(InvalidSpace, match=r"hp.pchoice\('c', \[\]\)"):
        hp.pchoice("c", [])


def test_nodes_are_hyperopts() -> None:
    assert str(hp.qlognormal("x", 0, 1, q=2)) == str(hyperopt.hp.qlognormal("x", 0, 1, q=2))
    assert hp.uniform.__name__ == "uniform"
