"""The tracker against real stores: SQLite, and a server."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import queue
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from sparktune.study.reasons import INTERRUPTED
from sparktune.study.tracker import StudySummary
from sparktune.study.trial import Trial, TrialState
from sparktune.tracking import tracker as module
from sparktune.tracking.credentials import travelling_env
from sparktune.tracking.replay import replay
from sparktune.tracking.tracker import MlflowTracker
from sparktune.tracking.unwritten import Unwritten
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.redirect import redirect
from tests.tracking.conftest import Server
from tests.tracking.studies import completed, document, failed, info, running


def run_of(tracker: MlflowTracker) -> Any:
    assert tracker.run_id is not None
    return MlflowClient().get_run(tracker.run_id)


def children_of(run_id: str) -> dict[str, Any]:
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    wanted = f"tags.`mlflow.parentRunId` = '{run_id}'"
    return {run.info.run_name: run for run in client.search_runs([experiment], wanted, max_results=1000)}


def artifact(run_id: str, name: str) -> str:
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")


def run_id_of(tracker: MlflowTracker, number: int) -> str | None:
    """What a worker is told that needs the trial's run."""
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    tracker.ask_run(number, answer.put, hurry=True)
    return answer.get(timeout=30)


def study(tracker: MlflowTracker, losses: list[float], **changes: Any) -> list[Trial]:
    """A whole study of trials that complete."""
    tracker.begin(info(**changes))
    trials = []
    for number, loss in enumerate(losses):
        trial = running(number)
        tracker.launched(trial)
        run_id = run_id_of(tracker, number)
        context = tracker.run_context(number)
        assert context is not None
        assert (context.run_id, context.claim) == (run_id, None)
        assert run_id is not None
        trials.append(completed(trial, loss))
        tracker.ended(trials[-1], document(trials[-1]))
    best = min(trials, key=lambda trial: trial.loss or 0.0)
    tracker.finish(StudySummary(trials, best))
    return trials


