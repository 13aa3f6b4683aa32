"""A tracking server that fails every third request: every trial is recorded in the end, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import mlflow
import pytest

from sparktune.tracking import http
from tests.gate import Gate, Trouble, gate_to
from tests.recorded_trials import PARENT, tune
from tests.tracking.conftest import Server

pytestmark = pytest.mark.system


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    with gate_to(server.port) as gate:
        yield gate


@pytest.mark.parametrize(
    ("trouble", "first"),
    [("429", 0), ("500", 0), ("500", 1), ("500", 2), ("lost answer", 0), ("silence", 0)],
)
def test_every_third_request_fails(
    trouble: Trouble, first: int, gate: Gate, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient(server.uri)
    name = f"every third: {trouble}, {first}"
    experiment_id = client.create_experiment(name)
    mlflow.set_tracking_uri(gate.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    gate.trouble = lambda number: trouble if number % 3 == first else None
    n = 6 if trouble == "silence" else 30
    with monkeypatch.context() as patched:
        if trouble == "silence":
            patched.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
        trials = tune(n)
    gate.trouble = lambda number: None
    assert gate.troubled > n // 3
    runs = client.search_runs([experiment_id], max_results=1000)
    [parent] = [run for run in runs if PARENT not in run.data.tags]
    assert parent.info.run_id == trials.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["total_trials_count"] == n
    children = {int(run.data.tags["sparktune.trial_id"]): run for run in runs if PARENT in run.data.tags}
    assert len(runs) == n + 1
    for trial in trials.memory.records.values():
        run = children[trial.trial_id]
        assert run.data.metrics.get("loss") == trial.loss
        assert run.data.tags["trial_status"] == trial.state
        assert run.info.status == ("FINISHED" if trial.state == "completed" else "FAILED")
        assert run.data.params["x"] == str(trial.params["x"])


def test_runs_that_a_slow_server_creates_twice(
    gate: Gate, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that nobody waits for any more, and is done nevertheless, leaves nothing behind.

    Also where that happens after the last run was found.
    """
    client = mlflow.MlflowClient(server.uri)
    experiment_id = client.create_experiment("created twice")
    mlflow.set_tracking_uri(gate.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    monkeypatch.setattr(http, "CREATE_S", 1.0)
    gate.delay_s = lambda _number, path: 1.5 if path.endswith("/runs/create") else 0.0
    caplog.set_level(logging.INFO, "sparktune")
    trials = tune(4)
    assert "runs existed twice, and were deleted" in caplog.text
    runs = client.search_runs([experiment_id])
    assert sorted(run.data.tags.get("sparktune.trial_id", "") for run in runs) == ["", "0", "1", "2", "3"]
    assert {run.info.run_id for run in runs if PARENT not in run.data.tags} == {trials.run_id}
    assert all(run.info.status != "RUNNING" for run in runs)
