"""On the worker: MLflow calls in an objective land on the trial's own run.

``redirect`` goes around the objective. It imports nothing: an objective that never touches MLflow does not
pay for importing it. The environment variables that it sets serve subprocesses (``tracking.environment``). A
run that does not exist yet when the objective begins is asked for when it is needed (``tracking.arrival``).

In the worker itself they would not be enough, because ``mlflow.start_run()`` uses MLFLOW_RUN_ID up: the
second run of an objective would be an orphan. So the object through which MLflow's fluent module reads that
variable is replaced, once per process, when that module is there or gets imported, by one that answers with
the trial's run whenever the calling thread has no active run. Therefore

- ``mlflow.active_run()`` is the trial's run from the start;
- ``mlflow.log_metric`` and the like, autologging, and the outermost ``with mlflow.start_run(...)`` land on
  the trial's run: any number of them one after another, in any thread of the objective, with ``run_name``
  (which renames the trial's run);
- so does the first outermost ``start_run(nested=True)``, because many objectives consist of one such block;
  those after it (the folds of a cross-validation), and those inside of another run, are real runs below it;
- a run of another experiment is not made: ``set_experiment`` and ``experiment_id=`` are noted (``notes``);
- outside of ``redirect`` MLflow is as it always was.

A param that the objective logs under the name of a hyperparameter but with another value (``10`` where the
trial was given ``10.0``) is logged as ``<name>_1``; MLflow alone would raise.

One trial at a time per process, as in Spark's Python workers.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from sparktune.study.tracker import RunContext
from sparktune.tracking.schema import with_suffix
from sparktune.tracking.worker import on_import
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.environment import TrialEnvironment, patch_spawn
from sparktune.tracking.worker.fluent import (
    flush,
    last_run_id,
    set_last_run_id,
    stack,
    stacks,
    stop_monitor,
)

logger = logging.getLogger("sparktune")

_FLUENT = "mlflow.tracking.fluent"
_STORE_CLIENT = "mlflow.tracking._tracking_service.client"
SEARCH_EVERY_S = 0.5


class _Current:
    """The trial that this process runs, if any."""

    context: RunContext | None = None
    arrival: RunArrival = RunArrival(None)
    notes: ClassVar[list[str]] = []
    has_nested = False


@contextlib.contextmanager
def redirect(context: RunContext | None, arrival: RunArrival | None = None) -> Iterator[list[str]]:
    """Have MLflow calls in the block land on the trial's run.

    Yields what the driver is to be told of the block's calls: what they ask for and do not get.

    With ``context`` None nothing is tracked, and MLflow is left alone. ``arrival`` brings the run's id where
    the context has none. Where it brings none either (the tracking server does not answer the driver) the
    trial's run is looked for, and created, when the objective first needs it; the driver finds it later and
    completes it.

    Exceptions of the block pass through. MLflow's trouble with calls of the objective is raised there, as it
    always is; going in and out of the block raises none.
    """
    notes: list[str] = []
    if context is None:
        yield notes
        return
    before = _Current.context, _Current.arrival
    environment = TrialEnvironment()
    _Current.context, _Current.arrival = context, arrival or RunArrival(context.run_id)
    _Current.notes, _Current.has_nested = notes, False
    environment.apply(context, _Current.arrival)
    on_import.patch(_PATCHES)
    process = _Process()
    process.enter(context)
    failed = True
    try:
        yield notes
        failed = False
    finally:
        _Current.arrival.watch(None)
        process.leave(failed)
        _Current.context, _Current.arrival = before
        environment.restore()


class _Process:
    """MLflow's state in this process (active runs, tracking URI, experiment), before and after the trial."""

    def __init__(self) -> None:
        self._tracking_uri: str | None = None
        self._registry_uri: str | None = None
        self._experiment_id: str | None = None
        self._last_run_id: str | None = None
        self._stacks: list[tuple[list[Any], list[Any]]] = []

    def enter(self, context: RunContext) -> None:
        """Note the state and clear it, if MLflow is loaded; if not, there is none."""
        fluent: Any = sys.modules.get(_FLUENT)
        if fluent is None:
            return
        self._tracking_uri = _tracking()._tracking_uri
        self._registry_uri = _registry()._registry_uri
        self._experiment_id = fluent._active_experiment_id
        self._last_run_id = last_run_id(fluent)
        for runs in stacks(fluent):
            self._stacks.append((runs, list(runs)))
            runs.clear()
        if self._tracking_uri is not None:
            _set_tracking_uri(context.tracking_uri)
        _registry()._registry_uri = None  # the environment variable decides
        fluent._active_experiment_id = None

    def leave(self, failed: bool) -> None:
        """End what the objective left open, and put the state back."""
        fluent: Any = sys.modules.get(_FLUENT)
        if fluent is None:
            return
        try:
            _end_leftovers(fluent, failed)
        except Exception as error:  # MLflow's trouble must not cost the trial its result
            logger.warning("what the objective left open in MLflow could not be ended: %s", error)
        finally:
            for runs in stacks(fluent):
                runs.clear()
            for runs, before in self._stacks:
                runs.extend(before)
            set_last_run_id(fluent, self._last_run_id)
            fluent._active_experiment_id = self._experiment_id
            _registry()._registry_uri = self._registry_uri
            _set_tracking_uri(self._tracking_uri)


