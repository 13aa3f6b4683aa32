"""Light threads that run Spark jobs: each one job at a time, which can be cancelled alone."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import pyspark
from pyspark import inheritable_thread_target

from sparktune.private import of_pyspark
from sparktune.study import interrupts

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

Body = Callable[[Any], list[bytes]]
"""What the one task of a job runs: rows -> rows."""


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the job of an item runs.

    Attributes:
        description: what the Spark UI shows.
        properties: local properties of the job: what its body is to know of this one item.
        body: makes the body.
        key: while it stays the same, a lane goes on with the body that was made first.
    """

    description: str
    properties: Mapping[str, str]
    body: Callable[[], Body]
    key: Any


@dataclass(eq=False)
class Lane(Generic[Item]):
    """One thread of the pool. It marks its jobs with a tag of its own, and runs one at a time."""

    tag: str
    inbox: queue.SimpleQueue[Item | None] = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    item: Item | None = None
    key: Any = None
    rdd: Any = None


class Lanes(Generic[Item]):
    """A pool of lanes that grows as it is asked to. A lane runs a Spark job for each item in its inbox.

    Args:
        spark: a classic session.
        name: begins the tags of the jobs and the names of the threads.
        profile: what each task asks of Spark, or None.
        prepare: what an item's job runs, or None when it is not to run any more; called in the lane's thread.
        over: told, in the lane's thread, that the item's job ended: with the rows that it returned, or with
            an exception.
        env: environment variables of the Python workers, beside those of the context.
    """

    def __init__(
        self,
        spark: SparkSession,
        name: str,
        profile: ResourceProfile | None,
        prepare: Callable[[Item], Prepared | None],
        over: Callable[[Item, list[bytes], Exception | None], None],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._spark = spark
        self._sc = spark.sparkContext
        self._name = name
        self._profile = profile
        self._prepare = prepare
        self._over = over
        self._env = dict(env or {})
        self._rows = self._sc.parallelize([0], 1)
        self._all: list[Lane[Item]] = []
        self._idle: list[Lane[Item]] = []

    def take(self) -> Lane[Item]:
        """A lane without a job; put an item into its ``inbox``."""
        return self._idle.pop() if self._idle else self._new()

    def give_back(self, lane: Lane[Item]) -> None:
        """The job of the lane is over."""
        self._idle.append(lane)

    def cancel(self, lane: Lane[Item], item: Item) -> None:
        """Cancel the job of an item, if it is the one that the lane runs."""
        with interrupts.held(), lane.lock:
            if lane.item is item:
                self._sc.cancelJobsWithTag(lane.tag)

    def close(self) -> None:
        """End the threads; each ends its job first."""
        for lane in self._all:
            lane.inbox.put(None)

    def _new(self) -> Lane[Item]:
        lane: Lane[Item] = Lane(f"{self._name}-{len(self._all)}")
        self._all.append(lane)
        # The jobs inherit the caller's scheduler pool, job group and other local properties.
        with interrupts.held():  # it asks Java for them
            target = self._inheriting(functools.partial(self._work, lane))
        threading.Thread(target=target, name=lane.tag, daemon=True).start()
        return lane

    def _inheriting(self, body: Callable[[], None]) -> Callable[[], None]:
        """A thread's body that begins with the local properties of this thread."""
        if pyspark.__version__.startswith("3."):
            return cast("Callable[[], None]", inheritable_thread_target(body))
        return cast("Callable[[], None]", inheritable_thread_target(self._spark)(body))

    def _work(self, lane: Lane[Item]) -> None:
        is_marked = False
        for item in iter(lane.inbox.get, None):
            rows: list[bytes] = []
            error: Exception | None = None
            with lane.lock:
                lane.item = item
            try:
                if not is_marked:
                    self._sc.addJobTag(lane.tag)
                    self._sc.setInterruptOnCancel(True)
                    is_marked = True
                prepared = self._prepare(item)
                if prepared is not None:
                    self._sc.setLocalProperty("spark.job.description", prepared.description)
                    for name, value in prepared.properties.items():
                        self._sc.setLocalProperty(name, value)
                    rows = of_pyspark.collected(self._rdd(lane, prepared))
            except Exception as raised:  # of Spark or of making the body: how this item's job ended
                error = raised
            with lane.lock:
                lane.item = None
            self._over(item, rows, error)

    def _rdd(self, lane: Lane[Item], prepared: Prepared) -> Any:
        """The RDD whose one task runs the job.

        Building one takes some twenty calls to the JVM, so a lane keeps its own while the key is the same.
        No two lanes share one: with a stage, Spark aborts every job under way on the stage's RDD
        (``DAGScheduler.stageDependsOn``).
        """
        if lane.rdd is None or prepared.key != lane.key:
            rdd: Any = self._rows.mapPartitions(prepared.body())
            if self._env:
                of_pyspark.set_environment(rdd, self._env)
            lane.rdd = rdd if self._profile is None else rdd.withResources(self._profile)
            lane.key = prepared.key
        return lane.rdd
