"""Undocumented parts of PySpark, and of Spark behind it, that sparktune uses.

PySpark is not imported here: its objects and classes are arguments.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparktune.private import presence
from sparktune.private.presence import read

logger = logging.getLogger("sparktune")

_CORES = (
    "Spark's default parallelism is taken for the number of slots; where a trial takes more than one core, "
    "give SparkTrials(parallelism=...)"
)
_OWN_SETTINGS = (
    "a Spark session that sparktune creates has Spark's default settings, with which trials start more slowly"
)
_POOLED = "fresh_worker=True has no effect, and two versions of sparktune share Python workers"
_RESTART = "where Spark's Java process is killed, this process must be started again"

NAMES = {
    "_jsc": ("SparkContext._jsc", f"{_CORES}. A session that was stopped may be noticed late"),
    "maxNumConcurrentTasks": ("SparkContext.maxNumConcurrentTasks of Scala", _CORES),
    "_pickled_broadcast_vars": (
        "SparkContext._pickled_broadcast_vars",
        "broadcast variables do not reach the workers; let the objective hold the data itself, which is sent "
        "once as well",
    ),
    "_jbroadcast": (
        "Broadcast._jbroadcast",
        "an objective that uses a broadcast variable which was destroyed is not refused; its trials fail",
    ),
    "_jrdd": ("RDD._jrdd", "the results of Spark jobs are fetched more slowly"),
    "ctx": ("RDD.ctx", _POOLED),
    "environment": ("SparkContext.environment", _POOLED),
    "pythonExec": (
        "SparkContext.pythonExec",
        "workers run the python3 of the PATH; let PYSPARK_PYTHON name another interpreter",
    ),
    "_active_spark_context": ("SparkContext._active_spark_context", _OWN_SETTINGS),
    "_ensure_initialized": ("SparkContext._ensure_initialized", _OWN_SETTINGS),
    "_gateway": ("SparkContext._gateway", _RESTART),
    "_jvm": ("SparkContext._jvm", _RESTART),
    "_instantiatedSession": ("SparkSession._instantiatedSession", _RESTART),
    "_default_session": (
        "SparkSession._default_session of Spark Connect",
        "a session that another thread made may not be found; give SparkTrials(spark_session=...)",
    ),
    "client": (
        "SparkSession.client of Spark Connect",
        "workers are taken to be on other machines than the driver",
    ),
    "_builder": (
        "SparkConnectClient._builder of Spark Connect",
        "sparktune doctor notices late that a session's server has gone, and a session with use_ssl=true "
        "does not encrypt what workers and driver send to each other",
    ),
    "_path": ("Broadcast._path", "each worker has its own copy of the objective's data in memory"),
}
"""Name -> its full name, and what is different without it."""


def _missing(name: str | None) -> None:
    if name in NAMES:
        presence.missing("pyspark", *NAMES[name])


_STOPPED = re.compile(
    r"SparkContext was shut ?down|(?:on|the) (?:a )?stopped SparkContext|Target Object ID does not exist"
)
"""Messages of exceptions of Spark or py4j after a SparkContext has ended."""


def _is_unanswered(error: BaseException) -> bool:
    """Whether a call to Java failed because nothing answers.

    A gateway that admits few methods answers: its refusal is a ``Py4JError`` as well.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or "Py4JNetworkError" in names


def has_stopped(sc: Any, error: BaseException | None = None) -> bool:
    """Whether it is known that the application of a ``SparkContext`` has ended.

    Args:
        sc: the ``SparkContext``.
        error: what a call or a job raised; read where the context cannot be asked.
    """
    try:
        java = read(sc, "_jsc")
        return java is None or bool(java.sc().isStopped())
    except Exception as refusal:  # AttributeError, or py4j's
        if _is_unanswered(refusal):
            return True
        name = refusal.name if isinstance(refusal, AttributeError) else None
    try:
        int(sc.defaultParallelism)
    except AttributeError:  # of a context without its Java object
        return True
    except Exception as refusal:
        return _is_unanswered(refusal) or any(_STOPPED.search(str(each)) for each in (refusal, error))
    _missing(name)
    return error is not None and _STOPPED.search(str(error)) is not None


def count_tasks(sc: Any, profile: Any = None) -> int:
    """How many tasks Spark can run at the same time now.

    Args:
        sc: the ``SparkContext``.
        profile: the ``ResourceProfile`` of the tasks, or None.
    """
    try:
        scala = read(sc, "_jsc").sc()
        manager = scala.resourceProfileManager()
        java_profile = manager.defaultResourceProfile()
        if profile is not None:
            java_profile = manager.resourceProfileFromId(profile.id)
        return int(read(scala, "maxNumConcurrentTasks")(java_profile))
    except Exception as error:  # also of a gateway that admits documented methods only
        found = int(sc.defaultParallelism)  # fails as well where Spark has stopped
        is_jsc = isinstance(error, AttributeError) and error.name == "_jsc"
        _missing("_jsc" if is_jsc else "maxNumConcurrentTasks")
        return found


def settings(sc: Any) -> dict[str, str]:
    """All settings of a ``SparkContext``, in one call to Java; secrets are redacted."""
    try:
        text = str(read(sc, "_jsc").sc().conf().toDebugString())
    except Exception as error:  # also of a gateway that admits documented methods only
        _missing("_jsc" if isinstance(error, AttributeError) else None)
        return dict(sc.getConf().getAll())
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def count_executors(sc: Any) -> int:
    """How many executors there are, the driver not counted; 0 where that is not known."""
    try:
        return max(0, len(read(sc, "_jsc").sc().statusTracker().getExecutorInfos()) - 1)
    except Exception as error:  # also of a gateway that admits documented methods only
        _missing("_jsc" if isinstance(error, AttributeError) else None)
        return 0


