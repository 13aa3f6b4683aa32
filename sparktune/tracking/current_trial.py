"""Which trial runs here, and what MLflow's calls in an objective do about it.

A context variable names the trial of a thread of the driver (threads that the objective starts inherit it,
see ``worker.threads``); a worker process has one trial at a time, for all of its threads. ``interception``
replaces MLflow's functions by those of this module, which ask ``current``:

- ``active_run()`` is the trial's run from the start;
- ``log_metric`` and the like, and autologging, go to the innermost run that the thread has started, else to
  the trial's run;
- ``start_run()`` is the trial's run, any number of times; ``run_name``, ``tags`` and ``description`` are set
  on it;
- ``start_run(nested=True)``, alone or inside of ``start_run(run_id=<the study's run>)``: the first one is the
  trial's run, because many objectives consist of one such block; those after it (the folds of a
  cross-validation) are runs below it. Where the blocks have names, the first too gets a run below the trial's
  when a second one begins;
- ``start_run(nested=True)`` after something was logged, or inside of a run, is a run below it, as in MLflow;
- the trial's run and its study's run are not ended by the objective: the driver does that;
- a run of another experiment is not made: ``set_experiment`` and ``experiment_id=`` are noted;
- ``set_tracking_uri`` holds for the trial. Runs on another server are the objective's own affair.

A param that the objective logs under the name of a hyperparameter is left out where it is the same number
(``11`` and ``11.0``), and logged as ``<name>_1`` where it is another value; MLflow alone would raise.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from pathlib import Path
from typing import Any

from sparktune.private import of_mlflow
from sparktune.study.tracker import RunContext
from sparktune.tracking.schema import PARENT_TAG, with_suffix
from sparktune.tracking.worker.arrival import RunArrival

logger = logging.getLogger("sparktune")

SEARCH_EVERY_S = 0.5
_NOTE = "mlflow.note.content"
_METRICS_TOGETHER = 1000  # MLflow's limit for one batch


class CurrentTrial:
    """A trial while its objective runs.

    Args:
        context: where its run is.
        arrival: knows the run, or asks for it.

    Attributes:
        notes: what the objective asked for and did not get.
        tracking_uri: what ``set_tracking_uri`` chose in a thread of the driver; None: the study's.
        session: of MLflow's autologging.
        n_disabled: blocks of ``disable_autologging``.
        lists: see ``PerTrial``.
    """

    def __init__(self, context: RunContext, arrival: RunArrival) -> None:
        self.context, self.arrival = context, arrival
        self.notes: list[str] = []
        self.tracking_uri: str | None = None
        self.session: Any = None
        self.n_disabled = 0
        self.lists: dict[Any, list[Any]] = {}
        self._experiment_elsewhere: str | None = None
        self._run: Any = None
        self._is_known: dict[str, bool] = {}
        self._has_logged = False
        self._n_blocks = 0
        self._first_block: tuple[str, Any] | None = None
        self._started: list[tuple[MutableSequence[Any], Any]] = []
        self._lock = threading.RLock()

    # The runs ---------------------------------------------------------------------------------------------

    def own_run(self) -> Any | None:
        """The trial's run as MLflow's ``ActiveRun``; None where there is none."""
        run_id = self.arrival.get() or claim_run(self.context, self.arrival)
        if run_id is None or not self._is_here(run_id):
            return None
        with self._lock:
            if self._run is None:
                self._run = _fluent().MlflowClient().get_run(run_id)
            return _fluent().ActiveRun(self._run)

    def _is_here(self, run_id: str) -> bool:
        """Whether the server that the objective talks to has the trial's run.

        It has, unless the objective itself chose another server; the same one may be spelt differently.
        """
        uri = _get_tracking_uri()
        if uri == self.context.tracking_uri:
            return True
        if uri not in self._is_known:
            try:
                _fluent().MlflowClient().get_run(run_id)
                self._is_known[uri] = True
            except Exception as error:  # what it raises depends on the other store
                logger.debug("the objective's own tracking server has not the trial's run: %s", error)
                self._is_known[uri] = False
        return self._is_known[uri]

    def run_for_logging(self) -> Any:
        """What ``log_metric`` and the like log to; MLflow's answer where there is no run of the trial."""
        runs = of_mlflow.stack(_fluent())
        if runs:
            return runs[-1]
        own = self.own_run()
        if own is None:
            return originals[of_mlflow.GET_RUN]()
        self._monitor(own.info.run_id, None)
        self._has_logged = True
        return own

    def active_run(self) -> Any:
        """The innermost run of this thread, or the trial's."""
        runs = of_mlflow.stack(_fluent())
        return runs[-1] if runs else self.own_run()

    def start(self, given: dict[str, Any]) -> Any:
        """``start_run`` with these arguments; see the module."""
        runs = of_mlflow.stack(_fluent())
        own = self.own_run()
        if own is None:
            return self._start_other(runs, given)
        own_id, parent_id = own.info.run_id, own.data.tags.get(PARENT_TAG)
        ours = (None, own_id, parent_id)
        asked, above = given.get("run_id"), given.get("parent_run_id")
        innermost = runs[-1].info.run_id if runs else None
        if asked not in ours or above not in ours or innermost not in ours:
            return self._start_other(runs, given)
        if asked is not None and asked == parent_id:
            return self._join_parent(runs, parent_id, given)
        is_nested = asked is None and bool(given.get("nested") or above)
        if not is_nested:
            return self._activate(runs, own_id, given)
        if own_id in (innermost, above) or self._has_logged:
            return self._start_below(runs, own_id, given)
        with self._lock:
            self._n_blocks += 1
            is_first, first = self._n_blocks == 1, self._first_block
            self._first_block = None
            if is_first and given.get("run_name"):
                before = own.info.run_name
                active = self._activate(runs, own_id, given)
                self._first_block = before, self._run
                return active
        if is_first:
            return self._activate(runs, own_id, given)
        if first is not None and given.get("run_name"):
            self._move_first_block(own_id, *first)
        return self._start_below(runs, own_id, given)

    def _activate(self, runs: MutableSequence[Any], run_id: str, given: dict[str, Any]) -> Any:
        """Make the trial's run the active one of this thread."""
        experiment = given.get("experiment_id")
        if experiment is not None and self.context.experiment_id not in ("", str(experiment)):
            self._note_experiment(f"start_run(experiment_id={experiment!r})")
        if given.get("run_name"):
            _fluent().MlflowClient().update_run(run_id, name=given["run_name"])
        self._set_tags(run_id, given)
        self._monitor(run_id, given.get("log_system_metrics"))
        with self._lock:
            self._run = _fluent().MlflowClient().get_run(run_id)
            return self._push(runs, _fluent().ActiveRun(self._run))

    def _join_parent(self, runs: MutableSequence[Any], run_id: str, given: dict[str, Any]) -> Any:
        """Have the study's own run active, as objectives for open-source Spark do."""
        if runs and not given.get("nested"):
            return originals["start_run"](**given)  # raises, as ever
        self._set_tags(run_id, given)
        return self._push(runs, _fluent().ActiveRun(_fluent().MlflowClient().get_run(run_id)))

    def _start_other(self, runs: MutableSequence[Any], given: dict[str, Any]) -> Any:
        """A run that MLflow itself is to start or resume."""
        if given.get("run_id") is None and given.get("experiment_id") is None:
            given["experiment_id"] = self._experiment()
        run = originals["start_run"](**given)
        self._started.append((runs, run))
        return run

    def _start_below(self, runs: MutableSequence[Any], run_id: str, given: dict[str, Any]) -> Any:
        """A run below the trial's."""
        given.pop("parent_run_id", None)
        given["tags"] = {**(given.get("tags") or {}), PARENT_TAG: run_id}
        around = list(runs)
        runs.clear()  # MLflow would have the innermost be the parent
        try:
            run = self._start_other(runs, given)
        finally:
            runs[:] = around
        runs.append(run)
        return run

    def _move_first_block(self, run_id: str, name: str, before: Any) -> None:
        """Give the first of several blocks with names a run below the trial's, and that its name again."""
        client = _fluent().MlflowClient()
        try:
            now = client.get_run(run_id)
            made = client.create_run(
                now.info.experiment_id, tags={PARENT_TAG: run_id}, run_name=now.info.run_name
            )
            made_id = made.info.run_id
            keys = now.data.metrics.keys() - before.data.metrics.keys()
            points = [point for key in keys for point in client.get_metric_history(run_id, key)]
            for start in range(0, len(points), _METRICS_TOGETHER):
                client.log_batch(made_id, metrics=points[start : start + _METRICS_TOGETHER])
            client.set_terminated(made_id)
            client.update_run(run_id, name=name)
        except Exception as error:  # whatever a store raises: the block itself is with the trial's run
            logger.debug("the first nested block of run %s has no run below it: %s", run_id, error)

    def _push(self, runs: MutableSequence[Any], run: Any) -> Any:
        runs.append(run)
        self._started.append((runs, run))
        return run

    def _set_tags(self, run_id: str, given: dict[str, Any]) -> None:
        tags = dict(given.get("tags") or {})
        if given.get("description"):
            tags[_NOTE] = given["description"]
        if tags:
            named = [_fluent().RunTag(key, str(value)) for key, value in tags.items()]
            _fluent().MlflowClient().log_batch(run_id, tags=named)

    def _monitor(self, run_id: str, wanted: bool | None) -> None:
        try:
            of_mlflow.start_monitor(_fluent(), run_id, wanted=wanted)
        except Exception as error:  # of psutil, for example; MLflow too only logs it
            logger.warning("the system metrics of run %s are not logged: %s", run_id, error)

    def end(self, status: str) -> None:
        """``end_run``: of the trial's run, and of its study's, only for this thread."""
        runs = of_mlflow.stack(_fluent())
        if not runs:
            self._has_logged = False
            return
        # Not by MLflow's end_run: that of 2.13 keeps the run in a variable of the module, so that
        # of two threads that end their runs at the same time, one ends the other's.
        run = runs.pop()
        run_id = run.info.run_id
        of_mlflow.set_last_run_id(_fluent(), run_id)
        if not self._is_drivers(run):
            _fluent().MlflowClient().set_terminated(run_id, status)
        of_mlflow.stop_monitor(_fluent(), run_id)
        of_mlflow.flush(_fluent())

    def _is_drivers(self, run: Any) -> bool:
        own = self._run
        parent_id = None if own is None else own.data.tags.get(PARENT_TAG)
        return run.info.run_id in (self.arrival.run_id, parent_id)

    def end_leftovers(self, *, failed: bool) -> None:
        """End runs that the objective left open, and wait for what it logs in the background.

        Raises:
            Exception: MLflow's.
        """
        fluent: Any = sys.modules.get(of_mlflow.FLUENT)
        if fluent is None or not (self._started or self._has_logged or self._run is not None):
            return
        if self.arrival.run_id is not None:
            of_mlflow.stop_monitor(fluent, self.arrival.run_id)
        open_runs = [(runs, run) for runs, run in self._started if any(run is other for other in runs)]
        for runs, run in reversed(open_runs):
            runs.remove(run)
            of_mlflow.stop_monitor(fluent, run.info.run_id)
            if not self._is_drivers(run):
                fluent.MlflowClient().set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED")
        of_mlflow.flush(fluent)

    # Experiments and servers ------------------------------------------------------------------------------

    def set_experiment(self, given: dict[str, Any]) -> Any:
        """The experiment that was asked for; the trial's run stays in its study's."""
        name, number = given.get("experiment_name"), given.get("experiment_id")
        if (name is None) == (number is None):
            return originals["set_experiment"](**given)  # raises, as ever
        client = _fluent().MlflowClient()
        if number is None:
            experiment = client.get_experiment_by_name(name)
            number = client.create_experiment(name) if experiment is None else experiment.experiment_id
        experiment = client.get_experiment(number)
        chosen = str(experiment.experiment_id)
        run_id = self.arrival.run_id
        is_here = _get_tracking_uri() == self.context.tracking_uri or (
            run_id is not None and self._is_here(run_id)
        )
        if not is_here:
            self._experiment_elsewhere = chosen
        elif self.context.experiment_id not in ("", chosen):
            self._note_experiment(f"mlflow.set_experiment (experiment {chosen})")
        return experiment

    def _experiment(self) -> str | None:
        """Where a run is created that names no experiment."""
        run_id = self.arrival.run_id
        if run_id is None or self._is_here(run_id):
            return self.context.experiment_id or None
        if self._experiment_elsewhere is None and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            return "0"
        return self._experiment_elsewhere

    def _note_experiment(self, what: str) -> None:
        note = (
            f"{what} in the objective has no effect: a trial's run is in the experiment of its study, "
            f"{self.context.experiment_id}. Call mlflow.set_experiment before fmin"
        )
        if note not in self.notes:
            self.notes.append(note)

    def note_registry(self, uri: Any) -> None:
        """``set_registry_uri``, which holds for a whole process."""
        note = f"mlflow.set_registry_uri({uri!r}) in the objective has no effect: call it before fmin"
        if note not in self.notes:
            self.notes.append(note)

    def child_environment(self) -> dict[str, str]:
        """The environment variables with which a process that the objective starts finds the run."""
        context = self.context
        found = {"MLFLOW_TRACKING_URI": _get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": context.experiment_id}
        if context.registry_uri is not None:
            found["MLFLOW_REGISTRY_URI"] = context.registry_uri
        run_id = self.arrival.get()
        if run_id is not None and self._is_here(run_id):
            found["MLFLOW_RUN_ID"] = run_id
        return found


_of_context: contextvars.ContextVar[CurrentTrial | None] = contextvars.ContextVar(
    "sparktune_current_trial", default=None
)


class _Process:
    """The trial of this process, whatever the thread; a worker has one at a time."""

    trial: CurrentTrial | None = None


def current() -> CurrentTrial | None:
    """The trial that runs here, if any."""
    return _of_context.get() or _Process.trial


def of_context() -> CurrentTrial | None:
    """The trial of this thread of the driver, if any; None in a worker."""
    return _of_context.get()


@contextlib.contextmanager
def in_process(trial: CurrentTrial) -> Iterator[None]:
    """While the block runs, this process runs the trial."""
    before, _Process.trial = _Process.trial, trial
    try:
        yield
    finally:
        _Process.trial = before


@contextlib.contextmanager
def in_context(trial: CurrentTrial) -> Iterator[None]:
    """While the block runs, this thread, and those that it starts, run the trial."""
    token = _of_context.set(trial)
    try:
        yield
    finally:
        _of_context.reset(token)


_claiming = threading.Lock()


def claim_run(context: RunContext, arrival: RunArrival) -> str | None:
    """Find or create the run that the driver could not create.

    A driver that cannot be asked may well be creating it: it is looked for, ``arrival.search_s`` seconds.
    What MLflow raises passes through, as from any other call of the objective's; a separate run of the
    objective, which the driver would never find, is not an alternative.

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


class PerTrial(MutableSequence[Any]):
    """A list of which each trial has its own; outside of them it is the one that was there.

    Args:
        shared: that one.
        by_thread: each thread of a trial has its own too.
    """

    def __init__(self, shared: list[Any], *, by_thread: bool = False) -> None:
        self._shared, self._by_thread = shared, by_thread

    def own(self) -> list[Any]:
        """The list itself, of the calling trial (and thread)."""
        trial = current()
        if trial is None:
            return self._shared
        key = (id(self), threading.current_thread() if self._by_thread else None)
        return trial.lists.setdefault(key, [])

    def __getitem__(self, index: Any) -> Any:
        return self.own()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.own()[index] = value

    def __delitem__(self, index: Any) -> None:
        del self.own()[index]

    def __len__(self) -> int:
        return len(self.own())

    def insert(self, index: int, value: Any) -> None:
        """As of a list."""
        self.own().insert(index, value)


# In MLflow's place ----------------------------------------------------------------------------------------

originals: dict[str, Callable[..., Any]] = {}
"""Name -> MLflow's function, of those that are replaced (``interception``)."""


def _fluent() -> Any:
    return sys.modules[of_mlflow.FLUENT]


def _get_tracking_uri() -> str:
    return str(sys.modules[of_mlflow.TRACKING].get_tracking_uri())


def _bound(name: str, args: Iterable[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(originals[name]).bind(*args, **kwargs).arguments)


def start_run(*args: Any, **kwargs: Any) -> Any:
    """In place of ``mlflow.start_run``."""
    trial = current()
    if trial is None:
        return originals["start_run"](*args, **kwargs)
    return trial.start(_bound("start_run", args, kwargs))


def end_run(*args: Any, **kwargs: Any) -> Any:
    """In place of ``mlflow.end_run``."""
    trial = current()
    if trial is None:
        return originals["end_run"](*args, **kwargs)
    return trial.end(_bound("end_run", args, kwargs).get("status", "FINISHED"))


def active_run() -> Any:
    """In place of ``mlflow.active_run``."""
    trial = current()
    return originals["active_run"]() if trial is None else trial.active_run()


def get_or_start_run() -> Any:
    """In place of the function that gives ``mlflow.log_metric`` and the like their run."""
    trial = current()
    return originals[of_mlflow.GET_RUN]() if trial is None else trial.run_for_logging()


def set_experiment(*args: Any, **kwargs: Any) -> Any:
    """In place of ``mlflow.set_experiment``."""
    trial = current()
    if trial is None:
        return originals["set_experiment"](*args, **kwargs)
    return trial.set_experiment(_bound("set_experiment", args, kwargs))


def set_tracking_uri(uri: Any) -> None:
    """In place of ``mlflow.set_tracking_uri``: in a worker it is the process's, and put back afterwards."""
    trial = of_context()
    if trial is None:
        originals["set_tracking_uri"](uri)
    elif isinstance(uri, Path):
        trial.tracking_uri = uri.absolute().resolve().as_uri()
    else:
        trial.tracking_uri = uri


def get_tracking_uri() -> Any:
    """In place of ``mlflow.get_tracking_uri``."""
    trial = of_context()
    if trial is None:
        return originals["get_tracking_uri"]()
    return trial.tracking_uri or trial.context.tracking_uri


def set_registry_uri(uri: Any) -> None:
    """In place of ``mlflow.set_registry_uri``."""
    trial = of_context()
    if trial is None:
        originals["set_registry_uri"](uri)
    else:
        trial.note_registry(uri)


class _OfOthers:
    """What autologging keeps where no trial of a context runs."""

    session: Any = None
    n_disabled = 0


class Autologging:
    """The state of autologging, of the calling trial."""

    @property
    def session(self) -> Any:
        """``AutologgingSession``, while something is logged automatically."""
        return (of_context() or _OfOthers).session

    @session.setter
    def session(self, value: Any) -> None:
        (of_context() or _OfOthers).session = value

    def __bool__(self) -> bool:
        """Whether it is disabled."""
        return (of_context() or _OfOthers).n_disabled > 0


def disable_autologging() -> Iterator[None]:
    """In place of ``disable_autologging``, for the caller and not for the whole process."""
    owner: Any = of_context() or _OfOthers
    owner.n_disabled += 1
    try:
        yield
    finally:
        owner.n_disabled -= 1


# Params ---------------------------------------------------------------------------------------------------


def settled_params(client: Any, run_id: str, params: dict[str, str]) -> dict[str, str] | None:
    """What to do with params that could not be logged: key -> the key to log under; others are there already.

    Args:
        client: of MLflow's tracking service.
        run_id: where they were to go.
        params: key -> value, as text.

    Returns:
        None where nothing stands against them, so that the failure has another cause.
    """
    trial = current()
    if trial is None or run_id != trial.arrival.run_id or not params:
        return None
    logged = client.get_run(run_id).data.params
    if not params.keys() & logged.keys():
        return None
    taken = {*logged, *params}
    wanted: dict[str, str] = {}
    for key, value in params.items():
        if key not in logged:
            wanted[key] = key
        elif not _is_same(logged[key], value):
            wanted[key] = with_suffix(key, taken)
            taken.add(wanted[key])
    return wanted


def _is_same(one: str, other: str) -> bool:
    """Whether two params are the same text, or the same number."""
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False
