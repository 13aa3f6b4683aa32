"""What MLflow calls in an objective do, inside ``redirect`` and after it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient, start_run  # start_run: bound before anything is patched

from sparktune.private import of_mlflow
from sparktune.study.tracker import RunContext
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.redirect import redirect
from tests.conftest import needs_classic


@pytest.fixture
def context(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    """A child run, and a worker that knows nothing yet of its store."""
    client = MlflowClient()
    experiment = client.create_experiment("trials")
    parent = client.create_run(experiment)
    child = client.create_run(
        experiment, tags={"mlflow.parentRunId": parent.info.run_id}, run_name="trial 17"
    )
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the worker")
    return RunContext(child.info.run_id, sqlite_uri, None, experiment, {"MLFLOW_TRACKING_TOKEN": "secret"})


def child_of(context: RunContext) -> Any:
    assert context.run_id is not None
    return MlflowClient(context.tracking_uri).get_run(context.run_id)


def count_runs(context: RunContext) -> int:
    return len(MlflowClient(context.tracking_uri).search_runs([context.experiment_id]))


def state() -> dict[str, Any]:
    fluent = mlflow.tracking.fluent
    environment = {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_")}
    return environment | {
        "uri": mlflow.get_tracking_uri(),
        "registry": mlflow.get_registry_uri(),
        "experiment": fluent._active_experiment_id,
        "runs": [run.info.run_id for run in of_mlflow.stack(fluent)],
    }


def log_plainly() -> None:
    mlflow.log_param("depth", 3)
    mlflow.log_metric("auc", 0.9, step=2)
    mlflow.set_tag("colour", "red")
    mlflow.log_text("hello", "note.txt")


def log_in_runs() -> None:
    with mlflow.start_run():
        mlflow.log_param("depth", 3)
    with mlflow.start_run(run_name="my name"):
        mlflow.log_metric("auc", 0.9, step=2)
    with start_run(nested=True):
        mlflow.set_tag("colour", "red")
    mlflow.log_text("hello", "note.txt")


def log_before_a_run() -> None:
    mlflow.log_param("depth", 3)
    with mlflow.start_run():
        mlflow.log_metric("auc", 0.9, step=2)
    mlflow.set_tag("colour", "red")
    with mlflow.start_run(run_name="again"):
        mlflow.log_text("hello", "note.txt")


def log_in_a_thread() -> None:
    thread = threading.Thread(target=log_plainly)
    thread.start()
    thread.join()


def log_elsewhere_first() -> None:
    mlflow.set_experiment("of the objective")
    mlflow.set_tracking_uri(mlflow.get_tracking_uri().replace("////", "////./"))
    log_in_runs()


def log_and_end() -> None:
    mlflow.log_param("depth", 3)
    mlflow.end_run()
    mlflow.log_metric("auc", 0.9, step=2)
    mlflow.end_run("FAILED")
    mlflow.start_run()
    mlflow.set_tag("colour", "red")
    mlflow.log_text("hello", "note.txt")


@pytest.mark.parametrize(
    "objective",
    [log_plainly, log_in_runs, log_before_a_run, log_in_a_thread, log_elsewhere_first, log_and_end],
)
def test_calls_land_on_the_trials_run(context: RunContext, objective: Any) -> None:
    before = state()
    for _ in range(2):  # the second time on a worker that has seen a trial
        with redirect(context):
            objective()
        assert state() == before
    run = child_of(context)
    assert run.data.params == {"depth": "3"}
    assert run.data.metrics == {"auc": 0.9}
    assert run.data.tags["colour"] == "red"
    assert [entry.path for entry in MlflowClient(context.tracking_uri).list_artifacts(context.run_id)] == [
        "note.txt"
    ]
    assert count_runs(context) == 2
    assert not of_mlflow.stack(mlflow.tracking.fluent)


def test_runs_inside_a_run_are_nested(context: RunContext) -> None:
    with redirect(context), mlflow.start_run() as outer:
        assert outer.info.run_id == context.run_id
        with mlflow.start_run(nested=True, run_name="fold 1") as fold:
            mlflow.log_metric("auc", 0.5)
    assert fold.data.tags["mlflow.parentRunId"] == context.run_id
    assert child_of(context).data.metrics == {}
    assert count_runs(context) == 3


def test_a_run_left_open_is_ended_and_the_trials_is_not(context: RunContext) -> None:
    with redirect(context):
        mlflow.log_metric("auc", 0.5)
        fold = mlflow.start_run(nested=True)
    assert mlflow.active_run() is None
    assert child_of(context).info.status == "RUNNING"
    assert MlflowClient(context.tracking_uri).get_run(fold.info.run_id).info.status == "FINISHED"


def test_errors_pass_through(context: RunContext) -> None:
    before = state()
    error = ValueError("mine")

    def objective() -> None:
        mlflow.log_metric("auc", 0.5)
        raise error

    with pytest.raises(ValueError, match="mine") as caught, redirect(context):
        objective()
    assert caught.value is error
    assert state() == before


def test_each_trial_has_its_own_run(context: RunContext) -> None:
    client = MlflowClient(context.tracking_uri)
    other = client.create_run(context.experiment_id)
    second = RunContext(other.info.run_id, context.tracking_uri, None, context.experiment_id)
    for trial, value in ((context, 1.0), (second, 2.0), (context, 3.0)):
        with redirect(trial):
            mlflow.log_metric("auc", value)
    assert child_of(context).data.metrics == {"auc": 3.0}
    assert child_of(second).data.metrics == {"auc": 2.0}


def test_untracked_trials_keep_mlflow_as_it_is(context: RunContext, sqlite_uri: str) -> None:
    with redirect(context):
        mlflow.log_metric("auc", 1.0)
    with redirect(None):
        mlflow.set_tracking_uri(sqlite_uri)
        with mlflow.start_run() as own:
            mlflow.log_metric("auc", 2.0)
    assert own.info.run_id != context.run_id
    assert child_of(context).data.metrics == {"auc": 1.0}
    assert "mlflow.parentRunId" not in MlflowClient().get_run(own.info.run_id).data.tags


def test_runs_active_around_a_trial_come_back(context: RunContext, sqlite_uri: str) -> None:
    mlflow.set_tracking_uri(sqlite_uri)
    with mlflow.start_run() as own:
        with redirect(context):
            mlflow.log_metric("auc", 1.0)
        assert mlflow.active_run().info.run_id == own.info.run_id
    with redirect(context):
        mlflow.log_metric("auc", 1.0)
    assert mlflow.last_active_run().info.run_id == own.info.run_id
    assert child_of(context).data.metrics == {"auc": 1.0}


def test_an_objective_that_chooses_another_server(
    context: RunContext, tmp_path: Path, empty_database: bytes
) -> None:
    """Its runs there are its own affair; back at the study's server it has the trial's run again."""
    (tmp_path / "other.db").write_bytes(empty_database)
    other = f"sqlite:///{tmp_path}/other.db"
    with redirect(context):
        mlflow.set_tracking_uri(other)
        with mlflow.start_run(run_name="elsewhere") as elsewhere:
            mlflow.log_metric("auc", 2.0)
        mlflow.set_tracking_uri(context.tracking_uri)
        with mlflow.start_run():
            mlflow.log_metric("auc", 1.0)
            with mlflow.start_run(nested=True) as fold:
                pass
    assert elsewhere.info.experiment_id == "0"
    assert fold.info.experiment_id == context.experiment_id
    assert MlflowClient(other).get_run(elsewhere.info.run_id).data.metrics == {"auc": 2.0}
    assert child_of(context).data.metrics == {"auc": 1.0}


def test_two_threads_that_start_a_run_at_the_same_moment(context: RunContext) -> None:
    both = threading.Barrier(2, timeout=60)

    def log(number: int) -> None:
        both.wait()
        with mlflow.start_run():
            mlflow.log_metric(f"auc {number}", 1.0)

    with redirect(context), ThreadPoolExecutor(2) as pool:
        list(pool.map(log, range(2)))
        assert os.environ["MLFLOW_RUN_ID"] == context.run_id
    assert child_of(context).data.metrics == {"auc 0": 1.0, "auc 1": 1.0}
    assert count_runs(context) == 2


def test_a_param_with_another_value_does_not_fail_the_objective(context: RunContext) -> None:
    client = MlflowClient(context.tracking_uri)
    client.log_param(context.run_id, "depth", 10.0)
    with redirect(context):
        mlflow.log_param("depth", 10)
        mlflow.log_params({"depth": 11, "extra": 1})
        with pytest.raises(mlflow.MlflowException):
            mlflow.log_param("bad key?", 1)
    assert child_of(context).data.params == {"depth": "10.0", "depth_1": "11", "extra": "1"}
    with pytest.raises(mlflow.MlflowException):
        client.log_param(context.run_id, "depth", 12)


def test_autologging(context: RunContext) -> None:
    from sklearn.linear_model import LogisticRegression

    with redirect(context):
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        try:
            LogisticRegression(C=0.25).fit([[0.0], [1.0]], [0, 1])
        finally:
            mlflow.sklearn.autolog(disable=True, silent=True)
    run = child_of(context)
    assert run.data.params["C"] == "0.25"
    assert "training_score" in run.data.metrics
    assert count_runs(context) == 2


def test_a_run_that_the_driver_could_not_create(context: RunContext) -> None:
    """The first call makes it, as a child; the trial's later calls, and the driver, find it again."""
    identity = {"fmin_uuid": "abc", "sparktune.trial_id": "3"}
    wanted = {"name": "trial 3", "identity": identity, "tags": identity | {"mlflow.parentRunId": "p"}}
    claim = json.dumps(wanted)
    lost = RunContext(None, context.tracking_uri, None, context.experiment_id, claim=claim)
    for _ in range(2):
        with redirect(lost):
            mlflow.log_metric("auc", 1.0)
            mlflow.end_run()
            with mlflow.start_run(nested=True):
                mlflow.log_metric("auc", 2.0)
    (run,) = MlflowClient(context.tracking_uri).search_runs([context.experiment_id], "tags.fmin_uuid = 'abc'")
    assert run.info.run_name == "trial 3"
    assert run.data.tags["mlflow.parentRunId"] == "p"
    assert run.data.metrics == {"auc": 2.0}
    assert count_runs(context) == 3


