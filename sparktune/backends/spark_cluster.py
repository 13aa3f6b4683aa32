"""What classic applications and those behind Spark Connect have in common: masters, slots, lost jobs."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import replace
from enum import Enum
from typing import Any

from sparktune.backends.missing_modules import ways_to_bring
from sparktune.backends.spark_application import Application
from sparktune.backends.spark_attempts import Losses
from sparktune.errors import ObjectiveNotPicklable, StudyCancelled
from sparktune.private import of_pyspark
from sparktune.study.trial import TrialError, text_of

logger = logging.getLogger("sparktune")


def is_local(master: str) -> bool:
    """Whether executors are on the machine of Spark's driver (``local[N]`` and ``local-cluster``)."""
    return master.startswith("local")


def is_one_process(master: str) -> bool:
    """Whether Spark runs everything in one process (``local[N]``), where it allocates nothing."""
    return master == "local" or master.startswith("local[")


def default_attempts(master: str) -> int:
    """How often an objective may begin whose workers are lost: as often as Spark runs a task on a cluster.

    ``local`` and ``local[N]``, where Spark runs a task once, have one worker machine, and it has just failed.
    """
    retries = re.fullmatch(r"local\[[^,\]]+,\s*(\d+)\]", master)
    return 4 if not is_one_process(master) or (retries and int(retries[1]) > 1) else 2


