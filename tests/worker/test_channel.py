"""The control channel: who is admitted, what arrives, and that a kill ends the process."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sparktune.backends import channel_server
from sparktune.backends.channel_server import ControlServer
from sparktune.worker import channel, channel_client
from sparktune.worker.channel import Arrived, Asked, Begun, Endpoint, Gone, Prepared, Wanted
from sparktune.worker.channel_client import ControlClient
from tests.relay import Relay, relay_to

pytestmark = pytest.mark.unit

Signals = "queue.SimpleQueue[Any]"


@pytest.fixture
def signals() -> Signals:
    return queue.SimpleQueue()


@pytest.fixture
def server(signals: Signals) -> Iterator[ControlServer]:
    server = ControlServer(signals.put, "127.0.0.1", "127.0.0.1")
    yield server
    server.close()


@pytest.fixture
def client(server: ControlServer) -> Iterator[ControlClient]:
    client = ControlClient(server.endpoint)
    yield client
    client.close()


def connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection((endpoint.host, endpoint.port), timeout=30)


def read_to_end(connection: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := connection.recv(4096):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in record.getMessage() for record in caplog.records)


# -- what arrives ------------------------------------------------------------------------------------------


def test_a_trial_begins_and_ends(client: ControlClient, signals: Signals) -> None:
    client.begin(3, 2, "node1")
    assert signals.get(timeout=30) == Begun(3, 2, "node1", os.getpid())
    assert client.end(3, b"outcome") is True
    assert signals.get(timeout=30) == Arrived(3, b"outcome")


def test_one_connection_serves_many_trials(client: ControlClient, signals: Signals) -> None:
    for trial_id in range(20):
        client.begin(trial_id, 1, "h")
        assert client.end(trial_id, str(trial_id).encode())
    seen = [signals.get(timeout=30) for _ in range(40)]
    assert [s.trial_id for s in seen if isinstance(s, Begun)] == list(range(20))
    assert [s.outcome for s in seen if isinstance(s, Arrived)] == [str(i).encode() for i in range(20)]


def test_a_job_asks_which_trial_it_runs(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    for number, announcement in ((4, "dHJpYWw="), (5, "")):
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(client.take, number)
            assert signals.get(timeout=30) == Wanted(number)
            server.give(number + 10, "of another")
            server.give(number, announcement)
            assert asking.result(30) == announcement
    client.begin(3, 1, "h")
    assert client.end(3, b"x")


def test_a_job_whose_driver_goes_before_it_answers(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.take, 1)
        assert signals.get(timeout=30) == Wanted(1)
        server.close()
        with pytest.raises(OSError, match="control connection"):
            asking.result(30)


def wait_for_copy(caplog: pytest.LogCaptureFixture, n: int) -> None:
    until = time.monotonic() + 30
    while sum("the copy waits" in record.getMessage() for record in caplog.records) < n:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_one_worker_at_a_time_claims_a_trial(
    server: ControlServer, signals: Signals, caplog: pytest.LogCaptureFixture, is_stopped: bool
) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    first, second, third, late = (ControlClient(server.endpoint) for _ in range(4))
    with ThreadPoolExecutor(2) as pool:
        assert first.claim(7, 3) == 3
        assert first.claim(7, 3) == 3, "it has not begun"
        first.begin(7, 3, "h")
        assert late.claim(8, 1) == 1
        seconds = pool.submit(second.claim, 7, 3)
        wait_for_copy(caplog, 1)
        thirds = pool.submit(third.claim, 7, 3)
        wait_for_copy(caplog, 2)
        if is_stopped:
            server.refuse(7)
            assert (seconds.result(30), thirds.result(30)) == (0, 0)
        else:
            first.close()
            assert seconds.result(30) == 4
            assert not thirds.done()
            second.begin(7, 4, "h")
            assert second.end(7, b"outcome")
            assert thirds.result(30) == 0
        assert late.claim(7, 3) == 0
        assert third.claim(9, 1) == 1
    for client in first, second, third, late:
        client.close()


def test_a_copy_whose_driver_goes_does_not_run(
    server: ControlServer, client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    copy = ControlClient(server.endpoint)
    with ThreadPoolExecutor(1) as pool:
        assert client.claim(1, 1) == 1
        claim = pool.submit(copy.claim, 1, 1)
        wait_for_copy(caplog, 1)
        server.close()
        with pytest.raises(OSError, match="control connection"):
            claim.result(30)
    copy.close()


def test_a_big_outcome(client: ControlClient, signals: Signals) -> None:
    data = os.urandom(1 << 20) * 50
    client.begin(0, 1, "h")
    assert client.end(0, data)
    signals.get(timeout=30)
    assert signals.get(timeout=30).outcome == data


def test_an_outcome_that_no_frame_can_hold_goes_another_way(
    client: ControlClient, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_client, "MAX_FRAME_BYTES", 100)
    client.begin(0, 1, "h")
    assert client.end(0, b"x" * 100) is False
    client.begin(1, 1, "h")
    assert client.end(1, b"x") is True
    assert [type(signals.get(timeout=30)) for _ in range(3)] == [Begun, Begun, Arrived]


def test_an_outcome_that_nobody_confirms_is_said_to_be_unconfirmed(
    server: ControlServer, client: ControlClient
) -> None:
    client.begin(0, 1, "h")
    server.close()
    assert client.end(0, b"outcome" * 100_000) is False
    assert client.end(0, b"outcome") is False
    assert not client.is_open


def test_a_connection_that_is_lost_during_a_trial(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    client.begin(7, 1, "h")
    assert signals.get(timeout=30).trial_id == 7
    client.close()
    assert signals.get(timeout=30) == Gone(7)


def test_a_connection_that_is_closed_between_trials_is_no_loss(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    client.begin(7, 1, "h")
    client.end(7, b"")
    client.close()
    other = ControlClient(server.endpoint)
    other.begin(8, 1, "h")
    assert [type(signals.get(timeout=30)) for _ in range(3)] == [Begun, Arrived, Begun]
    other.close()


def test_a_worker_asks_for_its_run(server: ControlServer, client: ControlClient, signals: Signals) -> None:
    told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    client.begin(7, 1, "h", told.put)
    client.ask_run(7)
    assert [type(signals.get(timeout=30)) for _ in range(2)] == [Begun, Asked]
    server.send_run(7, None)
    server.send_run(8, "of another")
    server.send_run(7, "r")
    assert [told.get(timeout=30) for _ in range(2)] == [None, "r"]


def test_a_run_that_comes_after_the_trial_is_told_to_nobody(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    client.begin(7, 1, "h", told.put)
    client.end(7, b"")
    server.send_run(7, "late")
    client.begin(8, 1, "h", told.put)
    assert [type(signals.get(timeout=30)) for _ in range(3)] == [Begun, Arrived, Begun]
    server.send_run(8, "r")
    assert told.get(timeout=30) == "r"
    assert told.empty()


def test_who_waits_for_a_run_learns_that_the_driver_is_gone(
    server: ControlServer, client: ControlClient
) -> None:
    told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    client.begin(7, 1, "h", told.put)
    server.close()
    assert told.get(timeout=30) is None


# -- who is admitted ---------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_and_logged(
    server: ControlServer, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = replace(server.endpoint, token=b"x" * 32)
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match=r"closed|reset"):
        ControlClient(wrong)
    assert logged(caplog, "refused a connection from")
    assert signals.empty()


def test_many_connections_that_are_refused_give_two_lines(
    server: ControlServer, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = replace(server.endpoint, token=b"x" * 32)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            with pytest.raises(OSError, match=r"closed|reset"):
                ControlClient(wrong)
        server.close()
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 2
    assert lines[1] == "50 connections to the study's control port were refused"


def test_nothing_is_read_before_the_handshake(
    server: ControlServer, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """A frame from a stranger, well formed and with a pickle that would run code, is not unpickled."""
    body = pickle.dumps((0, 1, "evil", 1))
    frame = channel.HEADER.pack(len(body), channel.BEGIN) + body
    with connect(server.endpoint) as stranger:
        stranger.sendall(frame.ljust(channel.HELLO_BYTES, b"\0") + frame)
        assert len(read_to_end(stranger)) == channel.NONCE_BYTES
    assert logged(caplog, "refused")
    assert signals.empty()


def test_a_flood_of_garbage_is_harmless(
    server: ControlServer, client: ControlClient, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    def flood() -> None:
        with connect(server.endpoint) as stranger:
            try:
                for _ in range(50):
                    stranger.sendall(os.urandom(1 << 16))
            except OSError:  # refused, as it should be
                return

    floods = [threading.Thread(target=flood) for _ in range(8)]
    for thread in floods:
        thread.start()
    client.begin(0, 1, "h")
    assert client.end(0, b"fine")
    for thread in floods:
        thread.join()
    assert [type(signals.get(timeout=30)) for _ in range(2)] == [Begun, Arrived]
    assert signals.empty()


def test_a_stranger_who_says_nothing_is_shown_out(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel_server, "HANDSHAKE_S", 0.05)
    with connect(server.endpoint) as stranger:
        assert len(read_to_end(stranger)) == channel.NONCE_BYTES
    assert logged(caplog, "refused")


def test_a_frame_without_end_is_refused(
    server: ControlServer, client: ControlClient, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    client.begin(0, 1, "h")
    client._socket.sendall(channel.HEADER.pack(2**32 - 1, channel.OUTCOME))
    assert isinstance(signals.get(timeout=30), Begun)
    assert signals.get(timeout=30) == Gone(0)
    assert logged(caplog, "broke")


def test_a_worker_refuses_a_driver_without_the_token() -> None:
    """Somebody else listens on the port: no outcome goes there."""
    with socket.create_server(("127.0.0.1", 0)) as impostor:

        def answer() -> None:
            connection, _ = impostor.accept()
            with connection:
                connection.sendall(b"\0" * channel.NONCE_BYTES)
                connection.recv(4096)
                connection.sendall(b"\0" * 32)
                connection.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="does not hold the study's token"):
            ControlClient(Endpoint("127.0.0.1", impostor.getsockname()[1], b"t" * 32))
        thread.join()


def test_the_token_is_not_shown(server: ControlServer) -> None:
    assert repr(server.endpoint.token) not in repr(server.endpoint)
    assert server.endpoint.token.hex() not in repr(server.endpoint)


# -- kill --------------------------------------------------------------------------------------------------

WORKER = """
import os, pickle, signal, sys, time
from sparktune.worker.channel_client import ControlClient
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
client = ControlClient(pickle.loads(bytes.fromhex(sys.argv[1])))
if sys.argv[2] == "with last words":
    from sparktune.worker import processes
    def act():
        print("saving", flush=True)
        print("saved", sys.stdin.readline(), end="", flush=True)
    context = processes.before_the_end(act)
    context.__enter__()
