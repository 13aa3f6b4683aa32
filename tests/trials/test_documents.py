"""hyperopt's trial documents, written from records and read back."""

from __future__ import annotations

import datetime as dt
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from hyperopt.base import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_RUNNING,
    SONify,
)

from sparktune.space.view import SpaceView
from sparktune.study.trial import Trial, TrialError, TrialState
from sparktune.trials import documents

pytestmark = pytest.mark.unit

SPACE = SpaceView({"x": hp.uniform("x", 0, 1), "c": hp.choice("c", ["a", hp.uniform("y", 0, 1)])})
RUNNING = Trial(5, {"x": 0.5, "c": 0}, {"x": 0.5, "c": "a"}, TrialState.RUNNING)
ERROR = TrialError("<class 'ValueError'>", "bad x", "Traceback ...\nValueError: bad x")


def new_document() -> dict[str, Any]:
    trials = hyperopt.Trials()
    misc = {
        "tid": 5,
        "cmd": None,
        "workdir": None,
        "idxs": {"x": [5], "c": [5], "y": []},
        "vals": {"x": [0.5], "c": [0], "y": []},
    }
    return dict(trials.new_trial_docs([5], [None], [{"status": "new"}], [misc])[0])


def updated(trial: Trial) -> dict[str, Any]:
    document = new_document()
    documents.update(document, RUNNING)
    documents.update(document, trial)
    SONify(document)  # what hyperopt itself demands of a document
    return document


def test_a_suggestion_becomes_a_record() -> None:
    trial = documents.queued_trial(new_document(), SPACE)
    assert (trial.trial_id, trial.state) == (5, TrialState.QUEUED)
    assert trial.config == {"x": 0.5, "c": 0}
    assert trial.params == {"x": 0.5, "c": "a"}


def test_running() -> None:
    document = updated(
        Trial(5, {}, {}, TrialState.RUNNING, started_s=1e9 + 0.25, host="node1", worker_pid=42)
    )
    assert document["state"] == JOB_STATE_RUNNING
    assert document["owner"] == "node1:42"
    assert document["book_time"] == dt.datetime(2001, 9, 9, 1, 46, 40, 250000)


@pytest.mark.parametrize(
    ("trial", "state", "result", "error"),
    [
        (
            RUNNING.to(TrialState.COMPLETED, loss=1.0, result={"status": "ok", "loss": 1.0, "n": 3}),
            JOB_STATE_DONE,
            {"status": "ok", "loss": 1.0, "n": 3},
            None,
        ),
        (
            RUNNING.to(TrialState.FAILED, error=ERROR),
            JOB_STATE_ERROR,
            {"status": "new"},
            (ERROR.kind, ERROR.traceback),
        ),
        (
            RUNNING.to(TrialState.FAILED, error=ERROR, result={"status": "fail", "why": "?"}),
            JOB_STATE_DONE,
            {"status": "fail", "why": "?"},
            None,
        ),
        (
            RUNNING.to(TrialState.CANCELLED, stop_reason="fmin run timeout"),
            JOB_STATE_CANCEL,
            {"status": "new"},
            ("cancelled", "fmin run timeout"),
        ),
    ],
)
def test_ends(trial: Trial, state: int, result: dict[str, Any], error: Any) -> None:
    document = updated(trial)
    assert document["state"] == state
    assert document["result"] == result
    assert document["misc"].get("error") == error


def test_nan_is_an_error_and_no_loss_for_algorithms() -> None:
    result = {"status": "ok", "loss": float("nan")}
    document = updated(RUNNING.to(TrialState.FAILED, error=ERROR, result=result))
    assert document["state"] == JOB_STATE_ERROR
    assert document["result"]["status"] == "fail"


@pytest.mark.parametrize(
    "trial",
    [
        RUNNING.to(TrialState.COMPLETED, loss=1.0, result={"status": "ok", "loss": 1.0}),
        RUNNING.to(TrialState.FAILED, error=ERROR),
        RUNNING.to(TrialState.FAILED, error=ERROR, result={"status": "fail"}),
        RUNNING.to(TrialState.CANCELLED, stop_reason="fmin run timeout"),
    ],
)
def test_final_documents_read_back(trial: Trial) -> None:
    again = documents.final_trial(updated(trial), SPACE)
    assert (again.trial_id, again.state, again.loss) == (trial.trial_id, trial.state, trial.loss)
    assert (again.config, again.params) == (trial.config, trial.params)
    assert again.stop_reason == trial.stop_reason
    if trial.error is not None and trial.result is None:
        assert again.error is not None
        assert again.error.kind == trial.error.kind
        assert again.error.traceback == trial.error.traceback


def test_hyperopts_own_documents_read_back() -> None:
    def fn(x: float) -> Any:
        if x < 0:
            raise ValueError("negative")
        return {"status": "fail"} if x > 0.5 else x

    trials = hyperopt.Trials()
    hyperopt.fmin(
        fn,
        hp.uniform("x", -1, 1),
        hyperopt.rand.suggest,
        30,
        trials=trials,
        rstate=np.random.default_rng(0),
        catch_eval_exceptions=True,
        show_progressbar=False,
    )
    view = SpaceView(hp.uniform("x", -1, 1))
    for document in trials._dynamic_trials:
        trial = documents.final_trial(document, view)
        x = trial.params["x"]
        assert trial.state is (TrialState.COMPLETED if 0 <= x <= 0.5 else TrialState.FAILED)
        assert trial.started_s is not None
        assert trial.error is None or x > 0.5 or "negative" in trial.error.message
