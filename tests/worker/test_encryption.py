"""The encrypted control channel: what passes cannot be read, and nobody else is taken for the driver."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sparktune.backends import encryption
from sparktune.backends.channel_server import ControlServer
from sparktune.worker.channel import Begun, Gone, ReportArrived
from sparktune.worker.channel_client import ControlClient
from tests.relay import relay_to
from tests.worker.test_channel import WORKER
from tests.worker.test_task import FORKS

pytestmark = pytest.mark.unit

pytest.importorskip("cryptography")

OUTCOME = b"the outcome of a trial, which anybody could read"


@pytest.fixture
def signals() -> Any:
    return queue.SimpleQueue()


@pytest.fixture
def server(signals: Any) -> Iterator[ControlServer]:
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1", encryption=encryption.for_study())
    yield server
    server.close()


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_what_can_be_read_on_the_way(is_encrypted: bool, signals: Any) -> None:
    how = encryption.for_study() if is_encrypted else None
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1", encryption=how)
    with contextlib.closing(server), relay_to("127.0.0.1", server.endpoint.port) as relay:
        client = ControlClient(replace(server.endpoint, port=relay.port))
        client.begin(7, 1, "the host's name")
        answered = threading.Thread(target=client.report, args=(7, 1, 0.123456789))
        answered.start()
        assert isinstance(signals.get(timeout=30), Begun)
        assert isinstance(signals.get(timeout=30), ReportArrived)
        server.send_run(7, "the run's id")
        server.answer(7, 1, terminate=False)
        answered.join()
        assert client.end(7, OUTCOME)
        client.close()
    readable = [text in relay.passed for text in (OUTCOME, b"the host's name", b"the run's id")]
    assert readable == [not is_encrypted] * 3
    assert server.endpoint.token not in relay.passed


def test_the_certificate_of_another_is_refused(server: ControlServer) -> None:
    """Somebody between worker and driver, or a driver of another study."""
    other = replace(server.endpoint, certificate=encryption.for_study().certificate)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        ControlClient(other)


def test_who_does_not_encrypt_is_refused(server: ControlServer, signals: Any) -> None:
    with pytest.raises(OSError, match=r"closed|reset|timed out"):
        ControlClient(replace(server.endpoint, certificate=None))
    assert signals.empty()


def test_a_driver_that_does_not_encrypt_is_refused(server: ControlServer) -> None:
    clear = ControlServer(lambda _: None, "127.0.0.1", "127.0.0.1")
    with contextlib.closing(clear), pytest.raises(OSError, match=r"SSL|closed|reset"):
        ControlClient(replace(clear.endpoint, certificate=server.endpoint.certificate))


def test_the_key_is_nowhere_on_the_disk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = encryption.for_study()
    assert list(tmp_path.iterdir()) == []
    assert "PRIVATE" not in made.certificate


def test_both_sides_send_at_the_same_time(server: ControlServer, signals: Any) -> None:
    """OpenSSL's objects are not for two threads."""
    told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    client = ControlClient(server.endpoint)
    client.begin(0, 1, "h", told.put)
    signals.get(timeout=30)
    data = os.urandom(1 << 20) * 20
    sending = threading.Thread(target=client.end, args=(0, data))
    sending.start()
    texts = [str(number) * 1000 for number in range(500)]
    for text in texts:
        server.send_run(0, text)
    sending.join()
    assert signals.get(timeout=30).outcome == data
    received = [told.get(timeout=30) for _ in range(told.qsize())]
    assert received == texts[: len(received)]
    assert client.is_alive()
    client.close()


def test_a_process_that_the_objective_forks(server: ControlServer, signals: Any, subprocess_env: Any) -> None:
    command = [sys.executable, "-c", FORKS, pickle.dumps(server.endpoint).hex()]
    with subprocess.Popen(command, env=subprocess_env) as worker:
        signals.get(timeout=60)
        assert signals.get(timeout=60) == ReportArrived(5, 1, 3, 0.25)
        server.answer(5, 1, terminate=True)
        assert signals.get(timeout=60) == ReportArrived(5, 1, 4, 0.5)
        server.answer(5, 1, terminate=False)
        assert worker.wait(60) == 0


def test_kill_ends_the_process(server: ControlServer, signals: Any, subprocess_env: Any) -> None:
    command = [sys.executable, "-c", WORKER, pickle.dumps(server.endpoint).hex(), "alone"]
    with subprocess.Popen(command, env=subprocess_env) as worker:
        assert signals.get(timeout=60) == Begun(5, 1, "h", worker.pid)
        server.kill(5)
        assert worker.wait(timeout=30) == -signal.SIGKILL
        assert signals.get(timeout=30) == Gone(5)


def test_a_stranger_who_says_nothing_does_not_delay_the_end(signals: Any) -> None:
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1", encryption=encryption.for_study())
    with socket.create_connection(("127.0.0.1", server.endpoint.port)):
        server.close()
