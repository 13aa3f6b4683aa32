"""The space as people see it: values rather than indices, active branches only, points checked."""

from __future__ import annotations

from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from hyperopt.pyll import scope
from hypothesis import given, strategies as st

from sparktune.errors import InvalidPoint
from sparktune.space.view import SpaceView

pytestmark = pytest.mark.unit

MODELS = {
    "scale": hp.choice("scale", ["none", "standard", None]),
    "model": hp.choice(
        "model",
        [
            {
                "name": "svm",
                "C": hp.lognormal("C", 0, 1),
                "kernel": hp.choice(
                    "kernel", ["linear", {"type": "rbf", "gamma": hp.uniform("gamma", 0, 1)}]
                ),
            },
            {"name": "forest", "depth": scope.int(hp.quniform("depth", 1, 20, 1))},
            {"name": "nothing"},
        ],
    ),
}


def params(space: Any, config: dict[str, Any]) -> dict[str, Any]:
    return SpaceView(space).params(config)


def test_labels() -> None:
    assert set(SpaceView(MODELS).labels) == {"scale", "model", "C", "kernel", "gamma", "depth"}


def test_choices_are_values() -> None:
    assert params(MODELS, {"scale": 1, "model": 0, "C": 2.5, "kernel": 0}) == {
        "scale": "standard",
        "model": "svm",
        "C": 2.5,
        "kernel": "linear",
    }
    assert params(MODELS, {"scale": 2, "model": 2}) == {"scale": None, "model": {"name": "nothing"}}


def test_nested_choice_names_its_branch() -> None:
    config = {"scale": 0, "model": 0, "C": 1.0, "kernel": 1, "gamma": 0.5}
    assert params(MODELS, config)["kernel"] == "rbf"
    assert SpaceView(MODELS).active_labels(config) == {"scale", "model", "C", "kernel", "gamma"}


INNER = hp.choice("inner", ["standard", "minmax"])
DEEP = hp.choice(
    "a",
    [
        hp.choice("b", [hp.pchoice("c", [(0.5, "p"), (0.5, 7)]), "r"]),
        hp.choice("d", [{"name": "svm", "C": hp.uniform("C", 0, 1)}, None]),
        hp.uniform("u", 0, 1),
        hp.randint("n", 3),
        scope.int(hp.quniform("q", 1, 3, 1)),
    ],
)


@pytest.mark.parametrize(
    ("space", "config", "seen"),
    [
        (hp.choice("pre", [INNER, "none"]), {"pre": 0, "inner": 1}, {"pre": "minmax", "inner": "minmax"}),
        (hp.choice("pre", [INNER, "none"]), {"pre": 0, "inner": 0}, {"pre": "standard", "inner": "standard"}),
        (hp.choice("pre", [INNER, "none"]), {"pre": 1}, {"pre": "none"}),
        (hp.choice("pre", [INNER, "none"]), {"pre": 0}, {"pre": "inner"}),  # where only the branch is known
        (DEEP, {"a": 0, "b": 0, "c": 1}, {"a": 7, "b": 7, "c": 7}),
        (DEEP, {"a": 0, "b": 1}, {"a": "r", "b": "r"}),
        (DEEP, {"a": 1, "d": 0, "C": 0.5}, {"a": "svm", "d": "svm", "C": 0.5}),
        (DEEP, {"a": 1, "d": 1}, {"a": None, "d": None}),
        (DEEP, {"a": 2, "u": 0.5}, {"a": "u", "u": 0.5}),
        (DEEP, {"a": 3, "n": 2}, {"a": "n", "n": 2}),
        (DEEP, {"a": 4, "q": 2.0}, {"a": "q", "q": 2}),
    ],
)
def test_a_choice_directly_inside_a_choice(space: Any, config: dict[str, Any], seen: dict[str, Any]) -> None:
    assert params(space, config) == seen


def test_branches_without_names_of_their_own_are_numbered() -> None:
    space = hp.choice("c", [{"a": hp.uniform("a", 0, 1)}, {"b": hp.uniform("b", 0, 1)}])
    assert params(space, {"c": 1, "b": 0.5}) == {"c": "option 1", "b": 0.5}
    same = hp.choice("c", [("x", hp.uniform("a", 0, 1)), ("x", hp.uniform("b", 0, 1))])
    assert params(same, {"c": 0, "a": 0.5}) == {"c": "option 0", "a": 0.5}


def test_pchoice() -> None:
    space = hp.pchoice("p", [(0.2, "rare"), (0.8, 7)])
    assert params(space, {"p": 0}) == {"p": "rare"}
    assert params(space, {"p": 1}) == {"p": 7}


