"""In a thread of the driver: what an objective logs to MLflow lands on its trial's run (``current_trial``).

Nothing of the process is changed for other threads: no environment variable, address or experiment.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sparktune.private import of_mlflow
from sparktune.study.tracker import RunContext, Tell
from sparktune.tracking import joblib_tasks
from sparktune.tracking.current_trial import CurrentTrial, in_context
from sparktune.tracking.interception import intercepted
from sparktune.tracking.location import without_password
from sparktune.tracking.worker.arrival import RunArrival

logger = logging.getLogger("sparktune")


class DriverRuns:
    """The trials of one study that run in threads of this process."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @contextlib.contextmanager
    def trial(self, context: RunContext | None, ask: Callable[[Tell], None]) -> Iterator[None]:
        """While the block runs, MLflow calls in this thread, and in those that it starts, are the trial's.

        Args:
            context: of the trial; None where nothing is tracked.
            ask: has the function called with the id of the trial's run, see ``Tracker.ask_run``.
        """
        if context is None:
            yield
            return
        arrival = RunArrival(context.run_id, lambda: ask(arrival.tell))
        trial = CurrentTrial(context, arrival)
        joblib_tasks.follow()
        with intercepted(), _own_stack(), in_context(trial):
            failed = True
            try:
                yield
                failed = False
            finally:
                self._leave(trial, failed=failed)

    def _leave(self, trial: CurrentTrial, *, failed: bool) -> None:
        try:
            trial.end_leftovers(failed=failed)
        except Exception as error:  # MLflow's trouble must not cost the trial its result
            why = without_password(str(error))
            logger.warning("what the objective left open in MLflow could not be ended: %s", why)
        for note in trial.notes:
            if note not in self._said:
                self._said.add(note)
                logger.warning("%s", note)


@contextlib.contextmanager
def _own_stack() -> Iterator[None]:
    """While the block runs, runs that the caller of ``fmin`` has active in this thread are not active."""
    fluent: Any = sys.modules[of_mlflow.FLUENT]
    if of_mlflow.has_one_stack(fluent):  # the trial has its own then
        yield
        return
    runs, last = of_mlflow.stack(fluent), of_mlflow.last_run_id(fluent)
    around = list(runs)
    runs.clear()
    try:
        yield
    finally:
        runs[:] = around
        of_mlflow.set_last_run_id(fluent, last)