@pytest.mark.parametrize("kind", ["sqlite", "server"])
def test_a_study_is_a_parent_with_a_run_for_every_trial(kind: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue({"sqlite": "sqlite_uri", "server": "server"}[kind])
    mlflow.set_experiment("whole study")
    tracker = MlflowTracker()
    study(tracker, [0.3, 0.1, 0.2])

    parent = run_of(tracker)
    assert mlflow.active_run() is None
    assert parent.info.status == "FINISHED"
    assert MlflowClient().get_experiment(parent.info.experiment_id).name == "whole study"
    expected = {"algo", "max_evals", "parallelism", "timeout", "max_queue_len"}
    assert set(parent.data.params) == expected
    assert parent.data.tags["best_C"] == "0.1"
    assert parent.data.metrics == {
        "best_trial_loss": 0.1,
        "successful_trials_count": 3,
        "failed_trials_count": 0,
        "cancelled_trials_count": 0,
        "total_trials_count": 3,
    }
    history = MlflowClient().get_metric_history(parent.info.run_id, "best_trial_loss")
    assert sorted((point.step, point.value) for point in history) == [(1, 0.3), (2, 0.1), (3, 0.1)]

    children = children_of(parent.info.run_id)
    assert set(children) == {"trial 0", "trial 1", "trial 2"}
    child = children["trial 1"]
    assert parent.data.tags["sparktune.best_run_id"] == child.info.run_id
    assert child.data.params == {"C": "0.1"}
    assert child.data.metrics == {"loss": 0.1}
    assert child.info.status == "FINISHED"
    tags = child.data.tags
    assert tags["fmin_uuid"] == parent.data.tags["fmin_uuid"]
    assert tags["trial_status"] == "completed"
    assert tags["algo"] == "hyperopt.tpe.suggest"
    assert tags["sparktune.host"] == "node1"
    assert tags["mlflow.parentRunId"] == tags["mlflow.rootRunId"] == parent.info.run_id
    assert tags["mlflow.user"] == parent.data.tags["mlflow.user"]
    assert json.loads(tags["sparktune.trial"])["misc"]["vals"] == {"C": [0.1]}
    table = mlflow.load_table("trials.json", run_ids=[parent.info.run_id])
    assert list(table["C"]) == [0.0, 0.1, 0.2]
    assert list(table["run_id"]) == [children[f"trial {n}"].info.run_id for n in range(3)]


def test_an_active_run_is_joined_and_not_ended(sqlite_uri: str) -> None:
    with mlflow.start_run() as mine:
        mlflow.log_param("algo", "my own")
        mlflow.log_metric("best_trial_loss", 9.0)
        first, second = MlflowTracker(), MlflowTracker()
        study(first, [0.3], max_evals=1)
        study(second, [0.2], max_evals=2)
        assert mlflow.active_run().info.run_id == mine.info.run_id == first.run_id == second.run_id
        run = run_of(first)
        assert run.info.status == "RUNNING"
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    assert params["algo"] == "my own"
    assert params["sparktune.algo"] == "hyperopt.tpe.suggest"
    assert (params["sparktune.max_evals"], params["sparktune.max_evals_1"]) == ("1", "2")
    assert metrics["best_trial_loss"] == 9.0
    assert (metrics["best_trial_loss_1"], metrics["best_trial_loss_2"]) == (0.3, 0.2)
    assert tags["fmin_uuid"] != tags["fmin_uuid_1"]
    assert tags["sparktune.best_run_id"] != tags["sparktune.best_run_id_1"]
    names = {entry.path for entry in MlflowClient().list_artifacts(mine.info.run_id)}
    assert names == {"trials.json", "trials_1.json"}
    assert len(MlflowClient().search_runs([run.info.experiment_id])) == 3


def test_long_and_empty_values_of_the_best(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    trial = completed(running(0, text="é" * 9_000, nothing="", none=None), 0.5)
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    tags = run_of(tracker).data.tags
    assert tags["best_text"] == "é" * 4_999 + "…"
    assert (tags["best_nothing"], tags["best_none"]) == ("", "None")


def test_nothing_of_ours_is_in_the_way_of_what_the_user_logs_later(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    with mlflow.start_run() as mine:
        study(tracker, [0.3, 0.1])
        mlflow.log_params({"best_C": "another", "algo": "mine", "max_evals": 7, "parallelism": "x"})
        mlflow.log_metric("best_trial_loss", 5.0)
        mlflow.set_tags({"space": "mine", "best_C": "a tag of mine"})
    run = mlflow.get_run(mine.info.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["best_C"], run.data.tags["best_C"]) == ("another", "a tag of mine")
    assert run.data.tags["sparktune.best_C"] == "0.1"


def test_trials_belong_to_the_root_of_the_users_tree(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    with mlflow.start_run() as root, mlflow.start_run(nested=True) as parent:
        mlflow.set_tag("mlflow.rootRunId", root.info.run_id)
        study(tracker, [0.3])
    child = children_of(parent.info.run_id)["trial 0"]
    assert child.data.tags["mlflow.rootRunId"] == root.info.run_id


def test_runs_and_where_to_look_at_them_are_known_at_the_end(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    study(tracker, [0.3, 0.1])
    children = children_of(run_of(tracker).info.run_id)
    assert tracker.run_ids() == {n: children[f"trial {n}"].info.run_id for n in range(2)}
    link = tracker.link() or ""
    assert link.startswith(f"mlflow ui --backend-store-uri {sqlite_uri}")
    assert str(tracker.run_id) in link


def test_the_environment_names_the_experiment(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    tracker = MlflowTracker()
    study(tracker, [0.3])
    experiment = MlflowClient().get_experiment_by_name("from the environment")
    assert run_of(tracker).info.experiment_id == experiment.experiment_id


@pytest.mark.skipif(
    isinstance(mlflow.tracking.fluent._active_run_stack, list),
    reason="before MLflow 2.14 a run is active in all threads",
)
def test_a_fresh_thread_has_a_parent_of_its_own(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    with mlflow.start_run() as mine:
        thread = threading.Thread(target=study, args=(tracker, [0.1]))
        thread.start()
        thread.join()
        assert tracker.run_id not in (None, mine.info.run_id)
    assert run_of(tracker).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("summary", "status"),
    [
        (StudySummary([], None), "FINISHED"),
        (StudySummary([], None, stop_reason="timeout"), "FINISHED"),
        (StudySummary([], None, stop_reason=INTERRUPTED), "KILLED"),
        (StudySummary([], None, error="AllTrialsFailed: ..."), "FAILED"),
    ],
)
def test_how_the_study_ended_is_the_status_of_the_parent(
    sqlite_uri: str, summary: StudySummary, status: str
) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    tracker.finish(summary)
    tracker.finish(summary)
    assert run_of(tracker).info.status == status


def test_finish_without_begin_does_nothing() -> None:
    MlflowTracker().finish(StudySummary([], None))
    assert MlflowTracker().run_context(0) is None


def test_every_end_has_its_status(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    trials = []
    states = [TrialState.EARLY_TERMINATED, TrialState.TIMED_OUT, TrialState.CANCELLED]
    for number in range(5):
        tracker.launched(running(number))
    for number, state in enumerate(states):
        trials.append(running(number).to(state, stop_reason="because"))
    trials.append(failed(running(3)))
    for trial in trials:
        tracker.ended(trial, document(trial))
    tracker.finish(StudySummary(trials, None))  # and trial 4 never ended
    children = children_of(run_of(tracker).info.run_id)
    found = {name: (run.info.status, run.data.tags["trial_status"]) for name, run in children.items()}
    assert found == {
        "trial 0": ("KILLED", "early_terminated"),
        "trial 1": ("KILLED", "timed_out"),
        "trial 2": ("KILLED", "cancelled"),
        "trial 3": ("FAILED", "failed"),
        "trial 4": ("KILLED", "cancelled"),
    }
    bad = children["trial 3"]
    assert bad.data.tags["sparktune.error"] == "ValueError: C is odd"
    assert artifact(bad.info.run_id, "traceback.txt").endswith("ValueError: C is\nodd")
    counts = run_of(tracker).data.metrics
    assert counts["failed_trials_count"] == 1
    assert counts["cancelled_trials_count"] == 2
    assert counts["total_trials_count"] == 5
    assert (counts["early_terminated_trials_count"], counts["timed_out_trials_count"]) == (1, 1)


def test_a_long_trial_shows_its_params_while_it_runs(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    tracker.launched(running(0, C=0.5, kernel="rbf"))
    run_id = run_id_of(tracker, 0)
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 10)
    run = MlflowClient().get_run(run_id)
    assert run.data.params == {"C": "0.5", "kernel": "rbf"}
    assert run.info.status == "RUNNING"
    assert run.data.tags["trial_status"] == "running"
    tracker.finish(StudySummary([], None))


def test_limits_odd_labels_and_odd_results(sqlite_uri: str) -> None:
    params: dict[str, Any] = {f"p{n}": n for n in range(230)}
    params |= {"layer[0]?": 1, "layer[1]?": 2, "long": "x" * 7000, "none": None}
    result = {
        "accuracy": np.float32(0.5),
        "good": True,
        "steps": np.int64(3),
        "array": np.zeros(3),
        "worst": float("inf"),
        "when": datetime.datetime(2024, 1, 2),
        "model": object(),
        "text": "y" * 50_000,
    }
    tracker = MlflowTracker()
    tracker.begin(info(space="s" * 20_000))
    trial = completed(running(0, **params), 0.25, **result)
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    parent = run_of(tracker)
    assert len(parent.data.tags["space"]) == 5000
    assert parent.data.tags["space"].endswith("…")
    run = children_of(parent.info.run_id)["trial 0"]
    assert len(run.data.params) == 234
    assert run.data.params["long"].endswith("…")
    assert len([key for key in run.data.params if key.startswith("layer_")]) == 2
    assert run.data.metrics == {"loss": 0.25, "accuracy": 0.5, "good": 1.0, "steps": 3.0}
    assert run.data.tags["sparktune.not_finite"] == "worst=inf"
    assert json.loads(run.data.tags["sparktune.trial"]) == {"artifact": "trial.json"}
    stored = json.loads(artifact(run.info.run_id, "trial.json"))
    assert stored["result"]["when"] == "2024-01-02T00:00:00"
    assert stored["sparktune_left_out"] == ["result.model"]


def test_nobody_waits_for_a_run_that_does_not_exist(sqlite_uri: str) -> None:
    """A trial's worker is on its way before its run exists; whoever asks first has it created."""
    tracker = MlflowTracker()
    tracker.begin(info())
    assert tracker._writer is not None
    told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with tracker._writer.lock:  # the writer can do nothing meanwhile
        tracker.launched(running(0))
        context = tracker.run_context(0)
        tracker.ask_run(0, told.put, hurry=False)
    assert context is not None
    assert context.run_id is None
    wanted = json.loads(context.claim or "")
    assert wanted["tags"]["mlflow.parentRunId"] == tracker.run_id
    run_id = run_id_of(tracker, 0)
    assert told.get(timeout=30) == run_id
    assert MlflowClient().get_run(run_id).data.tags["sparktune.trial_id"] == "0"
    tracker.finish(StudySummary([], None))
    assert run_id_of(tracker, 0) == run_id
    assert run_id_of(tracker, 99) is None


def test_trials_that_are_over_before_their_runs_exist(sqlite_uri: str) -> None:
    """They are written whole, many at a time, and nothing is missing: artifacts, long documents."""
    tracker = MlflowTracker()
    tracker.begin(info())
    assert tracker._writer is not None
    trials = []
    with tracker._writer.lock:
        for number in range(20):
            trial = running(number, **{f"p{n}": n for n in range(120)})
            tracker.launched(trial)
            trials.append(failed(trial) if number == 7 else completed(trial, 0.5, text="y" * 3000 * number))
            tracker.ended(trials[-1], document(trials[-1]))
    tracker.finish(StudySummary(trials, trials[0]))
    children = children_of(run_of(tracker).info.run_id)
    assert set(children) == {f"trial {number}" for number in range(20)}
    for number in range(20):
        run = children[f"trial {number}"]
        assert run.info.status == ("FAILED" if number == 7 else "FINISHED")
        assert run.info.end_time is not None
        assert len(run.data.params) == 120
        assert run.data.metrics == ({} if number == 7 else {"loss": 0.5})
        assert run.data.tags["trial_status"] == ("failed" if number == 7 else "completed")
    assert artifact(children["trial 7"].info.run_id, "traceback.txt").endswith("odd")
    stored = json.loads(artifact(children["trial 19"].info.run_id, "trial.json"))
    assert stored["result"]["text"] == "y" * 3000 * 19


def test_a_param_logged_by_the_objective_stays(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    trial = running(0, C=10.0, kernel="rbf")
    tracker.launched(trial)
    run_id = run_id_of(tracker, 0)
    MlflowClient().log_param(run_id, "C", 10)
    trial = completed(trial, 0.5)
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    run = MlflowClient().get_run(run_id)
    assert run.data.params == {"C": "10", "kernel": "rbf"}
    assert run.data.metrics == {"loss": 0.5}
    assert run.info.status == "FINISHED"


def test_a_deleted_run_does_not_hold_up_the_others(
    sqlite_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    trials = [completed(running(n), float(n)) for n in range(3)]
    for n in range(3):
        tracker.launched(running(n))
    MlflowClient().delete_run(run_id_of(tracker, 1))
    for trial in trials:
        tracker.ended(trial, document(trial))
    tracker.finish(StudySummary(trials, trials[0]))
    children = children_of(run_of(tracker).info.run_id)
    assert {name: run.info.status for name, run in children.items()} == dict.fromkeys(
        ("trial 0", "trial 2"), "FINISHED"
    )
    assert run_of(tracker).info.status == "FINISHED"
    assert "does not take the run 'trial 1'" in caplog.text
    assert len(list(tmp_path.glob("sparktune-unwritten-*.jsonl"))) == 1


def test_text_that_no_store_takes(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info(space="\ud800", algo="a" * 9000))
    trial = completed(running(0, C="\ud800", D="a\0b"), 0.5, text="\ud800", **{"\ud800": 1.0})
    tracker.launched(trial)
    assert run_id_of(tracker, 0) is not None
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    run = children_of(run_of(tracker).info.run_id)["trial 0"]
    assert run.data.params == {"C": r"\ud800", "D": r"a\x00b"}
    assert run.data.metrics["loss"] == 0.5
    assert json.loads(run.data.tags["sparktune.trial"])["result"]["text"] == "\ud800"


def test_labels_that_cannot_both_be_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a file store ``model/C`` would be a file in the file ``model``."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri("mlruns")
    tracker = MlflowTracker()
    tracker.begin(info())
    trials = [completed(running(n, **{"model": "svm", "model/C": 0.5, "z": n}), float(n)) for n in range(3)]
    for trial in trials:
        tracker.ended(trial, document(trial))
    tracker.finish(StudySummary(trials, trials[0]))
    assert not list(tmp_path.glob("sparktune-unwritten-*.jsonl"))
    children = children_of(run_of(tracker).info.run_id)
    assert len(children) == 3
    for run in children.values():
        assert run.info.status == "FINISHED"
        assert run.data.params["model"] == "svm"
        assert "z" in run.data.params
    assert caplog.text.count("refuses 'model/C'") == 1


def test_a_study_goes_on_when_its_own_run_is_deleted(sqlite_uri: str, tmp_path: Path) -> None:
    tracker = MlflowTracker()
    tracker.begin(info())
    assert tracker.run_id is not None
    tracker.launched(running(0))
    assert run_id_of(tracker, 0) is not None
    MlflowClient().delete_run(tracker.run_id)
    trials = [completed(running(number), float(number)) for number in range(3)]
    tracker.ended(trials[0], document(trials[0]))
    assert tracker._writer is not None
    tracker._writer.flush(None, 30)
    for trial in trials[1:]:
        tracker.launched(running(trial.trial_id))
        assert run_id_of(tracker, trial.trial_id) is not None
        tracker.ended(trial, document(trial))
    tracker.finish(StudySummary(trials, trials[0]))
    statuses = {name: run.info.status for name, run in children_of(tracker.run_id).items()}
    assert statuses == dict.fromkeys(("trial 0", "trial 1", "trial 2"), "FINISHED")
    (path,) = tmp_path.glob("sparktune-unwritten-*.jsonl")
    _, entry = [json.loads(line) for line in path.read_text().splitlines()]
    assert (entry["child"], entry["run_id"]) == (False, tracker.run_id)


def test_a_description_that_cannot_be_made_costs_nothing_else(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise OverflowError("no such number")

    for name in ("of_running_study", "of_study"):
        monkeypatch.setattr(f"sparktune.tracking.description.{name}", broken)
    tracker = MlflowTracker()
    study(tracker, [0.5, 0.25])
    run = run_of(tracker)
    assert (run.info.status, run.data.tags["best_C"]) == ("FINISHED", "0.1")
    assert "mlflow.note.content" not in run.data.tags
    assert "the run gets no description: OverflowError: no such number" in caplog.text


def test_who_is_tired_of_waiting_does_not_wait_for_the_report(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def tired(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    asked: list[str] = []
    tracker = MlflowTracker()
    tracker.begin(info())
    assert tracker._writer is not None
    monkeypatch.setattr(tracker._writer, "flush", tired)
    trial = completed(running(0), 0.5)
    tracker.ended(trial, document(trial))
    with pytest.raises(KeyboardInterrupt):
        tracker.finish(StudySummary([trial], trial, report=lambda: asked.append("report")))  # type: ignore[func-returns-value]
    assert not asked
    for path in tmp_path.glob("sparktune-unwritten-*.jsonl"):
        assert replay(path, sqlite_uri)
    assert run_of(tracker).info.status == "FINISHED"


def test_looking_for_runs_that_exist_twice_costs_the_parent_no_patience(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(server.uri)
    tracker = MlflowTracker(patience_s=60)
    tracker.begin(info())
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 30)
    tracker._store.may_have_twice = True

    def slow(*_: Any) -> int:
        monkeypatch.setattr(tracker._writer, "_clock", lambda: time.monotonic() + 100)
        return 0

    monkeypatch.setattr(tracker._store, "remove_doubles", slow)
    tracker.finish(StudySummary([], None))
    assert run_of(tracker).info.status == "FINISHED"
    assert not list(tmp_path.glob("sparktune-unwritten-*"))


def test_who_was_taken_over_from_deletes_nothing(server: Server) -> None:
    mlflow.set_tracking_uri(server.uri)
    tracker = MlflowTracker()
    tracker.begin(info())
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 30)
    tracker._store.may_have_twice = True
    tracker._taken_over_by = "another driver"
    tags = {"fmin_uuid": tracker.study_id, "trial_status": "running"}
    others = MlflowClient().create_run(tracker._store.experiment_id, tags=tags).info.run_id
    tracker.finish(StudySummary([], None))
    assert MlflowClient().get_run(others).info.lifecycle_stage == "active"


def test_the_context_travels(sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    for name in travelling_env(os.environ):  # this machine's proxy and certificates
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "x")
    tracker = MlflowTracker()
    tracker.begin(info())
    tracker.launched(running(0))
    context = tracker.run_context(0)
    assert context is not None
    assert context.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert context.env == {"MLFLOW_TRACKING_TOKEN": "secret"}
    assert "secret" not in repr(context)
    tracker.finish(StudySummary([], None))


def test_a_server_that_dies_and_comes_back(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    tracker = MlflowTracker()
    tracker.begin(info())
    trials = {}

    def step(number: int, *, end: bool = True) -> None:
        tracker.launched(running(number))
        if end:
            trials[number] = completed(running(number), 1.0 / (number + 1))
            tracker.ended(trials[number], document(trials[number]))

    for number in range(10):
        step(number)
    step(10, end=False)
    assert run_id_of(tracker, 10) is not None
    server.kill()
    for number in range(11, 21):
        step(number)
    lost = tracker.run_context(20)
    assert lost is not None
    assert lost.run_id is None
    assert json.loads(lost.claim or "")["name"] == "trial 20"
    assert run_id_of(tracker, 20) is None
    answers: list[str | None] = []
    tracker.ask_run(19, answers.append, hurry=True)
    assert answers == [None], "trouble is known: who asks is told at once"
    trials[10] = failed(running(10))
    tracker.ended(trials[10], document(trials[10]))
    server.start()
    for number in range(21, 31):
        step(number)
    ordered = [trials[number] for number in range(31)]
    tracker.finish(StudySummary(ordered, ordered[-1]))

    parent = run_of(tracker)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["successful_trials_count"] == 30
    assert len(MlflowClient().get_metric_history(parent.info.run_id, "best_trial_loss")) == 31
    runs = MlflowClient().search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=100
    )
    assert sorted(run.info.run_name for run in runs) == sorted(f"trial {n}" for n in range(31))
    for run in runs:
        number = int(run.data.tags["sparktune.trial_id"])
        assert run.info.status == ("FAILED" if number == 10 else "FINISHED")
        assert run.data.params == {"C": str(number / 10)}
        assert (run.data.metrics == {"loss": 1.0 / (number + 1)}) is (number != 10)
    told = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert len([text for text in told if "cannot be written to" in text]) == 1
    assert len([text for text in told if "answers again" in text]) == 1


def test_a_worker_creates_the_run_before_the_study_has_one(server: Server) -> None:
    server.kill()
    tracker = MlflowTracker()
    tracker.begin(info())
    tracker.launched(running(0))
    assert run_id_of(tracker, 0) is None
    context = tracker.run_context(0)
    assert context is not None
    assert (context.run_id, tracker.run_id) == (None, None)
    assert tracker._writer is not None
    server.start()
    with tracker._writer.lock, redirect(context, RunArrival(None)):  # the writer can do nothing meanwhile
        mlflow.log_metric("auc", 0.9)
    trial = completed(running(0), 0.5)
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    assert tracker.run_id is not None
    (run,) = children_of(tracker.run_id).values()
    assert run.data.metrics == {"auc": 0.9, "loss": 0.5}
    assert run.info.status == "FINISHED"
    study = f"tags.fmin_uuid = '{run.data.tags['fmin_uuid']}'"
    assert len(MlflowClient().search_runs([run.info.experiment_id], study)) == 2


def test_a_broken_database_is_said_in_a_line(
    sqlite_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(patience_s=3.0)
    tracker.begin(info())
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 30)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE tags")
    trial = completed(running(0), 0.5)
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    told, *rest = [record.getMessage() for record in caplog.records if record.name == "sparktune"]
    assert "no such table: tags)" in told
    assert "SELECT" not in caplog.text
    assert len(rest) <= 2, "that it is waited for, and what became of it"
    assert len(list(tmp_path.glob("sparktune-unwritten-*.jsonl"))) == 1


class Silent:
    """A server that takes every request and never answers, from ``silence`` on; before, it passes them on."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.silence = threading.Event()
        self.was_asked = threading.Event()
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client = self._socket.accept()[0]
            except OSError:
                return
            self._kept.append(client)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        """A server that takes one request at a time would wait for one on a connection without any."""
        with contextlib.suppress(OSError):
            first = client.recv(65536)
            if self.silence.is_set():
                self.was_asked.set()
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._kept.append(server)
            server.sendall(first)
            threading.Thread(target=self._pass_on, args=(server, client), daemon=True).start()
            self._pass_on(client, server)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.silence.is_set():
                    self.was_asked.set()
                    continue
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in [self._socket, *self._kept]:
            one.close()


@pytest.fixture
def silent(server: Server) -> Iterator[Silent]:
    silent = Silent(server.port)
    mlflow.set_tracking_uri(silent.uri)
    yield silent
    silent.close()


def test_nothing_waits_for_a_silent_server(
    silent: Silent, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the driver calls returns while the first request is still under way."""
    monkeypatch.setattr(module, "REMOTE_BEGIN_S", 0.05)
    silent.silence.set()
    tracker = MlflowTracker(patience_s=0.05)
    tracker.begin(info())
    assert tracker.run_id is None
    assert silent.was_asked.wait(30)
    trials = [completed(running(number), float(number)) for number in range(20)]
    for trial in trials:
        tracker.launched(running(trial.trial_id))
        assert tracker.run_context(trial.trial_id) is not None
        tracker.ask_run(trial.trial_id, lambda run_id: None, hurry=True)
        tracker.reported(running(trial.trial_id), 0.5, 1)
        tracker.ended(trial, document(trial))
    tracker.finish(StudySummary(trials, trials[0]))
    assert tracker._writer is not None
    assert tracker._writer._active == 1
    assert not tracker._writer.in_trouble
    (path,) = tmp_path.glob("sparktune-unwritten-*.jsonl")
    mlflow.set_tracking_uri(server.uri)
    assert replay(path, server.uri)
    study = f"tags.fmin_uuid = '{path.stem.removeprefix('sparktune-unwritten-')}'"
    runs = MlflowClient().search_runs(["0"], study)
    assert len(runs) == 21
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_server_that_falls_silent(silent: Silent, server: Server, tmp_path: Path) -> None:
    """What a request holds that nobody answers is in the file too."""
    tracker = MlflowTracker(patience_s=0.5)
    tracker.begin(info())
    assert tracker.run_id is not None
    trials = [completed(running(number), float(number)) for number in range(4)]
    for number in range(4):
        tracker.launched(running(number))
        assert run_id_of(tracker, number) is not None
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 30)
    silent.silence.set()
    for trial in trials:
        tracker.ended(trial, document(trial))
    assert silent.was_asked.wait(30)
    tracker.finish(StudySummary(trials, trials[0]))
    (path,) = tmp_path.glob("sparktune-unwritten-*.jsonl")
    mlflow.set_tracking_uri(server.uri)
    assert replay(path, server.uri)
    children = children_of(tracker.run_id)
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    assert {name: run.data.metrics for name, run in children.items()} == {
        f"trial {number}": {"loss": float(number)} for number in range(4)
    }
    assert run_of(tracker).data.tags["best_C"] == "0.0"


def test_a_file_is_left_even_where_the_working_directory_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        mlflow.set_tracking_uri(f"http://127.0.0.1:{closed.getsockname()[1]}")
    tracker = MlflowTracker(patience_s=0.1, directory=tmp_path / "not there")
    tracker.begin(info())
    trial = completed(running(0), 0.5)
    tracker.ended(trial, document(trial))
    tracker.finish(StudySummary([trial], trial))
    (path,) = elsewhere.glob("sparktune-unwritten-*.jsonl")
    assert str(path) in caplog.text
    assert [record.name for record in Unwritten.load(path).records] == [
        "study hyperopt.tpe 10 trials",
        "trial 0",
    ]


def test_a_server_that_never_answers(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study runs without it; all is in a file, which can be written later."""
    monkeypatch.setattr(module, "REMOTE_BEGIN_S", 1e6)  # not waited for: the refusal is an answer
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        mlflow.set_tracking_uri(f"http://127.0.0.1:{closed.getsockname()[1]}")
    tracker = MlflowTracker(patience_s=1.0)
    tracker.begin(info())
    assert tracker.run_id is None
    trials = []
    for number in range(3):
        tracker.launched(running(number))
        context = tracker.run_context(number)
        assert context is not None
        assert context.run_id is None
        assert run_id_of(tracker, number) is None
        trials.append(completed(running(number), float(number)))
        tracker.ended(trials[-1], document(trials[-1]))
    tracker.finish(StudySummary(trials, trials[0]))
    (path,) = tmp_path.glob("sparktune-unwritten-*.jsonl")
    assert str(path) in caplog.text

    mlflow.set_tracking_uri(server.uri)
    assert replay(path, server.uri)
    assert not path.exists()
    wanted = f"tags.fmin_uuid = '{path.stem.removeprefix('sparktune-unwritten-')}'"
    runs = {run.info.run_name: run for run in MlflowClient().search_runs(["0"], wanted)}
    children = {name: run for name, run in runs.items() if name.startswith("trial ")}
    assert set(children) == {"trial 0", "trial 1", "trial 2"}
    (parent,) = [run for name, run in runs.items() if name not in children]
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert children["trial 2"].data.metrics == {"loss": 2.0}
    assert children["trial 2"].data.params == {"C": "0.2"}
    assert parent.data.params["algo"] == "hyperopt.tpe.suggest"
    assert parent.data.tags["best_C"] == "0.0"
    assert parent.info.status == "FINISHED"