def connect_host(spark: Any) -> str | None:
    """The host of the server of a Spark Connect session; None where that is not known."""
    try:
        return str(read(read(spark, "client"), "host"))
    except AttributeError:
        _missing("client")
        return None


def default_connect_session(session: Any) -> Any:
    """The Spark Connect session of this process, whichever thread made it; None where there is none.

    Args:
        session: Spark Connect's ``SparkSession``. Classes that vendors derive from it keep their own session.
    """
    kinds = [session]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        try:
            found = read(kind, "_default_session")
        except AttributeError as error:
            _missing(error.name)
            return None
        if found is not None and not found.is_stopped:
            return found
    return None


def connect_endpoint(spark: Any) -> str | None:
    """``host:port`` of the server of a Spark Connect session; None where that is not known."""
    try:
        builder = read(read(spark, "client"), "_builder")
    except AttributeError as error:
        _missing(error.name)
        return None
    endpoint = getattr(builder, "endpoint", None)  # a user's builder may lack it
    return None if endpoint is None else str(endpoint)


def connect_is_secure(spark: Any) -> bool:
    """Whether the connection of a Spark Connect session is TLS, by its address; False where not known."""
    try:
        builder = read(read(spark, "client"), "_builder")
    except AttributeError as error:
        _missing(error.name)
        return False
    return bool(getattr(builder, "secure", False))  # a user's builder may lack it


@contextlib.contextmanager
def broadcasts_pickled(sc: Any) -> Iterator[list[Any]]:
    """Gives a list that has, after the block, the ``Broadcast`` objects that were pickled in it."""
    found: list[Any] = []
    try:
        registry = read(sc, "_pickled_broadcast_vars")
    except AttributeError as error:
        _missing(error.name)
        yield found
        return
    registry.clear()
    try:
        yield found
        found += registry
    finally:
        registry.clear()


def destroyed(broadcast: Any) -> str | None:
    """Spark's name of a ``Broadcast`` that was destroyed; None for one that can be used."""
    try:
        java = read(broadcast, "_jbroadcast")
        return None if bool(java.isValid()) else f"Broadcast({java.id()})"
    except Exception:  # also of a gateway that admits documented methods only
        _missing("_jbroadcast")
        return None


def broadcast_file(broadcast: Any) -> str | None:
    """In a worker, the file in which Spark delivered a ``Broadcast``; None where there is none to be read."""
    try:
        path: str | None = read(broadcast, "_path")
    except AttributeError as error:
        if type(broadcast).__module__.partition(".")[0] == "pyspark":
            _missing(error.name)
        return None
    return None if hasattr(broadcast, "_value") else path


def collected(rdd: Any) -> list[Any]:
    """``rdd.collect()`` over the gateway: no socket is opened for what is nearly always empty."""
    try:
        java = read(rdd, "_jrdd")
    except AttributeError as error:
        rows: list[Any] = rdd.collect()
        _missing(error.name)
        return rows
    chunks = java.collect()
    if chunks.isEmpty():
        return []
    return [row for chunk in chunks for row in pickle.loads(chunk)]


def set_environment(rdd: Any, env: Mapping[str, str]) -> None:
    """Give the Python workers of an RDD's jobs further environment variables."""
    try:
        sc = read(rdd, "ctx")
        rdd.ctx = _WithEnvironment(sc, {**read(sc, "environment"), **env})
    except AttributeError as error:
        _missing(error.name)


class _WithEnvironment:
    """A Spark context for an RDD whose workers have their own environment."""

    def __init__(self, sc: Any, environment: Mapping[str, str]) -> None:
        self._sc = sc
        self.environment = environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sc, name)


def interpreter(sc: Any) -> str | None:
    """The interpreter of this context's Python workers; None where that is not known."""
    try:
        return str(read(sc, "pythonExec"))
    except AttributeError as error:
        _missing(error.name)
        return None


def set_interpreter(sc: Any, path: str) -> None:
    """Have the Python workers of this context run the interpreter at ``path``."""
    try:
        read(sc, "pythonExec")
    except AttributeError as error:
        _missing(error.name)
    else:
        sc.pythonExec = path


def may_have_context(context: Any) -> bool:
    """Whether this process has a Spark context, whichever thread made it; True where that is not known.

    Args:
        context: ``SparkContext``.
    """
    try:
        return read(context, "_active_spark_context") is not None
    except AttributeError as error:
        _missing(error.name)
        return True


def start_java(context: Any) -> bool:
    """Start Java if it does not run: only then a ``SparkConf`` knows ``spark-defaults.conf``.

    Args:
        context: ``SparkContext``.

    Returns:
        Whether it could be done.
    """
    try:
        start = read(context, "_ensure_initialized")
    except AttributeError as error:
        _missing(error.name)
        return False
    start()
    return True


def forget_java_that_died(context: Any, session: Any) -> None:
    """Let PySpark start Java again where its Java process was killed; it would keep calling the dead one.

    Args:
        context: ``SparkContext``.
        session: ``SparkSession``.
    """
    try:
        gateway = read(context, "_gateway")
        for owner, name in ((context, "_jvm"), (context, "_active_spark_context")):
            read(owner, name)
        read(session, "_instantiatedSession")
    except AttributeError as error:
        _missing(error.name)
        return
    if gateway is None:
        return
    try:
        gateway.jvm.java.lang.System.nanoTime()
    except Exception as error:
        if not _is_unanswered(error):  # a gateway that admits few methods
            return
        logger.warning("Spark's Java process is gone; a new one is started")
        context._gateway = context._jvm = context._active_spark_context = None
        session._instantiatedSession = None
