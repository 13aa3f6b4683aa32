"""The worker's end of the control channel (see ``sparktune.worker.channel``)."""

from __future__ import annotations

import contextlib
import hmac
import os
import pickle
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable

from sparktune.worker.channel import (
    ACK,
    ADMIT,
    ANSWER_BODY,
    ASK,
    BEGIN,
    CLAIM,
    CLAIM_BODY,
    GIVE,
    GRANT,
    HEADER,
    ID,
    KILL,
    MAX_FRAME_BYTES,
    NONCE_BYTES,
    OUTCOME,
    OVER,
    PING,
    PONG,
    PREPARE,
    PREPARED,
    REFUSE,
    REPORT,
    REPORT_BODY,
    RUN,
    TAKE,
    TERMINATE,
    Endpoint,
    keep_alive,
    proof,
)
from sparktune.worker.encryption import EncryptedConnection
from sparktune.worker.processes import end_with_descendants, prepare_to_end

ACK_S = 30.0
TAKE_S = 60.0
"""How long a job waits for the trial that it runs; the driver answers sooner, also where there is none."""
CONNECT_S = 5.0

ANSWER_S = 5.0
"""How long a report waits for its answer; a busy driver's decision then takes effect at the next report."""

IDLE_S = 5.0
"""After so long without data from the driver its end is probed before anything is sent."""
PONG_S = 2.0
"""How long that answer may take."""


def _ignore(_run_id: str | None) -> None:
    pass


_clients: weakref.WeakSet[ControlClient] = weakref.WeakSet()


def _forget_all() -> None:
    for client in list(_clients):
        client.forget()
    _clients.clear()


os.register_at_fork(after_in_child=_forget_all)


