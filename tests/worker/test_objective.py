"""The objective on a worker: what it may return, what it is called with, what it attaches."""

from __future__ import annotations

import fractions
import math
import pickle
from typing import Any

import cloudpickle
import hyperopt
import numpy as np
import pytest
from hyperopt import STATUS_FAIL, STATUS_OK, Ctrl, hp
from hyperopt.exceptions import InvalidLoss, InvalidResultStatus
from hyperopt.pyll import as_apply, rec_eval, scope
from hypothesis import given, strategies as st

from sparktune.worker.objective import STATUS_STRINGS, BadResult, Objective, ObjectiveSent, as_result

pytestmark = pytest.mark.unit

SPACE = {"x": hp.uniform("x", 0, 1), "kind": hp.choice("kind", ["a", {"y": hp.uniform("y", 0, 1)}])}


def objective(fn: Any, space: Any = SPACE, **options: Any) -> Objective:
    return Objective(fn, as_apply(space), **options)


@pytest.mark.parametrize(
    ("returned", "loss"),
    [(1, 1.0), (0.5, 0.5), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (fractions.Fraction(1, 4), 0.25)],
)
def test_numbers_are_losses(returned: Any, loss: float) -> None:
    result = as_result(returned)
    assert result == {"loss": loss, "status": STATUS_OK}
    assert type(result["loss"]) is float


def test_nan_and_infinity_pass_through() -> None:
    assert math.isnan(as_result(float("nan"))["loss"])
    assert as_result({"status": "ok", "loss": np.inf})["loss"] == math.inf