client.begin(5, 1, "h")
if sys.argv[2:] == ["with a child"] and os.fork() == 0:
    sys.stdin.read()  # which ends when the test closes it
    os._exit(0)
time.sleep(3600)
"""


@pytest.fixture
def worker(server: ControlServer, subprocess_env: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs trial 5 for an hour."""
    endpoint = pickle.dumps(server.endpoint).hex()
    with subprocess.Popen([sys.executable, "-c", WORKER, endpoint, "alone"], env=subprocess_env) as process:
        yield process
        process.kill()


def test_kill_ends_the_process(worker: Any, server: ControlServer, signals: Signals) -> None:
    assert signals.get(timeout=60) == Begun(5, 1, "h", worker.pid)
    server.kill(4)  # a trial that is not there
    server.kill(5)
    assert worker.wait(timeout=30) == -signal.SIGKILL
    assert signals.get(timeout=30) == Gone(5)


def test_a_child_of_the_worker_does_not_hide_that_it_is_dead(
    server: ControlServer, signals: Signals, subprocess_env: Any
) -> None:
    """The pool of an objective, say: forked, and left behind by a kill."""
    command = [sys.executable, "-c", WORKER, pickle.dumps(server.endpoint).hex(), "with a child"]
    with subprocess.Popen(command, env=subprocess_env, stdin=subprocess.PIPE) as worker:
        assert signals.get(timeout=60) == Begun(5, 1, "h", worker.pid)
        server.kill(5)
        assert worker.wait(timeout=30) == -signal.SIGKILL
        assert signals.get(timeout=30) == Gone(5)


