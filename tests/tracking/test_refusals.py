"""What can never be recorded is refused at the start of a study; trouble that may pass is not."""

from __future__ import annotations

import contextlib
import http.server
import importlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hyperopt
import mlflow
import pytest

from sparktune import fmin, hp, rand
from sparktune.errors import CannotRecord, CannotResume
from sparktune.study.tracker import NullTracker
from sparktune.tracking import server as probing
from sparktune.tracking.refusals import cannot_record
from tests.conftest import needs_classic
from tests.gate import Gate, gate_to
from tests.recorded_trials import RecordedTrials, tune
from tests.tracking.conftest import Server

doctor: Any = importlib.import_module("sparktune.doctor")

QUICK_S = 45.0
"""Waiting for a store that never comes takes a minute and more."""


@contextlib.contextmanager
def some_web_server(folder: Path) -> Iterator[str]:
    """A server of files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()
        thread.join()


def check_refused(uri: str, said: str, remedy: str) -> None:
    """By a study, before its first trial, at once; by ``doctor``; and by a resumed study."""
    mlflow.set_tracking_uri(uri)
    began = time.monotonic()
    n_run: list[float] = []
    trials = RecordedTrials()
    with pytest.raises(CannotRecord) as caught:
        tune(3, lambda point: n_run.append(point["x"]) or 0.0, trials=trials)
    assert not n_run
    assert time.monotonic() - began < QUICK_S
    assert said in str(caught.value)
    assert remedy in str(caught.value)
    assert "mlflow=False" in str(caught.value)
    assert not list(Path.cwd().glob("sparktune-unwritten-*"))
    found = doctor._mlflow(uri)
    assert found.state == "FAILS"
    assert said in found.text
    assert remedy in found.remedy
    with pytest.raises(CannotResume):
        RecordedTrials.from_mlflow("last")
    assert time.monotonic() - began < QUICK_S
    # Nothing has begun: the same trials run once the cause is gone.
    trials._tracker = NullTracker  # type: ignore[method-assign]
    tune(3, lambda _point: 0.0, trials=trials)
    assert len(trials) == 3


IS_3 = int(mlflow.__version__.partition(".")[0]) >= 3
"""MLflow 2 says other things, and has another default."""
ADDRESSES = [
    ("postgresql://u:secret@127.0.0.1/db", "No module named 'psycopg", "pip install"),
    ("nosuch://host/x", "no such store; there are file", "correct MLFLOW_TRACKING_URI"),
    ("arn:aws:sagemaker:eu-west-1:1:mlflow-app/x", "no such store", "sagemaker-mlflow"),
    ("uc:https://host", "Unity Catalog" if IS_3 else "no such store", "correct MLFLOW_TRACKING_URI"),
    ("databricks://sparktune-no-such-profile", "credential" if IS_3 else "CLI profile", "DATABRICKS_TOKEN"),
    ("sqlite:////proc/mlflow.db", "nothing can be written in /proc", "mlflow.set_tracking_uri"),
    ("sqlite:////proc/deeper/mlflow.db", "nothing can be written in /proc", "mlflow.set_tracking_uri"),
]


@pytest.mark.parametrize(("uri", "said", "remedy"), ADDRESSES)
def test_an_address_that_never_works(
    uri: str, said: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", os.getcwd())  # without somebody's login
    check_refused(uri, said, remedy)


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_refused("file:///proc/mlruns", "nothing can be written in /proc", "server")


def outdated(database: bytes) -> bytes:
    Path("copy.db").write_bytes(database)
    with contextlib.closing(sqlite3.connect("copy.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    return Path("copy.db").read_bytes()


@pytest.mark.parametrize(
    ("make", "said", "remedy"),
    [
        (outdated, "out-of-date database schema", "mlflow db upgrade"),
        (lambda _database: b"hello" * 1000, "file is not a database", "mlflow.set_tracking_uri"),
    ],
    ids=["older schema", "not a database"],
)
def test_a_file_that_mlflow_cannot_use(
    make: Callable[[bytes], bytes],
    said: str,
    remedy: str,
    tmp_path: Path,
    empty_database: bytes,
) -> None:
    (tmp_path / "m.db").write_bytes(make(empty_database))
    check_refused(f"sqlite:///{tmp_path}/m.db", said, remedy)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MLFLOW_EXPERIMENT_ID", "77", "No Experiment with id=77"),
        ("MLFLOW_EXPERIMENT_ID", "gone", "was deleted; `mlflow experiments restore -x"),
        ("MLFLOW_EXPERIMENT_NAME", "gone", "was deleted; `mlflow experiments restore -x"),
        ("MLFLOW_RUN_ID", "0" * 32, "not found"),
    ],
)
def test_an_experiment_that_is_not_there(
    variable: str, value: str, said: str, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value == "gone":
        number = mlflow.create_experiment("gone")
        mlflow.delete_experiment(number)
        value = number if variable == "MLFLOW_EXPERIMENT_ID" else value
    monkeypatch.setenv(variable, value)
    with pytest.raises(CannotRecord, match=f"(?i){said}.*unset MLFLOW_EXPERIMENT_ID"):
        tune(2)
    assert doctor._mlflow(sqlite_uri).state == "FAILS"


def test_no_login_no_permission_and_no_mlflow(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with gate_to(server.port, "token") as gate:
        check_refused(gate.uri, "401", "MLFLOW_TRACKING_TOKEN")
        mlflow.set_tracking_uri(gate.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
        probing.probe(gate.uri)
        tune(2)
        gate.trouble = lambda _number: "403" if creates(gate) else None
        with pytest.raises(CannotRecord, match=r"runs/create.*403.*who may write to this experiment"):
            tune(2)
    with some_web_server(tmp_path) as uri:
        check_refused(uri, "404", "address of an MLflow server")
    assert "cannot be written to" not in caplog.text


def creates(gate: Gate) -> bool:
    return gate.path.endswith("runs/create")


def test_trouble_that_may_pass_refuses_nothing(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that fails at the start, and one that refuses a login later on, stop no study."""
    with gate_to(server.port) as gate:
        mlflow.set_tracking_uri(gate.uri)
        gate.trouble = lambda number: "500" if number < 4 else "429" if number < 6 else None
        assert len(tune(3, lambda _point: 0.0)) == 3
        gate.restart()
        gate.trouble = lambda number: "403" if 3 < number < 8 else None
        assert len(tune(3, lambda _point: 0.0)) == 3
    assert not list(tmp_path.glob("sparktune-unwritten-*"))


