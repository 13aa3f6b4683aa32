"""Spark Connect: the application is behind a server, and there is no ``SparkContext``.

A trial is a query of one task: ``mapInArrow`` over one row. The server is asked once a trial: a schema as
text, the columns of a new input and ``collect`` would each ask once more. All trials of a thread are the same
query, which the server has then analysed before; a tag of the query has the trial for the worker.
What belongs to the session is found by its documented means: tags, artifacts, settings, ``EXPLAIN``. Needs
Spark 4.0 or newer.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import re
import socket
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune.backends import spark_package, spark_slots
from sparktune.backends.control_port import unbracketed
from sparktune.backends.spark_application import Sent
from sparktune.backends.spark_cluster import copies, encrypts, is_cancelled, is_local, is_one_process, refused
from sparktune.backends.spark_package import Package
from sparktune.private import of_pyspark
from sparktune.worker.parcel import Artifact
from sparktune.worker.task import (
    NOT_ANNOUNCED,
    NOT_RUN,
    Assignment,
    announcing_tag,
    run_in_arrow,
    waiting,
)

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

SPLITS = re.compile(r"\bsplits=(?:Some\()?(\d+)")
"""Into how many tasks Spark divides a range by default: as many as there are cores."""
SESSION_ENDED = (
    "INVALID_HANDLE",
    "SESSION_CLOSED",
    "NO_ACTIVE_SESSION",
    "RETRIES_EXCEEDED",
    "StatusCode.UNAVAILABLE",
    "Cannot invoke RPC on closed channel",
)
"""Messages of a session's errors after its server has gone, or has forgotten it."""
MASTER_HOST = re.compile(r"://(?:https?://)?(\[[^\]]+\]|[^:/,]+)")
"""In ``spark://host:7077`` and ``k8s://https://host:6443``; an IPv6 address has brackets."""
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")

_masters: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_cores: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_encrypted: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
_settings: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()
"""Session -> its master, where that is one process its cores, whether Spark encrypts, and its settings: what
never changes is asked once."""

LONGEST_TAG = 16_384
"""Characters of an announcement that travels as a tag: Spark keeps a query's tags for its web page."""

