"""What classic applications and those behind Spark Connect have in common: masters, slots, lost jobs."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sparktune.backends.spark_application import UNBOUNDED_SLOTS, Application
from sparktune.errors import ObjectiveNotPicklable
from sparktune.private import of_pyspark
from sparktune.study.trial import TrialError

logger = logging.getLogger("sparktune")

INT_MAX = 2**31 - 1
"""Spark's own default of ``spark.dynamicAllocation.maxExecutors``, which may be written out."""


def is_local(master: str) -> bool:
    """Whether executors are on the machine of Spark's driver (``local[N]`` and ``local-cluster``)."""
    return master.startswith("local")


def is_one_process(master: str) -> bool:
    """Whether Spark runs everything in one process (``local[N]``), where it allocates nothing."""
    return master == "local" or master.startswith("local[")


def import_path(is_near: bool, is_same_python: bool = True) -> tuple[str, ...]:
    """Where this process finds modules, for workers that see the same files.

    A worker's own path has neither the folder of the driver's script nor what the driver added. One with
    another interpreter has packages of its own.
    """
    if not is_near:
        return ()
    folders = dict.fromkeys(map(os.path.abspath, sys.path))
    if not is_same_python:
        own = tuple(os.path.join(prefix, "") for prefix in (sys.prefix, sys.base_prefix))
        folders = {folder: None for folder in folders if not folder.startswith(own)}
    return tuple(folders)


def refused(error: Exception) -> ValueError:
    """Why Spark does not take a resource profile, and which it does."""
    cause = getattr(error, "java_exception", None)
    reason = " ".join(str(error if cause is None else cause.getMessage()).split())
    return ValueError(
        f"Spark refuses the resource_profile ({reason}). Without dynamic allocation a profile can only "
        "say what a task takes, of what the executors have: "
        "ResourceProfileBuilder().require(TaskResourceRequests().cpus(2)).build; what the executors have "
        "is then set for the whole application: spark.executor.cores, spark.executor.memory, "
        "spark.executor.resource.gpu.amount"
    )


def grown(now: int, conf: Any, profile: Any = None) -> int:
    """What ``now`` slots may grow to.

    Args:
        now: slots that there are.
        conf: the application's ``SparkConf``, or whatever has its ``get(key, default)``.
        profile: the ``ResourceProfile`` of the trials' tasks, or None.
    """
    if conf.get("spark.dynamicAllocation.enabled", "false") != "true":
        return now
    most = conf.get("spark.dynamicAllocation.maxExecutors", None)
    if not most or int(most) == INT_MAX:
        return max(now, UNBOUNDED_SLOTS)
    cores = float(conf.get("spark.executor.cores", "1"))
    cpus = float(conf.get("spark.task.cpus", "1"))
    if profile is not None:
        asked, given = profile.taskResources, profile.executorResources
        cpus = asked["cpus"].amount if "cpus" in asked else cpus
        cores = given["cores"].amount if "cores" in given else cores
    return max(now, int(most) * max(1, int(cores // cpus)))


class Waiting:
    """Says in the log that no executor can run a trial, and when that is over.

    Args:
        application: whose.
    """

    def __init__(self, application: Application) -> None:
        self._app = application
        self._waits = False
        self._had_some = False

    def look(self, slots: int) -> None:
        """Say what has changed; ``slots`` as of ``Application.slots_now``."""
        if slots > 0:
            if self._waits:
                logger.warning("executors have joined: trials can run on %d slots", slots)
            self._waits, self._had_some = False, True
        elif not self._waits:
            self._waits = True
            n = self._app.count_executors()
            if n:
                logger.warning(
                    "no executor can take a trial: Spark has %d, and each is too small for what one task "
                    "takes. Waiting for larger ones; else let a task take less (spark.task.cpus, "
                    "resource_profile=), or start executors with more (spark.executor.cores)",
                    n,
                )
            else:
                logger.warning(
                    "no executor %s: waiting until one joins (Spark's master: %s)",
                    "left" if self._had_some else "yet",
                    self._app.master,
                )


_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def refuse_destroyed(broadcasts: Iterable[Any]) -> None:
    """Refuse an objective that uses a broadcast variable which is no more.

    Raises:
        ObjectiveNotPicklable: naming the variable.
    """
    for broadcast in broadcasts:
        destroyed = of_pyspark.destroyed(broadcast)
        if destroyed is not None:
            raise ObjectiveNotPicklable(_of_destroyed(destroyed))


def _of_destroyed(variable: str) -> str:
    return (
        f"the objective uses the broadcast variable {variable}, which was destroyed: broadcast the data "
        "again before fmin, and destroy the variable after it"
    )


_DESTROYED = re.compile(r"Attempted to use (Broadcast\(\d+\)) after it was destroyed")


def with_remedy(error: TrialError, application: Application) -> TrialError:
    """The error of an objective, and what to do about a module that only the driver has."""
    missing = _NO_MODULE.search(error.summary)
    if missing is None or application.is_near:
        return error
    module = missing[1].partition(".")[0]
    ways = [
        *application.missing_module_advice(module),
        f"cloudpickle.register_pickle_by_value({module}) before fmin",
        "install it on every worker",
    ]
    remedy = f"Remedy, where the driver has {module!r} and a worker does not: {'; or '.join(ways)}"
    return replace(error, message=f"{error.message}. {remedy}", traceback=f"{error.traceback}\n{remedy}")


def lost(error: Exception | None) -> TrialError:
    """Why a job gave no outcome: its worker died for good or could not begin, or Spark refused the job."""
    text = "" if error is None else str(error)
    missing = _NO_MODULE.search(text)
    if missing:
        message = (
            f"the Python workers cannot import {missing[1]!r}: install it on every worker (Databricks: %pip "
            "install; elsewhere in the environment that PYSPARK_PYTHON names), or, if the driver has it, let "
            "PYSPARK_PYTHON name the driver's interpreter before the Spark session is created"
        )
        return TrialError("<class 'sparktune.errors.WorkerLost'>", message, text)
    destroyed = _DESTROYED.search(text)
    if destroyed:
        return TrialError("<class 'ValueError'>", _of_destroyed(destroyed[1]), text)
    if "maxResultSize" in text:
        advice = "the result is larger than spark.driver.maxResultSize: return less, or save it to storage"
    else:
        advice = (
            "the worker died while it ran the objective: out of memory, a crash in native code, or a "
            "kill. Look at the executor's log; more memory per trial: spark.executor.memory, or fewer trials "
            "at a time"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = next((line for line in lines if "Job aborted" in line or "crashed" in line), "".join(lines[:1]))
    return TrialError("<class 'sparktune.errors.WorkerLost'>", f"{advice} ({cause[:500]})", text or advice)
