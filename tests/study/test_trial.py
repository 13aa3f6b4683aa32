"""The record of one trial: its states, what may follow what, how it is described to people."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest

from sparktune.study.trial import (
    TRANSITIONS,
    Trial,
    TrialError,
    TrialState,
    format_value,
    metric_value,
)

pytestmark = pytest.mark.unit

PAIRS = list(itertools.product(TrialState, TrialState))


def in_state(state: TrialState) -> Trial:
    return Trial(1, {"x": 2}, {"x": 2}, state)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_only_the_transitions_in_the_table_happen(before: TrialState, after: TrialState) -> None:
    trial = in_state(before)
    if after in TRANSITIONS[before]:
        assert trial.to(after).state is after
    else:
        with pytest.raises(ValueError, match=f"trial 1 is {before}; it cannot become {after}"):
            trial.to(after)
    assert trial.state is before


def test_finished_is_final() -> None:
    for state in TrialState:
        assert state.is_final == (not TRANSITIONS[state])
    assert [state.value for state in TrialState if not state.is_final] == ["queued", "running"]


def test_a_transition_keeps_what_it_does_not_change() -> None:
    running = in_state(TrialState.QUEUED).to(TrialState.RUNNING, submitted_s=3.0)
    done = running.to(TrialState.COMPLETED, loss=0.5)
    assert (done.submitted_s, done.loss, done.config) == (3.0, 0.5, {"x": 2})


class OwnError(Exception):
    pass


def test_an_error_as_text() -> None:
    error = TrialError.of(OwnError("first line\n  second"))
    assert error.kind == f"<class '{__name__}.OwnError'>"
    assert error.type_name == "OwnError"
    assert error.summary == "OwnError: first line second"
    assert error.traceback == "OwnError: first line\n  second"
    assert TrialError.of(SystemExit()).summary == "SystemExit"


def test_the_traceback_of_an_error_that_was_raised() -> None:
    with pytest.raises(OwnError) as caught:
        raise OwnError("said")
    error = TrialError.of(caught.value)
    assert error.traceback.startswith("Traceback (most recent call last)")
    assert error.traceback.endswith("OwnError: said\n")


class OwnText(str):
    __slots__ = ()


def test_an_error_whose_text_cannot_be_had() -> None:
    class Kinds(type):
        def __repr__(cls) -> str:
            raise LookupError

    class Mute(Exception, metaclass=Kinds):
        def __str__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(Mute) as caught:
        raise Mute
    for error in (TrialError.of(Mute()), TrialError.of(caught.value)):
        assert error.message == "<no text: ZeroDivisionError>"
        assert error.kind == "<no text: LookupError>"
        assert "Mute" in error.traceback


def test_the_text_of_an_error_is_plain() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            return OwnText("odd")

    error = TrialError.of(Odd())
    assert error.message == "odd"
    assert type(error.message) is str
    assert type(error.traceback) is str


def test_of_a_long_message_the_end_is_kept() -> None:
    summary = TrialError.of(OwnError("begins " + "word " * 1000 + "the cause")).summary
    assert summary.startswith("OwnError: begins word")
    assert summary.endswith("the cause")
    assert len(summary) < 1100


def test_the_cause_in_a_message_of_scikit_learns_is_kept() -> None:
    """Real ones: they hold the tracebacks of all fits, the causes at the very end."""
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    with pytest.raises(ValueError, match="fits failed") as caught:
        cross_val_score(SVC(C=-1.0), [[0.0], [1.0]] * 10, [0, 1] * 10)
    summary = TrialError.of(caught.value).summary
    assert "All the 5 fits failed" in summary
    wanted = r"The 'C' parameter of SVC must be a float in the range \(0\.0, inf[\])]\. Got -1\.0 instead\."
    assert re.search(wanted, summary)


def test_a_message_without_end_is_cut_in_one_line_only() -> None:
    message = "word\n" * 2_000_000
    error = TrialError.of(OwnError(message))
    assert error.message == message
    assert len(error.summary) < 1100
    assert error.summary.startswith("OwnError: word word")
    assert " ... " in error.summary
    assert TrialError.of(OwnError("x" * 1000)).summary == "OwnError: " + "x" * 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (1e-7, "1e-07"),
        (3.0, "3.0"),
        (10**9, "1000000000"),
        (float("inf"), "inf"),
        (None, "None"),
        ("rbf", "rbf"),
        ("x" * 20 + "y" * 21, "x" * 18 + "..." + "y" * 19),
    ],
)
def test_values_are_short(value: object, text: str) -> None:
    assert format_value(value) == text


def test_description() -> None:
    assert Trial(17, {}, {"C": 0.3141, "kernel": "rbf"}).describe == "trial 17: C=0.314 kernel=rbf"
    assert Trial(17, {}, {}).describe == "trial 17"


@pytest.mark.parametrize(
    ("result", "loss", "metric", "goal", "value"),
    [
        ({"loss": 0.368, "accuracy": 0.893}, 0.368, "accuracy", "maximize", 0.893),
        ({"loss": 5.07, "val_error": np.float32(0.5)}, 5.07, "val_error", "minimize", 0.5),
        ({"loss": -0.9}, -0.9, "accuracy", "maximize", 0.9),
        ({"loss": 0.0}, 0.0, "accuracy", "maximize", 0.0),
        ({"loss": 0.5, "accuracy": "high"}, 0.5, "accuracy", "maximize", -0.5),
        ({"loss": 0.5}, 0.5, "loss", "minimize", 0.5),
        (None, None, "accuracy", "maximize", None),
    ],
)
def test_the_value_of_the_primary_metric(result: Any, loss: Any, metric: str, goal: str, value: Any) -> None:
    found = metric_value(result, loss, metric, goal)
    assert found == value
    assert found is None or math.copysign(1.0, found) == math.copysign(1.0, value)


def test_counts_are_printed_as_words() -> None:
    assert str({TrialState.EARLY_TERMINATED: 3}) == "{'early_terminated': 3}"
