"""The control channel: one authenticated TCP connection from each Python worker process to the driver.

It tells when an objective truly began and what it returned, and lets the driver end it at once. Both sides
prove that they hold the study's random token (HMAC-SHA256 over the peer's nonce; RFC 2104) before anything
else is read; until then at most ``HELLO_BYTES`` are accepted. The token travels inside the Spark task, never
in Spark properties, which a web page shows.

Frames after the handshake: 4 bytes length, 1 byte kind, body. From the worker ``BEGIN`` and ``OUTCOME``
(pickled, as everything between Spark and its Python workers), ``REPORT`` (trial's id, number of the report,
step, value) and ``ASK`` (the trial's id: which MLflow run is it?); from the driver ``ACK`` and ``KILL`` (the
trial's id), ``GO_ON`` and ``TERMINATE`` (the trial's id, and the number of the report that is answered) and
``RUN`` (the trial's id and its run's, empty where there is none to be had), which may come unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import pickle
import secrets
import signal
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("sparktune")

NONCE_BYTES = 16
HELLO_BYTES = NONCE_BYTES + 32
HANDSHAKE_S = 10.0
MAX_FRAME_BYTES = 2**31
ACK_S = 30.0
CONNECT_S = 5.0

ANSWER_S = 5.0
"""How long a report waits for its answer; a busy driver's verdict is then felt at the next report."""

BEGIN, OUTCOME, REPORT, ASK = b"B", b"O", b"R", b"Q"
ACK, KILL, GO_ON, TERMINATE, RUN = b"A", b"K", b"G", b"T", b"I"
_REPORT = struct.Struct("!qqqd")
_ANSWER = struct.Struct("!qq")
_HEADER = struct.Struct("!Ic")
_ID = struct.Struct("!q")


@dataclass(frozen=True)
class Endpoint:
    """Where the driver listens, and the secret to be admitted; shipped inside the task."""

    host: str
    port: int
    token: bytes

    def __repr__(self) -> str:
        """Without the token: tasks are printed in logs."""
        return f"Endpoint({self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker began a trial's objective."""

    trial_id: int
    attempt: int
    host: str
    worker_pid: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A trial's outcome (see ``sparktune.backends.spark_task``) arrived; the worker has been told so."""

    trial_id: int
    outcome: Any


@dataclass(frozen=True, slots=True)
class Gone:
    """The worker process of a trial that had begun, and had not ended, is dead."""

    trial_id: int


@dataclass(frozen=True, slots=True)
class Told:
    """A trial's objective reported, and waits for ``ControlServer.answer``."""

    trial_id: int
    number: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial's objective needs its MLflow run, and waits for ``ControlServer.tell_run``."""

    trial_id: int


Signal = Begun | Arrived | Gone | Told | Asked


def _proof(token: bytes, nonce: bytes, side: bytes) -> bytes:
    return hmac.digest(token, side + nonce, "sha256")


