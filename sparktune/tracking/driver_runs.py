"""In a thread of the driver: what an objective logs to MLflow lands on its trial's run.

MLflow keeps the active runs of each thread apart, since 2.14. The trial's run becomes the active one when the
objective first needs one, and is not ended by the objective: the driver does that.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

from sparktune.study.backend import Task
from sparktune.study.tracker import RunContext
from sparktune.tracking.places import without_password
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.fluent import flush, stack, stop_monitor
from sparktune.tracking.worker.redirect import claim_run

logger = logging.getLogger("sparktune")

_FLUENT = "mlflow.tracking.fluent"
_patching = threading.Lock()


class _Trial(threading.local):
    """The trial that this thread runs.

    Attributes:
        context: its; None outside of trials.
        arrival: knows its run.
        has_nested: a block that asked for a nested run was given the trial's own.
    """

    context: RunContext | None = None
    arrival: RunArrival
    has_nested: bool = False


_trial = _Trial()


@contextlib.contextmanager
def trial_run(context: RunContext | None, task: Task) -> Iterator[None]:
    """While the block runs, MLflow's fluent functions in this thread log to the trial's run.

    Args:
        context: of the trial; None where nothing is tracked.
        task: the trial's; it is asked for the run.
    """
    if context is None:
        yield
        return
    fluent: Any = importlib.import_module(_FLUENT)
    with _patching:
        is_possible = _patched(fluent)
    if not is_possible:
        yield
        return
    arrival = RunArrival(context.run_id, lambda: task.ask_run(task.trial_id, arrival.tell, hurry=True))
    _trial.context, _trial.arrival, _trial.has_nested = context, arrival, False
    failed = True
    try:
        yield
        failed = False
    finally:
        try:
            _end_leftovers(fluent, failed)
        except Exception as error:  # MLflow's trouble must not cost the trial its result
            why = without_password(str(error))
            logger.warning("what the objective left open in MLflow could not be ended: %s", why)
        finally:
            stack(fluent).clear()
            _trial.context = None


def _end_leftovers(fluent: Any, failed: bool) -> None:
    runs = stack(fluent)
    for run in reversed(runs):
        stop_monitor(fluent, run.info.run_id)
        if run.info.run_id != _trial.arrival.run_id:
            fluent.MlflowClient().set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED")
    if runs:
        flush(fluent)


def _run_of_trial(fluent: Any) -> Any:
    """The trial's run as MLflow's ``ActiveRun``; None where there is none to be had."""
    context, arrival = _trial.context, _trial.arrival
    assert context is not None
    run_id = arrival.get() or claim_run(context, arrival)
    return None if run_id is None else fluent.ActiveRun(fluent.MlflowClient().get_run(run_id))


def _patched(fluent: Any) -> bool:
    """Have ``start_run`` and ``active_run`` know the trials of threads, once; whether that is possible."""
    if getattr(fluent.start_run, "_sparktune_threads", False):
        return True
    if isinstance(fluent._active_run_stack, list):
        logger.warning(
            "before MLflow 2.14 a run is active in all threads: what objectives of DriverTrials log by "
            "mlflow.log_metric does not land on their trials' runs. Use sparktune.report, or mlflow>=2.14"
        )
        return False
    start_run, active_run = fluent.start_run, fluent.active_run

    @functools.wraps(start_run)
    def starting(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("run_id") or (args[0] if args else None)
        runs = stack(fluent)
        own = None if _trial.context is None else _trial.arrival.run_id
        is_own = bool(runs) and runs[0].info.run_id == own
        if _trial.context is None or given not in (None, own) or (runs and not (is_own and len(runs) == 1)):
            return start_run(*args, **kwargs)
        nested = kwargs.get("nested") or (len(args) > 3 and args[3])
        if nested and (is_own or _trial.has_nested):
            if not runs:
                _activate(fluent, runs)  # for the one that is asked for to be below it
            return start_run(*args, **kwargs)
        _trial.has_nested = _trial.has_nested or bool(nested)
        runs.clear()
        run = _activate(fluent, runs)
        if run is None:
            return start_run(*args, **kwargs)
        if kwargs.get("tags"):
            fluent.set_tags(kwargs["tags"])
        return run

    @functools.wraps(active_run)
    def looking() -> Any:
        run = active_run()
        # Not put on the stack: who only looks changes nothing.
        return run if run is not None or _trial.context is None else _run_of_trial(fluent)

    starting._sparktune_threads = True  # type: ignore[attr-defined]
    package: Any = sys.modules["mlflow"]
    for name, ours, original in (
        ("start_run", starting, start_run),
        ("active_run", looking, active_run),
    ):
        setattr(fluent, name, ours)
        if getattr(package, name, None) is original:
            setattr(package, name, ours)
    return True


def _activate(fluent: Any, runs: list[Any]) -> Any:
    run = _run_of_trial(fluent)
    if run is not None:
        runs.append(run)
    return run
