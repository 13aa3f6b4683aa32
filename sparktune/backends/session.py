"""The Spark session: the user's, or a new one with settings for many small jobs."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sparktune.errors import SparkNotAvailable
from sparktune.private import of_pyspark
from sparktune.study import console

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

    from sparktune.backends.spark_application import Application

logger = logging.getLogger("sparktune")

LOCAL_MASTER = "local[*,4]"
"""Every core of this machine; a trial whose Python worker is lost is tried again, as on a cluster."""

SETTINGS = {
    "spark.app.name": "sparktune",
    # A Unix-domain socket between JVM and Python worker: TCP stalls about 42 ms per task.
    "spark.python.unix.domain.socket.enabled": "true",
    # How long a cancelled task's Python worker may go on before it is killed.
    "spark.python.task.killTimeout": "10ms",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
"""Defaults of the sessions that sparktune creates; Spark's configuration has precedence."""

FILLED_IN = {
    "spark.master": "local[*]",
    "spark.app.name": "pyspark-shell",
    "spark.ui.showConsoleProgress": "true",
}
"""The defaults of PySpark's launcher."""


class _Fork:
    """Of this process: the one that it was forked from while Spark ran there, or None."""

    parent_pid: int | None = None


def _after_fork() -> None:
    pyspark = sys.modules.get("pyspark")
    context = getattr(pyspark, "SparkContext", None)
    if context is not None and of_pyspark.may_have_context(context):
        _Fork.parent_pid = os.getppid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_connect(spark: Any) -> bool:
    """Whether a session is one of Spark Connect."""
    return any(base.__module__.startswith("pyspark.sql.connect") for base in type(spark).__mro__)


def alive(spark: SparkSession | None, meanwhile: Callable[[], None] | None = None) -> SparkSession:
    """The session given, or, where there is none or it was stopped, the one of ``get_or_create``.

    Raises:
        SparkNotAvailable: see ``get_or_create``; or this process was forked from one in which Spark runs.
    """
    if _Fork.parent_pid is not None and not is_connect(spark):
        raise SparkNotAvailable(
            f"this process was forked from process {_Fork.parent_pid} after Spark was started there, and "
            "cannot use its connection to Spark. Call fmin there, or start processes that call fmin "
            "with multiprocessing.get_context('spawn')"
        )
    if spark is None:
        return get_or_create(meanwhile)
    stopped = (
        bool(getattr(spark, "is_stopped", False))
        if is_connect(spark)
        else of_pyspark.has_stopped(spark.sparkContext)
    )
    return get_or_create(meanwhile) if stopped else spark


def application(
    spark: SparkSession, profile: ResourceProfile | None = None, *, fresh_worker: bool = False
) -> Application:
    """The application of a session, classic or Connect, for one study.

    Args:
        spark: the session.
        profile: what each trial's task requests from Spark, or None.
        fresh_worker: each trial gets a new Python process.
    """
    if is_connect(spark):
        from sparktune.backends.spark_connect import ConnectApplication

        return ConnectApplication(spark, profile, fresh_worker=fresh_worker)
    from sparktune.backends.spark_classic import ClassicApplication

    return ClassicApplication(spark, profile, fresh_worker=fresh_worker)


def get_or_create(meanwhile: Callable[[], None] | None = None) -> SparkSession:
    """The active Spark session, the one that another thread created, or a new one with ``SETTINGS``.

    Without a master in Spark's configuration the new session runs on this machine, on every core.

    Args:
        meanwhile: where a session is created, called in another thread until it is there: starting one takes
            seconds in which Python is idle. What it raises is dropped.

    Raises:
        SparkNotAvailable: pyspark is not installed, or Java is missing.
    """
    try:
        from pyspark import TaskContext
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkNotAvailable(
            "SparkTrials cannot import pyspark classes: pyspark is not installed in this environment. "
            "Install it with: pip install 'sparktune[spark]'"
        ) from error
    if TaskContext.get() is not None:
        raise SparkNotAvailable(
            "this process is a Spark worker, and SparkTrials start on the driver. Where a script calls fmin "
            "at its top level, and workers import it for its objective, put the call under "
            "`if __name__ == '__main__':`. Inside an objective, tune with trials=Trials()"
        )
    if wants_connect():
        return _connected(SparkSession)
    from pyspark import SparkConf, SparkContext

    of_pyspark.forget_java_that_died(SparkContext, SparkSession)
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    if of_pyspark.may_have_context(SparkContext):
        # Sessions are active in the thread that created them; another's is used as it is.
        return SparkSession.builder.getOrCreate()
    _require_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    console.announce("starting Spark", logger)
    try:
        # Only with Java running does a SparkConf know spark-defaults.conf and the options of spark-submit.
        if not of_pyspark.start_java(SparkContext):
            return SparkSession.builder.getOrCreate()
        conf = SparkConf()
    except Exception as error:
        raise SparkNotAvailable(
            f"Spark's Java process did not start ({type(error).__name__}: {error}). "
            "Spark 4 needs Java 17 or newer: check `java -version` and JAVA_HOME"
        ) from error
    for key, value in {"spark.master": LOCAL_MASTER, **SETTINGS}.items():
        if conf.get(key, FILLED_IN.get(key)) == FILLED_IN.get(key):
            conf.set(key, value)
    # A thread begins only now: starting Java forks this process.
    with _beside(meanwhile):
        created = SparkSession.builder.config(conf=conf).getOrCreate()
    if str(conf.get("spark.master", "")).startswith("local"):
        _start_workers(created)
    return created


