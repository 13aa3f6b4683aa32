"""What each MLflow call in an objective does: the same for ``SparkTrials``, ``DriverTrials`` and ``Trials``.

One study of each class runs every objective below once, while it is a trial; the tests look at what is
recorded. ``docs/mlflow.md`` has the table.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
import sqlalchemy
from mlflow import (
    MlflowClient,
    start_run as start_run_of_earlier,  # bound before anything is replaced
)

from sparktune import DriverTrials, SparkTrials, Trials, fmin, grid, hp

Body = Callable[["Where"], Any]
BODIES: dict[str, Body] = {}


@dataclass
class Where:
    """What an objective is told of its surroundings: the study's run, and another store."""

    parent: str
    elsewhere: str


def body(function: Body) -> Body:
    BODIES[function.__name__] = function
    return function


@body
def plain(_where: Where) -> Any:
    active = mlflow.active_run()
    assert active is not None
    mlflow.log_param("mine", 1)
    mlflow.log_metric("auc", 0.5)
    mlflow.set_tag("colour", "red")
    mlflow.log_text("hello", "note.txt")
    return active.info.run_id


@body
def block(_where: Where) -> Any:
    with mlflow.start_run(run_name="named", description="about", tags={"colour": "red"}) as run:
        mlflow.log_metric("auc", 0.5)
    with start_run_of_earlier():
        mlflow.log_metric("more", 0.5)
    return run.info.run_id


@body
def nested_block(_where: Where) -> Any:
    with mlflow.start_run(nested=True, run_name="named", description="about") as run:
        mlflow.log_metric("auc", 0.5)
    return run.info.run_id


@body
def named_folds(_where: Where) -> Any:
    for fold in range(3):
        with mlflow.start_run(nested=True, run_name=f"fold {fold}"):
            mlflow.log_metric("auc", fold)


@body
def folds(_where: Where) -> Any:
    for fold in range(3):
        with mlflow.start_run(nested=True):
            mlflow.log_metric("auc", fold)


@body
def folds_inside(_where: Where) -> Any:
    with mlflow.start_run():
        for fold in range(2):
            with mlflow.start_run(nested=True, run_name=f"fold {fold}"):
                mlflow.log_metric("auc", fold)
        mlflow.log_metric("mean", 0.5)


@body
def inside_the_studys_run(where: Where) -> Any:
    with mlflow.start_run(run_id=where.parent):
        mlflow.set_tag("of the study", "yes")
        with mlflow.start_run(nested=True) as run:
            mlflow.log_metric("auc", 0.5)
    return run.info.run_id


@body
def in_threads(_where: Where) -> Any:
    mlflow.log_metric("before", 1.0)

    both_are_open = threading.Barrier(2)

    def fold(number: int) -> None:
        mlflow.log_metric(f"thread {number}", 1.0)
        with mlflow.start_run(nested=True, run_name=f"fold {number}"):
            both_are_open.wait(timeout=60)
            mlflow.log_metric("auc", number)
            both_are_open.wait(timeout=60)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fold, range(2)))


@body
def on_another_server(where: Where) -> Any:
    home = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(where.elsewhere)
    with mlflow.start_run() as run:
        mlflow.log_metric("auc", 0.5)
    mlflow.set_tracking_uri(home)
    mlflow.log_metric("auc", 0.25)
    mlflow.set_tracking_uri(where.elsewhere)
    return run.info.run_id


@body
def in_another_experiment(_where: Where) -> Any:
    mlflow.set_experiment("another")
    with mlflow.start_run(experiment_id="0"):
        mlflow.log_metric("auc", 0.5)


@body
def params_again(_where: Where) -> Any:
    """After the driver has written its own."""
    client, run_id = MlflowClient(mlflow.get_tracking_uri()), mlflow.active_run().info.run_id
    give_up = time.monotonic() + 60
    while "depth" not in client.get_run(run_id).data.params and time.monotonic() < give_up:
        time.sleep(0.1)
    mlflow.log_params({"depth": 11, "extra": 1})
    mlflow.log_param("depth", 12)


