"""Undocumented parts of MLflow that sparktune uses, in its versions from 2.13 on.

MLflow's modules are arguments, or are looked up by name: importing this module does not import MLflow.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

from sparktune.private import presence

FLUENT = "mlflow.tracking.fluent"
STORE_CLIENT = "mlflow.tracking._tracking_service.client"
TRACKING = "mlflow.tracking._tracking_service.utils"
REGISTRY = "mlflow.tracking._model_registry.utils"
AUTOLOGGING = "mlflow.utils.autologging_utils"
AUTOLOGGING_SAFETY = "mlflow.utils.autologging_utils.safety"

GET_RUN = "_get_or_start_run"
"""The function of ``FLUENT`` that gives ``mlflow.log_metric`` and the like their run."""
READS_OF_RUN = ("get_experiment", "_get_run")
"""Methods of the SQL store that read the run's experiment, and the row of the run itself."""

NAMES = {
    "_active_run_stack",
    "_last_active_run_id",
    "run_id_to_system_metrics_monitor",
    "_AutologgingSessionManager",
    "_AUTOLOGGING_GLOBALLY_DISABLED",
    "_training_sessions",
    "_get_new_training_session_class",
    "_session_stack",
    "_tracking_service",
    "_model_registry",
    "_get_or_start_run",
    "_active_experiment_id",
    "_tracking_uri",
    "_registry_uri",
    "_get_store",
    "_call_endpoint",
    "_METHOD_TO_INFO",
    "_get_run",
    "_metric_objs",
    "_post_import_hooks",
}
"""Used only in this module."""


def stack(fluent: Any) -> MutableSequence[Any]:
    """The active runs of this thread, the outermost first; the list itself."""
    runs = fluent._active_run_stack
    if hasattr(runs, "get"):
        found: MutableSequence[Any] = runs.get()
        return found
    own: MutableSequence[Any] = runs.own() if hasattr(runs, "own") else runs  # before 2.14 one list for all
    return own


def stacks(fluent: Any) -> list[MutableSequence[Any]]:
    """The active runs of every thread."""
    runs = fluent._active_run_stack
    return list(runs.get_all_thread_values().values()) if hasattr(runs, "get") else [stack(fluent)]


def one_stack(fluent: Any) -> list[Any] | None:
    """The active runs of all threads, before MLflow 2.14; None where each thread has its own."""
    runs = fluent._active_run_stack
    return runs if isinstance(runs, list) else None


def has_one_stack(fluent: Any) -> bool:
    """Whether a run is active in all threads, unless ``one_stack`` has been replaced."""
    return not hasattr(fluent._active_run_stack, "get")


def set_one_stack(fluent: Any, runs: MutableSequence[Any]) -> None:
    """Replace ``one_stack`` by another list; it may have ``own()``, the list of the calling thread."""
    fluent._active_run_stack = runs


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


# Where MLflow records: what was set in this process, without the environment and the defaults ------------


def chosen_uri() -> str | None:
    """The tracking address of ``mlflow.set_tracking_uri``."""
    found: str | None = _module(TRACKING)._tracking_uri
    return found


def chosen_registry() -> str | None:
    """The address of ``mlflow.set_registry_uri``."""
    found: str | None = _module(REGISTRY)._registry_uri
    return found


def choose_registry(uri: str | None) -> None:
    """Set ``chosen_registry``, and nothing else with it."""
    _module(REGISTRY)._registry_uri = uri


def chosen_experiment() -> str | None:
    """The id of the experiment of ``mlflow.set_experiment``."""
    found: str | None = _module(FLUENT)._active_experiment_id
    return found


def choose_experiment(experiment_id: str | None) -> None:
    """Set ``chosen_experiment``; nobody is asked whether it exists."""
    _module(FLUENT)._active_experiment_id = experiment_id


# Monitors -------------------------------------------------------------------------------------------------


def start_monitor(fluent: Any, run_id: str, *, wanted: bool | None) -> None:
    """Log the system metrics of a run, as ``start_run(log_system_metrics=wanted)`` does.

    Raises:
        Exception: of MLflow or psutil.
    """
    variable = getattr(fluent, "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", None)
    if wanted is None:
        wanted = variable is not None and bool(variable.get())
    if not wanted or run_id in fluent.run_id_to_system_metrics_monitor:
        return
    monitor = _module("mlflow.system_metrics.system_metrics_monitor").SystemMetricsMonitor(
        run_id, resume_logging=True
    )
    fluent.run_id_to_system_metrics_monitor[run_id] = monitor
    monitor.start()


def stop_monitor(fluent: Any, run_id: str) -> None:
    """End the thread that logs the system metrics of a run, if there is one."""
    monitors = getattr(fluent, "run_id_to_system_metrics_monitor", {})
    monitor = monitors.pop(run_id, None)
    if monitor is not None:
        monitor.finish()


