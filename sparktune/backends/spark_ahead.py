"""Jobs that Spark has before the trials are chosen that they run.

A server of Spark Connect parses, analyses and plans a query before it runs. Where that begins when a slot is
free, the slot waits for it; and a server that has two queries at a time takes a fifth more processor time for
each than one that has four. So some queries wait at Spark for a free slot. The worker of such a query asks
over the control channel which trial is meant. The trial is chosen as late as without this: when another has
ended.

Only trials of less than a second gain by that. While longer ones run nothing waits for speed: Spark would
take that for a lack of executors.

Where the cluster is elastic, that is what they are for: it adds executors while tasks are pending. How many
are to be pending then, ``spark_slots`` says; they stay until they have a trial, or are too many.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Generic

from sparktune.backends.spark_lanes import Item, Lane, Lanes, Wait
from sparktune.worker.task import Assignment

logger = logging.getLogger("sparktune")

PARKED_S = 1.0
"""How long a worker may hold its slot without a trial, while the next one is chosen."""
SHORT_S, LATEST = 1.0, 8
"""The latest trials must all have been shorter than that."""
WITHDRAWN_S = 5.0
"""How long a job waits for a slot, before it is withdrawn."""
PAUSE_S, LONGEST_PAUSE_S = 0.25, 16.0
"""After a job that had a slot and no trial, none is sent for so long; twice that after each further one."""
MOST_ERRORS = 5
"""After so many of them have failed, none is sent any more: something is amiss with them."""


class JobsAhead(Generic[Item]):
    """The jobs that wait for a trial, or for a worker. The driver's thread alone calls the methods.

    Args:
        lanes: whose jobs they are.
        give: tells the worker that asked by a job's number which item it runs, or (None) that it runs none.
    """

    def __init__(
        self, lanes: Lanes[Item], give: Callable[[int, Lane[Item] | None, Item | None], None]
    ) -> None:
        self._lanes = lanes
        self._give = give
        self._numbers = itertools.count()
        self._jobs: dict[int, Lane[Item]] = {}
        self._sent: dict[int, float] = {}
        self._withdrawn: set[int] = set()
        self._took_s: deque[float] = deque(maxlen=LATEST)
        self._parked: dict[int, float] = {}
        self._given: set[int] = set()
        self._errors = 0
        self._is_open = True
        self._pause_s = self._not_before = 0.0

    @property
    def n_parked(self) -> int:
        """How many workers wait for an item, and hold a slot."""
        return len(self._parked)

    def holds(self, lane: Lane[Item] | None) -> bool:
        """Whether the lane's job was sent before it had an item, and has not ended."""
        return any(one is lane and one.waits for one in self._jobs.values())

    @property
    def n_open(self) -> int:
        """How many wait for a trial."""
        return sum(lane.item is None for lane in self._jobs.values())

    def bind(self, item: Item) -> Lane[Item] | None:
        """The lane of a waiting job, whose item this now is; None where none waits."""
        for number in [*self._parked, *(one for one in self._jobs if one not in self._parked)]:
            lane = self._jobs[number]
            if lane.item is None and self._lanes.bind(lane, item):
                self._pause_s = self._not_before = 0.0
                if self._parked.pop(number, None) is not None:
                    self._given.add(number)
                    self._give(number, lane, item)
                return lane
        return None

    def asked(self, number: int, moved: Callable[[Item, Lane[Item]], None], *, may_park: bool) -> None:
        """A worker runs the job of this number, and asks which item is meant.

        Where the job has none, it gets that of another one whose worker has not asked yet; ``moved`` is told.
        Where there is no such item, the worker waits for one if it ``may_park``.
        """
        lane = self._jobs.get(number)
        item = None if lane is None else lane.item
        if lane is not None and item is None:
            item = self._taken_over(lane, moved)
        if lane is not None and item is None and may_park:
            self._parked[number] = time.monotonic()
            return
        self._given.add(number)
        self._give(number, lane, item)

    def _taken_over(self, lane: Lane[Item], moved: Callable[[Item, Lane[Item]], None]) -> Item | None:
        for number, other in self._jobs.items():
            if other is lane or other.item is None or number in self._given:
                continue
            item = self._lanes.unbind(other)
            if item is not None:
                is_bound = self._lanes.bind(lane, item)
                runs_in = lane if is_bound else self._lanes.take()
                moved(item, runs_in)
                if not is_bound:  # the job that asks has just ended
                    runs_in.inbox.put(item)
                return item if is_bound else None
        return None

    def took(self, seconds: float) -> None:
        """How long an objective ran that has ended now."""
        self._took_s.append(seconds)

    @property
    def is_paused(self) -> bool:
        """Whether jobs had a slot just now, and no trial came for them: more are no use."""
        return time.monotonic() < self._not_before

    @property
    def are_short(self) -> bool:
        """Whether the latest trials were so short that the next one's job is better planned by then."""
        return max(self._took_s, default=SHORT_S) < SHORT_S

    def top_up(self, n: int, assignment: Assignment) -> None:
        """Let ``n`` jobs wait for a trial."""
        if not self._is_open or self._errors >= MOST_ERRORS:
            return
        n_waiting = sum(lane.item is None and n not in self._withdrawn for n, lane in self._jobs.items())
        for _ in range(n - n_waiting):
            lane, number = self._lanes.take(), next(self._numbers)
            self._jobs[number], self._sent[number] = lane, time.monotonic()
            self._lanes.wait(lane, Wait(number, assignment))

    def let_go(self, parked_s: float = PARKED_S) -> None:
        """Free the slots of workers that have waited for so long."""
        now = time.monotonic()
        for number in [n for n, since in self._parked.items() if now - since >= parked_s]:
            del self._parked[number]
            self._give(number, self._jobs[number], None)

    def withdraw(self, waited_s: float, keep: int = 0) -> None:
        """Cancel jobs that have waited for a slot for so long, but leave ``keep`` that wait, the oldest.

        Raises:
            Exception: Spark's.
        """
        now = time.monotonic()
        again = [n for n in self._withdrawn if now - self._sent[n] >= waited_s]
        waiting = [
            number
            for number, lane in self._jobs.items()
            if lane.item is None and number not in self._parked and number not in self._withdrawn
        ]
        for number in [*again, *(n for n in waiting[keep:] if now - self._sent[n] >= waited_s)]:
            if self._lanes.withdraw(self._jobs[number]):
                self._withdrawn.add(number)

    def ended(self, number: int, error: Exception | None) -> None:
        """A job ended that ran nothing."""
        if number not in self._withdrawn:
            self._pause_s = min(max(PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._not_before = time.monotonic() + self._pause_s
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
            self._sent.pop(number, None)
            self._parked.pop(number, None)
            self._given.discard(number)
            self._withdrawn.discard(number)

    def close(self) -> None:
        """End the jobs that have no trial.

        Raises:
            Exception: Spark's.
        """
        self._is_open = False
        self.let_go(0.0)
        self.withdraw(0.0)
