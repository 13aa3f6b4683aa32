"""What runs on a worker, without Spark."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sparktune.backends.channel_server import ControlServer
from sparktune.worker import channel_client, parcel, task as spark_task
from sparktune.worker.channel import ReportArrived
from sparktune.worker.reporting import report
from sparktune.worker.task import Assignment
from tests.backends.conformance import objective
from tests.relay import relay_to

pytestmark = pytest.mark.unit

FORKS = """
import os, pickle, sys
from sparktune.worker.channel_client import ControlClient
from sparktune.worker.task import TrialReporter

endpoint = pickle.loads(bytes.fromhex(sys.argv[1]))
client = ControlClient(endpoint)
client.begin(5, 1, "h")
reporter = TrialReporter(client, endpoint, 5)
child = os.fork()
if child == 0:
    os._exit(0 if reporter.report(3, 0.25) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert not reporter.report(4, 0.5)
assert client.end(5, b"outcome")
"""


def test_a_process_that_the_objective_forks_reports_and_is_answered(subprocess_env: Any) -> None:
    signals: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1")
    command = [sys.executable, "-c", FORKS, pickle.dumps(server.endpoint).hex()]
    with subprocess.Popen(command, env=subprocess_env) as worker:
        signals.get(timeout=60)
        assert signals.get(timeout=60) == ReportArrived(5, 1, 3, 0.25)
        server.answer(5, 1, terminate=True)
        assert signals.get(timeout=60) == ReportArrived(5, 1, 4, 0.5)
        server.answer(5, 1, terminate=False)
        assert worker.wait(60) == 0
    server.close()


class Broadcast:
    value = parcel.pack(objective(lambda x: {"status": "ok", "loss": x, "big": b"x" * 1_000_000}))


def test_an_outcome_that_cannot_be_sent_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when there is no memory for it: Spark would try the trial again."""

    class Pickle:
        HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL

        @staticmethod
        def dumps(outcome: spark_task.Outcome, *_protocol: int) -> bytes:
            if outcome.payload is not None:
                raise MemoryError
            return pickle.dumps(outcome)

    monkeypatch.setattr(spark_task, "pickle", Pickle)
    (row,) = spark_task.run_assignment(Assignment("study", 3, {"x": 1.0}, Broadcast), [])
    outcome = pickle.loads(row)
    assert outcome.payload is None
    assert outcome.error.type_name == "MemoryError"


@pytest.mark.parametrize("is_outdated", [False, True])
def test_a_copy_that_is_not_to_run_the_trial_waits_before_it_says_so(
    monkeypatch: pytest.MonkeyPatch, is_outdated: bool
) -> None:
    """Its outcome would be the job's, and end the attempt that runs."""
    monkeypatch.setattr(spark_task, "_is_outdated", lambda _: is_outdated)
    server = ControlServer(lambda _: None, "127.0.0.1", "127.0.0.1")
    with contextlib.closing(server), ThreadPoolExecutor(1) as pool:
        first = channel_client.ControlClient(server.endpoint)
        assert first.claim(3, 1) == 1
        first.begin(3, 1, "h")
        study = Assignment(f"copied {is_outdated}", 3, {"x": 1.0}, Broadcast, endpoint=server.endpoint)
        copy = pool.submit(
            spark_task.run_assignment, dataclasses.replace(study, last_attempt=1, has_copies=True), []
        )
        with pytest.raises(TimeoutError):
            copy.result(0.5)
        first.close()
        (row,) = copy.result(30)
        outcome = pickle.loads(row)
        assert (outcome.spent, outcome.attempt) == (True, 2)


def test_an_objective_does_not_begin_when_its_trial_was_stopped_or_its_study_has_ended() -> None:
    """Spark says that a cancelled job is over while its worker still prepares the trial."""
    signals: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1")
    study = Assignment("stopped", 3, {"x": 1.0}, Broadcast, endpoint=server.endpoint)
    with contextlib.closing(server):
        server.refuse(3)
        assert spark_task.run_assignment(study, []) == []
        assert signals.empty()
        assert spark_task.run_assignment(dataclasses.replace(study, trial_id=4), []) == []
        assert [type(signals.get(timeout=30)).__name__ for _ in range(2)] == ["Begun", "Arrived"]
    assert spark_task.run_assignment(dataclasses.replace(study, trial_id=5), []) == []
    assert signals.empty()
    other = ControlServer(signals.put, "127.0.0.1", "127.0.0.1")
    with contextlib.closing(other):  # the same study goes on, in another call
        again = dataclasses.replace(study, trial_id=5, endpoint=other.endpoint)
        assert spark_task.run_assignment(again, []) == []
        assert [type(signals.get(timeout=30)).__name__ for _ in range(2)] == ["Begun", "Arrived"]
        spark_task._process.clients.pop("stopped").close()


def test_a_connection_that_is_lost_in_a_trial_costs_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that forgets it, say: the worker connects anew, and the driver's verdict is felt."""
    monkeypatch.setattr(channel_client, "IDLE_S", 0.02)
    monkeypatch.setattr(channel_client, "PONG_S", 0.2)
    monkeypatch.setattr(channel_client, "ANSWER_S", 60.0)
    monkeypatch.setattr(channel_client, "ACK_S", 60.0)
    signals: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1")
    with contextlib.closing(server), relay_to("127.0.0.1", server.endpoint.port) as relay:
        heard: list[Any] = []

        def hear() -> None:
            while (signal := signals.get()) is not None:
                heard.append(signal)
                if isinstance(signal, ReportArrived):
                    server.answer(signal.trial_id, signal.number, terminate=signal.value > 0.5)

        hearing = threading.Thread(target=hear, daemon=True)
        hearing.start()

        def fn(x: float) -> float:
            report(x / 10)
            if x == 1.0:
                from tests import relay

                relay.LATEST[-1].fall_silent()
                time.sleep(0.03)
            report(x)
            return x

        sent = parcel.pack(objective(fn))
        box = type("Box", (), {"value": sent})
        endpoint = dataclasses.replace(server.endpoint, port=relay.port)
        rows = []
        for trial_id, x in enumerate((0.25, 1.0, 0.25)):
            trial = Assignment("lost study", trial_id, {"x": x}, box, endpoint=endpoint)
            rows.append(spark_task.run_assignment(trial, []))
        signals.put(None)
        hearing.join()
        spark_task._process.clients.pop("lost study").close()
    assert [len(row) for row in rows] == [0, 1, 0]
    (row,) = rows[1]
    outcome = pickle.loads(row)
    assert outcome.terminated
    assert outcome.reports == ()
    assert [signal.value for signal in heard if isinstance(signal, ReportArrived)] == [
        0.025,
        0.25,
        0.1,
        1.0,
        0.025,
        0.25,
    ]
    assert relay.n_connections == 2