class ControlClient:
    """The worker's end: one per worker process and study, kept over trials.

    A thread listens for ``KILL``, which ends this process and all that descend from it: a Python worker
    cannot be asked to leave a computation that never returns to Python. After ``PREPARE`` the end of the
    connection ends it, too. A process that this one forks has no part in the connection: it would keep it
    open when this process is dead.

    Attributes:
        is_open: the connection is open, as far as is known.
        is_over: the driver has reported that the study has ended.

    Raises:
        OSError: the driver cannot be reached, or is not the study's driver.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._current: int | None = None
        self._on_run: Callable[[str | None], None] = _ignore
        self.endpoint = endpoint
        self.is_over = False
        self._decided = threading.Event()
        self._is_refused = False
        self._acked = threading.Event()
        self._answered = threading.Event()
        self._given = threading.Event()
        self._ponged = threading.Event()
        self._heard_at = time.monotonic()
        self._taking, self._gift = -1, b""
        self._granted = threading.Event()
        self._attempt = 0
        self._reports = 0
        self._is_doomed = False
        self._prepared: int | None = None
        self._send_lock = threading.Lock()
        self.is_open = True
        self._socket = socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_S)
        self._wire: socket.socket | EncryptedConnection = self._socket
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(self._socket)
            mine = secrets.token_bytes(NONCE_BYTES)
            theirs = self._receive(NONCE_BYTES)
            if endpoint.certificate is not None:
                self._wire = EncryptedConnection(self._socket, endpoint.certificate)
            self._wire.sendall(mine + proof(endpoint.token, theirs, b"worker"))
            if not hmac.compare_digest(self._receive(32), proof(endpoint.token, mine, b"driver")):
                raise OSError("the process at the study's control port does not hold the study's token")
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise
        threading.Thread(target=self._listen, name="sparktune-control", daemon=True).start()
        _clients.add(self)

    def is_alive(self) -> bool:
        """Whether the driver's end is still there: where nothing came from it for a while, it is asked.

        A connection that was lost is closed here.
        """
        if not self.is_open:
            return False
        if time.monotonic() - self._heard_at < IDLE_S:
            return True
        self._ponged.clear()
        try:
            self._send(PING, ID.pack(0))
        except OSError:
            self.close()
            return False
        if not self._ponged.wait(PONG_S) and self.is_open:
            self.close()
        return self.is_open

    def take(self, number: int) -> str:
        """The announcement of the trial that the job of this number runs; empty where it is to run none.

        Raises:
            OSError: the driver cannot be reached.
        """
        self._current = None
        self._gift = b""
        self._given.clear()
        self._taking = number
        if self.is_open:  # else nothing would end the wait
            self._send(TAKE, ID.pack(number))
            self._given.wait(TAKE_S)
        self._taking = -1
        if not self.is_open:
            raise OSError("the driver closed the study's control connection")
        return self._gift.decode("ascii")

    def claim(self, trial_id: int, first_attempt: int) -> int:
        """Wait until no other worker runs this trial; which attempt this is then, 0 when the trial has ended.

        Raises:
            OSError: the driver cannot be reached.
        """
        self._current = trial_id
        self._granted.clear()
        if self.is_open:  # else nothing would end the wait
            self._send(CLAIM, CLAIM_BODY.pack(trial_id, first_attempt))
            self._granted.wait()
        if not self.is_open:
            raise OSError("the driver closed the study's control connection")
        return self._attempt

    def begin(
        self, trial_id: int, attempt: int, host: str, on_run: Callable[[str | None], None] | None = None
    ) -> None:
        """Report to the driver that this trial's objective begins; ``is_admitted`` waits for its answer.

        ``on_run`` takes the trial's MLflow run when the driver sends it, in another thread; None means that
        there is none.
        """
        self.join(trial_id)
        self._on_run = on_run or _ignore
        self._acked.clear()
        self._decided.clear()
        self._is_refused = False
        self._send(BEGIN, pickle.dumps((trial_id, attempt, host, os.getpid())))

    def is_admitted(self) -> bool:
        """Whether the objective may begin: not where the trial has been stopped, or the study has ended."""
        if self.is_open:  # else nothing would end the wait
            self._decided.wait(ANSWER_S)
        return not (self._is_refused or self.is_over)

    def join(self, trial_id: int) -> None:
        """Be able to report for a trial that another process has begun, and will end."""
        self._current = trial_id
        self._is_doomed = False

    def report(self, trial_id: int, step: int, value: float) -> bool:
        """Send a report and wait for its answer: True when the objective is to end.

        Raises:
            OSError: the driver cannot be reached.
        """
        self._require_alive()
        self._reports += 1
        self._answered.clear()
        self._send(REPORT, REPORT_BODY.pack(trial_id, self._reports, step, value))
        self._answered.wait(ANSWER_S)
        return self._is_doomed

    def ask_run(self, trial_id: int) -> None:
        """Ask for the trial's MLflow run; the answer goes to ``on_run``.

        Raises:
            OSError: the driver cannot be reached.
        """
        self._send(ASK, ID.pack(trial_id))

    def end(self, trial_id: int, outcome: bytes) -> bool:
        """Hand over the trial's outcome; True when the driver has confirmed it."""
        if ID.size + len(outcome) > MAX_FRAME_BYTES:
            self._current = None
            return False
        try:
            self._require_alive()
            self._send(OUTCOME, ID.pack(trial_id) + outcome)
        except OSError:
            self.close()
            return False
        confirmed = self._acked.wait(ACK_S) and self.is_open
        self._current = None
        if not confirmed:  # no later trial is to wait as long
            self.close()
        return confirmed

    def forget(self) -> None:
        """In a forked process: leave the connection to the parent."""
        self.is_open = False
        self._send_lock = threading.Lock()  # another thread of the parent may have held it
        self._wire = self._socket  # its encryption has a lock as well
        self._socket.close()

    def close(self) -> None:
        """Leave the driver."""
        self.is_open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _require_alive(self) -> None:
        if not self.is_alive():
            raise OSError("the study's control connection was lost")

    def _send(self, kind: bytes, body: bytes) -> None:
        with self._send_lock:
            self._wire.sendall(HEADER.pack(len(body), kind) + body)

    def _receive(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            chunk = self._wire.recv(n - len(data))
            if not chunk:
                raise OSError("the driver closed the study's control connection")
            data += chunk
        return bytes(data)

    def _prepare(self, trial_id: int) -> None:
        prepare_to_end()
        self._prepared = trial_id
        with contextlib.suppress(OSError):
            self._send(PREPARED, ID.pack(trial_id))
        if not self.is_open:
            self._end_prepared()

    def _end_prepared(self) -> None:
        if self._prepared is not None and self._prepared == self._current:
            end_with_descendants()

    def _listen(self) -> None:
        try:
            while True:
                length, kind = HEADER.unpack(self._receive(HEADER.size))
                body = self._receive(length)
                self._heard_at = time.monotonic()
                if kind == PONG:
                    self._ponged.set()
                    continue
                if kind == OVER:
                    self.is_over = True
                    continue
                trial_id = ID.unpack_from(body)[0]
                if kind == GIVE:
                    if trial_id == self._taking:
                        self._gift = body[ID.size :]
                        self._given.set()
                    continue
                if trial_id != self._current:
                    continue
                if kind == KILL:
                    end_with_descendants()
                elif kind == PREPARE:  # in its own thread: a kill does not wait for it
                    threading.Thread(target=self._prepare, args=(trial_id,), daemon=True).start()
                elif kind == GRANT:
                    self._attempt = CLAIM_BODY.unpack(body)[1]
                    self._granted.set()
                elif kind in (ADMIT, REFUSE):
                    self._is_refused = kind == REFUSE
                    self._decided.set()
                elif kind == ACK:
                    self._acked.set()
                elif kind == RUN:
                    self._on_run(body[ID.size :].decode() or None)
                else:
                    self._is_doomed = self._is_doomed or kind == TERMINATE
                    if ANSWER_BODY.unpack(body)[1] == self._reports:
                        self._answered.set()
        except OSError:
            self.is_open = False
            self._decided.set()
            self._acked.set()
            self._answered.set()
            self._given.set()
            self._granted.set()
            self._ponged.set()
            self._on_run(None)
            self._end_prepared()  # nothing is left to kill it