def _tracking() -> Any:
    return sys.modules["mlflow.tracking._tracking_service.utils"]


def _registry() -> Any:
    return sys.modules["mlflow.tracking._model_registry.utils"]


def _set_tracking_uri(uri: str | None) -> None:
    """``mlflow.set_tracking_uri``, and nothing where it is set so already."""
    if _tracking()._tracking_uri != uri:
        _tracking().set_tracking_uri(uri)


def _end_leftovers(fluent: Any, failed: bool) -> None:
    """End runs below the trial's that are still active, and flush; the driver ends the trial's own run."""
    has_logged = False
    for runs in stacks(fluent):
        for run in reversed(runs):
            stop_monitor(fluent, run.info.run_id)
            has_logged = True
            if run.info.run_id != _Current.arrival.run_id:
                fluent.MlflowClient().set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED")
    if has_logged:
        flush(fluent)


# The hook -------------------------------------------------------------------------------------------------


class _RunIdVariable:
    """Stands in for MLflow's MLFLOW_RUN_ID variable in its fluent module; see the top of this file."""

    def __init__(self, fluent: Any) -> None:
        self._fluent = fluent
        self._original = fluent.MLFLOW_RUN_ID
        self.name: str = self._original.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __str__(self) -> str:
        return str(self._original)

    def get(self) -> Any:
        """The run that ``start_run`` is to resume, or None to create one."""
        context = _Current.context
        if context is None:
            return self._original.get()
        if stack(self._fluent):
            return None  # nested=True below the trial's run
        run_id = _Current.arrival.get() or claim_run(context, _Current.arrival)
        if run_id is None:
            return None
        if not _is_known_here(self._fluent, context, run_id):
            # The objective chose another server: the experiment of ours says nothing there.
            os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
            return None
        chosen = self._fluent._active_experiment_id
        if chosen is not None and context.experiment_id and str(chosen) != context.experiment_id:
            _note_experiment(f"mlflow.set_experiment (experiment {chosen})", context)
        if context.experiment_id:
            os.environ["MLFLOW_EXPERIMENT_ID"] = context.experiment_id
        # start_run refuses to resume a run of another experiment than the one set, and removes the variable.
        self._fluent._active_experiment_id = None
        os.environ[self.name] = run_id
        return run_id

    def unset(self) -> None:
        """``end_run`` forgets the variable; during a trial it stays, for subprocesses."""
        if _Current.context is None:
            self._original.unset()
        elif _Current.arrival.run_id is not None:
            os.environ[self.name] = _Current.arrival.run_id


def _note_experiment(what: str, context: RunContext) -> None:
    _Current.notes.append(
        f"{what} in the objective has no effect: a trial's run is in the experiment of its study, "
        f"{context.experiment_id}. Call mlflow.set_experiment before fmin"
    )


def _is_known_here(fluent: Any, context: RunContext, run_id: str) -> bool:
    """Whether the server that the objective talks to has the trial's run.

    It has, unless the objective itself chose another server; the same one may be spelt differently.
    """
    if _tracking().get_tracking_uri() == context.tracking_uri:
        return True
    try:
        fluent.MlflowClient().get_run(run_id)
    except Exception as error:  # what it raises depends on the other store
        logger.debug("the objective's own tracking server does not know the trial's run: %s", error)
        return False
    return True


_claiming = threading.Lock()