def import_path(is_near: bool, is_same_python: bool = True) -> tuple[str, ...]:
    """Where this process finds modules, for workers that see the same files.

    A worker's own path has neither the folder of the driver's script nor what the driver added. One with
    another interpreter has its own packages.
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
        "set what a task takes, of what the executors have: "
        "ResourceProfileBuilder().require(TaskResourceRequests().cpus(2)).build; what the executors have "
        "is then set for the whole application: spark.executor.cores, spark.executor.memory, "
        "spark.executor.resource.gpu.amount"
    )


ENCRYPTION = (
    "spark.network.crypto.enabled",
    "spark.authenticate.enableSaslEncryption",
    "spark.ssl.enabled",
    "spark.ssl.rpc.enabled",
)
"""Settings with which Spark encrypts connections (https://spark.apache.org/docs/latest/security.html). The
third of them alone is for its web pages; who sets it does not expect the others in clear."""


def encrypts(conf: Any) -> bool:
    """Whether Spark encrypts its connections; ``conf`` has ``get(key, default)``."""
    return any(str(conf.get(key, "false")).strip().lower() == "true" for key in ENCRYPTION)


COPIES = "spark.speculation.task.duration.threshold"


def copies(conf: Any) -> bool:
    """Whether Spark copies slow tasks of jobs with one task to other machines; ``conf`` as in ``grown``.

    Without this setting it does not: it would compare a task with others of its job
    (https://spark.apache.org/docs/latest/configuration.html#scheduling).
    """
    if str(conf.get("spark.speculation", "false")).strip().lower() != "true":
        return False
    return conf.get(COPIES, None) is not None


class Waiting:
    """Says in the log that no executor can run a trial, and when that is over.

    Args:
        application: whose.
    """

    def __init__(self, application: Application) -> None:
        self._app = application
        self._waits = False
        self._had_some = False

    def look(self, slots: int | None) -> None:
        """Say what has changed; ``slots`` as of ``Application.slots_now``."""
        if slots is None:
            return
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
_DESTROYED = re.compile(r"Attempted to use (Broadcast\(\d+\)) after it was destroyed")


def refuse_destroyed(broadcasts: Iterable[Any]) -> None:
    """Refuse an objective that uses a destroyed broadcast variable.

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


def with_remedy(error: TrialError, application: Application) -> TrialError:
    """The error of an objective, and what to do about a module that only the driver has."""
    missing = _NO_MODULE.search(error.summary)
    if missing is None or application.is_near:
        return error
    module = missing[1].partition(".")[0]
    ways = list(ways_to_bring(module, application))
    remedy = f"Remedy, where the driver has {module!r} and a worker does not: {'; or '.join(ways)}"
    return replace(error, message=f"{error.message}. {remedy}", traceback=f"{error.traceback}\n{remedy}")


class Ending(Enum):
    """Why the Spark job of a trial ended without the trial's outcome."""

    WORKER_LOST = "its Python worker, executor or worker machine died"
    CANCELLED = "the job was cancelled from outside: in the Spark UI, or with SparkContext or SparkSession"
    NO_MODULE = "the Python workers lack a module that Spark or sparktune needs"
    DESTROYED = "a broadcast variable was destroyed"
    TOO_LARGE = "the result is larger than spark.driver.maxResultSize"
    OTHER = "anything else, such as Spark's refusal to run it"


_LOST = re.compile(
    r"Python worker exited unexpectedly"
    r"|Python worker failed to connect back"
    r"|Python daemon failed to launch worker"
    r"|ExecutorLostFailure"
    r"|FetchFailed"
    r"|Failed to get broadcast_\d+"
    r"|Could not find broadcast_\d+|Unable to get broadcast_\d+"
    r"|java\.io\.EOFException"
    r"|java\.net\.(?:Socket|Connect)Exception"
    r"|java\.nio\.channels\.(?:AsynchronousClose|ClosedChannel)Exception"
    r"|java\.io\.IOException: (?:Broken pipe|Connection reset|Failed to connect to|Connection from .* closed)"
)
"""The beginning of Spark's message for a task whose worker, or another machine that it needed, is gone."""
_CANCELLED = re.compile(r"Job \d+ cancelled|OPERATION_CANCELED|Operation was canceled")
_CANCELLED_WITH = re.compile(
    r"Job \d+ cancelled part of cancelled job (?:group|tags?) (?P<name>.*?)(?: SQLSTATE: \w+)?\s*$"
    r"|Job \d+ cancelled as part of cancellation of all jobs|OPERATION_CANCELED|Operation was canceled",
    re.M,
)
"""Spark's message for a job that was cancelled with others. Of one cancelled alone, in the Spark UI or with
its stage, it says ``Job 12 cancelled``, and the reason, if one was given."""
_NOT_SPARKS = re.compile(
    r"Traceback \(most recent call last\)|^\s+at |Driver stacktrace|JVM stacktrace|^Caused by:", re.M
)
"""Where Spark's message ends, and stack traces begin."""
_TIMES = re.compile(r"Task \d+ in stage [\d.]+ failed (\d+) times")


def ending_of(error: Exception | None) -> Ending:
    """Why a job ended without an outcome; ``error`` is what Spark raised, None where it raised nothing.

    A job that was cancelled from outside is not run again: that was the intention.
    """
    text = "" if error is None else str(error)
    if not text:
        return Ending.WORKER_LOST
    if _NO_MODULE.search(text):
        return Ending.NO_MODULE
    if _DESTROYED.search(text):
        return Ending.DESTROYED
    if "maxResultSize" in text:
        return Ending.TOO_LARGE
    message = _NOT_SPARKS.split(text, maxsplit=1)[0]
    if _CANCELLED.search(message):
        return Ending.CANCELLED
    return Ending.WORKER_LOST if _LOST.search(message) else Ending.OTHER


_CANCELLED_WITH_CALLER = (
    "the Spark jobs of the study were cancelled from outside ({reason}): by the cancel button of a notebook "
    "or of Livy, or by a call that cancels a job group, a job tag or all jobs. The trials under way are "
    "cancelled, those that finished are kept: call fmin again with the same trials object to go on, or with "
    "resume= and the study's parent run; where the job group stays cancelled, in another one"
)


def cancelled_with_caller(error: BaseException) -> StudyCancelled:
    """What ``fmin`` raises where ``is_cancelled`` holds."""
    found = _CANCELLED.search(text_of(error))
    line = "" if found is None else text_of(error)[found.start() :].splitlines()[0]
    reason = line.partition(" SQLSTATE")[0].strip()[:200]
    return StudyCancelled(_CANCELLED_WITH_CALLER.format(reason=reason or type(error).__name__))


def is_cancelled(error: BaseException | None, names: Collection[str] | None) -> bool:
    """Whether a job failed because others cancelled the jobs of a job group or tag, or all jobs.

    Args:
        error: what Spark raised, or what an objective raised because of it.
        names: the job groups and tags that are meant; None where they are not known.
    """
    while error is not None:
        found = _CANCELLED_WITH.search(_NOT_SPARKS.split(text_of(error), maxsplit=1)[0])
        if found is not None:
            return found["name"] is None or names is None or found["name"] in names
        error = error.__cause__ or error.__context__
    return False


def attempts_of(error: Exception | None) -> int:
    """How often Spark has run the task of a job that failed."""
    times = _TIMES.search(str(error))
    return int(times[1]) if times else 1


def lost(error: Exception | None, losses: Losses | None = None) -> TrialError:
    """Why a trial has no outcome.

    Args:
        error: what Spark raised.
        losses: of the trial's workers, where they are known.
    """
    losses = losses or Losses()
    text = "" if error is None else str(error)
    ending = ending_of(error)
    if ending is Ending.NO_MODULE and (missing := _NO_MODULE.search(text)):
        message = (
            f"the Python workers cannot import {missing[1]!r}: install it on every worker (Databricks: %pip "
            "install; elsewhere in the environment that PYSPARK_PYTHON names), or, if the driver has it, let "
            "PYSPARK_PYTHON name the driver's interpreter before the Spark session is created"
        )
        return TrialError("<class 'sparktune.errors.WorkerLost'>", message, text)
    if ending is Ending.DESTROYED and (destroyed := _DESTROYED.search(text)):
        return TrialError("<class 'ValueError'>", _of_destroyed(destroyed[1]), text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = ("Job aborted", "crashed", "cancelled")
    cause = next((line for line in lines if any(word in line for word in telling)), "".join(lines[:1]))
    message = f"{_said_of(ending, losses)} ({cause[:500]})" if cause else _said_of(ending, losses)
    return TrialError("<class 'sparktune.errors.WorkerLost'>", message, text or message)


def _said_of(ending: Ending, losses: Losses) -> str:
    match ending:
        case Ending.TOO_LARGE:
            return "the result is larger than spark.driver.maxResultSize: return less, or save it to storage"
        case Ending.CANCELLED:
            return (
                "the trial's Spark job was cancelled from outside, in the Spark UI or by a call to "
                "Spark, and is not run again. To end a study press Ctrl-C, or give fmin a timeout"
            )
        case Ending.OTHER:
            return "Spark could not run the trial, for the reason that it gives"
    where = f" ({losses.where})" if losses.where else ""
    if losses.in_objective is False:
        return (
            f"the worker died before the objective had begun; {losses.unbegun} were lost so, and the "
            f"objective has begun {losses.begun} of at most {losses.most} times. It is not to blame: look at "
            "the executor's log for what ends Python processes or executors there, such as a memory limit"
        )
    if losses.in_objective is None:
        state = "the worker died at a moment that is not known, perhaps in the objective"
    else:
        state = (
            f"the worker died while it ran the objective{where}, in attempt {losses.begun} of {losses.most}"
        )
    return (
        f"{state}: out of memory, a crash in native code, or a kill. Look at the executor's log; more memory "
        "per trial: spark.executor.memory, or fewer trials at a time; more attempts: "
        "SparkTrials(max_attempts=...)"
    )