def test_a_run_that_nobody_can_create(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective learns what is wrong; it gets no run of its own."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    claim = json.dumps({"name": "trial 3", "identity": {"fmin_uuid": "abc"}, "tags": {}})
    lost = RunContext(None, uri, None, "0", claim=claim)
    with redirect(lost), pytest.raises(mlflow.MlflowException, match=r"runs/search.*refused"):
        mlflow.log_metric("auc", 1.0)


def later(context: RunContext, *answers: str | None) -> tuple[RunContext, RunArrival, list[str]]:
    """The context without its run; the driver gives these answers, each from a thread of its own."""
    questions: list[str] = []
    left = iter(answers)

    def ask() -> None:
        questions.append("?")
        threading.Thread(target=arrival.tell, args=(next(left),)).start()

    arrival = RunArrival(None, ask)
    claim = json.dumps({"name": "trial 17", "identity": {"fmin_uuid": "abc"}, "tags": {"fmin_uuid": "abc"}})
    return dataclasses.replace(context, run_id=None, claim=claim), arrival, questions


@pytest.mark.parametrize(
    "objective",
    [log_plainly, log_in_runs, log_before_a_run, log_in_a_thread, log_elsewhere_first, log_and_end],
)
def test_a_run_that_is_told_when_it_is_needed(context: RunContext, objective: Any) -> None:
    before = state()
    for _ in range(2):
        pending, arrival, questions = later(context, context.run_id)
        with redirect(pending, arrival):
            objective()
        assert questions == ["?"]
        assert state() == before
    assert child_of(context).data.metrics == {"auc": 0.9}
    assert count_runs(context) == 2


def test_a_run_that_the_driver_cannot_create_now(context: RunContext) -> None:
    """The worker creates it; what the driver says of it later changes nothing."""
    pending, arrival, _ = later(context, None)
    with redirect(pending, arrival):
        mlflow.log_metric("auc", 1.0)
        arrival.tell("another")
        mlflow.log_metric("loss", 2.0)
        claimed = os.environ["MLFLOW_RUN_ID"]
    run = MlflowClient(context.tracking_uri).get_run(claimed)
    assert run.data.metrics == {"auc": 1.0, "loss": 2.0}
    assert count_runs(context) == 3


def test_a_worker_that_cannot_ask_looks_for_the_run_before_it_creates_one(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(context.tracking_uri)
    pending, _, _ = later(context)

    def created_meanwhile(seconds: float) -> None:
        client.set_tag(context.run_id, "fmin_uuid", "abc")

    monkeypatch.setattr("sparktune.tracking.current_trial.time.sleep", created_meanwhile)
    with redirect(pending, RunArrival(None, search_s=30)):
        mlflow.log_metric("auc", 1.0)
    assert child_of(context).data.metrics == {"auc": 1.0}
    assert count_runs(context) == 2


def test_autologging_with_a_run_that_comes_later(context: RunContext) -> None:
    from sklearn.linear_model import LogisticRegression

    pending, arrival, _ = later(context, context.run_id)
    with redirect(pending, arrival):
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        try:
            LogisticRegression(C=0.25).fit([[0.0], [1.0]], [0, 1])
        finally:
            mlflow.sklearn.autolog(disable=True, silent=True)
    assert child_of(context).data.params["C"] == "0.25"
    assert count_runs(context) == 2


def run_script(body: str, *arguments: str, **env: str) -> str:
    script = "import sys\n" + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | env,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_classic
def test_a_worker_that_imports_mlflow_in_the_objective(context: RunContext) -> None:
    run_script(
        """
        from sparktune.study.tracker import RunContext
        from sparktune.tracking.worker.redirect import redirect

        context = RunContext(sys.argv[1], sys.argv[2], None, sys.argv[3])
        with redirect(context):
            from mlflow import log_metric, start_run
            with start_run():
                log_metric("auc", 1.0)
            with start_run():
                log_metric("auc", 2.0)
        import mlflow
        assert mlflow.get_tracking_uri() != context.tracking_uri
        with redirect(context):
            log_metric("loss", 3.0)
        """,
        context.run_id or "",
        context.tracking_uri,
        context.experiment_id,
    )
    assert child_of(context).data.metrics == {"auc": 2.0, "loss": 3.0}
    assert count_runs(context) == 2


def test_an_objective_without_mlflow_does_not_import_it_and_subprocesses_see_the_run() -> None:
    printed = run_script(
        """
        import os, subprocess
        from sparktune.study.tracker import RunContext
        from sparktune.tracking.worker.redirect import redirect

        env = {"AWS_REGION": "x", "AZURE_CLIENT_ID": "y"}
        context = RunContext("r1", "http://server", "http://registry", "7", env)
        show = "import os; e = sorted(os.environ.items()); "
        show += "[print(f'{k}={v}') for k, v in e if k[:3] in ('MLF', 'AZU')]; print('AWS_REGION' in dict(e))"
        command = [sys.executable, "-c", show]
        with redirect(context):
            print(subprocess.run(command, capture_output=True, text=True).stdout)
        assert "mlflow" not in sys.modules
        assert not [name for name in os.environ if name.startswith("MLFLOW")]
        """,
        AWS_ACCESS_KEY_ID="own",
    )
    assert printed.split() == [
        "AZURE_CLIENT_ID=y",
        "MLFLOW_EXPERIMENT_ID=7",
        "MLFLOW_REGISTRY_URI=http://registry",
        "MLFLOW_RUN_ID=r1",
        "MLFLOW_TRACKING_URI=http://server",
        "True",  # a region says where, not who
    ]


def test_the_trials_run_is_active_from_the_start(context: RunContext) -> None:
    with redirect(context):
        run = mlflow.active_run()
        assert run is not None
        assert run.info.run_id == context.run_id
        assert not of_mlflow.stack(mlflow.tracking.fluent), "who only looks changes nothing"
        with mlflow.start_run() as started:
            assert started.info.run_id == context.run_id
        mlflow.end_run()
        assert mlflow.active_run().info.run_id == context.run_id
    assert mlflow.active_run() is None
    assert count_runs(context) == 2


def test_the_run_is_active_before_it_exists(context: RunContext) -> None:
    arrival = RunArrival(None, lambda: arrival.tell(context.run_id))
    with redirect(dataclasses.replace(context, run_id=None), arrival):
        assert mlflow.active_run().info.run_id == context.run_id


def test_of_several_nested_blocks_the_first_is_the_trials_run(context: RunContext) -> None:
    folds = []
    with redirect(context):
        for fold in range(3):
            with mlflow.start_run(nested=True, run_name=None if fold == 0 else f"fold {fold}") as run:
                mlflow.log_metric("auc", fold)
                folds.append(run.info.run_id)
        mlflow.log_metric("mean", 1.0)
    assert folds[0] == context.run_id
    assert child_of(context).data.metrics == {"auc": 0.0, "mean": 1.0}
    client = MlflowClient(context.tracking_uri)
    for fold, run_id in enumerate(folds[1:], start=1):
        run = client.get_run(run_id)
        assert run.data.metrics == {"auc": float(fold)}
        assert run.data.tags["mlflow.parentRunId"] == context.run_id
        assert run.info.status == "FINISHED"


def test_nested_blocks_after_something_was_logged_are_runs_below(context: RunContext) -> None:
    with redirect(context):
        mlflow.log_param("depth", 3)
        with mlflow.start_run(nested=True) as run:
            assert run.info.run_id != context.run_id
            mlflow.log_metric("auc", 1.0)
    assert child_of(context).data.metrics == {}
    assert count_runs(context) == 3


def test_another_experiment_in_the_objective_is_said(context: RunContext) -> None:
    with redirect(context) as notes:
        mlflow.set_experiment("another")
        mlflow.log_metric("auc", 1.0)
        with mlflow.start_run(experiment_id="0"):
            pass
    assert len(notes) == 2
    assert "mlflow.set_experiment" in notes[0]
    assert "start_run(experiment_id='0')" in notes[1]
    assert all("before fmin" in note for note in notes)
    assert child_of(context).data.metrics == {"auc": 1.0}
    with redirect(context) as notes:
        mlflow.set_experiment("trials")
        mlflow.log_metric("auc", 2.0)
    assert notes == []