def test_dicts_keep_their_entries() -> None:
    given = {"status": STATUS_OK, "loss": np.float64(2), "auc": 0.9}
    assert as_result(given) == {"status": "ok", "loss": 2.0, "auc": 0.9}
    assert type(as_result(given)["loss"]) is float
    assert as_result({"status": STATUS_FAIL, "why": "singular"}) == {"status": "fail", "why": "singular"}
    assert as_result([("status", "ok"), ("loss", 1)]) == {"status": "ok", "loss": 1.0}


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (None, BadResult, "returned None .NoneType.; return the loss as a number"),
        ("0.5", BadResult, "returned '0.5'"),
        ([0.5], BadResult, r"returned \[0.5\] .list."),
        (
            np.array([1.5]),
            BadResult,
            r"returned array\(\[1.5\]\) .ndarray., an array.*: return loss.item\(\)",
        ),
        (np.array(1.5), BadResult, r"return loss.item\(\)"),
        (np.array([1.5, 2.5]), BadResult, "return the loss as a number"),
        ("x" * 1000, BadResult, r"x\.\.\. .str."),
        ({"loss": 0.5}, BadResult, r"has no 'status' .its keys: \['loss'\]"),
        ({"status": "great"}, InvalidResultStatus, "status 'great'; it must be one of"),
        ({"status": STATUS_OK}, InvalidLoss, "status 'ok' but no 'loss'"),
        ({"status": STATUS_OK, "loss": None}, InvalidLoss, "loss is None, which is not a number"),
        ({"status": STATUS_OK, "loss": "low"}, InvalidLoss, "loss is 'low', which is not a number"),
        ({"status": STATUS_OK, "loss": np.array(["x"])}, InvalidLoss, r"array.*: return loss.item\(\)"),
    ],
)
def test_bad_results_teach(returned: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_result(returned)


def test_it_is_called_with_the_evaluated_point() -> None:
    seen: list[Any] = []
    evaluate = objective(lambda point: seen.append(point) or 0.0).evaluate
    evaluate(0, {"x": 0.5, "kind": 0})
    evaluate(1, {"x": 0.25, "kind": 1, "y": 0.75})
    assert seen == [{"x": 0.5, "kind": "a"}, {"x": 0.25, "kind": {"y": 0.75}}]


def test_it_can_be_pickled_after_use() -> None:
    first = objective(abs, hp.uniform("x", -1, 1))
    first.evaluate(0, {"x": -0.5})
    assert pickle.loads(pickle.dumps(first)).evaluate(0, {"x": -0.25})[0]["loss"] == 0.25


def test_attachments_in_the_result_are_taken_out() -> None:
    def fn(_point: Any) -> dict[str, Any]:
        return {"status": "ok", "loss": 1, "attachments": {"model": b"bytes"}}

    assert objective(fn).evaluate(3, {"x": 0, "kind": 0}) == (
        {"status": "ok", "loss": 1.0},
        {"model": b"bytes"},
    )


@hyperopt.fmin_pass_expr_memo_ctrl
def low_level(expr: Any, memo: Any, ctrl: Any) -> dict[str, Any]:
    point = rec_eval(expr, memo=memo)
    ctrl.attachments["point"] = point
    ctrl.attachments["tid"] = ctrl.current_trial["tid"]
    return {"status": STATUS_OK, "loss": point["x"], "attachments": {"more": 1}}


def test_pass_expr_memo_ctrl_and_attachments_both_ways() -> None:
    result, attachments = objective(low_level, pass_expr_memo_ctrl=True).evaluate(7, {"x": 0.5, "kind": 0})
    assert result == {"status": "ok", "loss": 0.5}
    assert attachments == {"point": {"x": 0.5, "kind": "a"}, "tid": 7, "more": 1}


def test_ctrl_as_a_part_of_the_space() -> None:
    def fn(point: Any) -> float:
        point["ctrl"].attachments["seen"] = point["x"]
        return float(point["x"])

    space = {"x": hp.uniform("x", 0, 1), "ctrl": as_apply(Ctrl)}
    result, attachments = objective(fn, space).evaluate(0, {"x": 0.5})
    assert (result["loss"], attachments) == (0.5, {"seen": 0.5})


def test_results_cannot_be_injected_from_a_worker() -> None:
    def fn(expr: Any, memo: Any, ctrl: Any) -> None:
        ctrl.inject_results([], [], [])

    with pytest.raises(NotImplementedError, match="not possible on a Spark worker"):
        objective(fn, pass_expr_memo_ctrl=True).evaluate(0, {"x": 0.5, "kind": 0})


def test_expressions_are_evaluated() -> None:
    space = scope.int(hp.quniform("n", 1, 9, 1)) + 1
    assert objective(lambda n: n, space).evaluate(0, {"n": 3.0})[0]["loss"] == 4.0


def test_what_it_raises_leaves_it() -> None:
    with pytest.raises(ZeroDivisionError):
        objective(lambda _point: 1 / 0).evaluate(0, {"x": 0, "kind": 0})


# -- on its way to a worker --------------------------------------------------------------------------------


class Model:
    """What a choice gives."""


def sent(whole: Objective) -> ObjectiveSent:
    found = pickle.loads(cloudpickle.dumps(whole))
    assert isinstance(found, ObjectiveSent)
    return found


def test_the_statuses_are_hyperopts() -> None:
    assert STATUS_STRINGS == hyperopt.STATUS_STRINGS
    assert STATUS_OK == hyperopt.STATUS_OK


@given(st.data())
def test_a_point_that_was_made_before_is_the_one_that_the_worker_makes(data: st.DataObject) -> None:
    model = Model()
    space = {
        "x": hp.uniform("x", 0, 1),
        "whole": scope.int(hp.quniform("q", 0, 9, 1)),
        "kind": hp.choice("kind", [("a", model), {"y": 2 * hp.normal("y", 0, 1), "m": model}, None]),
    }
    whole = objective(lambda point: {"status": "ok", "loss": 0.0, "point": point}, space)
    kind = data.draw(st.integers(0, 2))
    config = {"x": data.draw(st.floats(0, 1)), "q": float(data.draw(st.integers(0, 9))), "kind": kind}
    if kind == 1:
        config["y"] = data.draw(st.floats(-9, 9))
    made = whole.point(config)
    assert made is not None
    theirs = sent(whole)
    [theirs_model] = {id(literal): literal for literal in theirs.literals}.values()
    before = theirs.evaluate(0, {}, made)[0]["point"]
    there = theirs.evaluate(0, config)[0]["point"]
    here = whole.evaluate(0, config)[0]["point"]

    def shown(point: Any, own: Any) -> str:
        return repr(point).replace(repr(own), "the model")

    assert shown(before, theirs_model) == shown(there, theirs_model) == shown(here, model)


def test_a_large_object_in_a_space_is_sent_once() -> None:
    data = np.zeros(1_000_000)
    made = objective(abs, {"data": hp.choice("c", [data, data[:3]]), "x": hp.uniform("x", 0, 1)}).point(
        {"c": 0, "x": 0.5}
    )
    assert made is not None
    assert len(made) < 1000


def test_points_that_only_a_worker_can_make() -> None:
    def fails(_x: float) -> float:
        raise ArithmeticError("of the user's")

    low_level = objective(abs, pass_expr_memo_ctrl=True)
    assert low_level.point({"x": 0.5, "kind": 0}) is None
    assert objective(abs, {"c": Ctrl, "x": SPACE["x"]}).point({"x": 0.5}) is None
    scope.define(fails)
    try:
        assert objective(abs, scope.fails(SPACE["x"])).point({"x": 0.5}) is None
    finally:
        scope.undefine("fails")
    dividing = objective(abs, 1 / hp.choice("c", [0, 1]))
    assert dividing.point({"c": 0}) is None
    with pytest.raises(ZeroDivisionError):
        sent(dividing).evaluate(0, {"c": 0})
