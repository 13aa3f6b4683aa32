"""Undocumented parts of joblib's loky that sparktune uses."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from sparktune.private import presence
from sparktune.private.presence import read

_CONSEQUENCE = "processes that joblib keeps are not ended with their trial, but with its worker process"
NAMES = {
    "_executor": (
        "loky.reusable_executor._executor",
        _CONSEQUENCE,
    ),
    "_pending_work_items": (
        "loky.ProcessPoolExecutor._pending_work_items",
        _CONSEQUENCE,
    ),
}
"""Name -> its full name, and what is different without it."""

_MODULES = ("joblib.externals.loky.reusable_executor", "loky.reusable_executor")


def end_idle_executors() -> None:
    """End the idle processes that joblib keeps for the next ``Parallel``, which then starts new ones."""
    for name in _MODULES:
        module: Any = sys.modules.get(name)
        if module is None:
            continue
        try:
            executor = read(module, "_executor")
            if executor is None or read(executor, "_pending_work_items"):
                continue
        except AttributeError as error:
            presence.missing("joblib", *NAMES[error.name or "_executor"])
            continue
        with contextlib.suppress(Exception):  # then they are ended like other processes
            # joblib's method also removes the memory maps that it has made for them.
            getattr(executor, "terminate", executor.shutdown)(kill_workers=True)
