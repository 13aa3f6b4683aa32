"""Jobs that are pending at Spark before their trials are chosen.

An elastic cluster adds executors while tasks are pending. ``spark_slots`` decides how many are to be pending
then. When a worker gets such a job, it asks over the control channel which trial it runs. So the trial is
chosen as late as without this: when there is a slot for it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from typing import Generic

from sparktune.backends.spark_lanes import Item, Lane, Lanes, Wait
from sparktune.worker.task import Assignment

logger = logging.getLogger("sparktune")

PARKED_S = 1.0
"""How long a worker may hold its slot without a trial, while the next one is chosen."""
AGAIN_S = 1.0
"""After a job that had a slot and no trial, none is sent for so long."""
MOST_ERRORS = 5
"""After so many of them have failed, none is sent any more: something is wrong with them."""


class PendingJobs(Generic[Item]):
    """The jobs that wait for a trial, or for a worker. Only the driver's thread calls the methods.

    Args:
        lanes: whose jobs they are.
        give: sends the worker that asked by a job's number its item, or None for no item.
    """

    def __init__(
        self, lanes: Lanes[Item], give: Callable[[int, Lane[Item] | None, Item | None], None]
    ) -> None:
        self._lanes = lanes
        self._give = give
        self._numbers = itertools.count()
        self._jobs: dict[int, Lane[Item]] = {}
        self._withdrawn: set[int] = set()
        self._asked: set[int] = set()
        self._parked: dict[int, float] = {}
        self._errors = 0
        self._not_before = 0.0
        self._is_open = True

    @property
    def n_parked(self) -> int:
        """How many workers wait for an item, and hold a slot."""
        return len(self._parked)

    @property
    def n_open(self) -> int:
        """How many wait for an item."""
        return sum(lane.item is None for lane in self._jobs.values())

    def has_worker(self, lane: Lane[Item] | None) -> bool:
        """Whether a worker has got the lane's job, which was sent before it had an item."""
        return any(one is lane and number in self._asked for number, one in self._jobs.items())

    def top_up(self, n: int, assignment: Assignment) -> None:
        """Let ``n`` jobs wait for an item."""
        if not self._is_open or self._errors >= MOST_ERRORS or time.monotonic() < self._not_before:
            return
        n_waiting = sum(lane.item is None and n not in self._withdrawn for n, lane in self._jobs.items())
        for _ in range(n - n_waiting):
            lane, number = self._lanes.take(), next(self._numbers)
            self._jobs[number] = lane
            self._lanes.wait(lane, Wait(number, assignment))

    def bind(self, item: Item) -> Lane[Item] | None:
        """The lane of a waiting job, whose item this now is; None where none waits."""
        for number in [*self._parked, *(one for one in self._jobs if one not in self._parked)]:
            lane = self._jobs[number]
            if lane.item is None and self._lanes.bind(lane, item):
                if self._parked.pop(number, None) is not None:
                    self._give(number, lane, item)
                return lane
        return None

    def asked(self, number: int, *, may_park: bool) -> None:
        """A worker runs the job of this number, and asks for its item.

        Where the job has none, the worker waits for one if it ``may_park``.
        """
        lane = self._jobs.get(number)
        item = None if lane is None else lane.item
        if lane is not None:
            self._asked.add(number)
        if lane is not None and item is None and may_park:
            self._parked[number] = time.monotonic()
        else:
            self._give(number, lane, item)

    def let_go(self, parked_s: float = PARKED_S) -> None:
        """Free the slots of workers that have waited for so long."""
        now = time.monotonic()
        for number in [n for n, since in self._parked.items() if now - since >= parked_s]:
            del self._parked[number]
            self._give(number, self._jobs[number], None)

    def withdraw(self, keep: int = 0) -> None:
        """Cancel jobs that wait for a slot, but leave ``keep``, the oldest.

        Those that were withdrawn before and still run are cancelled again: Spark may not have had them yet.

        Raises:
            Exception: Spark's.
        """
        waiting = [
            number
            for number, lane in self._jobs.items()
            if lane.item is None and number not in self._parked and number not in self._withdrawn
        ]
        for number in [*self._withdrawn, *waiting[keep:]]:
            if self._lanes.withdraw(self._jobs[number]):
                self._withdrawn.add(number)

    def ended(self, number: int, error: Exception | None) -> None:
        """A job ended that ran nothing."""
        if number not in self._withdrawn:
            self._not_before = time.monotonic() + AGAIN_S
            if error is not None:
                self._errors += 1
                logger.debug("a job that waited for a trial failed", exc_info=error)
        lane = self._jobs.get(number)
        if lane is not None:
            self.forget(lane)
            self._lanes.give_back(lane)

    def forget(self, lane: Lane[Item]) -> None:
        """The lane's job is over."""
        for number in [number for number, one in self._jobs.items() if one is lane]:
            del self._jobs[number]
            self._parked.pop(number, None)
            self._asked.discard(number)
            self._withdrawn.discard(number)

    def close(self) -> None:
        """End the jobs that have no item.

        Raises:
            Exception: Spark's.
        """
        self._is_open = False
        self.let_go(0.0)
        self.withdraw()
