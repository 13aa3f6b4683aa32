"""The end of every process that an objective has started, and of its worker process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from sparktune.private import of_joblib

PROC = Path("/proc")
KILLED_S = 5.0
"""How long a kill may take that another process does."""


TRACKER = re.compile(rb"\0from [\w.]+\.resource_tracker import main\b")
"""In the command line of a process that only watches over files and semaphores."""
KILLED_AT_LATEST_S = 60
"""How long processes that a trial has left are stopped, at most, until their parent ends."""

_before: list[Callable[[], None]] = []


class EndsInTime:
    """An objective with something to do before its worker ends (``before_the_end``).

    Spark is not asked to cancel such a trial until that is done: it would kill the worker in the middle.

    Attributes:
        ends_within_s: seconds that it takes at most.
    """

    ends_within_s: ClassVar[float]


@contextlib.contextmanager
def before_the_end(act: Callable[[], None]) -> Iterator[None]:
    """While the block runs, ``end_with_descendants`` calls ``act`` first; it must take seconds at most."""
    _before.append(act)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # it has been called
            _before.remove(act)


def prepare_to_end() -> None:
    """Do the cleanup before the end of this process; ``end_with_descendants`` does not repeat it."""
    while _before:
        with contextlib.suppress(Exception):
            _before.pop()()


def end_with_descendants() -> None:
    """Kill this process and all that descend from it: pools, commands, and what these have started.

    They are stopped first, so that none starts another, or is replaced by its pool, in the meantime.
    """
    try:
        prepare_to_end()
        stopped: set[int] = set()
        while new := descendants(os.getpid()) - stopped:
            _signal(new, signal.SIGSTOP)
            stopped |= new
        if stopped:
            _kill_this_and(stopped)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def _kill_this_and(pids: set[int]) -> None:
    """Kill this process, and then the others: a thread of a pool's would replace the ones that die before it.

    Another process has to do that.
    """
    command = ["/bin/sh", "-c", 'kill -9 "$@"', "sh", str(os.getpid()), *map(str, pids)]
    null = subprocess.DEVNULL
    try:
        subprocess.Popen(command, cwd="/", stdin=null, stdout=null, stderr=null).wait(KILLED_S)
    finally:
        _signal(pids, signal.SIGKILL)  # there is no shell, or no further process can be started


def descendants(pid: int) -> set[int]:
    """The descendants of a process that are alive now."""
    parents = _parents()
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def children() -> frozenset[int]:
    """The children of this process; also those that have ended and were not waited for."""
    return frozenset(_children_of(os.getpid())) if _has_children() else frozenset()


def _has_children() -> bool:
    """A call to the system of a microsecond, where it offers that; reading ``/proc`` takes milliseconds."""
    if not hasattr(os, "waitid"):
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def started_since(before: frozenset[int]) -> set[int]:
    """The children that this process has now and had not ``before``, and that still do something.

    Those that only watch over files and semaphores (``multiprocessing.resource_tracker``, and joblib's) are
    not counted: they run none of the user's code, and end by themselves.
    """
    return {pid for pid in children() - before if _is_alive(pid) and not TRACKER.search(_command(pid))}


def end_started_since(before: frozenset[int]) -> bool:
    """End what this process has started since and that still runs, with all that descends from it.

    joblib's processes end in an orderly way. Others may belong to a pool, which would replace them: they are
    stopped, and killed by another process when this one has ended.

    Returns:
        Whether this process is to end: it has processes that something in it may miss.
    """
    if not started_since(before):
        return False
    of_joblib.end_idle_executors()
    stopped: set[int] = set()
    while new := _families(started_since(before)) - stopped:
        _signal(new, signal.SIGSTOP)
        stopped |= new
    if stopped:
        _kill_after_this(stopped)
    return bool(stopped)


def _families(pids: set[int]) -> set[int]:
    return pids.union(*map(descendants, pids))


def _kill_after_this(pids: set[int]) -> None:
    wait = f'n=0; while kill -0 "$0" && [ $n -lt {KILLED_AT_LATEST_S * 10} ]; do sleep 0.1; n=$((n+1)); done'
    command = ["/bin/sh", "-c", f'{wait}; kill -9 "$@"', str(os.getpid()), *map(str, pids)]
    null = subprocess.DEVNULL
    try:
        killer = subprocess.Popen(
            command, cwd="/", stdin=null, stdout=null, stderr=null, start_new_session=True
        )
    except OSError:  # there is no shell, or no further process can be started
        _signal(pids, signal.SIGKILL)
    else:
        killer.returncode = 0  # it is not waited for


def _is_alive(pid: int) -> bool:
    """Whether a child has not ended yet; where there is no ``/proc``, it counts as alive."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return not (PROC / "self" / "stat").exists()
    return stat[0] not in (b"Z", b"X")


def _command(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _children_of(pid: int) -> set[int]:
    return {child for child, parent in _parents().items() if parent == pid}


def _parents() -> dict[int, int]:
    return _parents_in_proc() if (PROC / "self" / "stat").exists() else _parents_of_ps()


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended, or another user owns it
            os.kill(pid, number)


def _parents_in_proc() -> dict[int, int]:
    """Process -> its parent: the fields 1 and 4 of ``/proc/<pid>/stat`` (proc(5))."""
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended
                # Field 2, the name of the program in parentheses, may hold any character.
                stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                parents[int(entry.name)] = int(stat[1])
    return parents


def _parents_of_ps() -> dict[int, int]:
    """Process -> its parent, where there is no ``/proc``."""
    with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE, text=True) as ps:
        rows = [line.split() for line in ps.communicate(timeout=10)[0].splitlines()]
    return {int(pid): int(parent) for pid, parent in rows if int(pid) != ps.pid}