class ControlServer:
    """The driver's end. Runs an event loop in a thread of its own.

    Args:
        sink: takes the signals, in the loop's thread; must not block.
        bind: the address to listen on.
        advertise: the host name that workers connect to.
    """

    def __init__(self, sink: Callable[[Signal], None], bind: str, advertise: str) -> None:
        self._sink = sink
        self._token = secrets.token_bytes(32)
        self._running: dict[int, asyncio.StreamWriter] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server((bind, 0), backlog=1024)
        self.endpoint = Endpoint(advertise, self._socket.getsockname()[1], self._token)
        self._loop = asyncio.new_event_loop()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sparktune-control", daemon=True)
        self._thread.start()
        self._serving.wait()  # a loop that is stopped before it serves would leave its socket open

    def kill(self, trial_id: int) -> None:
        """End the worker process that runs this trial now, if there is one."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._kill, trial_id)

    def answer(self, trial_id: int, number: int, *, terminate: bool) -> None:
        """Answer a report: the objective goes on, or ends."""
        with contextlib.suppress(RuntimeError):
            kind = TERMINATE if terminate else GO_ON
            self._loop.call_soon_threadsafe(self._answer, trial_id, kind, _ANSWER.pack(trial_id, number))

    def tell_run(self, trial_id: int, run_id: str | None) -> None:
        """Tell the worker that runs this trial, if there is one, the trial's MLflow run."""
        with contextlib.suppress(RuntimeError):
            body = _ID.pack(trial_id) + (run_id or "").encode()
            self._loop.call_soon_threadsafe(self._answer, trial_id, RUN, body)

    def _answer(self, trial_id: int, kind: bytes, body: bytes) -> None:
        writer = self._running.get(trial_id)
        if writer is not None:
            writer.write(_HEADER.pack(len(body), kind) + body)

    def close(self) -> None:
        """Close every connection and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _kill(self, trial_id: int) -> None:
        writer = self._running.get(trial_id)
        if writer is not None:
            writer.write(_HEADER.pack(_ID.size, KILL) + _ID.pack(trial_id))

    def _serve(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(self._accept, sock=self._socket))
        loop.call_soon(self._serving.set)
        try:
            loop.run_forever()
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        current: list[int] = []
        try:
            if await self._admit(reader, writer):
                await self._listen(reader, writer, current)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception:
            logger.exception("the control connection from %s broke", writer.get_extra_info("peername"))
        finally:
            self._connections.discard(task)
            for trial_id in current:
                if self._running.get(trial_id) is writer:
                    del self._running[trial_id]
                    self._sink(Gone(trial_id))
            writer.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonce = secrets.token_bytes(NONCE_BYTES)
        writer.write(nonce)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                hello = await reader.readexactly(HELLO_BYTES)
        except (TimeoutError, asyncio.IncompleteReadError):
            hello = b""
        if not hmac.compare_digest(hello[NONCE_BYTES:], _proof(self._token, nonce, b"worker")):
            logger.warning(
                "refused a connection from %s to the study's control port: it does not hold the token",
                writer.get_extra_info("peername"),
            )
            return False
        writer.write(_proof(self._token, hello[:NONCE_BYTES], b"driver"))
        return True

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, current: list[int]
    ) -> None:
        while True:
            length, kind = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
            body = await reader.readexactly(length)
            if kind == BEGIN:
                begun = Begun(*pickle.loads(body))
                current[:] = [begun.trial_id]
                self._running[begun.trial_id] = writer
                self._sink(begun)
            elif kind == REPORT:
                self._sink(Told(*_REPORT.unpack(body)))
            elif kind == ASK:
                self._sink(Asked(*_ID.unpack(body)))
            elif kind == OUTCOME:
                trial_id = _ID.unpack_from(body)[0]
                current.clear()
                self._running.pop(trial_id, None)
                self._sink(Arrived(trial_id, body[_ID.size :]))
                writer.write(_HEADER.pack(_ID.size, ACK) + _ID.pack(trial_id))


def _ignore(_run_id: str | None) -> None:
    pass


class ControlClient:
    """The worker's end: one per worker process and study, kept over trials.

    A thread listens for ``KILL``, which ends this process: a Python worker cannot be asked to leave a
    computation that never looks up.

    Raises:
        OSError: the driver cannot be reached, or is not the study's driver.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._current: int | None = None
        self._on_run: Callable[[str | None], None] = _ignore
        self._acked = threading.Event()
        self._answered = threading.Event()
        self._reports = 0
        self._is_doomed = False
        self._send_lock = threading.Lock()
        self.is_open = True
        self._socket = socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_S)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            mine = secrets.token_bytes(NONCE_BYTES)
            theirs = self._receive(NONCE_BYTES)
            self._socket.sendall(mine + _proof(endpoint.token, theirs, b"worker"))
            if not hmac.compare_digest(self._receive(32), _proof(endpoint.token, mine, b"driver")):
                raise OSError("the process at the study's control port does not hold the study's token")
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise
        threading.Thread(target=self._listen, name="sparktune-control", daemon=True).start()

    def begin(
        self, trial_id: int, attempt: int, host: str, on_run: Callable[[str | None], None] | None = None
    ) -> None:
        """Tell the driver that the objective of this trial begins now.

        ``on_run`` takes the trial's MLflow run when the driver tells it, in another thread; None says that
        there is none to be had.
        """
        self._current = trial_id
        self._on_run = on_run or _ignore
        self._is_doomed = False
        self._acked.clear()
        self._send(BEGIN, pickle.dumps((trial_id, attempt, host, os.getpid())))

    def report(self, trial_id: int, step: int, value: float) -> bool:
        """Send a report and wait for its answer: True when the objective is to end.

        Raises:
            OSError: the driver cannot be reached.
        """
        self._reports += 1
        self._answered.clear()
        self._send(REPORT, _REPORT.pack(trial_id, self._reports, step, value))
        self._answered.wait(ANSWER_S)
        return self._is_doomed

    def ask_run(self, trial_id: int) -> None:
        """Ask for the trial's MLflow run; the answer goes to ``on_run``.

        Raises:
            OSError: the driver cannot be reached.
        """
        self._send(ASK, _ID.pack(trial_id))

    def end(self, trial_id: int, outcome: bytes) -> bool:
        """Hand over the trial's outcome; True when the driver has confirmed it."""
        try:
            self._send(OUTCOME, _ID.pack(trial_id) + outcome)
        except OSError:
            self.close()
            return False
        confirmed = self._acked.wait(ACK_S) and self.is_open
        self._current = None
        return confirmed

    def close(self) -> None:
        """Leave the driver."""
        self.is_open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, kind: bytes, body: bytes) -> None:
        with self._send_lock:
            self._socket.sendall(_HEADER.pack(len(body), kind) + body)

    def _receive(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            chunk = self._socket.recv(n - len(data))
            if not chunk:
                raise OSError("the driver closed the study's control connection")
            data += chunk
        return bytes(data)

    def _listen(self) -> None:
        try:
            while True:
                length, kind = _HEADER.unpack(self._receive(_HEADER.size))
                body = self._receive(length)
                trial_id = _ID.unpack_from(body)[0]
                if trial_id != self._current:
                    continue
                if kind == KILL:
                    os.kill(os.getpid(), signal.SIGKILL)
                elif kind == ACK:
                    self._acked.set()
                elif kind == RUN:
                    self._on_run(body[_ID.size :].decode() or None)
                else:
                    self._is_doomed = self._is_doomed or kind == TERMINATE
                    if _ANSWER.unpack(body)[1] == self._reports:
                        self._answered.set()
        except OSError:
            self.is_open = False
            self._acked.set()
            self._answered.set()
            self._on_run(None)
