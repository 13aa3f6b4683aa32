"""Which driver runs a study: a tag on the parent run that the driver renews, so that no second one does.

On the machine of the driver its process shows whether it is alive. From elsewhere no clock is trusted: a
process that wants the study watches the tag until it changes (the driver is alive) or has not for long
enough.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

logger = logging.getLogger("sparktune")

RENEW_S = 10.0
"""How often a lease is renewed."""
SILENT_S = 2.5 * RENEW_S
"""A lease that is not renewed for so long, while it is watched, is free."""
SURELY_S = 600.0
"""One that is older than this by our clock need not be watched."""

_here: set[str] = set()
"""The leases that this process renews."""


@dataclass(frozen=True)
class Lease:
    """Who drives a study.

    Attributes:
        owner: of this lease alone.
        host, boot, pid, began: the driver's process: its machine, that machine's boot and process namespace,
            its number there, and when it began, in the kernel's form; ``boot`` and ``began`` are empty where
            the system does not have them.
        renewed_s: Unix time.
        used_s: seconds that the study has run so far.
    """

    owner: str
    host: str
    boot: str
    pid: int
    began: str
    renewed_s: float
    used_s: float

    @classmethod
    def mine(cls, used_s: float) -> Lease:
        """A new one, of this process."""
        pid = os.getpid()
        owner = uuid.uuid4().hex
        return cls(owner, socket.gethostname(), _boot(), pid, _began(pid), time.time(), used_s)

    def renewed(self, used_s: float) -> Lease:
        """The lease now."""
        return replace(self, renewed_s=time.time(), used_s=used_s)

    def as_json(self) -> str:
        """For a tag."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Lease | None:
        """What ``as_json`` gave; None for other text."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.renewed_s))
        return f"process {self.pid} on {self.host}, last seen at {at}"


def life(lease: Lease) -> Literal["lives", "is over", "unknown"]:
    """Whether the driver that holds a lease is alive, as far as this machine knows."""
    if lease.owner in _here:
        return "lives"
    if lease.host == socket.gethostname() and lease.boot and lease.boot == _boot():
        return "lives" if lease.pid != os.getpid() and _began(lease.pid) == lease.began else "is over"
    return "is over" if time.time() - lease.renewed_s > SURELY_S else "unknown"


def is_alive(lease: Lease, read: Callable[[], Lease | None]) -> bool:
    """Whether the driver that holds a lease is alive; watches the lease where it cannot be known otherwise.

    Args:
        lease: as it was read.
        read: reads it again; None where it is not there any more.
    """
    known = life(lease)
    if known != "unknown":
        return known == "lives"
    logger.warning("the study belongs to %s: watching %.0f s whether that driver is alive", lease, SILENT_S)
    until = time.monotonic() + SILENT_S
    pause = threading.Event()
    while time.monotonic() < until:
        pause.wait(1.0)
        now = read()
        if now is not None and now != lease:
            return True
    return False


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in clock ticks since the machine's boot; empty for none."""
    try:
        # The name of the program is in parentheses, and may hold anything (proc(5): field 22).
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] in ("Z", "X") else after_name[19]


class LeaseKeeper:
    """Renews a lease in its own thread until closed.

    Args:
        lease: what to renew.
        elapsed_s: seconds that the study has run so far.
        write: writes the lease; need not wait.
        read: the lease that the run bears now, or None; may raise while the server is away.
        lost: called once, from the thread, with the lease of another driver that has taken the study over.
    """

    def __init__(
        self,
        lease: Lease,
        elapsed_s: Callable[[], float],
        write: Callable[[Lease], None],
        read: Callable[[], Lease | None],
        lost: Callable[[Lease], None],
    ) -> None:
        self.lease = lease
        self._elapsed_s, self._write, self._read, self._lost = elapsed_s, write, read, lost
        self._closed = threading.Event()
        _here.add(lease.owner)
        self._thread = threading.Thread(target=self._run, name="sparktune-lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The study is over: another driver may have it."""
        self._closed.set()
        _here.discard(self.lease.owner)

    def write_last(self) -> None:
        """Note how long the study has run, at its end."""
        self._write(self.lease.renewed(self._elapsed_s()))

    def _run(self) -> None:
        while not self._closed.wait(RENEW_S):
            try:
                found = self._read()
            except Exception as error:  # the server is away, which the writer logs
                logger.debug("the lease of the study cannot be read now: %s", type(error).__name__)
                continue
            if found is not None and found.owner != self.lease.owner:
                self._lost(found)
                return
            self._write(self.lease.renewed(self._elapsed_s()))
