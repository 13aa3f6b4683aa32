"""What MLflow's fluent module keeps of active runs, in its versions from 2.13 on.

These names are MLflow's own, not documented: they are used here and in ``redirect`` only.
"""

from __future__ import annotations

from typing import Any


def stack(fluent: Any) -> list[Any]:
    """The active runs of this thread, the outermost first; the list itself."""
    runs = fluent._active_run_stack
    found: list[Any] = runs if isinstance(runs, list) else runs.get()  # before 2.14 one list for all threads
    return found


def stacks(fluent: Any) -> list[list[Any]]:
    """The active runs of every thread."""
    runs = fluent._active_run_stack
    return [runs] if isinstance(runs, list) else list(runs.get_all_thread_values().values())


def last_run_id(fluent: Any) -> str | None:
    """The run that was active last in this thread."""
    last = fluent._last_active_run_id
    found: str | None = last.get() if hasattr(last, "get") else last
    return found


def set_last_run_id(fluent: Any, run_id: str | None) -> None:
    """Put ``last_run_id`` back."""
    last = fluent._last_active_run_id
    if hasattr(last, "set"):
        last.set(run_id)
    else:
        fluent._last_active_run_id = run_id


def stop_monitor(fluent: Any, run_id: str) -> None:
    """End the thread that logs the system metrics of a run, if there is one."""
    monitors = getattr(fluent, "run_id_to_system_metrics_monitor", {})
    monitor = monitors.pop(run_id, None)
    if monitor is not None:
        monitor.finish()


def flush(fluent: Any) -> None:
    """Wait until what is logged asynchronously is with the store."""
    flush = getattr(fluent._get_store(), "flush_async_logging", None)
    if flush is not None:
        flush()