@contextlib.contextmanager
def _beside(work: Callable[[], None] | None) -> Iterator[None]:
    """While the block runs, and until it is done, work in another thread."""
    if work is None:
        yield
        return

    def quietly() -> None:
        with contextlib.suppress(Exception):  # it is done again where it is needed, with an error message
            work()

    thread = threading.Thread(target=quietly, name="sparktune-meanwhile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


WORKERS_AT_FIRST = 4
"""How many Python workers a new session on this machine starts immediately; others when needed."""


def _start_workers(spark: SparkSession) -> None:
    """Have Python workers of a new session started and sparktune imported there, while the driver continues.

    The first trials would wait for it, and for what Spark's own code takes the first time.
    """
    from sparktune.backends.spark_classic import ClassicApplication

    n = min(WORKERS_AT_FIRST, int(spark.sparkContext.defaultParallelism))

    def start() -> None:
        with contextlib.suppress(Exception):  # trials will meet the same problem, and report it
            ClassicApplication(spark).start_workers(n)

    threading.Thread(target=start, name="sparktune-workers", daemon=True).start()


def wants_connect() -> bool:
    """Whether ``get_or_create`` gives a session of Spark Connect.

    By its settings, because there is one and no classic one, or because there can be no other.
    """
    if "SPARK_REMOTE" in os.environ or "SPARK_CONNECT_MODE_ENABLED" in os.environ:
        return True
    try:
        import pyspark
    except ImportError:
        return False
    if not hasattr(pyspark, "SparkContext"):  # the package pyspark-client
        return True
    return active_connect() is not None and not of_pyspark.may_have_context(pyspark.SparkContext)


def active_connect() -> SparkSession | None:
    """The Spark Connect session of this thread, or of this process; None where there is none.

    However it was made: databricks-connect and dataproc-spark-connect have their own builders, which need
    not set environment variables.
    """
    module = sys.modules.get("pyspark.sql.connect.session")
    if module is None:
        return None
    found: SparkSession | None = module.SparkSession.getActiveSession()
    return found or of_pyspark.default_connect_session(module.SparkSession)


def _connected(classic: type[SparkSession]) -> SparkSession:
    """The Spark Connect session of this process, or one with the server that SPARK_REMOTE names."""
    active = active_connect() or classic.getActiveSession()
    if active is not None:
        return active
    remote = os.environ.get("SPARK_REMOTE", "")
    if remote.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        if remote:
            return classic.builder.getOrCreate()
        from pyspark.sql.connect import session

        # Sessions are active in the thread that created them; another's is used as it is.
        connected: SparkSession = session.SparkSession.builder.getOrCreate()  # type: ignore[assignment]
        return connected
    except Exception as error:  # raised by PySpark, or by the packages that it needs
        raise SparkNotAvailable(
            f"there is no Spark Connect session, and none could be created ({type(error).__name__}: "
            f"{str(error).strip()[:500]}). Create one (SparkSession.builder.remote('sc://host:15002')"
            ".getOrCreate()), or set SPARK_REMOTE to the address of a server; for Spark on this machine: "
            "pip install 'sparktune[spark]'"
        ) from error


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if os.environ.get("PYSPARK_GATEWAY_PORT") or shutil.which("java"):
        return
    if home and os.access(os.path.join(home, "bin", "java"), os.X_OK):
        return
    where = f"JAVA_HOME is {home!r}, which has no bin/java" if home else "JAVA_HOME is not set"
    raise SparkNotAvailable(
        f"Spark needs Java, and none was found ({where}, and `java` is not on the PATH). Install Java 17 or "
        "newer (Debian and Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17) "
        "and set JAVA_HOME or the PATH"
    )
