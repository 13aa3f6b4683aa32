"""Replaces MLflow's functions by those of ``current_trial``, in each of its modules.

In a worker they stay, and each module is changed when it is loaded (``PATCHES``). On the driver they are
there while a trial runs in one of its threads (``intercepted``); calls of other threads pass through then.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sparktune.private import of_mlflow
from sparktune.private.replacing import Replaced, ReplacedMethod
from sparktune.tracking.current_trial import (
    Autologging,
    PerTrial,
    current,
    of_context,
    originals,
    settled_params,
)
from sparktune.tracking.worker import on_import

# Their code runs in MLflow's modules: they import what they call. ----------------------------------------


def _start_run(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.start_run(*args, **kwargs)


def _end_run(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.end_run(*args, **kwargs)


def _active_run(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.active_run(*args, **kwargs)


def _get_or_start_run(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.get_or_start_run(*args, **kwargs)


def _set_experiment(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.set_experiment(*args, **kwargs)


def _set_tracking_uri(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.set_tracking_uri(*args, **kwargs)


def _get_tracking_uri(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.get_tracking_uri(*args, **kwargs)


def _set_registry_uri(*args: Any, **kwargs: Any) -> Any:
    from sparktune.tracking import current_trial

    return current_trial.set_registry_uri(*args, **kwargs)


def _disable_autologging(*args: Any, **kwargs: Any) -> Iterator[None]:
    from sparktune.tracking import current_trial

    yield from current_trial.disable_autologging(*args, **kwargs)


_OF_FLUENT = {
    "start_run": _start_run,
    "end_run": _end_run,
    "active_run": _active_run,
    of_mlflow.GET_RUN: _get_or_start_run,
    "set_experiment": _set_experiment,
}
_OF_TRACKING = {"set_tracking_uri": _set_tracking_uri, "get_tracking_uri": _get_tracking_uri}
_OF_REGISTRY = {"set_registry_uri": _set_registry_uri}


class _RunIdVariable:
    """Stands in for MLflow's MLFLOW_RUN_ID in its fluent module: during a trial ``current_trial`` answers.

    MLflow would resume the run of the variable in place of one below it, and remove the variable.
    """

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __str__(self) -> str:
        return str(self._original)

    def get(self) -> Any:
        """The run that ``start_run`` is to resume, or None to create one."""
        return self._original.get() if current() is None else None

    def unset(self) -> None:
        """``end_run`` forgets the variable; during a trial it stays, for subprocesses."""
        if current() is None:
            self._original.unset()


def _functions(module: Any, stand_ins: Mapping[str, Any], undo: contextlib.ExitStack) -> None:
    for name, stand_in in stand_ins.items():
        replaced = Replaced(getattr(module, name), stand_in)
        undo.callback(replaced.restore)
        originals[name] = replaced.original


def _attribute(owner: Any, name: str, value: Any, undo: contextlib.ExitStack) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _patch_fluent(fluent: Any, undo: contextlib.ExitStack) -> None:
    _functions(fluent, _OF_FLUENT, undo)
    _attribute(fluent, "MLFLOW_RUN_ID", _RunIdVariable(fluent.MLFLOW_RUN_ID), undo)
    runs = of_mlflow.one_stack(fluent)
    if runs is not None:
        of_mlflow.set_one_stack(fluent, PerTrial(runs, by_thread=True))
        undo.callback(of_mlflow.set_one_stack, fluent, runs)


def _patch_tracking(module: Any, undo: contextlib.ExitStack) -> None:
    _functions(module, _OF_TRACKING, undo)


def _patch_registry(module: Any, undo: contextlib.ExitStack) -> None:
    _functions(module, _OF_REGISTRY, undo)


def _patch_client(module: Any, undo: contextlib.ExitStack) -> None:
    """Let params of the objective that conflict with the trial's own be logged, see ``settled_params``."""
    for name, make in (("log_param", _tolerant_param), ("log_batch", _tolerant_batch)):
        undo.callback(ReplacedMethod(module.TrackingServiceClient, name, make).restore)


