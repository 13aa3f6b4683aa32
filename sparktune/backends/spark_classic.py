"""Classic Spark: the driver's own process has the ``SparkContext``."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import pyspark
from pyspark import inheritable_thread_target

from sparktune.backends import spark_package, spark_slots
from sparktune.backends.spark_application import Sent
from sparktune.backends.spark_cluster import (
    copies,
    encrypts,
    is_cancelled,
    is_local,
    is_one_process,
    refuse_destroyed,
    refused,
)
from sparktune.backends.spark_package import Package
from sparktune.private import of_pyspark
from sparktune.worker.task import ANNOUNCEMENT, NOT_RUN, Assignment, ready, run_announced, waiting

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

POOL = "spark.scheduler.pool"
JOB_GROUP = "spark.jobGroup.id"
FRESH_WORKER = "SPARKTUNE_FRESH_WORKER"
"""Spark pools Python workers by their environment: with this variable a trial gets none used before."""
WAITS = "sparktune: waits for a slot; which trial it runs is chosen then"
"""Describes a job in the Spark UI that was sent before its trial was chosen."""

_archiving = threading.Lock()
_archives: dict[str, Any] = {}
"""Application -> the broadcast variable with sparktune, which exists as long as this process."""


class ClassicApplication:
    """An ``Application`` for a classic session.

    Args:
        spark: a classic session.
        profile: what each trial's task requests from Spark, or None.
        fresh_worker: each trial gets a new Python process.
    """

    slots_ttl_s = 1.0
    shows_tasks = False

    def __init__(
        self, spark: SparkSession, profile: ResourceProfile | None = None, *, fresh_worker: bool = False
    ) -> None:
        self._spark = spark
        self._sc: Any = spark.sparkContext
        self._profile = profile
        self._fresh_worker = fresh_worker
        self._rows: Any = None
        self.master = str(self._sc.master)
        self._cancel_names = self._names_of_caller()
        self.is_near = is_local(self.master)
        self.is_fixed = is_one_process(self.master)
        self.has_copies = not self.is_fixed and copies(self._sc.getConf())
        self.may_wait = not self.has_copies  # the copy of a job that waits would take its trial

    def slots_now(self) -> int:
        """How many trials can run at the same time now."""
        return of_pyspark.count_tasks(self._sc, self._profile)

    @functools.cached_property
    def growth(self) -> spark_slots.Growth:
        """What adds executors while tasks are pending."""
        if self.is_fixed:
            return spark_slots.Growth()
        return spark_slots.growth_of(self._sc.getConf(), self._profile)

    def count_executors(self) -> int | None:
        """How many executors there are."""
        return of_pyspark.count_executors(self._sc)

    def has_stopped(self, error: BaseException | None = None) -> bool:
        """Whether the session has ended."""
        return of_pyspark.has_stopped(self._sc, error)

    def _names_of_caller(self) -> frozenset[str] | None:
        """The job group and the tags by which others may cancel this thread's jobs; None if not known."""
        try:
            names = {self._sc.getLocalProperty(JOB_GROUP)}
            tags = self._sc.getJobTags().iterator()
            while tags.hasNext():  # Python's iteration would end with a Java exception: 0.2 s
                names.add(tags.next())
            if not pyspark.__version__.startswith("3."):  # before Spark 4 only Connect has those of queries
                names |= self._spark.getTags()
        except Exception:  # of a gateway that admits few methods
            return None
        return frozenset(name for name in names if name)

    def is_cancelled(self, error: BaseException) -> bool:
        """Whether a job was cancelled from outside, with all jobs of its thread."""
        return is_cancelled(error, self._cancel_names)

    def setting(self, key: str) -> str | None:
        """One of Spark's settings; None where it is not set, or not shown."""
        value = self._sc.getConf().get(key)
        return None if value is None else str(value)

    def is_encrypted(self) -> bool:
        """Whether Spark encrypts its connections to the driver."""
        return encrypts(self._sc.getConf())

    def driver_addresses(self) -> tuple[str, str]:
        """The address to listen on, and the one for workers."""
        if self.is_near:
            return "127.0.0.1", "127.0.0.1"
        conf = self._sc.getConf()
        host = conf.get("spark.driver.host") or "127.0.0.1"
        return conf.get("spark.driver.bindAddress") or host, host

    def admit(self) -> None:
        """Register the resource profile."""
        if self.is_fixed or self._profile is not None:
            settings = of_pyspark.settings(self._sc)
            spark_slots.refuse_impossible(settings, self._profile, one_process=self.is_fixed)
        if self._profile is None:
            return
        try:
            self._sc.parallelize([0], 1).withResources(self._profile)
        except Exception as error:
            if self.has_stopped():
                raise
            raise refused(error) from error

    def send(self, pack: Callable[[], bytes]) -> Sent:
        """Send an objective to the workers, once."""
        if self.is_near and "PYSPARK_PYTHON" not in os.environ:
            # Workers on this machine run this interpreter, not whatever `python3` is: it has the modules.
            of_pyspark.set_interpreter(self._sc, sys.executable)
        with of_pyspark.broadcasts_pickled(self._sc) as companions:
            container = pack()
        refuse_destroyed(companions)
        parcel = self._sc.broadcast(container)
        return Sent(parcel, tuple(companions), functools.partial(parcel.destroy, blocking=False))

    @property
    def is_same_python(self) -> bool:
        """Whether the workers run this process's interpreter."""
        interpreter = of_pyspark.interpreter(self._sc)
        return interpreter is not None and shutil.which(interpreter) == sys.executable

    @functools.cached_property
    def _package(self) -> Package:
        """This sparktune: workers of this interpreter and machine find it; others get it by a broadcast."""
        folder = spark_package.folder() if self.is_near and self.is_same_python else None
        if folder is not None:
            return Package(folder)
        application_id = str(self._sc.applicationId)
        with _archiving:
            if application_id not in _archives:
                _archives[application_id] = self._sc.broadcast(spark_package.archived())
        return Package(archive=_archives[application_id])

    @property
    def _environment(self) -> dict[str, str]:
        """Environment variables of the workers; Spark pools them by these."""
        fresh = {FRESH_WORKER: "1"} if self._fresh_worker else {}
        return {spark_package.DIGEST: spark_package.digest(), **fresh}

    def _on_workers(self, rows: Any, body: Callable[[Iterable[Any]], Iterable[Any]]) -> Any:
        """The RDD of what the body makes of the rows' partitions, on workers that have this sparktune."""
        rdd = rows.mapPartitions(self._package.carrying(body))
        of_pyspark.set_environment(rdd, self._environment)
        return rdd

    def start_workers(self, n: int) -> None:
        """Have ``n`` Python workers started that import what trials need; waits for it.

        Raises:
            Exception: Spark's.
        """
        self._sc.setJobDescription("sparktune: start of Python workers")
        of_pyspark.collected(self._on_workers(self._sc.parallelize(range(n), n), ready))

    def inheriting(self, body: Callable[[], None]) -> Callable[[], None]:
        """A thread's body with the scheduler pool, job group and other properties of the caller's thread."""
        if self._rows is None:
            self._rows = self._sc.parallelize([0], 1)
        if pyspark.__version__.startswith("3."):
            return cast("Callable[[], None]", inheritable_thread_target(body))
        return cast("Callable[[], None]", inheritable_thread_target(self._spark)(body))

    def mark(self, tag: str, has_task: Callable[[], None] = lambda: None) -> None:  # noqa: ARG002
        """Tag the jobs of this thread."""
        self._sc.addJobTag(tag)
        self._sc.setInterruptOnCancel(True)

    def use_pool(self, name: str) -> None:
        """Set the scheduler pool of this thread, unless it has one."""
        if self._sc.getLocalProperty(POOL) is None:
            self._sc.setLocalProperty(POOL, name)

    def prepare(self, assignment: Assignment) -> Any:
        """The RDD whose one task runs a trial; a local property holds which.

        Building one takes some twenty calls to the JVM. No two lanes share one: with a stage, Spark aborts
        every job under way on the stage's RDD (``DAGScheduler.stageDependsOn``).
        """
        rdd = self._on_workers(self._rows, functools.partial(run_announced, assignment))
        return rdd if self._profile is None else rdd.withResources(self._profile)

    def run(self, prepared: Any, announcement: str, description: str) -> list[bytes]:
        """Run a trial's job."""
        while True:
            outcomes = self._outcomes(prepared, announcement, description)
            if NOT_RUN not in outcomes:
                return outcomes

    def run_waiting(self, prepared: Any, number: int) -> list[bytes] | None:
        """Run a job whose worker asks which trial it runs."""
        outcomes = self._outcomes(prepared, waiting(number), WAITS)
        return None if NOT_RUN in outcomes else outcomes

    def _outcomes(self, prepared: Any, announcement: str, description: str) -> list[bytes]:
        self._sc.setLocalProperty("spark.job.description", description)
        self._sc.setLocalProperty(ANNOUNCEMENT, announcement)
        return of_pyspark.collected(prepared)

    def cancel(self, tag: str) -> None:
        """Cancel the running jobs with this tag."""
        self._sc.cancelJobsWithTag(tag)

    def ask_workers(self, question: Callable[[Any], Any], n: int) -> list[Any]:
        """The answers of ``n`` tasks."""

        def answers(rows: Iterable[Any]) -> list[bytes]:
            return [pickle.dumps(question(row)) for row in rows]

        asked = self._on_workers(self._sc.parallelize(range(n), n), answers)
        return [pickle.loads(answer) for answer in of_pyspark.collected(asked)]

    def missing_module_advice(self, file: str) -> Iterable[str]:
        """Ways to bring a module to the workers."""
        yield f"spark.sparkContext.addPyFile('{file}') or spark-submit --py-files {file}"
