"""The control channel: one authenticated TCP connection from each Python worker process to the driver.

It reports when an objective truly started and what it returned, and lets the driver end it immediately. Both
sides prove that they hold the study's random token (HMAC-SHA256 over the peer's nonce; RFC 2104) before
anything else is read; until then at most ``HELLO_BYTES`` are accepted. The token travels inside the Spark
task, never in Spark properties, which a web page shows, and never over the connection. Where Spark encrypts
its own connections, all but the driver's nonce goes over TLS, whose certificate travels with the token.

Frames after the handshake: 4 bytes length, 1 byte kind, body. From the worker ``BEGIN`` and ``OUTCOME``
(pickled, as everything between Spark and its Python workers), ``REPORT`` (trial's id, number of the report,
step, value), ``ASK`` (the trial's id: which MLflow run is it?), ``TAKE`` (a job's number: which trial does it
run?) and ``PING``, which is answered however busy the study is: a connection can be lost without notice to
either side. From the driver ``ADMIT``, the answer to ``BEGIN``, or ``REFUSE`` where the trial was stopped
meanwhile, ``ACK`` and ``KILL`` (the trial's id), ``GO_ON`` and ``TERMINATE`` (the trial's id, and the number
of the report that is answered), ``RUN`` (the trial's id and its run's, empty where there is none), which may
come unasked, ``GIVE`` (the job's number and what announces its trial, empty where it is to run none) and
``PONG``. Where Spark may start a copy of a trial's task, ``CLAIM`` (the trial's id, and the number of its
job's first attempt) asks before ``BEGIN`` whether this worker may run the trial. ``GRANT`` (the trial's id,
and the number of the attempt) confirms it when no other worker runs it any more; 0 means that it has ended.
The end of the connection gives the trial back. ``PREPARE`` (from the driver) announces ``KILL``: the worker
does its cleanup, and answers with ``PREPARED``; both hold the trial's id. ``OVER``, before the driver closes
its end, means that the study has ended, and nothing of it is to begin.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import struct
from dataclasses import dataclass
from typing import Any

NONCE_BYTES = 16
HELLO_BYTES = NONCE_BYTES + 32
MAX_FRAME_BYTES = 2**31

BEGIN, OUTCOME, REPORT, ASK, TAKE, PREPARED, PING = b"B", b"O", b"R", b"Q", b"W", b"D", b"?"
CLAIM, GRANT = b"C", b"Y"
ADMIT, REFUSE, OVER = b"M", b"F", b"Z"
ACK, KILL, GO_ON, TERMINATE, RUN, GIVE, PREPARE, PONG = b"A", b"K", b"G", b"T", b"I", b"N", b"P", b"!"
REPORT_BODY = struct.Struct("!qqqd")
CLAIM_BODY = struct.Struct("!qq")
ANSWER_BODY = struct.Struct("!qq")
HEADER = struct.Struct("!Ic")
ID = struct.Struct("!q")

KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,  # its name on macOS
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 60_000,
}
"""Option of TCP -> its value, where the system has it: seconds of silence, seconds between questions, how
many of them; milliseconds after which what was sent and not confirmed ends the connection (tcp(7)). Firewalls
and address translation forget connections that are silent for minutes."""


def keep_alive(connection: Any) -> None:
    """Have the system look whether the peer of a quiet TCP socket is still there, and end it where not."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):  # known to Python, not to this kernel
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@dataclass(frozen=True)
class Endpoint:
    """Where the driver listens, and the secret to be admitted; shipped inside the task.

    Attributes:
        host: a name or an address, without brackets.
        port: its number.
        token: see above.
        certificate: PEM text; the connection is encrypted, only to the holder of its key. None: not
            encrypted.
    """

    host: str
    port: int
    token: bytes
    certificate: str | None = None

    def __repr__(self) -> str:
        """Without the token: tasks are printed in logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"Endpoint({host}:{self.port}{', encrypted' if self.certificate else ''})"


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker began a trial's objective; ``attempt`` as in ``Outcome``."""

    trial_id: int
    attempt: int
    host: str
    worker_pid: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A trial's outcome (see ``sparktune.worker.task``) arrived; the worker has been notified."""

    trial_id: int
    outcome: Any


@dataclass(frozen=True, slots=True)
class Gone:
    """The worker process of a trial that had begun, and had not ended, is dead."""

    trial_id: int


@dataclass(frozen=True, slots=True)
class ReportArrived:
    """A trial's objective reported, and waits for ``ControlServer.answer``."""

    trial_id: int
    number: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial's objective needs its MLflow run, and waits for ``ControlServer.send_run``."""

    trial_id: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A trial's worker has done its cleanup, and waits for ``ControlServer.kill``."""

    trial_id: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A worker runs a job that was sent before its trial was chosen, and waits for ``ControlServer.give``."""

    number: int


Signal = Begun | Arrived | Gone | ReportArrived | Asked | Prepared | Wanted


def proof(token: bytes, nonce: bytes, side: bytes) -> bytes:
    """What shows that ``side`` (worker or driver) holds the token, and was asked just now."""
    return hmac.digest(token, side + nonce, "sha256")
