"""``doctor``: whether a study would run here, and what to do where it would not."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from urllib.parse import urlsplit

from sparktune.backends import session, spark_probe
from sparktune.backends.spark_application import UNBOUNDED_SLOTS, Application
from sparktune.errors import ObjectiveNotPicklable, SparkNotAvailable
from sparktune.tracking import places
from sparktune.worker import pickling

PACKAGES = ("sparktune", "hyperopt", "cloudpickle", "numpy", "mlflow")
"""What is compared between the driver and its workers."""
NEEDED = ("sparktune", "hyperopt", "cloudpickle", "numpy")
"""What workers cannot do without; MLflow only where the objective uses it."""
LARGE_BYTES = 10**9

State = Literal["ok", "note", "FAILS"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ``ok``; ``note``: works, but worth knowing; ``FAILS``: a study would fail.
        what: the thing.
        text: what was found.
        remedy: what to do, where there is something to be done.
    """

    state: State
    what: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<5}  {self.what}: {self.text}"
        return f"{line}\n       Remedy: {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Diagnosis:
    """What ``doctor`` found; ``print`` shows it line by line."""

    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether a study would run."""
        return all(finding.state != "FAILS" for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))

    __repr__ = __str__


def doctor(objective: Callable[..., Any] | None = None, *, spark_session: Any = None) -> Diagnosis:
    """Look at everything that a study needs, on the driver and on Spark's workers.

    Java, Spark, Python and the packages' versions on both sides; the slots; whether workers reach the
    driver's port and the MLflow server; whether the objective can be sent to them, and how large it is.

    Args:
        objective: the function that is to be tuned, or None.
        spark_session: the session, classic or Connect; None for the active one, or a new one on this machine.

    Returns:
        The findings; ``is_healthy`` is False where a study would fail.
    """
    return Diagnosis(tuple(_findings(objective, spark_session)))


def _findings(objective: Callable[..., Any] | None, spark: Any) -> Iterator[Finding]:
    yield _python()
    if objective is not None:
        yield _objective(objective)
    java = _java()
    yield java
    if java.state == "FAILS" and spark is None and "SPARK_REMOTE" not in os.environ:
        return
    try:
        spark = spark or session.get_or_create()
    except SparkNotAvailable as error:
        yield Finding("FAILS", "Spark", str(error), "see the message")
        return
    application = session.application(spark)
    slots = application.slots_now()
    connect = " by Spark Connect" if session.is_connect(spark) else ""
    yield Finding("ok", "Spark", f"{spark.version} on {application.master}{connect}")
    if slots < 1:
        yield Finding(
            "note",
            "slots",
            "none yet",
            "a study waits for executors: check the cluster's free cores and memory",
        )
        return
    if slots >= UNBOUNDED_SLOTS:
        yield Finding(
            "note",
            "slots",
            "their number is not known here",
            "say how many trials are to run at once: SparkTrials(parallelism=8)",
        )
    else:
        yield Finding("ok", "slots", f"{slots}: so many trials run at once")
    yield from _workers(application, slots)


def _python() -> Finding:
    versions = {name: _version(name) for name in (*PACKAGES, "pyspark")}
    missing = [name for name, found in versions.items() if found is None]
    shown = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    text = f"Python {platform.python_version()}, {shown}"
    if missing:
        return Finding(
            "FAILS", "driver", f"{text}; missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"
        )
    return Finding("ok", "driver", text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _java() -> Finding:
    found = spark_probe.java_version()
    spark = _version("pyspark") or ""
    needed = 8 if spark.startswith("3.") else 17
    remedy = (
        f"install Java {max(needed, 17)} (Debian and Ubuntu: apt-get install openjdk-17-jre-headless; macOS: "
        "brew install openjdk@17), and set JAVA_HOME or the PATH"
    )
    if found is None:
        return Finding("FAILS", "Java", "not found", remedy)
    number, where = found
    major = number.removeprefix("1.").partition(".")[0]
    if major.isdecimal() and int(major) < needed:
        return Finding("FAILS", "Java", f"{number} at {where}; Spark {spark} needs {needed} or newer", remedy)
    return Finding("ok", "Java", f"{number} at {where}")


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


def _workers(application: Application, slots: int) -> Iterator[Finding]:
    from sparktune.tracking.mlflow import tracking_uri

    uri = tracking_uri()
    warning = places.warn_if_store_is_local(uri, application.master)
    if warning is not None:
        yield Finding("note", "MLflow", f"records into {uri}, which workers elsewhere cannot see", warning)
    server = _server(uri)
    listener = spark_probe.Listener(application)
    own = (listener.host, listener.port)
    try:
        workers = spark_probe.ask_workers(application, PACKAGES, [own, *([server] if server else [])], slots)
    except Exception as error:  # Spark's own, of many kinds
        yield _cannot_run(str(error))
        return
    finally:
        listener.close()
    yield from _fit(workers)
    lost = _unreached(workers, own)
    if lost is None:
        yield Finding("ok", "driver's port", "workers reach it")
    else:
        yield Finding(
            "note",
            "driver's port",
            f"workers do not reach {own[0]} ({lost}): reports reach the study when a trial ends, and a "
            "stop takes seconds",
            "set spark.driver.host to an address of this machine that they reach, and open its ports",
        )
    if server is not None:
        lost = _unreached(workers, server)
        if lost is None:
            yield Finding("ok", "MLflow", f"workers reach {uri}")
        else:
            yield Finding(
                "FAILS",
                "MLflow",
                f"workers do not reach {uri} ({lost}): mlflow calls in the objective would fail their trial",
                "start the server (mlflow server --host 0.0.0.0 --port 5000) at an address that the workers "
                "reach, and call mlflow.set_tracking_uri with it",
            )


def _server(uri: str) -> tuple[str, int] | None:
    if not uri.startswith(("http://", "https://")):
        return None
    parts = urlsplit(uri)
    return (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def _unreached(workers: list[spark_probe.Worker], address: tuple[str, int]) -> str | None:
    key = f"{address[0]}:{address[1]}"
    return next((f"{w.host}: {reason}" for w in workers if (reason := w.reached[key]) is not None), None)


def _cannot_run(text: str) -> Finding:
    remedy = (
        "let PYSPARK_PYTHON (or spark.pyspark.python) name the same Python as the driver's, with sparktune, "
        "before the Spark session is created"
    )
    if "VERSION_MISMATCH" in text or "different version than that in driver" in text:
        lines = [
            line.strip()
            for line in text.splitlines()
            if "VERSION_MISMATCH" in line or "different version" in line
        ]
        return Finding("FAILS", "workers' Python", lines[0] if lines else "another version", remedy)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Finding(
        "FAILS", "workers", f"cannot run Python: {lines[0][:300] if lines else 'no reason given'}", remedy
    )


def _fit(workers: list[spark_probe.Worker]) -> Iterator[Finding]:
    mine = {name: _version(name) for name in PACKAGES}
    hosts = sorted({worker.host for worker in workers})
    yield Finding("ok", "workers", f"{len(workers)} asked on {', '.join(hosts)}; Python {workers[0].python}")
    for name in PACKAGES:
        theirs = {worker.packages[name] for worker in workers}
        if theirs == {mine[name]}:
            continue
        shown = ", ".join(sorted(found or "missing" for found in theirs))
        is_fatal = None in theirs and name in NEEDED
        yield Finding(
            "FAILS" if is_fatal else "note",
            f"workers' {name}",
            f"{shown}; the driver has {mine[name]}",
            f"install {name} {mine[name]} on every worker",
        )