def flush(fluent: Any) -> None:
    """Wait until the store has what is logged asynchronously."""
    flush = getattr(fluent._get_store(), "flush_async_logging", None)
    if flush is not None:
        flush()


# Stores ---------------------------------------------------------------------------------------------------


def open_store(uri: str) -> Any:
    """The store at a tracking address, as ``MlflowClient`` opens it; the same one each time."""
    return _module("mlflow.tracking")._get_store(uri)


def latest_points(run: Any) -> list[Any]:
    """The latest point of each metric of a run, with step and time (``mlflow.entities.Metric``)."""
    points: list[Any] = run.data._metric_objs
    return points


def routes(store: Any, wanted: Sequence[str]) -> dict[str, tuple[str, str]] | None:
    """Path and HTTP method of each request to a server.

    Args:
        store: any of MLflow's.
        wanted: names of requests (``CreateRun``).

    Returns:
        None for a store that asks no server, or does so in another way than MLflow's own, as plug-ins do.
    """
    module = _module("mlflow.store.tracking.rest_store")
    if not isinstance(store, module.RestStore):
        return None
    if not type(store)._call_endpoint.__module__.startswith("mlflow."):
        return None
    # An attribute of the store from MLflow 3.4 on, of its module before.
    table = getattr(store, "_METHOD_TO_INFO", None) or getattr(module, "_METHOD_TO_INFO", {})
    found = {request.DESCRIPTOR.name: route for request, route in table.items()}
    if any(name not in found for name in wanted):
        presence.missing(
            "mlflow",
            "RestStore._METHOD_TO_INFO",
            "failing requests are repeated for minutes, so that an outage is noticed late",
        )
        return None
    return {name: found[name] for name in wanted}


def replace_call_endpoint(store: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """Have ``call(request, json_body)`` make the requests of one ``RestStore``; returns what made them."""
    before: Callable[..., Any] = store._call_endpoint
    store._call_endpoint = call
    return before


# Autologging ----------------------------------------------------------------------------------------------


class AutologgingState:
    """The process-wide state of autologging, to be replaced by the state of each trial.

    Args:
        session: ``AutologgingSession`` of the caller: an object with the attribute ``session``.
        disabled: true or false for the caller.
        sessions: makes the stack of training sessions that replaces one of the process.
    """

    def __init__(self, session: Any, disabled: Any, sessions: Any) -> None:
        self._sessions = sessions
        self._utils, self._safety = _module(AUTOLOGGING), _module(AUTOLOGGING_SAFETY)
        self._manager = self._safety._AutologgingSessionManager
        self._new_class = self._utils._get_new_training_session_class
        self._disabled = self._utils._AUTOLOGGING_GLOBALLY_DISABLED
        self._stacks: list[tuple[Any, Any]] = []

        class OfCaller(type):
            @property
            def _session(cls) -> Any:
                return session.session

            @_session.setter
            def _session(cls, value: Any) -> None:
                session.session = value

        class Manager(self._manager, metaclass=OfCaller):  # type: ignore[misc, name-defined]
            """MLflow's, whose ``_session`` is that of the caller."""

        def new_class() -> Any:
            made = self._new_class()
            self._replace_stack(made)
            return made

        self._safety._AutologgingSessionManager = Manager
        self._utils._AUTOLOGGING_GLOBALLY_DISABLED = disabled
        self._utils._get_new_training_session_class = new_class
        for known in self._known():
            self._replace_stack(known)

    def _known(self) -> list[Any]:
        """The classes of training sessions; early versions keep no list of them."""
        if hasattr(self._utils, "_training_sessions"):
            return list(self._utils._training_sessions)
        modules = [sys.modules.get(name) for name in ("mlflow.sklearn", "mlflow.pyspark.ml")]
        names = ("_SklearnTrainingSession", "_SparkTrainingSession")
        pairs = zip(modules, names, strict=True)
        return [getattr(module, name) for module, name in pairs if hasattr(module, name)]

    def _replace_stack(self, cls: Any) -> None:
        self._stacks.append((cls, cls._session_stack))
        cls._session_stack = self._sessions(cls._session_stack)

    def restore(self) -> None:
        """Put everything back."""
        self._safety._AutologgingSessionManager = self._manager
        self._utils._AUTOLOGGING_GLOBALLY_DISABLED = self._disabled
        self._utils._get_new_training_session_class = self._new_class
        for cls, stack in self._stacks:
            cls._session_stack = stack


def import_hooks() -> dict[str, list[Any]] | None:
    """Library -> what ``mlflow.autolog()`` does when it is imported; None where MLflow is not loaded."""
    hooks: Any = sys.modules.get("mlflow.utils.import_hooks")
    found: dict[str, list[Any]] | None = None if hooks is None else hooks._post_import_hooks
    return found


def autologging_switch() -> Any:
    """``disable_autologging``."""
    return _module(AUTOLOGGING).disable_autologging


def _module(name: str) -> Any:
    """A module that MLflow has loaded; without static types, which MLflow has only in part."""
    return importlib.import_module(name)
