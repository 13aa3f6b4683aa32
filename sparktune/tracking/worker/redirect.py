"""On the worker: MLflow calls in an objective land on the trial's own run (``tracking.current_trial``).

``redirect`` goes around the objective. It imports nothing: an objective that never touches MLflow does not
pay for importing it. The environment variables that it sets serve subprocesses (``environment``). A run that
does not exist yet when the objective begins is asked for when it is needed (``arrival``).

The trial is the whole process's, one at a time, as in Spark's Python workers; outside of ``redirect`` MLflow
is as it always was.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, MutableSequence
from typing import Any

from sparktune.private import of_mlflow
from sparktune.study.tracker import RunContext
from sparktune.tracking import interception
from sparktune.tracking.current_trial import CurrentTrial, in_process
from sparktune.tracking.worker import on_import
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.environment import TrialEnvironment, patch_spawn

logger = logging.getLogger("sparktune")

_PATCHES = interception.PATCHES | {"multiprocessing.util": patch_spawn}


@contextlib.contextmanager
def redirect(context: RunContext | None, arrival: RunArrival | None = None) -> Iterator[list[str]]:
    """Have MLflow calls in the block land on the trial's run.

    Yields notes for the driver about the block's calls: what they ask for and do not get.

    With ``context`` None nothing is tracked, and MLflow is left alone. ``arrival`` brings the run's id where
    the context has none. Where it brings none either (the tracking server does not answer the driver) the
    trial's run is looked for, and created, when the objective first needs it; the driver finds it later and
    completes it.

    Exceptions of the block pass through. MLflow's trouble with calls of the objective is raised there, as it
    always is; going in and out of the block raises none.
    """
    if context is None:
        yield []
        return
    trial = CurrentTrial(context, arrival or RunArrival(context.run_id))
    environment = TrialEnvironment()
    environment.apply(context, trial.arrival)
    on_import.patch(_PATCHES)
    process = _Process()
    process.enter(context)
    failed = True
    try:
        with in_process(trial):
            try:
                yield trial.notes
                failed = False
            finally:
                trial.arrival.watch(None)
                process.leave(trial, failed=failed)
    finally:
        environment.restore()


class _Process:
    """MLflow's state in this process (active runs, tracking URI, experiment), before and after the trial."""

    def __init__(self) -> None:
        self._tracking_uri: str | None = None
        self._registry_uri: str | None = None
        self._experiment_id: str | None = None
        self._last_run_id: str | None = None
        self._stacks: list[tuple[MutableSequence[Any], list[Any]]] = []

    def enter(self, context: RunContext) -> None:
        """Note the state and clear it, if MLflow is loaded; if not, there is none."""
        fluent: Any = sys.modules.get(of_mlflow.FLUENT)
        if fluent is None:
            return
        self._tracking_uri = of_mlflow.chosen_uri()
        self._registry_uri = of_mlflow.chosen_registry()
        self._experiment_id = of_mlflow.chosen_experiment()
        self._last_run_id = of_mlflow.last_run_id(fluent)
        for runs in of_mlflow.stacks(fluent):
            self._stacks.append((runs, list(runs)))
            runs.clear()
        if self._tracking_uri is not None:
            _set_tracking_uri(context.tracking_uri)
        of_mlflow.choose_registry(None)  # the environment variable decides
        of_mlflow.choose_experiment(None)

    def leave(self, trial: CurrentTrial, *, failed: bool) -> None:
        """End what the objective left open, and put the state back."""
        fluent: Any = sys.modules.get(of_mlflow.FLUENT)
        if fluent is None:
            return
        try:
            trial.end_leftovers(failed=failed)
        except Exception as error:  # MLflow's trouble must not cost the trial its result
            logger.warning("what the objective left open in MLflow could not be ended: %s", error)
        finally:
            for runs in of_mlflow.stacks(fluent):
                runs.clear()
            for runs, before in self._stacks:
                runs.extend(before)
            of_mlflow.set_last_run_id(fluent, self._last_run_id)
            of_mlflow.choose_experiment(self._experiment_id)
            of_mlflow.choose_registry(self._registry_uri)
            _set_tracking_uri(self._tracking_uri)


def _set_tracking_uri(uri: str | None) -> None:
    """``mlflow.set_tracking_uri``, and nothing where it is set so already."""
    if of_mlflow.chosen_uri() != uri:
        sys.modules[of_mlflow.TRACKING].set_tracking_uri(uri)
