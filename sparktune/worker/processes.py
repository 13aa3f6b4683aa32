"""The end of a worker process, and of every process that its objective has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

PROC = Path("/proc")
KILLED_S = 5.0
"""How long a kill may take that another process does."""


_before: list[Callable[[], None]] = []


class EndsInTime:
    """An objective with something to do before its worker ends (``before_the_end``).

    Spark is not told to cancel such a trial until that is done: it would kill the worker in the middle.

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
    """Do what is to be done before the end of this process; ``end_with_descendants`` does not do it again."""
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
        _signal(pids, signal.SIGKILL)  # there is no shell, or no process more to be had


def descendants(pid: int) -> set[int]:
    """The children of a process, their children, and so on, as far as they live at this moment."""
    parents = _parents_in_proc() if (PROC / "self" / "stat").exists() else _parents_of_ps()
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


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