def claim_run(context: RunContext, arrival: RunArrival) -> str | None:
    """Find or create the run that the driver could not create.

    A driver that cannot be asked may well be creating it: it is looked for, ``arrival.search_s`` seconds.
    What MLflow raises passes through, as from any other call of the objective's; a run of the objective's
    own, which the driver would never find, is no way out.

    Returns:
        The run's id; None where not even its experiment is known.
    """
    with _claiming:
        if arrival.run_id is not None or context.claim is None or not context.experiment_id:
            return arrival.run_id
        from mlflow import MlflowClient

        from sparktune.tracking.store import find_run

        wanted = json.loads(context.claim)
        client = MlflowClient(tracking_uri=context.tracking_uri)
        give_up = time.monotonic() + arrival.search_s
        while (run := find_run(client, context.experiment_id, wanted["identity"])) is None:
            if time.monotonic() >= give_up:
                run = client.create_run(context.experiment_id, tags=wanted["tags"], run_name=wanted["name"])
                break
            time.sleep(SEARCH_EVERY_S)
        arrival.tell(str(run.info.run_id))
        return arrival.run_id


def _patch_fluent(fluent: Any) -> None:
    if isinstance(fluent.MLFLOW_RUN_ID, _RunIdVariable):
        return
    fluent.MLFLOW_RUN_ID = _RunIdVariable(fluent)
    start_run = fluent.start_run

    @functools.wraps(start_run)
    def resuming(*args: Any, **kwargs: Any) -> Any:
        # After a bare log_metric the trial's run is active already; to start it again is no mistake here.
        runs = stack(fluent)
        nested = kwargs.get("nested") or (len(args) > 3 and args[3])
        is_trials = len(runs) == 1 and runs[0].info.run_id == _Current.arrival.run_id
        context = _Current.context
        if context is not None:
            experiment = kwargs.get("experiment_id") or (args[1] if len(args) > 1 else None)
            if experiment is not None and context.experiment_id not in ("", str(experiment)):
                _note_experiment(f"start_run(experiment_id={experiment!r})", context)
            if is_trials and not nested:
                runs.clear()
            if nested and not runs:
                if _Current.has_nested:
                    start_run()  # the trial's run, for the one that is asked for to be below it
                _Current.has_nested = True
        try:
            while True:
                try:
                    return start_run(*args, **kwargs)
                except KeyError as error:
                    # It reads the variable and removes it, before all else; another thread was faster.
                    if _Current.context is None or error.args != (fluent.MLFLOW_RUN_ID.name,):
                        raise
        finally:
            if _Current.context is not None:
                fluent.MLFLOW_RUN_ID.unset()

    active_run = fluent.active_run

    @functools.wraps(active_run)
    def trials_own() -> Any:
        run = active_run()
        if run is not None or _Current.context is None:
            return run
        run_id = fluent.MLFLOW_RUN_ID.get()
        fluent.MLFLOW_RUN_ID.unset()
        # Not put on the stack: who only looks changes nothing.
        return None if run_id is None else fluent.ActiveRun(fluent.MlflowClient().get_run(run_id))

    package: Any = sys.modules["mlflow"]
    for name, ours, original in (("start_run", resuming, start_run), ("active_run", trials_own, active_run)):
        setattr(fluent, name, ours)
        if getattr(package, name, None) is original:
            setattr(package, name, ours)


def _patch_client(module: Any) -> None:
    """Let params of the objective that conflict with the trial's own be logged under another name."""
    cls = module.TrackingServiceClient
    if getattr(cls, "_sparktune", False):
        return
    log_param, log_batch = cls.log_param, cls.log_batch

    def tolerant_param(self: Any, run_id: str, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return log_param(self, run_id, key, value, *args, **kwargs)
        except Exception:  # raised anew, unless another name for the param helps
            renamed = _renamed(self, run_id, {key: str(value)})
            if not renamed:
                raise
        return log_param(self, run_id, renamed[key], value, *args, **kwargs)

    def tolerant_batch(
        self: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return log_batch(self, run_id, metrics, params, tags, *args, **kwargs)
        except Exception:  # as above
            renamed = _renamed(self, run_id, {param.key: param.value for param in params})
            if not renamed:
                raise
        params = [type(param)(renamed.get(param.key, param.key), param.value) for param in params]
        return log_batch(self, run_id, metrics, params, tags, *args, **kwargs)

    cls.log_param, cls.log_batch, cls._sparktune = tolerant_param, tolerant_batch, True


def _renamed(client: Any, run_id: str, params: dict[str, str]) -> dict[str, str]:
    """A free key for each of the params that the trial's run holds with another value."""
    if run_id != _Current.arrival.run_id or not params:
        return {}
    logged = client.get_run(run_id).data.params
    taken = {*logged, *params}
    return {key: with_suffix(key, taken) for key, value in params.items() if logged.get(key, value) != value}


_PATCHES: dict[str, Callable[[Any], None]] = {
    _FLUENT: _patch_fluent,
    _STORE_CLIENT: _patch_client,
    "multiprocessing.util": patch_spawn,
}
