"""Light threads that run Spark jobs: each one job at a time, which can be cancelled alone."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sparktune.backends.spark_application import Application
from sparktune.study import interrupts
from sparktune.worker.task import Assignment

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Job:
    """What the job of an item runs.

    Attributes:
        description: what the Spark UI shows.
        announcement: what its task is told beyond the assignment; see ``Announcement.as_text``.
        assignment: what it shares with others; a lane goes on with what was made for it while it stays equal.
    """

    description: str
    announcement: str
    assignment: Assignment


@dataclass(eq=False)
class Lane(Generic[Item]):
    """One thread of the pool. It marks its jobs with a tag of its own, and runs one at a time."""

    tag: str
    inbox: queue.SimpleQueue[Item | None] = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    item: Item | None = None
    assignment: Assignment | None = None
    prepared: Any = None


class Lanes(Generic[Item]):
    """A pool of lanes that grows as it is asked to. A lane runs a Spark job for each item in its inbox.

    Args:
        application: where the jobs run.
        name: begins the tags of the jobs and the names of the threads.
        prepare: an item's job, or None when it is not to run any more; called in the lane's thread.
        over: told, in the lane's thread, that the item's job ended: with the rows that it returned, or with
            an exception.
    """

    def __init__(
        self,
        application: Application,
        name: str,
        prepare: Callable[[Item], Job | None],
        over: Callable[[Item, list[bytes], Exception | None], None],
    ) -> None:
        self._app = application
        self._name = name
        self._prepare = prepare
        self._over = over
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
                self._app.cancel(lane.tag)

    def close(self) -> None:
        """End the threads; each ends its job first."""
        for lane in self._all:
            lane.inbox.put(None)

    def _new(self) -> Lane[Item]:
        lane: Lane[Item] = Lane(f"{self._name}-{len(self._all)}")
        self._all.append(lane)
        # The jobs inherit the caller's scheduler pool, job group and tags.
        with interrupts.held():  # it asks Java for them
            target = self._app.inheriting(functools.partial(self._work, lane))
        threading.Thread(target=target, name=lane.tag, daemon=True).start()
        return lane

    def _work(self, lane: Lane[Item]) -> None:
        is_marked = False
        for item in iter(lane.inbox.get, None):
            rows: list[bytes] = []
            error: Exception | None = None
            with lane.lock:
                lane.item = item
            try:
                if not is_marked:
                    self._app.mark(lane.tag)
                    is_marked = True
                job = self._prepare(item)
                if job is not None:
                    rows = self._run(lane, job)
            except Exception as raised:  # of Spark or of making the body: how this item's job ended
                error = raised
            with lane.lock:
                lane.item = None
            self._over(item, rows, error)

    def _run(self, lane: Lane[Item], job: Job) -> list[bytes]:
        if lane.prepared is None or job.assignment != lane.assignment:
            lane.prepared = self._app.prepare(job.assignment)
            lane.assignment = job.assignment
        return self._app.run(lane.prepared, job.announcement, job.description)
