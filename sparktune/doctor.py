"""``doctor``: whether a study would run here, and what to do where it would not."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from urllib.parse import urlsplit

from sparktune.backends import control_port as ports, encryption, session, spark_probe
from sparktune.backends.spark_application import Application
from sparktune.backends.spark_slots import LEARNING_SHARE, Kind, Size
from sparktune.errors import ControlPortNotAvailable, ObjectiveNotPicklable, SparkNotAvailable
from sparktune.tracking import location, server
from sparktune.worker import pickling

NEEDED = ("hyperopt", "cloudpickle", "numpy", "mlflow")
"""The packages that the driver needs, beside pyspark."""
COMPARED = ("cloudpickle", "numpy", "mlflow")
"""Packages of the workers that are compared with the driver's. They need the first; the others where the
objective uses them. Anything else that a trial needs is sent with it."""
LARGE_BYTES = 10**9

State = Literal["ok", "note", "waits", "FAILS"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``ok``; ``note``: works, but worth knowing; ``waits``: a study would wait for it; ``FAILS``: a
            study would fail.
        what: the thing.
        text: what was found.
        remedy: what to do, if anything.
    """

    state: State
    what: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return self.line(len(self.what))

    def line(self, width: int) -> str:
        """The finding, with ``what`` in a column of this width, and its remedy below it."""
        line = f"{self.state:<5}  {self.what:<{width}}  {self.text}"
        return f"{line}\n{'':<{width + 9}}Remedy: {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Diagnosis:
    """The findings of ``doctor``; ``print`` shows them line by line, the verdict last."""

    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether a study would run."""
        return all(finding.state != "FAILS" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        faults = sum(finding.state == "FAILS" for finding in self.findings)
        if faults:
            return f"A study would fail: {faults} fault{'s' if faults > 1 else ''}, see FAILS above."
        if any(finding.state == "waits" for finding in self.findings):
            return "A study would wait here: see waits above."
        return "A study would run here."

    def __str__(self) -> str:
        width = max((len(finding.what) for finding in self.findings), default=0)
        return "\n".join([*(finding.line(width) for finding in self.findings), "", self.verdict])

    __repr__ = __str__


def doctor(
    objective: Callable[..., Any] | None = None,
    *,
    spark_session: Any = None,
    control_port: int | tuple[int, int] | range | None = None,
) -> Diagnosis:
    """Check everything that a study needs, on the driver and on Spark's workers.

    Java where it is needed, Spark, Python and packages on both sides; the slots; whether the MLflow server
    answers, and whether workers reach it and the driver's port; whether the objective can be sent to them and
    read there, and how large it is.

    Args:
        objective: the function that is to be tuned, or None.
        spark_session: the session, classic or Connect; None for the active one, for one of the Connect server
            that SPARK_REMOTE names, or for a new one on this machine.
        control_port: the port to be opened for the workers, as for ``SparkTrials``.

    Returns:
        The findings; ``is_healthy`` is False where a study would fail.

    Raises:
        TypeError, ValueError: ``control_port`` or the environment variable ``SPARKTUNE_CONTROL_PORT`` is not
            valid.
    """
    wanted = ports.named(control_port)
    ports.from_environment()
    return Diagnosis(tuple(_findings(objective, spark_session, wanted)))


def _findings(
    objective: Callable[..., Any] | None, spark: Any, wanted: ports.Ports | None
) -> Iterator[Finding]:
    from sparktune.tracking.location import tracking_uri

    wants_connect = session.wants_connect() if spark is None else session.is_connect(spark)
    driver = _driver(wants_connect)
    yield driver
    if driver.state == "FAILS":
        return
    if objective is not None:
        yield _objective(objective)
    uri = tracking_uri()
    yield (mlflow := _mlflow(uri))
    found = yield from (_on_connect(spark) if wants_connect else _on_classic(spark))
    if found is None:
        return
    application, is_connect = found
    try:
        application.admit()
    except ValueError as error:
        what, _, remedy = str(error).partition(": ")
        yield Finding("FAILS", "slots", what, remedy)
        return
    size = spark_probe.size_soon(application)
    yield _slots(application, size)
    if size.now == 0:
        return
    slots = spark_probe.LOOKED_AT if size.now is None else size.now
    asks_server = uri if mlflow.state != "FAILS" else None
    yield from _workers(application, slots, objective, asks_server, is_connect, wanted)


def _driver(wants_connect: bool) -> Finding:
    pyspark = spark_probe.pyspark_version()
    versions = {name: _version(name) for name in NEEDED}
    missing = [name for name, found in versions.items() if found is None]
    shown = [f"{name} {found}" for name, found in versions.items() if found]
    if pyspark is None:
        missing.append(f"'sparktune[{'connect' if wants_connect else 'spark'}]'")
    else:
        shown.append(" ".join(pyspark))
    text = ", ".join([f"Python {platform.python_version()}", *shown])
    if missing:
        lacks = ", ".join(name if "[" not in name else "pyspark" for name in missing)
        return Finding("FAILS", "driver", f"{text}; missing: {lacks}", f"pip install {' '.join(missing)}")
    return Finding("ok", "driver", text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# -- the session -------------------------------------------------------------------------------------------

Found = tuple[Application, bool]
"""The application, and whether it is behind Spark Connect."""


def _on_classic(spark: Any) -> Generator[Finding, None, Found | None]:
    java = _java()
    try:
        spark = spark or session.get_or_create()
    except SparkNotAvailable as error:
        yield java
        if java.state != "FAILS":
            yield _without_session(error)
        return None
    if java.state != "FAILS":  # else Spark has one that this process does not see
        yield java
    application = session.application(spark)
    yield Finding("ok", "Spark", f"{spark.version} on {application.master}")
    return application, False


def _on_connect(spark: Any) -> Generator[Finding, None, Found | None]:
    remote = os.environ.get("SPARK_REMOTE", "")
    spark = spark or session.active_connect()
    if spark is None and remote.startswith("local"):
        yield (java := _java())
        if java.state == "FAILS":
            return None
    address = spark_probe.server_of(remote) if spark is None else spark_probe.server_of_session(spark)
    shown = "the server" if address is None else f"sc://{address[0]}:{address[1]}"
    reason = address and spark_probe.unreached(address)
    if reason:
        yield _no_server(shown, reason)
        return None
    try:
        spark = spark or spark_probe.in_time(session.get_or_create)
        theirs = str(spark_probe.in_time(lambda: spark.version))
        application = spark_probe.in_time(lambda: session.application(spark))
    except SparkNotAvailable as error:
        yield _without_session(error)
        return None
    except Exception as error:  # PySpark's own
        yield _no_server(shown, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return None
    yield Finding("ok", "Spark", f"{theirs} on {application.master}, by Spark Connect from {shown}")
    yield from _client(theirs)
    return application, True


def _without_session(error: SparkNotAvailable) -> Finding:
    return Finding("FAILS", "Spark", str(error))


def _no_server(shown: str, reason: str) -> Finding:
    return Finding(
        "FAILS",
        "Spark",
        f"{shown} does not answer ({reason})",
        "start the Spark Connect server (sbin/start-connect-server.sh in Spark's folder), or name one that "
        "runs: --remote sc://host:15002, SPARK_REMOTE=sc://host:15002, or SparkSession.builder.remote; a "
        "session whose server has gone must be created again",
    )


def _client(theirs: str) -> Iterator[Finding]:
    found = spark_probe.pyspark_version()
    if found is None or found[0] == "databricks-connect":  # its versions are those of Databricks' runtimes
        return
    name, mine = found
    wanted = _minor(theirs)
    if _minor(mine) != wanted:
        yield Finding(
            "note",
            "Spark's client",
            f"{name} {mine}; the server has Spark {theirs}",
            f"where something fails, pip install '{name}=={wanted}.*'",
        )


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])


def _java() -> Finding:
    found = spark_probe.java_version()
    spark = (spark_probe.pyspark_version() or ("", ""))[1]
    needed = 8 if spark.startswith("3.") else 17
    remedy = (
        f"install Java {max(needed, 17)} (Debian and Ubuntu: apt-get install openjdk-17-jre-headless; macOS: "
        "brew install openjdk@17), and set JAVA_HOME or the PATH"
    )
    if found is None:
        home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
        if not home:
            return Finding(
                "FAILS", "Java", "not found: JAVA_HOME is not set, and no java is on the PATH", remedy
            )
        text = f"not found: JAVA_HOME is {home!r}, which has no bin/java"
        return Finding("FAILS", "Java", text, f"unset JAVA_HOME: {on_path} is there" if on_path else remedy)
    number, where = found
    major = number.removeprefix("1.").partition(".")[0]
    if major.isdecimal() and int(major) < needed:
        return Finding("FAILS", "Java", f"{number} at {where}; Spark {spark} needs {needed} or newer", remedy)
    return Finding("ok", "Java", f"{number} at {where}")


def _slots(application: Application, size: Size) -> Finding:
    tenth = f"one in {LEARNING_SHARE} of max_evals runs at the same time"
    if size.now is None:
        return Finding(
            "note",
            "slots",
            f"the cluster is {size.kind.value}: {tenth}",
            "set how many trials run at the same time: SparkTrials(parallelism=8)",
        )
    if size.now and size.kind is Kind.ELASTIC:
        most = "without a limit" if math.isinf(size.most) else f"at most {int(size.most)}"
        return Finding(
            "ok",
            "slots",
            f"{size.now} now; the cluster is elastic ({size.by}, {most}): {tenth}, at least {size.now}, or "
            "up to SparkTrials(parallelism=N)",
        )
    if size.now:
        return Finding("ok", "slots", f"{size.now}, so many trials run at the same time")
    n = application.count_executors()
    if n:
        return Finding(
            "FAILS",
            "slots",
            f"none: Spark has {n} executor{'s' if n > 1 else ''}, too small for what one trial takes",
            "let a trial take less (spark.task.cpus), or start executors with more (spark.executor.cores)",
        )
    if size.by:
        return Finding("waits", "slots", f"none yet: {size.by} starts executors when a study begins")
    return Finding(
        "waits",
        "slots",
        f"none yet: no executor has joined {application.master}",
        "look at the cluster's free cores and memory; a study begins when an executor joins",
    )


# -- the objective, and MLflow as the driver sees it -------------------------------------------------------


def _objective(objective: Callable[..., Any]) -> Finding:
    try:
        size = len(pickling.dumps(objective))
    except ObjectiveNotPicklable as error:
        message, _, remedy = str(error).partition(" Remedy: ")
        return Finding("FAILS", "objective", message, remedy)
    text = f"can be sent to workers, {size / 1e6:.3g} MB"
    if size > LARGE_BYTES:
        return Finding(
            "note", "objective", text, "keep the data in storage that the workers read, or in a broadcast"
        )
    return Finding("ok", "objective", text)


_START_SERVER = (
    "start the server (mlflow server --host 0.0.0.0 --port 5000) at an address that {who}, and call "
    "mlflow.set_tracking_uri with it"
)


def _mlflow(uri: str) -> Finding:
    shown = location.without_password(uri)
    absolute = location.absolute_uri(uri, os.getcwd())
    if not location.is_http(uri):
        text = f"records into {location.without_password(absolute)}"
        return _not_recorded(absolute) or Finding("ok", "MLflow", text)
    try:
        status, theirs = server.ask_version(uri)
    except OSError as error:
        return Finding(
            "FAILS",
            "MLflow",
            f"{shown} does not answer this machine ({error}): nothing of a study would be recorded",
            _START_SERVER.format(who="this machine and the workers reach"),
        )
    if status in (401, 403):
        return Finding(
            "FAILS",
            "MLflow",
            f"{shown} refuses the credentials that are set here, or there are none (HTTP {status})",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; sparktune "
            "gives them to the workers",
        )
    failure = _not_recorded(absolute)
    if failure is not None:
        return failure
    if theirs is None:
        return Finding(
            "note",
            "MLflow",
            f"{shown} does not report its version (HTTP {status})",
            "check that this is the address of an MLflow server",
        )
    mine = server.client_version()
    if theirs.partition(".")[0] != mine.partition(".")[0]:
        return Finding(
            "note",
            "MLflow",
            f"{shown} has version {theirs}; this client has {mine}",
            f"where something fails, pip install 'mlflow=={theirs.partition('.')[0]}.*'",
        )
    return Finding("ok", "MLflow", f"{shown} answers, version {theirs}")


def _not_recorded(uri: str) -> Finding | None:
    """What a study would fail with when it opens the store; None where it would be recorded."""
    try:
        server.probe(uri)
    except server.UnrecordableError as error:
        message, _, remedy = str(error).partition(" Remedy: ")
        return Finding("FAILS", "MLflow", message, remedy)
    except OSError as error:
        text = f"{location.without_password(uri)} does not answer ({error}): no study would be recorded"
        return Finding("FAILS", "MLflow", text, "see that the store runs, and that this machine reaches it")
    return None


def _server(uri: str | None) -> tuple[str, int] | None:
    if uri is None or not location.is_http(uri):
        return None
    parts = urlsplit(uri)
    return (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


# -- the workers -------------------------------------------------------------------------------------------


def _workers(
    application: Application,
    slots: int,
    objective: Callable[..., Any] | None,
    uri: str | None,
    is_connect: bool,
    wanted: ports.Ports | None,
) -> Iterator[Finding]:
    if uri is not None and (warning := location.warn_if_store_is_local(uri, application.master)) is not None:
        yield Finding("note", "MLflow", f"workers elsewhere cannot see {uri}", warning)
    address = _server(uri)
    try:
        sending = spark_probe.Sending(application, objective)
    except ObjectiveNotPicklable:  # that was reported
        objective = None
        sending = spark_probe.Sending(application, None)
    try:
        listener = spark_probe.Listener(application, wanted)
    except (ControlPortNotAvailable, ValueError) as error:
        sending.close()
        yield Finding("FAILS", "driver's port", str(error))
        return
    own = (listener.host, listener.port)
    try:
        addresses = [own, *([address] if address else [])]
        try:
            workers = spark_probe.ask_workers(application, COMPARED, addresses, slots)
        except Exception as error:  # Spark's own, of many kinds
            yield _cannot_run(str(error), application, is_connect)
            return
        unread = sending.why_unread(slots)
    finally:
        listener.close()
        sending.close()
    hosts = sorted({worker.host for worker in workers})
    asked = f"{len(workers)} asked on {', '.join(hosts)}; Python {workers[0].python}"
    yield Finding("ok", "workers", asked)
    yield from _fit(workers, unread, objective is not None)
    if application.is_encrypted() and not encryption.is_possible():
        text, _, remedy = encryption.MISSING.partition(" Remedy: ")
        yield Finding("note", "driver's port", text, remedy)
    else:
        yield _reach_driver(workers, own)
    yield from _reach_server(workers, uri, address)


def _reach_driver(workers: list[spark_probe.Worker], own: tuple[str, int]) -> Finding:
    lost = _unreached(workers, own)
    if lost is None:
        return Finding("ok", "driver's port", f"workers reach it, {own[1]} in this test")
    return Finding(
        "note",
        "driver's port",
        f"workers do not reach {own[0]}, port {own[1]} ({lost}): reports reach the study when a trial ends, "
        "and a stop takes seconds",
        "set spark.driver.host to an address of this machine that they reach, and open a port in the "
        f"firewall ({ports.SETTING} names it)",
    )


def _reach_server(
    workers: list[spark_probe.Worker], uri: str | None, address: tuple[str, int] | None
) -> Iterator[Finding]:
    if address is not None and uri is not None:
        lost = _unreached(workers, address)
        if lost is None:
            yield Finding("ok", "workers' MLflow", f"workers reach {location.without_password(uri)}")
        else:
            yield Finding(
                "FAILS",
                "workers' MLflow",
                f"workers do not reach {location.without_password(uri)} ({lost}): mlflow calls in the "
                "objective would fail their trial",
                _START_SERVER.format(who="the workers reach"),
            )


def _unreached(workers: list[spark_probe.Worker], address: tuple[str, int]) -> str | None:
    key = f"{address[0]}:{address[1]}"
    return next((f"{w.host}: {reason}" for w in workers if (reason := w.reached[key]) is not None), None)


_MISMATCH = re.compile(r"different version:? \(?([\d., ]+)\)? than that in driver:? \(?(\d[\d., ]*\d)")


def _cannot_run(text: str, application: Application, is_connect: bool) -> Finding:
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    mismatch = _MISMATCH.search(text)
    theirs = mismatch[1].replace(", ", ".") if mismatch else None
    if application.is_near and not is_connect:
        remedy = f"export PYSPARK_PYTHON={sys.executable} before the Spark session is created"
    elif is_connect:
        remedy = (
            f"start the server with PYSPARK_PYTHON naming a Python {mine} that its workers have"
            f"{f', or run this client with Python {theirs}' if theirs else ''}"
        )
    else:
        remedy = (
            f"let PYSPARK_PYTHON (or spark.pyspark.python) name a Python {mine} that every worker has, "
            f"before the session is created{f'; or run the driver with Python {theirs}' if theirs else ''}"
        )
    if theirs is not None:
        text = f"{theirs}; the driver has {mine}, and Spark wants the same minor version on both sides"
        return Finding("FAILS", "workers' Python", text, remedy)
    line = spark_probe.telling_line(text)
    lacks = re.search(r"No module named '([\w.]+)'", line)
    if lacks:
        name = lacks[1].partition(".")[0]
        return _install("FAILS", name, "missing; Spark itself needs it there", _version(name))
    return Finding("FAILS", "workers", f"cannot run Python: {line}", remedy)


def _install(state: State, name: str, text: str, wanted: str | None, when: str = "") -> Finding:
    exact = f"{name}=={wanted}" if wanted else name
    return Finding(state, f"workers' {name}", text, f"pip install {exact} on every worker{when}")


def _fit(workers: list[spark_probe.Worker], unread: str | None, has_objective: bool) -> Iterator[Finding]:
    """What workers lack, or have in another version; ``unread``: why a worker cannot read what was sent."""
    is_explained = False
    for name in COMPARED:
        mine = _version(name)
        theirs = {worker.packages[name] for worker in workers}
        if theirs == {mine}:
            continue
        shown = ", ".join(sorted(found or "missing" for found in theirs))
        text = f"{shown}; the driver has {mine}"
        if name == "cloudpickle" and unread is not None:
            is_explained = True
            reason = "" if None in theirs else f" ({unread})"
            yield _install("FAILS", name, f"{text}: no trial runs there{reason}", mine)
        elif name == "cloudpickle":
            yield _install("note", name, f"{text}: they read what the driver sends", mine)
        else:
            yield _install("note", name, text, mine, ", where the objective uses it")
    if unread is None or is_explained:
        return
    lacks_module = re.search(r"No module named '([\w.]+)'", unread)
    what = "the objective" if has_objective else "what the driver sends"
    module = lacks_module[1].partition(".")[0] if lacks_module else None
    yield Finding(
        "FAILS",
        "objective" if has_objective else "workers",
        f"workers cannot read {what} ({unread})",
        f"install {module} on every worker, or send it with the tasks: spark-submit --py-files, "
        "sparkContext.addPyFile, or cloudpickle.register_pickle_by_value"
        if module
        else "install the driver's versions of the packages that the objective uses on every worker",
    )