def _tolerant_param(log_param: Any) -> Any:
    @functools.wraps(log_param)
    def tolerant(self: Any, run_id: str, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return log_param(self, run_id, key, value, *args, **kwargs)
        except Exception:  # raised again, unless another name for the param helps
            wanted = settled_params(self, run_id, {key: str(value)})
            if wanted is None:
                raise
        return log_param(self, run_id, wanted[key], value, *args, **kwargs) if wanted else value

    return tolerant


def _tolerant_batch(log_batch: Any) -> Any:
    @functools.wraps(log_batch)
    def tolerant(
        self: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return log_batch(self, run_id, metrics, params, tags, *args, **kwargs)
        except Exception:  # as above
            wanted = settled_params(self, run_id, {param.key: str(param.value) for param in params})
            if wanted is None:
                raise
        params = [type(one)(wanted[one.key], one.value) for one in params if one.key in wanted]
        return log_batch(self, run_id, metrics, params, tags, *args, **kwargs)

    return tolerant


def _told_run(init: Any) -> Any:
    """``subprocess.Popen.__init__``, whose process finds the run of the trial that starts it."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def started(self: Any, *args: Any, **kwargs: Any) -> None:
        trial = of_context()
        if trial is not None and signature.bind(self, *args, **kwargs).arguments.get("env") is None:
            given = signature.bind(self, *args, **kwargs)
            given.arguments["env"] = {**os.environ, **trial.child_environment()}
            args, kwargs = given.args[1:], given.kwargs
        init(self, *args, **kwargs)

    return started


_lock = threading.RLock()
_undo: dict[str, contextlib.ExitStack] = {}
"""Module -> what undoes its changes, of those that are changed."""


def _once(name: str, change: Callable[[Any, contextlib.ExitStack], None]) -> on_import.Patch:
    def patch(module: Any) -> None:
        with _lock:
            if name not in _undo:
                with contextlib.ExitStack() as undo:
                    change(module, undo)
                    _undo[name] = undo.pop_all()

    return patch


PATCHES: dict[str, on_import.Patch] = {
    name: _once(name, change)
    for name, change in (
        (of_mlflow.FLUENT, _patch_fluent),
        (of_mlflow.TRACKING, _patch_tracking),
        (of_mlflow.REGISTRY, _patch_registry),
        (of_mlflow.STORE_CLIENT, _patch_client),
    )
}
"""Module -> what changes it; done once, it does nothing the next time."""


class _OnDriver:
    """How many trials run in threads of this process, and what undoes the changes that are for them."""

    wanted = 0
    undo = contextlib.ExitStack()


@contextlib.contextmanager
def intercepted() -> Iterator[None]:
    """While the block runs, MLflow's functions ask which trial of the driver's threads calls them."""
    with _lock:
        _OnDriver.wanted += 1
        if _OnDriver.wanted == 1:
            _begin(_OnDriver.undo)
    try:
        yield
    finally:
        with _lock:
            _OnDriver.wanted -= 1
            if _OnDriver.wanted == 0:
                _OnDriver.undo.close()


def _begin(undo: contextlib.ExitStack) -> None:
    for name, patch in PATCHES.items():
        if name not in _undo:  # else a worker's trial has changed it, for good
            on_import.safely(patch, importlib.import_module(name))
            undo.callback(_restore, name)
    on_import.safely(functools.partial(_patch_autologging, undo=undo), sys.modules[of_mlflow.FLUENT])
    undo.callback(ReplacedMethod(subprocess.Popen, "__init__", _told_run).restore)


def _restore(name: str) -> None:
    done = _undo.pop(name, None)
    if done is not None:
        done.close()


def _patch_autologging(_fluent: Any, undo: contextlib.ExitStack) -> None:
    replaced = Replaced(of_mlflow.autologging_switch(), _disable_autologging)  # type: ignore[arg-type]
    undo.callback(replaced.restore)
    whose = Autologging()
    undo.callback(of_mlflow.AutologgingState(whose, whose, PerTrial).restore)
