"""How trials ended, from hyperopt's documents of them."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
from hyperopt.base import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
)

from sparktune.study import outcome
from sparktune.study.trial import TrialState

pytestmark = pytest.mark.unit


def document(state: int, result: dict[str, Any], **misc: Any) -> dict[str, Any]:
    times = {"book_time": None, "refresh_time": dt.datetime(2001, 9, 9, 1, 46, 40)}
    return {"tid": 0, "state": state, "result": result, "misc": misc, **times}


NEW, OK = {"status": "new"}, {"status": "ok", "loss": 2}


@pytest.mark.parametrize(
    ("known", "state", "loss", "error", "reason"),
    [
        (document(JOB_STATE_NEW, NEW), None, None, None, None),
        (document(JOB_STATE_RUNNING, NEW), None, None, None, None),
        (document(JOB_STATE_DONE, OK), TrialState.COMPLETED, 2.0, None, None),
        (
            document(JOB_STATE_DONE, OK, early_terminated="median"),
            TrialState.EARLY_TERMINATED,
            2.0,
            None,
            "median",
        ),
        (
            document(JOB_STATE_DONE, {"status": "fail"}),
            TrialState.FAILED,
            None,
            "ReportedFailure: status 'fail'",
            None,
        ),
        (
            document(JOB_STATE_ERROR, NEW, error=("<class 'ValueError'>", "bad x")),
            TrialState.FAILED,
            None,
            "ValueError: bad x",
            None,
        ),
        (
            document(JOB_STATE_CANCEL, NEW, error=("cancelled", "timeout")),
            TrialState.CANCELLED,
            None,
            None,
            "timeout",
        ),
        (
            document(JOB_STATE_CANCEL, NEW, error=("timed_out", "trial_timeout")),
            TrialState.TIMED_OUT,
            None,
            None,
            "trial_timeout",
        ),
        (document(JOB_STATE_CANCEL, NEW), TrialState.CANCELLED, None, None, None),
    ],
)
def test_ends(
    known: dict[str, Any], state: TrialState | None, loss: float | None, error: str | None, reason: str | None
) -> None:
    assert (outcome.outcome_of(known), outcome.loss_of(known)) == (state, loss)
    found = outcome.error_of(known)
    assert (None if found is None else found.summary, outcome.stop_reason_of(known)) == (error, reason)
    assert outcome.times_of(known) == (None, 1e9)


@pytest.mark.parametrize("result", [{"loss": math.nan}, {"loss": None}, {}])
def test_without_a_loss_it_failed(result: dict[str, Any]) -> None:
    known = document(JOB_STATE_DONE, {"status": "ok", **result})
    assert (outcome.outcome_of(known), outcome.loss_of(known)) == (TrialState.FAILED, None)