_archiving = threading.Lock()
_archives: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""Session -> the file artifact with sparktune."""


class ConnectApplication:
    """An ``Application`` for Spark Connect.

    Args:
        spark: a Spark Connect session.
        profile: what each trial's task requests from Spark, or None.
        fresh_worker: each trial gets a new Python process, which one that asks for its trial is not.
    """

    slots_ttl_s = 5.0
    shows_tasks = True  # without an executor, the plan of a query has two slots
    is_same_python = False  # which one it is, is the server's affair

    def __init__(
        self, spark: SparkSession, profile: ResourceProfile | None = None, *, fresh_worker: bool = False
    ) -> None:
        self._spark: Any = spark
        self._profile = profile
        self._tags_arrive = True
        self._thread = threading.local()
        self._cancel_names = frozenset(spark.getTags())
        self._host = of_pyspark.connect_host(spark)
        if spark not in _masters:
            _masters[spark] = str(self._setting("spark.master", "spark connect"))
        self.master = _masters[spark]
        self.is_near = self._host in LOOPBACK and is_local(self.master)
        self.is_fixed = is_one_process(self.master)
        self.has_copies = not self.is_fixed and copies(self)
        # The copy of a job that waits would take its trial.
        self.may_wait = not (self.has_copies or fresh_worker)

    def get(self, key: str, default: Any = None) -> Any:
        """One of the application's settings, as ``SparkConf.get``."""
        return self._setting(key, default)

    def _setting(self, key: str, default: Any) -> Any:
        try:
            return self._spark.conf.get(key, default)
        except Exception as error:  # a server that shows some settings only
            if self.has_stopped(error):
                raise
            return default

    def _settings(self) -> dict[str, str]:
        """All settings that the server shows, asked once a session."""
        if self._spark not in _settings:
            try:
                _settings[self._spark] = dict(self._spark.conf.getAll)
            except Exception as error:
                if self.has_stopped(error):
                    raise
                return {}
        return _settings[self._spark]

    def slots_now(self) -> int | None:
        """How many trials can run now: the cores in the plan of a query, which is not run."""
        cores = _cores.get(self._spark)
        if cores is None:
            plan = self._spark.sql("EXPLAIN SELECT * FROM range(1000000)").collect()[0][0]
            found = SPLITS.search(plan)
            if found is None:
                return None
            cores = int(found[1])
            if self.is_fixed:
                _cores[self._spark] = cores
        asked = {} if self._profile is None else self._profile.taskResources
        cpus = asked["cpus"].amount if "cpus" in asked else float(self.get("spark.task.cpus", "1"))
        return int(cores // cpus)

    @functools.cached_property
    def growth(self) -> spark_slots.Growth:
        """What adds executors while tasks are pending."""
        return spark_slots.Growth() if self.is_fixed else spark_slots.growth_of(self, self._profile)

    def count_executors(self) -> int | None:
        """How many executors there are."""
        return None

    def has_stopped(self, error: BaseException | None = None) -> bool:
        """Whether the session has ended."""
        return bool(self._spark.is_stopped) or any(sign in str(error) for sign in SESSION_ENDED)

    def is_cancelled(self, error: BaseException) -> bool:
        """Whether a job was cancelled from outside; all of Connect's interrupts give one message."""
        return is_cancelled(error, self._cancel_names)

    def setting(self, key: str) -> str | None:
        """One of Spark's settings; None where it is not set, or not shown."""
        value = self._setting(key, None)
        return None if value is None else str(value)

    def is_encrypted(self) -> bool:
        """Whether Spark, or the session's connection to the server, is encrypted."""
        if self._spark not in _encrypted:
            _encrypted[self._spark] = of_pyspark.connect_is_secure(self._spark) or encrypts(self)
        return _encrypted[self._spark]

    def driver_addresses(self) -> tuple[str, str]:
        """All addresses, and the address from which this machine reaches the server."""
        if self.is_near:
            return "127.0.0.1", "127.0.0.1"
        target = self._host
        if target in LOOPBACK:
            found = MASTER_HOST.search(self.master)
            target = found[1] if found else target
        own = _own_address(unbracketed(str(target)))
        return own, own

    def admit(self) -> None:
        """Register the resource profile."""
        if self.is_fixed or self._profile is not None:
            spark_slots.refuse_impossible(self._settings(), self._profile, one_process=self.is_fixed)
        if self._profile is None:
            return
        try:
            _ = self._spark.range(0, 1, 1, 1).mapInArrow(iter, "id long", profile=self._profile).schema
        except Exception as error:
            if self.has_stopped(error):
                raise
            raise refused(error) from error

    def send(self, pack: Callable[[], bytes]) -> Sent:
        """Send the objective as a file artifact, which the server keeps until the session ends."""
        parcel = Artifact(self._sent_as_file(pack()))
        self._spark.registerProgressHandler(self._progressed)
        return Sent(parcel, (), functools.partial(self._spark.removeProgressHandler, self._progressed))

    def _progressed(self, *, inflight_tasks: int, **_: Any) -> None:
        """Called by PySpark in the thread that waits for the query."""
        if inflight_tasks and hasattr(self._thread, "has_task"):
            self._thread.has_task()

    def _sent_as_file(self, content: bytes) -> str:
        """The name of a file artifact: one that no other process with this session takes."""
        name = f"sparktune-{uuid.uuid4().hex}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            self._spark.addArtifacts(str(path), file=True)
        return name

    @functools.cached_property
    def _package(self) -> Package:
        """This sparktune; all processes with this session share its workers."""
        with _archiving:
            if self._spark not in _archives:
                _archives[self._spark] = self._sent_as_file(spark_package.archived())
        return Package(archive=_archives[self._spark])

    def inheriting(self, body: Callable[[], None]) -> Callable[[], None]:
        """Run a thread's body with Spark's properties of the calling thread: the tags."""
        tags = self._spark.getTags()

        def tagged() -> None:
            for tag in tags:
                self._spark.addTag(tag)
            body()

        return tagged

    def mark(self, tag: str, has_task: Callable[[], None] = lambda: None) -> None:
        """Tag the jobs of this thread."""
        self._spark.addTag(tag)
        self._thread.has_task = has_task

    def use_pool(self, name: str) -> None:
        """Set the scheduler pool of this thread, unless it has one: Connect does not have pools."""

    def prepare(self, assignment: Assignment) -> Any:
        """The one row, what all trials share, and the query for those with a tag."""
        row = self._spark.range(0, 1, 1, 1)
        return row, assignment, self._mapped(row, functools.partial(run_in_arrow, assignment, None))

    def run(self, prepared: Any, announcement: str, description: str) -> list[bytes]:  # noqa: ARG002
        """Run a trial's job: the Spark UI shows the query's plan."""
        row, assignment, announced = prepared
        while True:
            if self._tags_arrive and len(announcement) <= LONGEST_TAG:
                outcomes = self._outcomes_tagged(announced, announcing_tag(assignment, announcement))
            else:
                outcomes = _outcomes(
                    self._mapped(row, functools.partial(run_in_arrow, assignment, announcement))
                )
            if NOT_ANNOUNCED in outcomes:
                self._tags_do_not_arrive()
            elif NOT_RUN not in outcomes:
                return outcomes

    def run_waiting(self, prepared: Any, number: int) -> list[bytes] | None:
        """Run a job whose worker asks which trial it runs."""
        _, assignment, announced = prepared
        outcomes = self._outcomes_tagged(announced, announcing_tag(assignment, waiting(number)))
        if NOT_ANNOUNCED in outcomes:
            self._tags_do_not_arrive()
            return None
        return None if NOT_RUN in outcomes else outcomes

    def _tags_do_not_arrive(self) -> None:
        self._tags_arrive = self.may_wait = False

    def _outcomes_tagged(self, query: Any, tag: str) -> list[bytes]:
        self._spark.addTag(tag)
        try:
            return _outcomes(query)
        finally:
            self._spark.removeTag(tag)

    def _mapped(
        self, rows: Any, body: Callable[[Iterator[Any]], Iterator[Any]], *, is_trial: bool = True
    ) -> Any:
        from pyspark.sql.types import BinaryType, StructType

        options = {} if self._profile is None else {"profile": self._profile}
        schema = StructType().add("outcome", BinaryType())
        package = replace(self._package, is_alone=is_trial)
        return rows.mapInArrow(package.carrying(body), schema, **options)

    def cancel(self, tag: str) -> None:
        """Cancel the running jobs with this tag."""
        self._spark.interruptTag(tag)

    def ask_workers(self, question: Callable[[Any], Any], n: int) -> list[Any]:
        """The answers of ``n`` tasks."""

        def answers(batches: Iterator[Any]) -> Iterator[Any]:
            import pyarrow

            for batch in batches:
                answers = [pickle.dumps(question(row.as_py())) for row in batch.column(0)]
                yield pyarrow.RecordBatch.from_pydict({"outcome": answers})

        asked = self._mapped(self._spark.range(0, n, 1, n), answers, is_trial=False)
        return [pickle.loads(answer) for answer in _outcomes(asked)]

    def missing_module_advice(self, file: str) -> Iterable[str]:
        """Ways to bring a module to the workers."""
        yield f"spark.addArtifacts('{file}', pyfile=True)"


def _own_address(target: str) -> str:
    """The address of this machine, IPv4 or IPv6, on the way to another."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.connect(address)  # sends nothing: it has the system choose the way
                return str(probe.getsockname()[0])
    return "127.0.0.1"


def _outcomes(query: Any) -> list[bytes]:
    found: list[bytes] = query.toArrow().column(0).to_pylist()
    return found
