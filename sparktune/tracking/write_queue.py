"""In which order run records are written."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections import deque

from sparktune.tracking.records import RunRecord

LONG_BACKLOG = 200
"""When more records than this wait behind the runs of trials under way, all take turns."""


class WriteQueue:
    """Which record is next. Guarded by ``Writer.lock``; does not have a clock.

    The run of a trial under way comes first: its objective may need it, and people look for it.
    """

    def __init__(self) -> None:
        self._creates: deque[RunRecord] = deque()
        self._over: deque[RunRecord] = deque()  # to be created, but their trials have ended
        self._writes: deque[RunRecord] = deque()
        self._queues = (self._creates, self._over, self._writes)
        self._served = [0, 0, 0]
        self._later: list[tuple[float, int, RunRecord]] = []
        self._count = itertools.count(1)

    def __len__(self) -> int:
        """How many records are in line; those of children wait for their parents there."""
        return sum(map(len, self._queues))

    def add(self, record: RunRecord, now: float, within_s: float = 0.0, *, first: bool = False) -> bool:
        """Have the record taken in ``within_s`` seconds, or at an earlier moment for which it was added.

        ``first``: before others of its kind, and immediately. A record that has failed waits until its next
        attempt may be made. Returns whether the taker must be notified.
        """
        if record.turn.is_queued or record.set_aside:
            return False
        due = max(now + within_s, record.not_before)
        is_news = record.turn.due is None or due < record.turn.due
        if record.turn.is_busy:  # the thread that holds it looks again when it is done
            record.turn.due = due if is_news else record.turn.due
            return False
        if due <= now:
            self._line_up(record, first=first)
            return True
        if is_news:
            record.turn.due = due
            heapq.heappush(self._later, (due, next(self._count), record))
        return is_news

    def move_up(self, record: RunRecord, now: float) -> None:
        """Have the record taken before all others."""
        if record.turn.is_queued:
            for queue in self._queues:
                with contextlib.suppress(ValueError):
                    queue.remove(record)
            record.turn.is_queued = False
        self.add(record, now, first=True)

    def _line_up(self, record: RunRecord, *, first: bool = False) -> None:
        record.turn.is_queued, record.turn.due = True, None
        create = record.run_id is None
        # Before a parent exists, nothing else can be created.
        first = first or (create and record.parent is None)
        is_over = create and record.parent is not None and record.status is not None
        queue = self._over if is_over else self._creates if create else self._writes
        (queue.appendleft if first else queue.append)(record)

    def advance(self, now: float) -> float | None:
        """Line up what is due; returns how long until something else is, or None."""
        while self._later and self._later[0][0] <= now:
            due, _, record = heapq.heappop(self._later)
            if record.turn.due == due and not record.turn.is_queued and not record.turn.is_busy:
                self._line_up(record)
        return self._later[0][0] - now if self._later else None

    def take(self, *, fair: bool) -> RunRecord | None:
        """The next record in line, or None; with ``fair`` the kinds of records take turns."""
        ready = [n for n, queue in enumerate(self._queues) if queue and can_be_written(queue[0])]
        if not ready:
            return None
        fair = fair or len(self._over) + len(self._writes) > LONG_BACKLOG
        chosen = 0 if ready[0] == 0 and not fair else min(ready, key=lambda n: self._served[n])
        self._served[chosen] = next(self._count)
        record = self._queues[chosen].popleft()
        record.turn.is_queued = False
        return record

    def next_over(self) -> RunRecord | None:
        """The next run of a trial that is over, which ``take_over`` takes."""
        return self._over[0] if self._over else None

    def take_over(self) -> RunRecord:
        """Take what ``next_over`` showed."""
        record = self._over.popleft()
        record.turn.is_queued = False
        return record


def can_be_written(record: RunRecord) -> bool:
    """Whether its run exists, or can be created because its parent does."""
    return record.run_id is not None or record.parent is None or record.parent.run_id is not None