@pytest.fixture
def saving(server: ControlServer, signals: Signals, subprocess_env: Any) -> Iterator[Any]:
    """A process that runs trial 5, was told that it is to end, and saves until it reads a line."""
    command = [sys.executable, "-c", WORKER, pickle.dumps(server.endpoint).hex(), "with last words"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=subprocess_env, bufsize=0, **pipes) as worker:
        try:
            assert signals.get(timeout=60) == Begun(5, 1, "h", worker.pid)
            server.prepare(5)
            assert worker.stdout.readline() == b"saving\n"
            yield worker
        finally:
            worker.kill()


def test_a_worker_says_that_it_has_saved_and_does_so_once(
    saving: Any, server: ControlServer, signals: Signals
) -> None:
    server.prepare(5)
    assert signals.get(timeout=30) == Prepared(5), "the second time there is nothing to do"
    saving.stdin.write(b"all\n")
    assert signals.get(timeout=30) == Prepared(5)
    assert saving.poll() is None, "it waits for the kill"
    server.kill(5)
    assert saving.wait(timeout=30) == -signal.SIGKILL
    assert saving.stdout.read() == b"saved all\n"
    assert signals.get(timeout=30) == Gone(5)


def test_a_kill_does_not_wait_for_who_saves_too_long(
    saving: Any, server: ControlServer, signals: Signals
) -> None:
    server.kill(5)
    assert saving.wait(timeout=30) == -signal.SIGKILL
    assert signals.get(timeout=30) == Gone(5)