@pytest.mark.parametrize(
    ("expression", "raw", "value"),
    [
        (scope.int(hp.quniform("x", 1, 20, 1)), 4.0, 4),
        (hp.uniformint("x", 1, 20), 4.0, 4),
        (hp.randint("x", 10), np.int64(4), 4),
        (scope.float(hp.randint("x", 10)), 4, 4),
        (hp.quniform("x", 1, 20, 1), 4.0, 4.0),
        (hp.uniform("x", 0, 1), np.float64(0.25), 0.25),
        (hp.loguniform("x", 0, 1), np.array(0.25), 0.25),
    ],
)
def test_conversions_of_the_space_are_seen(expression: Any, raw: Any, value: Any) -> None:
    seen = params({"x": expression}, {"x": raw})["x"]
    assert seen == value
    assert type(seen) is type(value)


@given(st.integers(0, 2**31 - 1))
def test_params_agree_with_what_the_objective_receives(seed: int) -> None:
    domain = hyperopt.Domain(lambda point: 0.0, MODELS)
    trials = hyperopt.Trials()
    (document,) = hyperopt.rand.suggest(trials.new_trial_ids(1), domain, trials, seed)
    config = {label: values[0] for label, values in document["misc"]["vals"].items() if values}
    view = SpaceView(domain.expr)
    assert view.active_labels(config) == set(config)
    point, seen = hyperopt.space_eval(MODELS, config), view.params(config)
    assert seen["scale"] == point["scale"]
    match point["model"]:
        case {"name": "svm", "C": penalty, "kernel": kernel}:
            assert seen["C"] == penalty
            assert seen["kernel"] == (kernel if isinstance(kernel, str) else "rbf")
        case {"name": "forest", "depth": depth}:
            assert seen["depth"] == depth
            assert type(seen["depth"]) is type(depth) is int


def test_a_point_is_reduced_to_its_active_labels() -> None:
    point = {"scale": 1.0, "model": np.int64(1), "depth": 5, "C": 3.0}
    checked = SpaceView(MODELS).checked_point(point)
    assert checked == {"scale": 1, "model": 1, "depth": 5}
    assert type(checked["model"]) is int


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"scale": 0, "model": 2, "lr": 1}, "the label 'lr', which the search space does not have"),
        ({"scale": 0}, "without a value for 'model'"),
        ({"scale": 0, "model": 1}, "without a value for 'depth'"),
        ({"scale": "none", "model": 2}, "sets 'scale' to 'none'.*give the index of the option"),
        ({"scale": 3, "model": 2}, "hp.choice takes the index of an option, 0 to 2"),
        ({"scale": 0.5, "model": 2}, "hp.choice takes the index"),
        ({"scale": -1, "model": 2}, "hp.choice takes the index"),
        ({"scale": float("nan"), "model": 2}, "hp.choice takes the index"),
        ({"scale": True, "model": 2}, "which is not a number"),
        ({"scale": 0, "model": 1, "depth": "5"}, "sets 'depth' to '5', which is not a number"),
        ({"scale": 0, "model": 1, "depth": float("nan")}, "sets 'depth' to nan; it must be finite"),
        ({"scale": 0, "model": 1, "depth": np.float32("inf")}, "sets 'depth' to .*inf.*; it must be finite"),
        ({"scale": 0, "model": 1, "depth": -(10**400)}, "sets 'depth' to -1000.*; it must be finite"),
        ({"scale": 10**400, "model": 2}, "hp.choice takes the index"),
        ([1, 2], "each point must be a dict"),
    ],
)
def test_wrong_points_are_refused(point: Any, message: str) -> None:
    with pytest.raises(InvalidPoint, match=message):
        SpaceView(MODELS).checked_point(point)


@pytest.mark.parametrize(
    ("index", "values"),
    [
        (hp.uniformint("i", 0, 1), (0, 1)),
        (scope.int(hp.quniform("i", 0, 2, 1)), (0.0, 1.0)),
        (scope.sub(hp.randint("i", 1, 3), 1), (1, 2)),
        (scope.sub(2, hp.choice("i", [1, 2])), (1, 0)),
    ],
)
def test_points_of_a_computed_choice_need_the_labels_of_their_branch(index: Any, values: Any) -> None:
    view = SpaceView({"m": scope.switch(index, hp.uniform("x", 0, 1), hp.uniform("y", 0, 1))})
    for value, label, other in zip(values, "xy", "yx", strict=True):
        assert view.checked_point({"i": value, label: 0.5, other: 0.1}) == {"i": value, label: 0.5}
        with pytest.raises(InvalidPoint, match=f"without a value for '{label}'"):
            view.checked_point({"i": value, other: 0.5})
