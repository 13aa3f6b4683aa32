"""Tasks of ``joblib.Parallel`` that a trial in a thread of the driver has run in other processes.

joblib keeps its processes, and shares them between trials, also between those that run at the same time. So a
process does not belong to a trial, but each task does. The trial is attached where the objective calls
joblib: most tasks are sent by threads of joblib's own, which it keeps as well.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from sparktune.private.replacing import ReplacedMethod
from sparktune.study.tracker import RunContext
from sparktune.tracking.current_trial import CurrentTrial, of_context
from sparktune.tracking.worker import on_import
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.redirect import redirect


class TaskOfTrial:
    """A function whose MLflow calls land on the trial's run; in the trial's own process, the function alone.

    The run is waited for when the task is sent to another process, and not where joblib uses threads.
    """

    def __init__(self, function: Callable[..., Any], context: RunContext, arrival: RunArrival) -> None:
        self._function, self._context = function, context
        self._arrival: RunArrival | None = arrival
        self._pid = os.getpid()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function."""
        if os.getpid() == self._pid:
            return self._function(*args, **kwargs)
        with redirect(self._context):
            return self._function(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """For the other process, which has the environment variables of this one."""
        run_id = self._context.run_id if self._arrival is None else self._arrival.get()
        context = replace(self._context, run_id=run_id, env={}, claim=None)
        return {**self.__dict__, "_context": context, "_arrival": None}


def _of_trial(trial: CurrentTrial, calls: Iterable[Any]) -> Iterable[Any]:
    """Calls for joblib (function, arguments, keywords) as tasks of the trial.

    Left as they are where the objective talks to another server, which has not the trial's run.
    """
    if trial.tracking_uri not in (None, trial.context.tracking_uri):
        return calls
    tasks = ((TaskOfTrial(call[0], trial.context, trial.arrival), *call[1:]) for call in calls)
    return list(tasks) if hasattr(calls, "__len__") else tasks


def _told_trial(call: Any) -> Any:
    """``joblib.Parallel.__call__``; where no trial of the driver's calls it, it does what it always did."""

    @functools.wraps(call)
    def called(self: Any, iterable: Any) -> Any:
        trial = of_context()
        return call(self, iterable if trial is None else _of_trial(trial, iterable))

    called.is_of_sparktune = True  # type: ignore[attr-defined]
    return called


def _patch_joblib(module: Any) -> None:
    if not getattr(module.Parallel.__call__, "is_of_sparktune", False):
        ReplacedMethod(module.Parallel, "__call__", _told_trial)


_PATCHES: dict[str, on_import.Patch] = {"joblib.parallel": _patch_joblib}


def follow() -> None:
    """From now on, joblib's tasks are those of the trial whose thread calls it; it may be loaded later."""
    on_import.patch(_PATCHES)
