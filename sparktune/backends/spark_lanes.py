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
class LaneJob:
    """What the job of an item runs.

    Attributes:
        description: what the Spark UI shows.
        announcement: what its task gets beyond the assignment; see ``Announcement.as_text``.
        assignment: what it shares with others; a lane reuses what was made for it while it stays equal.
    """

    description: str
    announcement: str
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Wait:
    """A job whose worker is to ask, by its number, which item it runs."""

    number: int
    assignment: Assignment


@dataclass(eq=False)
class Lane(Generic[Item]):
    """One thread of the pool. It marks its jobs with its own tag, and runs one at a time.

    While ``waits``, its job may be given an item. ``has_task``: a task of its job was seen to run.
    """

    tag: str
    inbox: queue.SimpleQueue[Item | Wait | None] = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    item: Item | None = None
    waits: bool = False
    has_task: bool = False
    is_marked: bool = False
    assignment: Assignment | None = None
    prepared: Any = None


class Lanes(Generic[Item]):
    """A pool of lanes that grows as it is asked to. A lane runs a Spark job for each item in its inbox.

    Args:
        application: where the jobs run.
        name: begins the tags of the jobs and the names of the threads.
        prepare: an item's job, or None when it is not to run any more; called in the lane's thread.
        over: called, in the lane's thread, when the item's job ended: with the rows that it returned, or with
            an exception.
        unused: called, in the lane's thread, when a job ended that waited for an item and got none: its
            number, and the exception that it ended with.
    """

    def __init__(
        self,
        application: Application,
        name: str,
        prepare: Callable[[Item], LaneJob | None],
        over: Callable[[Item, list[bytes], Exception | None], None],
        unused: Callable[[int, Exception | None], None] = lambda _number, _error: None,
    ) -> None:
        self._app = application
        self._name = name
        self._prepare = prepare
        self._over = over
        self._unused = unused
        self._all: list[Lane[Item]] = []
        self._idle: list[Lane[Item]] = []

    def take(self) -> Lane[Item]:
        """A lane without a job; put an item into its ``inbox``."""
        return self._idle.pop() if self._idle else self._new()

    def give_back(self, lane: Lane[Item]) -> None:
        """The job of the lane is over."""
        self._idle.append(lane)

    def wait(self, lane: Lane[Item], job: Wait) -> None:
        """Give Spark a job of the lane before it has an item: ``bind`` gives it one."""
        lane.waits = True
        lane.inbox.put(job)

    def bind(self, lane: Lane[Item], item: Item) -> bool:
        """Give a waiting job its item; False where the job has ended."""
        with lane.lock:
            if lane.waits:
                lane.item = item
            return lane.waits

    def cancel(self, lane: Lane[Item], item: Item) -> None:
        """Cancel the job of an item, if it is the one that the lane runs."""
        with lane.lock:
            if lane.item is item:
                self._app.cancel(lane.tag)

    def withdraw(self, lane: Lane[Item]) -> bool:
        """Cancel a job that waits for an item, and is given none from now on; False where it has one.

        Again where it still runs: Spark may not have had it yet.
        """
        with interrupts.held(), lane.lock:
            if lane.item is not None:
                return False
            lane.waits = False
            self._app.cancel(lane.tag)
            return True

    def close(self) -> None:
        """End the threads; each ends its job first."""
        for lane in self._all:
            lane.inbox.put(None)

    def _new(self) -> Lane[Item]:
        lane: Lane[Item] = Lane(f"{self._name}-{len(self._all)}")
        self._all.append(lane)
        # The jobs inherit the caller's scheduler pool, job group and tags.
        target = self._app.inheriting(functools.partial(self._work, lane))
        threading.Thread(target=target, name=lane.tag, daemon=True).start()
        return lane

    def _work(self, lane: Lane[Item]) -> None:
        for entry in iter(lane.inbox.get, None):
            if isinstance(entry, Wait):
                self._run_waiting(lane, entry)
            else:
                self._run_item(lane, entry)

    def _run_item(self, lane: Lane[Item], item: Any) -> None:
        rows: list[bytes] = []
        error: Exception | None = None
        with lane.lock:
            lane.item = item
        try:
            job = self._prepare(item)
            if job is not None:
                rows = self._app.run(self._ready(lane, job.assignment), job.announcement, job.description)
        except Exception as raised:  # of Spark or of making the body: how this item's job ended
            error = raised
        with lane.lock:
            lane.item = None
        lane.has_task = False
        self._over(item, rows, error)

    def _run_waiting(self, lane: Lane[Item], job: Wait) -> None:
        rows: list[bytes] | None = None
        error: Exception | None = None
        try:
            rows = self._app.run_waiting(self._ready(lane, job.assignment), job.number)
        except Exception as raised:
            error = raised
        with lane.lock:
            lane.waits = False
            item = lane.item
        lane.has_task = False
        if item is None:
            self._unused(job.number, error)
        elif rows is None and error is None:  # its worker did not hear of the item
            self._run_item(lane, item)
        else:
            with lane.lock:
                lane.item = None
            self._over(item, rows or [], error)

    def _ready(self, lane: Lane[Item], assignment: Assignment) -> Any:
        """What the application runs in this lane for an assignment."""
        if not lane.is_marked:
            self._app.mark(lane.tag, functools.partial(setattr, lane, "has_task", True))
            lane.is_marked = True
        if lane.prepared is None or assignment != lane.assignment:
            lane.prepared = self._app.prepare(assignment)
            lane.assignment = assignment
        return lane.prepared