@body
def left_open(_where: Where) -> Any:
    mlflow.start_run()
    mlflow.start_run(nested=True, run_name="open")

    def in_thread() -> None:
        mlflow.log_metric("before", 1.0)
        mlflow.start_run(nested=True, run_name="open in a thread")
        mlflow.log_metric("auc", 0.5)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_thread).result()


@body
def fails(_where: Where) -> Any:
    with mlflow.start_run():
        raise ValueError("no such point")


@body
def starts_a_process(_where: Where) -> Any:
    shown = subprocess.run(
        [sys.executable, "-c", "import os; print(os.environ['MLFLOW_RUN_ID'])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return shown.stdout.strip()


def in_joblibs_processes() -> set[str]:
    """The runs that tasks see: of more than joblib sends at first, so that its own threads send some."""
    joblib = pytest.importorskip("joblib")

    def task(number: int) -> str:
        import mlflow

        mlflow.log_metric(f"task {number}", number)
        return str(mlflow.active_run().info.run_id)

    return set(joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(task)(n) for n in range(7)))


@body
def uses_joblib(_where: Where) -> Any:
    return in_joblibs_processes()


@body
def uses_joblib_again(_where: Where) -> Any:
    return in_joblibs_processes()


@body
def uses_joblib_and_fails(_where: Where) -> Any:
    in_joblibs_processes()
    raise ValueError("no such point")


@body
def has_blocks_in_joblibs_processes(_where: Where) -> Any:
    joblib = pytest.importorskip("joblib")
    if "MLFLOW_RUN_ID" in os.environ:  # SparkTrials: MLflow there knows the run by this variable alone
        return

    def task(number: int) -> None:
        import mlflow

        with mlflow.start_run(), mlflow.start_run(nested=True, run_name=f"task {number}"):
            mlflow.log_metric("of the task", number)

    joblib.Parallel(n_jobs=2)(joblib.delayed(task)(n) for n in range(3))


@body
def uses_joblibs_threads(_where: Where) -> Any:
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config("threading"):
        calls = [joblib.delayed(mlflow.log_metric)(f"task {n}", n) for n in range(3)]
        joblib.Parallel(n_jobs=2)(calls)


@body
def fits_with_autologging(_where: Where) -> Any:
    from sklearn.linear_model import LogisticRegression

    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    try:
        LogisticRegression(C=0.25).fit([[0.0], [1.0]], [0, 1])
    finally:
        mlflow.sklearn.autolog(disable=True, silent=True)


SPACE = {"call": hp.choice("call", list(BODIES)), "depth": hp.choice("depth", [11.0])}


@dataclass
class Recorded:
    """A study as it was recorded.

    Attributes:
        uri: of its store.
        where: what its objectives knew.
        runs: every run of the study's experiment.
        of_call: body -> the trial's run.
        told: body -> what it returned.
        logged: messages of sparktune's logger.
        before, after: MLflow's state in this process.
        kind: of the trials.
    """

    uri: str
    where: Where
    runs: list[Any]
    of_call: dict[str, Any]
    told: dict[str, Any]
    logged: list[str]
    before: dict[str, Any]
    after: dict[str, Any]
    kind: str
    client: MlflowClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = MlflowClient(self.uri)

    def below(self, run_id: str) -> list[Any]:
        found = [run for run in self.runs if run.data.tags.get("mlflow.parentRunId") == run_id]
        return sorted(found, key=lambda run: str(run.info.run_name))


def state() -> dict[str, Any]:
    fluent: Any = mlflow.tracking.fluent
    return {
        "uri": mlflow.get_tracking_uri(),
        "registry": mlflow.get_registry_uri(),
        "experiment": fluent._active_experiment_id,
        "active": None if (run := mlflow.active_run()) is None else run.info.run_id,
        "environment": {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_")},
        "functions": [mlflow.start_run.__code__, mlflow.active_run.__code__, subprocess.Popen.__init__],
    }


def study(kind: str, request: pytest.FixtureRequest, folder: Path, database: bytes) -> Recorded:
    uris = []
    for name in ("store", "elsewhere"):
        (folder / f"{name}.db").write_bytes(database)
        uris.append(f"sqlite:///{folder}/{name}.db")
    trials: Any
    if kind == "SparkTrials":
        trials = SparkTrials(2, spark_session=request.getfixturevalue("spark"))
    else:
        trials = DriverTrials(2) if kind == "DriverTrials" else Trials()
    told: dict[str, Any] = {}
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    mlflow.set_tracking_uri(uris[0])
    mlflow.set_experiment("studies")
    logging.getLogger("sparktune").addHandler(handler)
    try:
        with mlflow.start_run() as parent:
            where = Where(parent.info.run_id, uris[1])
            bodies = dict(BODIES)

            def objective(point: Any) -> dict[str, Any]:
                return {"loss": 1.0, "status": "ok", "told": bodies[point["call"]](where)}

            before = state()
            fmin(
                objective, SPACE, grid.suggest, len(BODIES), trials=trials, catch_eval_exceptions=True,
                show_progressbar=False,
            )  # fmt: skip
            after = state()
        runs = MlflowClient().search_runs([parent.info.experiment_id])
    finally:
        logging.getLogger("sparktune").removeHandler(handler)
        mlflow.set_tracking_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None
    by_id = {run.info.run_id: run for run in runs}
    names = list(BODIES)
    of_call = {}
    documents = [*trials._dynamic_trials]
    for document in documents:
        name = names[document["misc"]["vals"]["call"][0]]
        of_call[name] = by_id[document["misc"]["run_id"]]
        told[name] = document["result"].get("told")
    return Recorded(uris[0], where, runs, of_call, told, logged, before, after, kind)


@pytest.fixture(scope="module", params=["Trials", "DriverTrials", "SparkTrials"])
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_database: bytes
) -> Recorded:
    folder = tmp_path_factory.mktemp(request.param)
    return study(request.param, request, folder, empty_database)


def test_every_run_is_the_studys_a_trials_or_below_one(recorded: Recorded) -> None:
    parent = recorded.where.parent
    trials = {run.info.run_id for run in recorded.of_call.values()}
    assert {run.info.run_id for run in recorded.below(parent)} == trials
    assert len(trials) == len(BODIES)
    above = {run.data.tags.get("mlflow.parentRunId") for run in recorded.runs}
    assert above <= {None, parent, *trials}
    assert [run.info.run_id for run in recorded.runs if "mlflow.parentRunId" not in run.data.tags] == [parent]
    others = [run for run in recorded.runs if run.info.run_id != parent]
    not_ended = {run.info.run_name: dict(run.data.tags) for run in others if run.info.status == "RUNNING"}
    assert not_ended == {}
    assert {run.info.status for run in others} == {"FINISHED", "FAILED"}


def test_nothing_of_the_process_is_changed(recorded: Recorded) -> None:
    assert recorded.after == recorded.before
    assert recorded.before["active"] == recorded.where.parent


def test_plain_calls_go_to_the_trials_run(recorded: Recorded) -> None:
    run = recorded.of_call["plain"]
    assert recorded.told["plain"] == run.info.run_id
    assert run.data.params["mine"] == "1"
    assert run.data.metrics == {"auc": 0.5, "loss": 1.0}
    assert run.data.tags["colour"] == "red"
    assert "note.txt" in [file.path for file in recorded.client.list_artifacts(run.info.run_id)]


@pytest.mark.parametrize("name", ["block", "nested_block"])
def test_a_block_is_the_trials_run_with_name_and_description(recorded: Recorded, name: str) -> None:
    run = recorded.of_call[name]
    assert recorded.told[name] == run.info.run_id
    assert run.info.run_name == "named"
    assert run.data.tags["mlflow.note.content"] == "about"
    assert run.data.metrics["auc"] == 0.5
    assert recorded.below(run.info.run_id) == []


def test_folds_with_names_are_runs_below_the_trials(recorded: Recorded) -> None:
    run = recorded.of_call["named_folds"]
    assert run.info.run_name.startswith("trial ")
    found = recorded.below(run.info.run_id)
    assert [fold.info.run_name for fold in found] == ["fold 0", "fold 1", "fold 2"]
    assert [fold.data.metrics for fold in found] == [{"auc": 0.0}, {"auc": 1.0}, {"auc": 2.0}]


def test_folds_without_names_begin_with_the_trials_run(recorded: Recorded) -> None:
    run = recorded.of_call["folds"]
    assert run.data.metrics["auc"] == 0.0
    assert {fold.data.metrics["auc"] for fold in recorded.below(run.info.run_id)} == {1.0, 2.0}


def test_folds_inside_a_block_are_runs_below_the_trials(recorded: Recorded) -> None:
    run = recorded.of_call["folds_inside"]
    assert run.data.metrics == {"mean": 0.5, "loss": 1.0}
    assert [fold.info.run_name for fold in recorded.below(run.info.run_id)] == ["fold 0", "fold 1"]


def test_a_nested_run_of_the_studys_is_the_trials_own(recorded: Recorded) -> None:
    run = recorded.of_call["inside_the_studys_run"]
    assert recorded.told["inside_the_studys_run"] == run.info.run_id
    assert run.data.metrics["auc"] == 0.5
    assert recorded.below(run.info.run_id) == []
    assert recorded.client.get_run(recorded.where.parent).data.tags["of the study"] == "yes"


def test_threads_of_the_objective_are_the_trials(recorded: Recorded) -> None:
    run = recorded.of_call["in_threads"]
    assert run.data.metrics == {"before": 1.0, "thread 0": 1.0, "thread 1": 1.0, "loss": 1.0}
    found = recorded.below(run.info.run_id)
    assert [(fold.info.run_name, fold.info.status) for fold in found] == [
        ("fold 0", "FINISHED"),
        ("fold 1", "FINISHED"),
    ]
    assert [fold.data.metrics for fold in found] == [{"auc": 0.0}, {"auc": 1.0}]


def test_another_server_is_the_objectives_own_affair(recorded: Recorded) -> None:
    there = MlflowClient(recorded.where.elsewhere).get_run(recorded.told["on_another_server"])
    assert there.data.metrics == {"auc": 0.5}
    assert recorded.of_call["on_another_server"].data.metrics == {"auc": 0.25, "loss": 1.0}


def test_another_experiment_has_no_effect_and_that_is_logged(recorded: Recorded) -> None:
    run = recorded.of_call["in_another_experiment"]
    assert run.data.metrics["auc"] == 0.5
    for call in ("mlflow.set_experiment (experiment", "start_run(experiment_id='0')"):
        assert len([text for text in recorded.logged if call in text]) == 1, recorded.logged


def test_params_of_the_trial_may_be_logged_again(recorded: Recorded) -> None:
    params = recorded.of_call["params_again"].data.params
    assert {key: params[key] for key in sorted(params) if key != "call"} == {
        "depth": "11.0",
        "depth_1": "12",
        "extra": "1",
    }


def test_what_is_left_open_is_ended(recorded: Recorded) -> None:
    found = recorded.below(recorded.of_call["left_open"].info.run_id)
    assert [(run.info.run_name, run.info.status, run.data.metrics) for run in found] == [
        ("open", "FINISHED", {}),
        ("open in a thread", "FINISHED", {"auc": 0.5}),
    ]


def test_a_trial_that_fails_inside_a_block(recorded: Recorded) -> None:
    run = recorded.of_call["fails"]
    assert run.info.status == "FAILED"
    assert "no such point" in run.data.tags["sparktune.error"]


def test_a_process_that_the_objective_starts_finds_the_run(recorded: Recorded) -> None:
    assert recorded.told["starts_a_process"] == recorded.of_call["starts_a_process"].info.run_id


@pytest.mark.parametrize("name", ["uses_joblib", "uses_joblib_again", "uses_joblib_and_fails"])
def test_processes_that_joblib_keeps_log_to_the_trial_that_uses_them(recorded: Recorded, name: str) -> None:
    run = recorded.of_call[name]
    assert {key for key in run.data.metrics if key.startswith("task")} == {f"task {n}" for n in range(7)}
    if name == "uses_joblib_and_fails":
        assert run.info.status == "FAILED"
    else:
        assert recorded.told[name] == {run.info.run_id}


def test_blocks_in_joblibs_processes(recorded: Recorded) -> None:
    if recorded.kind == "SparkTrials":
        return
    run = recorded.of_call["has_blocks_in_joblibs_processes"]
    assert run.info.status == "FINISHED"
    assert [below.info.run_name for below in recorded.below(run.info.run_id)] == [
        "task 0",
        "task 1",
        "task 2",
    ]


def test_joblibs_threads_are_the_trials(recorded: Recorded) -> None:
    metrics = recorded.of_call["uses_joblibs_threads"].data.metrics
    assert {key: metrics.get(key) for key in ("task 0", "task 1", "task 2")} == {
        "task 0": 0.0,
        "task 1": 1.0,
        "task 2": 2.0,
    }


def test_autologging(recorded: Recorded) -> None:
    run = recorded.of_call["fits_with_autologging"]
    assert run.data.params["C"] == "0.25"
    assert "training_score" in run.data.metrics


@pytest.mark.parametrize("loser", ["the objective", "the study"])
def test_a_param_that_both_log_at_once(mlflow_store: str, loser: str) -> None:
    """For the loser the store's look for params that are there has passed when the other one writes."""
    objectives: set[int] = set()
    forced: list[dict[str, Any]] = []
    is_forced = threading.Event()

    def before(_connection: Any, _cursor: Any, statement: str, rows: Any, _context: Any, many: bool) -> None:
        if forced or not statement.startswith("INSERT INTO params"):
            return
        row = rows[0] if many else rows
        is_objective = threading.get_ident() in objectives
        if "depth" not in row or is_objective != (loser == "the objective"):
            return
        names = statement[statement.index("(") + 1 : statement.index(")")].replace(" ", "").split(",")
        forced.append(dict(zip(names, row, strict=False)) | {"value": "11.0" if is_objective else "11"})
        with contextlib.closing(sqlite3.connect(mlflow_store.removeprefix("sqlite:///"))) as other, other:
            marks = ", ".join("?" * len(names))
            values = [forced[0][name] for name in names]
            other.execute(f"INSERT INTO params ({', '.join(names)}) VALUES ({marks})", values)
        is_forced.set()

    def objective(point: dict[str, float]) -> float:
        objectives.add(threading.get_ident())
        if loser == "the objective":
            mlflow.log_params({"depth": int(point["depth"]), "extra": 1})
        else:  # a trial that knows its run
            assert mlflow.active_run() is not None
            assert is_forced.wait(60)
        return point["depth"]

    trials = DriverTrials(1)
    listening = (sqlalchemy.engine.Engine, "before_cursor_execute", before)
    sqlalchemy.event.listen(*listening)
    try:
        space = {"depth": hp.quniform("depth", 11, 11.2, 1)}
        fmin(objective, space, grid.suggest, 1, trials=trials, show_progressbar=False)
    finally:
        sqlalchemy.event.remove(*listening)
    assert forced
    assert trials.to_dataframe().error.tolist() == [None]
    params = mlflow.get_run(trials.best_run_id).data.params
    extra = {"extra": "1"} if loser == "the objective" else {}
    assert params == {"depth": forced[0]["value"], **extra}
