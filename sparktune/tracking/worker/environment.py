"""On the worker: the environment variables of a trial, for the objective and for its subprocesses.

All are set before the objective begins, but for MLFLOW_RUN_ID, whose run may not exist yet. That one is asked
for when somebody looks: while it is missing, reading it from ``os.environ``, copying ``os.environ``, forking,
and starting a subprocess all wait for it (``RunArrival.get``). An objective that does none of these does not
wait. Where the driver cannot name a run, the variable stays unset.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

from sparktune.study.tracker import RunContext
from sparktune.tracking.credentials import fitting
from sparktune.tracking.worker.arrival import RunArrival

RUN_ID = "MLFLOW_RUN_ID"
_STARTS = frozenset(
    ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.fork", "os.forkpty", "pty.spawn")
)
"""Python's audit events (PEP 578) of what hands this process's environment on."""
_PLAIN = type(os.environ)


class _Pending:
    """The run that may still be asked for, if there is one."""

    arrival: RunArrival | None = None
    listens = False


def _settle() -> None:
    """Have MLFLOW_RUN_ID set, if there is a run."""
    if _Pending.arrival is not None:
        _Pending.arrival.get()


class _AskingEnviron(_PLAIN):  # type: ignore[valid-type, misc]
    """``os.environ`` during a trial whose run was not known when it began."""

    def __getitem__(self, key: str) -> str:
        if key == RUN_ID:
            _settle()
        value: str = super().__getitem__(key)
        return value

    def __delitem__(self, key: str) -> None:
        if key == RUN_ID:
            _settle()
        super().__delitem__(key)

    def __iter__(self) -> Iterator[str]:
        _settle()
        return iter(super().__iter__())


def _listen_for_subprocesses() -> None:
    """Once per process, because Python's audit hooks cannot be removed."""
    if not _Pending.listens:
        _Pending.listens = True
        sys.addaudithook(_heard)


def _heard(event: str, _args: tuple[Any, ...]) -> None:
    if _Pending.arrival is not None and event in _STARTS:
        _settle()


def patch_spawn(module: Any) -> None:
    """``multiprocessing`` spawns without an audit event."""
    spawn = module.spawnv_passfds
    if getattr(spawn, "is_of_sparktune", False):
        return

    @functools.wraps(spawn)
    def settled(*args: Any, **kwargs: Any) -> Any:
        _settle()
        return spawn(*args, **kwargs)

    settled.is_of_sparktune = True  # type: ignore[attr-defined]
    module.spawnv_passfds = settled


class TrialEnvironment:
    """The environment variables that MLflow reads, and their state before the trial."""

    def __init__(self) -> None:
        self._environ = os.environ
        self._class = type(os.environ)
        self._pending = _Pending.arrival
        self._names: set[str] = set()
        self._before: dict[str, str] = {}

    def apply(self, context: RunContext, arrival: RunArrival) -> None:
        """Set the variables of the context, and provide the run's when it is read."""
        environ = self._environ
        env = fitting(context.env, environ)
        env["MLFLOW_TRACKING_URI"] = context.tracking_uri
        if context.registry_uri is not None:
            env["MLFLOW_REGISTRY_URI"] = context.registry_uri
        if context.experiment_id:
            env["MLFLOW_EXPERIMENT_ID"] = context.experiment_id
        self._names = set(env) | {RUN_ID, "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"}
        self._before = self._mine()
        environ.update(env)
        for name in ("MLFLOW_EXPERIMENT_NAME", RUN_ID):
            environ.pop(name, None)
        arrival.watch(functools.partial(environ.__setitem__, RUN_ID))
        if arrival.run_id is None and self._class is _PLAIN:
            _Pending.arrival = arrival
            environ.__class__ = _AskingEnviron
            _listen_for_subprocesses()

    def restore(self) -> None:
        """Put back what was there, whatever the objective did to it."""
        _Pending.arrival = self._pending
        self._environ.__class__ = self._class
        for name in set(self._mine()) - set(self._before):
            del self._environ[name]
        self._environ.update(self._before)

    def _mine(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self._environ.items()
            if name in self._names or name.startswith(("MLFLOW_", "DATABRICKS_"))
        }