@pytest.mark.parametrize("is_first", ["the driver", "the worker"])
def test_who_has_saved_ends_without_a_driver(
    is_first: str, saving: Any, server: ControlServer, signals: Signals
) -> None:
    if is_first == "the worker":
        saving.stdin.write(b"all\n")
        assert signals.get(timeout=30) == Prepared(5)
    server.close()
    if is_first == "the driver":
        saving.stdin.write(b"all\n")
    assert saving.wait(timeout=30) == -signal.SIGKILL
    assert saving.stdout.read() == b"saved all\n"


def test_kill_that_comes_late_spares_the_next_trial(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    """The client is this very process."""
    client.begin(1, 1, "h")
    client.end(1, b"")
    server.kill(1)
    client.begin(2, 1, "h")
    server.kill(1)
    assert client.end(2, b"alive")


def test_killing_and_closing_after_the_end_is_harmless(server: ControlServer) -> None:
    server.close()
    server.kill(0)
    server.close()


# -- connections that are lost without a word --------------------------------------------------------------


@pytest.fixture
def relay(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Between the server and the clients of a test; nothing has to be heard for more than 20 ms."""
    monkeypatch.setattr(channel_client, "IDLE_S", 0.02)
    monkeypatch.setattr(channel_client, "PONG_S", 0.2)
    with relay_to("127.0.0.1", server.endpoint.port) as relay:
        yield relay


def quiet() -> None:
    """Nothing is heard for longer than ``IDLE_S``."""
    time.sleep(0.03)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that do not come would be waited for so long that no test ends well."""
    monkeypatch.setattr(channel_client, "ACK_S", 60.0)
    monkeypatch.setattr(channel_client, "ANSWER_S", 60.0)


@pytest.mark.usefixtures("patience")
def test_a_quiet_connection_is_asked_and_lives(server: ControlServer, relay: Relay, signals: Signals) -> None:
    client = ControlClient(replace(server.endpoint, port=relay.port))
    client.begin(1, 1, "h")
    quiet()
    assert client.is_alive()
    quiet()
    assert client.end(1, b"x")
    assert [type(signals.get(timeout=30)) for _ in range(2)] == [Begun, Arrived]
    assert relay.n_connections == 1
    client.close()


@pytest.mark.usefixtures("patience")
def test_a_report_and_an_end_do_not_wait_for_a_lost_connection(server: ControlServer, relay: Relay) -> None:
    for use in (lambda client: client.report(1, 1, 0.5), lambda client: client.end(1, b"x") or 1 / 0):
        client = ControlClient(replace(server.endpoint, port=relay.port))
        client.begin(1, 1, "h")
        relay.fall_silent()
        quiet()
        began = time.monotonic()
        with pytest.raises((OSError, ZeroDivisionError), match=r"lost|zero"):
            use(client)
        assert time.monotonic() - began < 20
        assert not client.is_open


def test_an_end_that_nobody_confirms_closes_the_connection(
    server: ControlServer, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost between two words: it is waited for once."""
    monkeypatch.setattr(channel_client, "IDLE_S", 60.0)
    monkeypatch.setattr(channel_client, "ACK_S", 0.1)
    client = ControlClient(replace(server.endpoint, port=relay.port))
    client.begin(1, 1, "h")
    relay.fall_silent()
    assert client.end(1, b"x") is False
    assert not client.is_open


def test_the_system_looks_after_quiet_connections(
    server: ControlServer, client: ControlClient, signals: Signals
) -> None:
    client.begin(1, 1, "h")
    signals.get(timeout=30)
    assert client._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert server._running[1].get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
