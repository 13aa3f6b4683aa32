"""Whether a process that was killed is over, as the kernel sees it."""

from __future__ import annotations

from pathlib import Path

import psutil

PF_EXITING = 0x4
"""The flag of a process that the kernel is taking apart: it runs no code of its own any more (proc(5))."""


def is_over(pid: int) -> bool:
    """Whether the process is gone, a zombie, or on its way out; its sockets close before it is a zombie."""
    try:
        if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return True
        # Field 9, counted from behind the name in parentheses, which may hold any character.
        flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return True
    return bool(flags & PF_EXITING)
