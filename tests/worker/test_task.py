"""What runs on a worker, without Spark."""

from __future__ import annotations

import pickle
import queue
import subprocess
import sys
from typing import Any

import pytest

from sparktune.backends.channel_server import ControlServer
from sparktune.worker import parcel
from sparktune.worker import task as spark_task
from sparktune.worker.channel import Told
from sparktune.worker.task import Assignment
from tests.backends.conformance import objective

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
        assert signals.get(timeout=60) == Told(5, 1, 3, 0.25)
        server.answer(5, 1, terminate=True)
        assert signals.get(timeout=60) == Told(5, 1, 4, 0.5)
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
