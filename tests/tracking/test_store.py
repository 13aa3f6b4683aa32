"""Which experiment runs go to; writing is tested with ``MlflowTracker``."""

from __future__ import annotations

import logging
import socket
import time

import mlflow
import pytest

from sparktune.tracking import store
from sparktune.tracking.records import Content, RefusedError
from sparktune.tracking.refusals import is_refusal
from sparktune.tracking.store import MlflowStore


def active_experiment(uri: str) -> str:
    opened = MlflowStore(uri)
    opened.open()
    opened.use_active_experiment()
    return opened.experiment_id


def test_the_default_one(sqlite_uri: str) -> None:
    assert active_experiment(sqlite_uri) == "0"


def test_the_environment_gives_an_id(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = mlflow.create_experiment("theirs")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    assert active_experiment(sqlite_uri) == number


def test_the_environment_gives_a_name(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new")
    number = active_experiment(sqlite_uri)
    assert mlflow.get_experiment(number).name == "new"
    assert active_experiment(sqlite_uri) == number
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    assert active_experiment(sqlite_uri) == number
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "999")
    with pytest.raises(
        RefusedError, match=f"ID is '999', but MLFLOW_EXPERIMENT_NAME 'new' has the id {number}"
    ):
        active_experiment(sqlite_uri)


def test_an_id_that_does_not_exist_is_refused(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "999")
    with pytest.raises(RefusedError, match="999"):
        active_experiment(sqlite_uri)


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_a_server_that_is_away_is_asked_once_and_refuses_nothing(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv(variable, "2")
    began = time.monotonic()
    with pytest.raises(mlflow.exceptions.MlflowException) as caught:
        active_experiment(f"http://127.0.0.1:{port}")
    assert not is_refusal(caught.value)
    assert time.monotonic() - began < 30  # MLflow's own way takes minutes


@pytest.mark.parametrize("kind", ["sqlite_uri", "server"])
def test_a_tag_is_removed_and_one_that_is_gone_is_no_refusal(
    kind: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(kind)
    with mlflow.start_run(tags={"stays": "1", "goes": "1"}) as run:
        pass
    opened = MlflowStore(mlflow.get_tracking_uri())
    opened.open()
    for _ in range(2):
        content = Content({}, {"new": "1"}, [], {}, None, None, removed=["goes"])
        opened.write(run.info.run_id, content)
        assert not content.removed
        tags = mlflow.get_run(run.info.run_id).data.tags
        assert {"stays", "goes", "new"} & tags.keys() == {"stays", "new"}


def test_a_server_whose_database_connections_are_in_use_refuses_nothing() -> None:
    """Its answer to that is BAD_REQUEST, as to a statement that the database refuses."""
    code = mlflow.protos.databricks_pb2.BAD_REQUEST
    in_use = mlflow.exceptions.MlflowException("QueuePool limit of size 5 overflow 10 reached", code)
    assert not is_refusal(in_use)
    assert is_refusal(mlflow.exceptions.MlflowException("Data too long for column 'value'", code))


@pytest.mark.parametrize(
    ("thread", "is_said"),
    [
        ("MainThread", True),
        ("sparktune-0a1b2c3d-0", True),  # of DriverTrials: an objective's own connections
        ("sparktune-mlflow-0", False),
        ("sparktune-watcher", False),
        ("sparktune-lease", False),
    ],
)
def test_only_what_the_tracker_itself_meets_is_not_logged(thread: str, is_said: bool) -> None:
    record = logging.makeLogRecord({"name": "urllib3.connectionpool", "threadName": thread})
    assert store._said_by_the_writer.filter(record) is is_said