@pytest.mark.parametrize("text", ["database is locked", "disk I/O error", "database or disk is full"])
def test_what_sqlite_says_of_other_trouble_is_no_refusal(text: str) -> None:
    assert cannot_record(sqlite3.OperationalError(text), "sqlite:////data/m.db") is None
    assert cannot_record(PermissionError(13, "connect"), "http://host") is None
    assert cannot_record(ConnectionRefusedError(111, "refused"), "http://host") is None


def test_a_store_that_another_process_writes_to_is_not_refused(sqlite_uri: str, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as writing:
        writing.execute("BEGIN IMMEDIATE")
        probing.probe(sqlite_uri)


def test_doctor_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for uri in (f"sqlite:///{tmp_path}/new/m.db", f"file://{tmp_path}/runs"):
        probing.probe(uri)
    assert not list(tmp_path.iterdir())


def test_doctor_makes_no_experiment(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "to be made")
    probing.probe(sqlite_uri)
    assert mlflow.get_experiment_by_name("to be made") is None


IN_PROC = """
import os, sys
os.chdir("/proc")
from tests.recorded_trials import tune
from sparktune import CannotRecord
try:
    tune(3)
except CannotRecord as error:
    print(error)
"""


@needs_classic
def test_a_working_directory_that_cannot_be_written(clean_env: dict[str, str]) -> None:
    """MLflow's default is there; not even root can write to /proc."""
    began = time.monotonic()
    env = {**clean_env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", IN_PROC], env=env, capture_output=True, text=True, check=True
    )
    default = "sqlite:////proc/mlflow.db" if IS_3 else "file:///proc/mlruns"
    assert default in done.stdout, done.stdout + done.stderr
    assert "a cd to another one helps" in done.stdout
    assert time.monotonic() - began < QUICK_S


def test_hyperopts_own_trials_run_without_mlflow(caplog: pytest.LogCaptureFixture) -> None:
    """They run where hyperopt runs them: not recorded, and a warning says why."""
    mlflow.set_tracking_uri("nosuch://host")
    trials = hyperopt.Trials()
    with caplog.at_level(logging.WARNING):
        fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 3, trials=trials, show_progressbar=False)
    assert len(trials) == 3
    assert "the study is not recorded: MLflow cannot record into nosuch://host" in caplog.text
