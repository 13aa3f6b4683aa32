"""Keys, values, documents and batches, without a store."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_param

from sparktune.study.tracker import StudySummary
from sparktune.study.trial import TrialState
from sparktune.tracking import schema
from sparktune.tracking.schema import Point
from tests.tracking.studies import completed, info, running


def test_the_parent_tells_the_space_and_what_ends_trials() -> None:
    assert schema.parent_tags(
        info(metric="accuracy", goal="maximize", policy="AshaPolicy(...)", algo_reason="gp: few")
    ) == {
        "space": "{'C': hp.uniform('C', 0, 1)}",
        "sparktune.metric": "accuracy",
        "sparktune.goal": "maximize",
        "sparktune.early_termination": "AshaPolicy(...)",
        "sparktune.algo_reason": "gp: few",
    }
    tags = schema.parent_tags(info(space="x" * 10**6))
    assert len(tags["space"]) <= schema.MAX_TAG_VALUE
    assert "sparktune.early_termination" not in tags


@pytest.mark.parametrize("label", ["C", "a/b", "learning rate", "x:y.z-1", "größe", "n" * 250])
def test_good_labels_are_keys_as_they_are(label: str) -> None:
    assert schema.valid_key(label) == label


@pytest.mark.parametrize(
    "label", ["", ".", "..", "a//b", "/a", "a/", "./a", "../a", "a[0]", "C\n", "lr?", "n" * 251, "??"]
)
def test_odd_labels_become_keys(label: str) -> None:
    assert schema.is_valid_key(schema.valid_key(label))
    assert schema.valid_key(label) == schema.valid_key(label)


@settings(deadline=None)  # on a busy machine the time says nothing
@given(st.sets(st.text(max_size=300), max_size=30))
def test_keys_are_valid_and_never_collide(labels: set[str]) -> None:
    keys = {schema.valid_key(label) for label in labels}
    assert len(keys) == len(labels)
    assert all(schema.is_valid_key(key) for key in keys)


def _takes_colons() -> bool:
    """MLflow before 2.17 or so does not; the store then says which param it left out."""
    try:
        _validate_param("x:y", "1")
    except MlflowException:
        return False
    return True


TAKES_COLONS = _takes_colons()


@settings(deadline=None)  # on a busy machine the time says nothing
@given(st.text(max_size=30))
def test_keys_satisfy_mlflow(label: str) -> None:
    assume(":" not in label or TAKES_COLONS)
    _validate_param(schema.valid_key(label), "1")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.bool_(False), 0.0),
        (np.array(2.0), 2.0),
        (10**400, None),
        ("1", None),
        (None, None),
        (1j, None),
        (np.complex64(1j), None),
        ([1], None),
        (np.zeros(3), None),
        (np.array(["x"]), None),
    ],
)
def test_what_counts_as_a_number(value: Any, number: float | None) -> None:
    assert schema.metric_value(value) == number


def test_numbers_that_are_not_finite_are_told_apart() -> None:
    finite, other = schema.numeric_entries({"a": 1, "b": math.nan, "c": -math.inf, "d": "x"})
    assert finite == {"a": 1.0}
    assert set(other) == {"b", "c"}


def test_the_final_loss_comes_after_the_reported_ones() -> None:
    trial = completed(running(0), 0.5)
    _, metrics, _ = schema.final_record(schema_trial_with_steps(trial, 4), {}, 99)
    assert metrics == [Point("loss", 0.5, 99, 4, final=True)]


def test_final_values_stand_behind_all_that_was_logged() -> None:
    final, other = Point("m", 0.5, 99, 4, final=True), Point("n", 0.7, 99, 4, final=True)
    assert schema.with_finals_last([final, other], {}) == [final, other]
    for step, expected in [(3, 4), (4, 5), (7, 8)]:
        latest = {"m": Point("m", 96.0, 99, step)}
        assert schema.with_finals_last([final, other], latest) == [final._replace(step=expected), other]
        # Reports of the last second are written with it.
        together = [final, Point("m", 96.0, 99, step)]
        assert schema.with_finals_last(together, {})[0].step == expected
    assert schema.with_finals_last([final], {"m": Point("m", 96.0, 98, 4)}) == [final]  # it is later
    # A request that nobody answered may have been heard.
    written = {"m": Point("m", 0.5, 99, 8)}
    assert schema.with_finals_last([final._replace(step=8)], written) == [final._replace(step=8)]
    revised = final._replace(value=0.6)
    assert [p.step for p in schema.with_finals_last([final, revised], {"m": Point("m", 1.0, 9, 9)})] == [
        10,
        11,
    ]


def schema_trial_with_steps(trial: Any, steps: int) -> Any:
    import dataclasses

    return dataclasses.replace(trial, steps=steps)


def test_a_record_that_is_written_again_may_be_shorter() -> None:
    """MLflow's tags cannot be removed in one request with others that are set."""
    trial = completed(running(0), 0.5)
    tags: dict[str, str] = {}
    for n in (12_000, 6_000, 1, 30_000):
        parts, artifacts = schema.document_parts(trial, {"result": {"text": "y" * n}})
        tags |= parts
        assert schema.document_in(tags)["result"]["text"] == "y" * n
        assert not artifacts
    assert schema.document_in({}) is None


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.datetimes()
    | st.builds(np.float64, st.floats(allow_nan=False))
    | st.builds(np.array, st.lists(st.integers(0, 9), max_size=3))
    | st.binary(max_size=3)
    | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # on a busy machine the time says nothing
