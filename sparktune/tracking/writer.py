"""The background writer: brings run records to a store, in order per run, and sits out outages.

It knows nothing of MLflow and nothing of studies. A ``RunRecord`` collects what one run is still to receive;
whoever changes one calls ``Writer.put``. Threads of the writer take records one at a time, so that one run
never has two requests under way, and what gathers meanwhile goes into one batch.

- Creating runs comes before filling them: a trial waits for its run, nobody waits for a metric. Only when
  more than ``LONG_BACKLOG`` runs wait to be filled do the two take turns.
- A failed request is tried once more at once. Failing again means trouble: one warning, then one attempt at a
  time with growing pauses until one succeeds. Nothing is dropped meanwhile.
- A record that keeps failing while others succeed is set aside, said so, and kept for ``unwritten``.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from sparktune.tracking.records import Content, RefusedError, RunRecord, Store, StoreBusyError
from sparktune.tracking.schema import cut

logger = logging.getLogger("sparktune")

LONG_BACKLOG = 200
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
MAX_FAILURES = 10
"""How often in a row a record may fail, not counting outages, before it is set aside."""


class Writer:
    """See the module.

    Args:
        store: where to.
        threads: how many requests may be under way.
        clock: seconds that never go back.
    """

    def __init__(self, store: Store, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self._store = store
        self._clock = clock
        self._work = threading.Condition(self.lock)
        self._done = threading.Condition(self.lock)
        self._creates: deque[RunRecord] = deque()
        self._writes: deque[RunRecord] = deque()
        self._later: list[tuple[float, int, RunRecord]] = []
        self._count = itertools.count()
        self._unclean: dict[RunRecord, None] = {}
        self._max_threads = threads
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._active = 0
        self._created_last = False
        self._closed = False
        self._last_success = clock()
        self._trouble: str | None = None
        self._pause_s = FIRST_PAUSE_S
        self._not_before = 0.0

    @property
    def in_trouble(self) -> bool:
        """Whether the store is known not to answer at the moment."""
        return self._trouble is not None

    @property
    def why(self) -> str | None:
        """What the store said, while in trouble."""
        return self._trouble

    def put(self, record: RunRecord, within_s: float = 0.0) -> None:
        """The record has something to be written: create it at once, fill it in ``within_s`` seconds."""
        with self.lock:
            self._unclean[record] = None
            if record.run_id is None:
                record._fill_due = self._clock() + within_s
            self._enqueue(record, within_s)

    def _enqueue(self, record: RunRecord, within_s: float = 0.0, first: bool = False) -> None:
        if record._queued or record._busy or record.set_aside:
            if record._busy:  # the thread that holds it looks again when it is done
                due = self._clock() + within_s
                record._due = due if record._due is None else min(record._due, due)
            return
        if record.run_id is not None and within_s > 0:
            due = self._clock() + within_s
            if record._due is not None and record._due <= due:
                return
            record._due = due
            heapq.heappush(self._later, (due, next(self._count), record))
        else:
            record._queued, record._due = True, None
            create = record.run_id is None
            queue = self._creates if create else self._writes
            # Before a parent exists, nothing else can be created.
            (queue.appendleft if first or (create and record.parent is None) else queue.append)(record)
        jobs = len(self._creates) + len(self._writes)
        if self._idle < max(jobs, 1) and len(self._threads) < self._max_threads and not self._closed:
            name = f"sparktune-mlflow-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._work.notify()

    def _next(self, now: float) -> RunRecord | None:
        while self._later and self._later[0][0] <= now:
            due, _, record = heapq.heappop(self._later)
            if record._due == due and not record._queued and not record._busy:
                record._queued, record._due = True, None
                self._writes.append(record)
        if now < self._not_before or (self._trouble and self._active):
            return None
        create = self._creates[0] if self._creates else None
        if create is not None and create.parent is not None and create.parent.run_id is None:
            create = None
        # In trouble they take turns too: one run that cannot be created must not hide that all else works.
        turn = self._created_last and (len(self._writes) > LONG_BACKLOG or self._trouble is not None)
        if create is not None and not (turn and self._writes):
            self._created_last = True
            record = self._creates.popleft()
        elif self._writes:
            self._created_last = False
            record = self._writes.popleft()
        else:
            return None
        record._queued = False
        return record

    def _wait_s(self, now: float) -> float | None:
        moments = [self._later[0][0]] if self._later else []
        if self._not_before > now and (self._creates or self._writes):
            moments.append(self._not_before)
        return max(0.0, min(moments) - now) if moments else None

    def _run(self) -> None:
        with self.lock:
            while not self._closed:
                now = self._clock()
                record = self._next(now)
                if record is None:
                    self._idle += 1
                    self._work.wait(self._wait_s(now))
                    self._idle -= 1
                    continue
                record._busy = True
                self._active += 1
                content = Content.take(record)
                self.lock.release()
                error: Exception | None = None
                try:
                    run_id = self._handle(record, content)
                except Exception as e:  # whatever a store raises must not end the writer
                    error = e
                finally:
                    self.lock.acquire()
                    record._busy = False
                    self._active -= 1
                    content.give_back(record)
                if error is None:
                    record.run_id = run_id
                    self._succeeded(record)
                else:
                    self._failed(record, error)
                self._done.notify_all()
                self._work.notify_all() if self._max_threads > 1 else None

    def _handle(self, record: RunRecord, content: Content) -> str:
        """One request, or a few, for one record; without the lock."""
        if record.run_id is not None:
            self._store.write(record.run_id, content)
            return record.run_id
        if record.prepare is not None:
            return record.prepare()
        if record.uncertain and (found := self._store.find(record)):
            return found
        tags = dict(itertools.islice(content.tags.items(), 90))
        run_id = self._store.create(record, tags)
        for key in tags:
            del content.tags[key]
        return run_id

    def _succeeded(self, record: RunRecord) -> None:
        self._last_success = self._clock()
        record.failures = 0
        if record._created is not None and record.run_id is not None:
            record._created.set()
        if record.dirty:
            dues = [due for due in (record._due, record._fill_due) if due is not None]
            record._due = record._fill_due = None
            self._enqueue(record, max(0.0, min(dues) - self._clock()) if dues else 0.0)
        else:
            record._due = None
            self._unclean.pop(record, None)
        if self._trouble is not None:
            waiting = len(self._creates) + len(self._writes)
            logger.info("MLflow answers again; %d runs wait to be written", waiting)
            self._trouble = None
            self._work.notify_all()
        self._pause_s, self._not_before = FIRST_PAUSE_S, 0.0

    def _failed(self, record: RunRecord, error: Exception) -> None:
        now = self._clock()
        if isinstance(error, StoreBusyError):
            self._not_before = now + max(error.pause_s, self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._enqueue(record, first=True)
            return
        if record.run_id is None:
            record.uncertain = True
        if isinstance(error, RefusedError):
            self._set_aside(record, error)
            return
        if self._trouble is None:
            record.failures += 1
            if record.failures == 1:
                self._enqueue(record, first=True)
                return
            if record.failures > MAX_FAILURES:  # something else succeeded after each of these
                self._set_aside(record, error)
                return
        if self._trouble is None:
            self._trouble = cut(f"{type(error).__name__}: {error}", 500)
            logger.warning(
                "MLflow cannot be written to (%s). The study goes on; records are kept and written when the "
                "server is back.",
                self._trouble,
            )
            self._wake_waiting()
        if record._created is not None:
            record._created.set()
        self._not_before = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._enqueue(record)

    def _set_aside(self, record: RunRecord, error: Exception) -> None:
        record.set_aside = cut(f"{type(error).__name__}: {error}", 500)
        logger.warning("MLflow does not take the run %r: %s", record.name, record.set_aside)
        if record._created is not None:
            record._created.set()
        if record.parent is None:  # nobody's run can be created now
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        for record in self._creates:
            if record._created is not None:
                record._created.set()

    def wait_created(self, record: RunRecord, stall_s: float, longest_s: float) -> str | None:
        """The record's run id, waiting for it while the store makes progress.

        Returns None at once in trouble, after ``stall_s`` seconds without any success of the store, and after
        ``longest_s`` seconds. A record for which None was returned counts as uncertain from then on.
        """
        start = self._clock()
        while True:
            with self.lock:
                now = self._clock()
                left = min(longest_s - (now - start), stall_s - (now - max(start, self._last_success)))
                if record.run_id is not None:
                    return record.run_id
                parent_lost = record.parent is not None and record.parent.set_aside is not None
                lost = self._closed or record.set_aside is not None or parent_lost
                if self._trouble is not None or lost or left <= 0:
                    record.uncertain = True
                    return None
                if record._created is None:
                    record._created = threading.Event()
                record._created.clear()
            record._created.wait(left)

    def flush(self, records: Iterable[RunRecord] | None, stall_s: float) -> bool:
        """Wait until the records (default: all) are written, as long as the store makes progress.

        Returns:
            Whether all are; False after ``stall_s`` seconds without any success, and when what is left was
            set aside.
        """
        chosen = None if records is None else list(records)
        start = self._clock()
        with self.lock:
            self._not_before, self._pause_s = 0.0, FIRST_PAUSE_S
            self._work.notify_all()
            while True:
                left = [r for r in (self._unclean if chosen is None else chosen) if r in self._unclean]
                if not left:
                    return True
                for record in left:
                    if record._due is not None and not record._busy:  # now, not later
                        record._due = None
                        self._enqueue(record)
                patience = stall_s - (self._clock() - max(start, self._last_success))
                hopeless = all(r.set_aside or (r.parent is not None and r.parent.set_aside) for r in left)
                if patience <= 0 or self._closed or hopeless:
                    return False
                self._done.wait(patience)

    def unwritten(self) -> list[RunRecord]:
        """Every record that is not fully written, parents first."""
        with self.lock:
            return sorted(self._unclean, key=lambda record: record.parent is not None)

    def close(self) -> None:
        """End the threads once their requests under way return; does not wait for them."""
        with self.lock:
            self._closed = True
            self._work.notify_all()
            self._wake_waiting()
