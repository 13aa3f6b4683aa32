"""What a recorded run becomes as a trial, and which of a trial's runs counts; without MLflow."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest
from hyperopt.base import JOB_STATE_NEW

from sparktune.early_termination import Decision
from sparktune.study.ranking import best_of
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.spec import StudyRecord, StudySpec, StudyStart
from sparktune.study.trial import Trial, TrialError, TrialState
from sparktune.sweeps.results import UNFINISHED, Results
from sparktune.tracking import reader, schema
from sparktune.tracking.lease import Lease
from sparktune.tracking.reader import RecordedStudy, RecordedTrial, chosen
from sparktune.tracking.study_record import FINISHED, INTERRUPTED, RUNNING
from sparktune.trials import documents

pytestmark = pytest.mark.unit

QUEUED = Trial(7, {"x": 0.5, "kind": 1}, {"x": 0.5, "kind": "rbf"}, draws=3)
BEGAN = QUEUED.to(
    TrialState.RUNNING, attempts=1, submitted_s=9.0, started_s=10.0, host="here", worker_pid=4, run_id="run"
)


def ended(state: TrialState, **changes: Any) -> Trial:
    return BEGAN.to(state, ended_s=12.0, duration_s=1.5, **changes)


def error(kind: str, message: str, traceback: str = "") -> TrialError:
    return TrialError(kind, message, traceback or message)


GOOD = {"status": "ok", "loss": -0.75, "auc": 0.75}
WEAK = {"status": "ok", "loss": -0.5, "auc": 0.5}
ENDS = {
    "completed": ended(TrialState.COMPLETED, loss=-0.75, result=GOOD),
    "infinite": ended(TrialState.COMPLETED, loss=math.inf, result={"status": "ok", "loss": math.inf}),
    "raised": ended(
        TrialState.FAILED,
        error=error("<class 'builtins.ValueError'>", "bad\nx", "Traceback:\n  ...\nValueError: bad\nx"),
    ),
    "raised without a message": ended(TrialState.FAILED, error=error("<class 'KeyError'>", "", "KeyError")),
    "NaN": ended(
        TrialState.FAILED,
        error=error("<class 'hyperopt.exceptions.InvalidLoss'>", "NaN", "InvalidLoss: NaN"),
        result={"status": "ok", "loss": "NaN, which differs from itself", "auc": 0.5},
    ),
    "reported": ended(
        TrialState.FAILED, error=error("ReportedFailure", "status 'fail'"), result={"status": "fail"}
    ),
    "cancelled": ended(TrialState.CANCELLED, stop_reason="timeout"),
    "timed out": ended(TrialState.TIMED_OUT, stop_reason="trial_timeout"),
    "early terminated": ended(
        TrialState.EARLY_TERMINATED,
        loss=-0.5,
        result=WEAK,
        decision=Decision("median", 3, 0.5, 0.75),
        stop_reason="median: 0.5 at interval 3, cutoff 0.75",
        steps=3,
        last_step=30,
    ),
}


def recorded(trial: Trial, run_id: str = "run", **changes: Any) -> RecordedTrial:
    """The run of a trial, as it is read after the trial was written in this state."""
    number = trial.trial_id
    vals, idxs = {"x": [0.5], "kind": [1], "off": []}, {"x": [number], "kind": [number], "off": []}
    misc = {"tid": number, "cmd": ("domain_attachment", "FMinIter_Domain"), "vals": vals, "idxs": idxs}
    document = {"tid": number, "state": JOB_STATE_NEW, "result": {"status": "new"}, "misc": misc}
    document |= {"spec": None, "exp_key": None, "owner": None, "version": 0}
    document |= {"book_time": None, "refresh_time": None}
    if trial.started_s is not None:
        documents.update(document, BEGAN)
    documents.update(document, trial)
    found = json.loads(schema.recorded_document(trial, document))
    run = RecordedTrial(number, run_id, schema.run_status(trial.state), False, found)
    return replace(run, **changes)


def study(*runs: RecordedTrial, state: str = FINISHED, is_driven: bool = False) -> RecordedStudy:
    spec = StudySpec(algo="tpe", metric="auc", goal="maximize")
    record = StudyRecord("an id of a study", spec, StudyStart(), began_s=0.0, state=state)
    lease = replace(Lease.mine(0.0), host="elsewhere", renewed_s=time.time() if is_driven else 0.0)
    return RecordedStudy("parent", "0", record, lease, is_open=state == RUNNING, runs=runs)


@pytest.mark.parametrize("how", ENDS)
def test_a_trial_is_read_back_as_it_was(how: str) -> None:
    trial = ENDS[how]
    run = recorded(trial)
    assert run.has_ended
    assert [run.trial(is_driven=is_driven) for is_driven in (True, False)] == [trial, trial]
    assert run.document is not None
    document = documents.restored(run.document, trial)
    assert documents.ended_trial(QUEUED, document).state is trial.state
    assert (document["state"], document["result"]) == (run.document["state"], run.document["result"])
    assert document["book_time"] == dt.datetime(1970, 1, 1, 0, 0, 10)
    assert document["misc"]["run_id"] == "run"


def test_a_trial_that_was_cancelled_in_the_queue_has_no_times() -> None:
    trial = QUEUED.to(TrialState.CANCELLED, stop_reason="timeout", run_id="run")
    assert recorded(trial).trial(is_driven=False) == trial


@pytest.mark.parametrize(
    ("changes", "driver", "state"),
    [
        ({}, True, TrialState.RUNNING),
        ({}, False, TrialState.QUEUED),
        ({"is_interrupted": True, "status": "KILLED"}, True, TrialState.QUEUED),
        ({"is_interrupted": True}, True, TrialState.QUEUED),
        ({"status": "FINISHED"}, True, TrialState.QUEUED),
        ({"document": None}, True, TrialState.RUNNING),
        ({"document": None, "status": "FINISHED"}, False, TrialState.QUEUED),
    ],
)
def test_a_trial_whose_end_is_not_recorded(changes: dict[str, Any], driver: bool, state: TrialState) -> None:
    run = recorded(BEGAN, **changes)
    assert not run.has_ended
    found = run.trial(is_driven=driver)
    assert (found.trial_id, found.state, found.run_id) == (7, state, "run")
    if run.document is None:
        assert (found.config, found.params) == ({}, {})
        return
    assert (found.config, found.params, found.draws) == (BEGAN.config, BEGAN.params, 3)
    assert found.started_s == (10.0 if state is TrialState.RUNNING else None)
    again = documents.restored(run.document, run.trial(is_driven=False))
    assert (again["state"], again["result"], again["book_time"]) == (JOB_STATE_NEW, {"status": "new"}, None)
    assert again["misc"]["vals"] == {"x": [0.5], "kind": [1]}


def test_of_a_trials_runs_the_end_counts_and_of_equals_the_latest() -> None:
    running = recorded(BEGAN, "running")
    cancelled, completed = recorded(ENDS["cancelled"], "cancelled"), recorded(ENDS["completed"], "completed")
    unreadable = RecordedTrial(7, "unreadable", "FINISHED", False, None)
    interrupted = replace(running, run_id="interrupted", status="KILLED", is_interrupted=True)
    for runs, counts in [
        ((completed, cancelled), "completed"),
        ((cancelled, completed), "completed"),
        ((interrupted, completed), "completed"),
        ((interrupted, running), "running"),
        ((running, cancelled), "cancelled"),
        ((cancelled, unreadable), "cancelled"),
        ((unreadable, interrupted), "interrupted"),
        ((completed, replace(completed, run_id="later")), "later"),
    ]:
        assert [run.run_id for run in chosen(runs).values()] == [counts]
        assert [trial.run_id for trial in study(*runs).snapshot().trials] == [counts]


def test_a_study_whose_driver_died_has_no_running_trial() -> None:
    run = recorded(BEGAN)
    for state, is_driven, is_running in [
        (RUNNING, True, True),
        (RUNNING, False, False),
        (INTERRUPTED, True, False),
        (FINISHED, True, False),
    ]:
        found = study(run, state=state, is_driven=is_driven).snapshot()
        assert found.is_running is is_running
        assert [trial.state is TrialState.RUNNING for trial in found.trials] == [is_running]


def test_earlier_studies_are_read_with_their_own_driver() -> None:
    first = study(recorded(replace(BEGAN, trial_id=0), "first"))
    second = study(recorded(replace(BEGAN, trial_id=1), "second"), state=RUNNING, is_driven=True)
    whole = replace(second, earlier=(first,), record=replace(second.record, study_id="another"))
    assert [(trial.run_id, trial.state.value) for trial in whole.snapshot().trials] == [
        ("first", "queued"),
        ("second", "running"),
    ]


def test_what_is_shown_is_what_is_ranked() -> None:
    """``show`` and ``best`` have the trials of the snapshot, and its best one."""
    runs = [recorded(replace(trial, trial_id=n), how) for n, (how, trial) in enumerate(ENDS.items())]
    runs.append(recorded(replace(BEGAN, trial_id=len(ENDS)), "dead"))
    one = study(*runs, state=RUNNING)
    results = Results(one, one.snapshot())
    rows = {row["run_id"]: row for row in results.as_dict()["trials"]}
    assert results.best == best_of(one.snapshot().trials)
    assert results.best.run_id == "completed"
    assert {run: row["state"] for run, row in rows.items()} == {
        **{how: trial.state.value for how, trial in ENDS.items()},
        "dead": UNFINISHED,
    }
    assert {run: row["metric"] for run, row in rows.items() if row["metric"] is not None} == {
        "completed": 0.75,
        "infinite": -math.inf,
        "NaN": 0.5,
        "early terminated": 0.5,
    }
    assert {run: row["error"] for run, row in rows.items() if row["error"]} == {
        "raised": "ValueError: bad x",
        "raised without a message": "KeyError",
        "NaN": "InvalidLoss: NaN",
        "reported": "ReportedFailure: status 'fail'",
    }
    assert rows["raised"] == {
        "trial": 2,
        "state": "failed",
        "metric": None,
        "seconds": 1.5,
        "reports": 0,
        "parameters": {"x": 0.5, "kind": "rbf"},
        "error": "ValueError: bad x",
        "run_id": "raised",
    }
    assert "best trial 0: auc=0.75 x=0.5 kind=rbf" in results.table()


def test_of_very_many_trials_the_reports_of_the_best_and_of_a_sample_are_read() -> None:
    trials = [Trial(n, {}, {}, TrialState.COMPLETED, loss=float(n), steps=1) for n in range(1000)]
    assert reader._worth_reading(trials[:300]) == set(range(300))
    read = reader._worth_reading(trials[::-1])
    assert len(read) == 300
    assert set(range(30)) <= read
    assert max(read) > 900


def test_a_snapshot_without_trials() -> None:
    assert study().snapshot() == StudySnapshot([], metric="auc", goal="maximize", algo="tpe", run_id="parent")