@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_every_document_can_be_written(result: dict[str, Any]) -> None:
    written = json.loads(schema.document_json({"tid": 1, "result": result}))
    left_out = {name.removeprefix("result.") for name in written.get("sparktune_left_out", [])}
    assert set(written["result"]) | left_out == set(result)


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (0.5, 0.5),
        (np.float64(0.5), 0.5),
        (math.inf, math.inf),
        (None, None),
        (True, True),
        ("[1]", "[1]"),
        ((1, (2.5, "é")), [1, [2.5, "é"]]),
        ({"a": {"b": (1,)}, "c": None}, {"a": {"b": [1]}, "c": None}),
        # What would not come back as it was is text.
        ([1, 2], "[1, 2]"),
        ({1: "a"}, '{"1": "a"}'),
        ({"a", "b"}, '["a", "b"]'),
        (np.arange(3), "[0, 1, 2]"),
        (math.nan, "nan"),
        (range(3), "range(0, 3)"),
        ({"f": range(3)}, "{'f': range(0, 3)}"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_parameters_in_documents_come_back_as_they_were_or_are_text(value: Any, recorded: Any) -> None:
    found = schema.recorded_param(value)
    assert (found, type(found)) == (recorded, type(recorded))
    restored = schema.restored_param(json.loads(json.dumps(found)))
    assert restored == (recorded if isinstance(recorded, str) else value)
    assert schema.recorded_param(restored) == found, "warm start compares what was recorded with what is now"


def test_documents_keep_what_can_be_kept() -> None:
    when = datetime.datetime(2024, 5, 6, 7, 8)
    document = {
        "book_time": when,
        "misc": {"vals": {"C": [np.float64(0.1)]}, "lock": object()},
        "owner": object(),
    }
    assert json.loads(schema.document_json(document)) == {
        "book_time": "2024-05-06T07:08:00",
        "misc": {"vals": {"C": [0.1]}},
        "sparktune_left_out": ["misc.lock", "owner"],
    }


class Odd:
    """An object that raises whenever somebody looks at it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def dtype(self) -> str:
        raise RuntimeError("no dtype")


def test_objects_that_raise_are_named_and_end_nothing() -> None:
    result = {"loss": 0.5, "odd": Odd(), "many digits": 10**5000}
    written = json.loads(schema.document_json({"result": result, "owner": Odd()}))
    assert written["result"] == {"loss": 0.5}
    assert written["sparktune_left_out"] == ["result.odd", "result.many digits", "owner"]
    params = schema.params_of({"odd": Odd(), "many digits": 10**5000})
    assert params["odd"] == "<Odd without a text: RuntimeError>"
    table = json.loads(schema.trials_table([running(0, odd=Odd(), digits=10**5000)], {}))
    assert table["data"][0][-2] == "<Odd without a text: RuntimeError>"
    assert schema.numeric_entries({"odd": Odd()}) == ({}, {})


def test_text_that_no_store_takes_is_escaped() -> None:
    assert schema.cut("größe 𝄞", 100) == "größe 𝄞"
    assert schema.cut("a\ud800b\0", 100) == r"a\ud800b\x00"
    assert len(schema.cut("\ud800" * 100, 100)) == 100
    document = {"result": {"text": "\ud800\0"}}
    text = schema.document_json(document)
    assert text.isascii()
    assert json.loads(text) == document


@settings(deadline=None)  # on a busy machine the time says nothing
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=6), st.text(max_size=5), max_size=300),
    st.integers(0, 250),
    st.integers(0, 3000),
    st.integers(0, 6000),
)
def test_batches_hold_everything_within_the_limits(
    params: dict[str, str], n_tags: int, n_metrics: int, size: int
) -> None:
    tags = {f"t{n}": "v" * size for n in range(n_tags)}
    metrics = [Point("m", 0.0, 0, n) for n in range(n_metrics)]
    batches = list(schema.batches(params, tags, metrics))
    for batch in batches:
        assert len(batch.params) <= 100
        assert len(batch.tags) <= 100
        assert len(batch.params) + len(batch.tags) + len(batch.metrics) <= 1000
        weight = [{"key": key, "value": value} for key, value in (batch.params | batch.tags).items()]
        weight += [
            {"key": point.key, "value": 1e-300, "timestamp": 10**13, "step": 1} for point in batch.metrics
        ]
        assert len(json.dumps(weight)) < 1e6
    assert {k: v for batch in batches for k, v in batch.params.items()} == params
    assert {k: v for batch in batches for k, v in batch.tags.items()} == tags
    assert [point for batch in batches for point in batch.metrics] == metrics


def test_suffixes() -> None:
    assert schema.with_suffix("a", {"a"}) == "a_1"
    assert schema.with_suffix("a", {"a", "a_1"}) == "a_2"
    assert schema.with_suffix("a", {"a"}, first=3) == "a_3"
    assert len(schema.with_suffix("n" * 250, set())) == 250


def test_status_of_every_state() -> None:
    found = {state: schema.run_status(state) for state in TrialState}
    assert found[TrialState.COMPLETED] == "FINISHED"
    assert found[TrialState.FAILED] == "FAILED"
    assert {state for state, status in found.items() if status == "RUNNING"} == {
        TrialState.QUEUED,
        TrialState.RUNNING,
    }
    assert schema.parent_status(StudySummary([], None, "stopped by the user", "boom")) == "FAILED"


def test_the_table_is_json_that_every_reader_takes() -> None:
    trials = [completed(running(0, C=math.inf, opt=("a", 1), layer=object), -math.inf), running(1, C=1)]
    table = json.loads(schema.trials_table(trials, {0: "r0"}))
    assert table["columns"][-3:] == ["C", "opt", "layer"]
    assert table["data"][0][table["columns"].index("loss")] == "-inf"
    assert table["data"][0][-2] == '["a", 1]'
    assert table["data"][1][-2:] == [None, None]


def test_points_are_recorded_as_they_were_received() -> None:
    class Option:
        def __str__(self) -> str:
            return "an option"

    point = {
        "model": {"kind": "svm", "C": np.float64(0.5)},
        "layers": (np.int64(8), 2),
        "f": Option(),
        "n": math.nan,
    }
    found = json.loads(schema.point_json(3, point))
    assert found == {
        "trial": 3,
        "point": {"model": {"kind": "svm", "C": 0.5}, "layers": [8, 2], "f": "an option", "n": "nan"},
        "exact": False,
    }
    assert len(schema.point_json(0, {"weights": np.zeros(10**6)})) < 1000


@pytest.mark.parametrize(
    "point", [{"x": 1.5, "model": {"kind": "svm", "layers": [8, 2]}}, 3, np.int64(3), "a"]
)
def test_a_point_that_is_the_same_in_json(point: Any) -> None:
    assert json.loads(schema.point_json(0, point)) == {"trial": 0, "point": point}


@pytest.mark.parametrize("point", [{"layers": (8, 2)}, {"f": abs}, {1: 2}, {"w": np.zeros(2)}, math.nan])
def test_a_point_that_is_another_in_json_says_so(point: Any) -> None:
    assert json.loads(schema.point_json(0, point))["exact"] is False
