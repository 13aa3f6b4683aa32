"""The background writer: brings run records to a store, in order per run, also after outages.

It depends neither on MLflow nor on studies. A ``RunRecord`` collects what one run is still to receive;
a change is followed by ``Writer.put``. Threads of the writer take records one at a time, so that one run
never has two requests under way, and what gathers meanwhile goes into one batch.

- ``WriteQueue`` decides which record is next. A run whose trial is over before it was created is written
  whole, in one visit, and where the store has transactions several in one.
- A failed request is tried again immediately. Failing again means trouble if nothing succeeds any more, and
  so does a store that asks to wait for long: one warning, then one attempt at a time with growing pauses
  until one succeeds. Nothing is dropped meanwhile.
- A store that fails occasionally is not in trouble: the record takes its turn again after a short pause of
  random length, the others continue.
  Requests that take long do not hold up the others either: there are more threads then.
- A record that keeps failing while others succeed is abandoned with a warning, and kept for ``unwritten``.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable

from sparktune.tracking.records import (
    TAGS_AT_FIRST,
    Content,
    RefusedError,
    RunRecord,
    Store,
    StoreBusyError,
    UnusableError,
)
from sparktune.tracking.refusals import in_short
from sparktune.tracking.schema import with_finals_last
from sparktune.tracking.write_queue import WriteQueue, can_be_written

logger = logging.getLogger("sparktune")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
OUTAGE_FAILURES = 3
"""So many requests that failed one after another, none succeeding since they were made, are an outage; one
more for each further thread."""
SILENT_S = 30.0
"""One that was not answered for so long, none succeeding since it was made, is an outage by itself."""
SLOW_S = 1.0
"""A thread whose request takes longer does not count towards the limit of threads, as long as other requests
succeed: a server that is overwhelmed gets no more of them."""
THREADS_IF_SLOW = 4
"""Times the limit: how many threads there are at most."""
MAX_FAILURES = 15
LONGEST_FAILING_S = 10.0
"""A record that failed more often than that in a row, and for longer, not counting outages, is abandoned."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 1.0
"""A record that failed twice waits for a random time up to the first before it takes its turn again, then for
up to twice as long each time. Chance ends what would repeat itself: the threads' requests come in turn, and a
server that fails every third of them could fail one record each time."""
BUSY_PATIENCE_S = 10.0
"""How long a store may ask to wait (HTTP 429) before that counts as an outage too."""


def _is_abandoned(record: RunRecord) -> bool:
    """Whether the record is never written: it was abandoned, or the run above it was and does not exist."""
    parent = record.parent
    has_no_parent = parent is not None and parent.set_aside is not None and parent.run_id is None
    return record.set_aside is not None or (record.run_id is None and has_no_parent)


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
        self._queue = WriteQueue()
        self._unclean: dict[RunRecord, None] = {}
        self._under_way: dict[RunRecord, Content] = {}
        self._max_threads = threads
        self._threads: list[threading.Thread] = []
        self._began: dict[int, float] = {}
        self._n_failed = 0
        self._n_for_outage = OUTAGE_FAILURES + threads - 1
        self._idle = 0
        self._active = 0
        self._closed = False
        self._last_success = clock()
        self._trouble: str | None = None
        self._pause_s = FIRST_PAUSE_S
        self._not_before = 0.0
        self._busy_since: float | None = None
        self._warned_abandoned: set[bool] = set()  # whether the warning was logged for a parent, for a child

    @property
    def in_trouble(self) -> bool:
        """Whether the store is known not to answer at the moment."""
        return self._trouble is not None

    @property
    def why(self) -> str | None:
        """The store's message, while in trouble."""
        return self._trouble

    def now(self) -> float:
        """The writer's clock, seconds."""
        return self._clock()

    def put(self, record: RunRecord, within_s: float = 0.0, create_in_s: float = 0.0) -> None:
        """The record has something to be written: create it in ``create_in_s``, fill it in ``within_s`` s."""
        with self.lock:
            self._unclean[record] = None
            if record.run_id is None:
                record.turn.fill_due = self._clock() + within_s
                self._enqueue(record, create_in_s)
            else:
                self._enqueue(record, within_s)

    def _enqueue(self, record: RunRecord, within_s: float = 0.0, *, first: bool = False) -> None:
        if self._queue.add(record, self._clock(), within_s, first=first):
            self._call_a_thread()

    def _call_a_thread(self) -> None:
        is_short = self._idle < max(len(self._queue), 1)
        if is_short and self._may_have_another() and not self._closed:
            name = f"sparktune-mlflow-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._work.notify()

    def _may_have_another(self) -> bool:
        n_threads = len(self._threads)
        if n_threads < self._max_threads:
            return True
        if self._max_threads == 1 or n_threads >= THREADS_IF_SLOW * self._max_threads:
            return False
        now = self._clock()
        slow = [began for began in self._began.values() if now - began > SLOW_S]
        return n_threads - len(slow) < self._max_threads and self._last_success > max(slow, default=now)

    def _next(self, now: float) -> RunRecord | None:
        if now < self._not_before or (self._trouble and self._active):
            return None
        # In trouble they take turns: one run that cannot be created must not hide that all else works.
        return self._queue.take(fair=self._trouble is not None)

    def _group(self, record: RunRecord) -> list[RunRecord]:
        """The record, and others that can be written in one transaction with it."""
        group = [record]
        if self._is_whole(record):
            while len(group) < self._store.together:
                other = self._queue.next_over()
                if other is None or not self._is_whole(other):
                    break
                group.append(self._queue.take_over())
        return group

    def _is_whole(self, record: RunRecord) -> bool:
        """Whether the run can be created and filled in one visit: its trial is over, and it has no id yet."""
        fresh = record.run_id is None and record.prepare is None and not self._may_exist(record)
        is_over = record.status is not None and record.parent is not None and record.parent.run_id is not None
        return fresh and is_over and not record.turn.is_alone and self._store.together > 0

    def _may_exist(self, record: RunRecord) -> bool:
        claimable = record.claimable_s is not None and self._clock() >= record.claimable_s
        return record.uncertain or claimable

    def _run(self) -> None:
        with self.lock:
            while not self._closed:
                now = self._clock()
                due_s = self._queue.advance(now)
                record = self._next(now)
                if record is None:
                    waits = [] if due_s is None else [due_s]
                    if self._not_before > now and len(self._queue):
                        waits.append(self._not_before - now)
                    self._idle += 1
                    self._work.wait(min(waits, default=None))
                    self._idle -= 1
                    continue
                whole = self._is_whole(record)
                group = self._group(record)
                self._active += 1
                self._began[threading.get_ident()] = now
                for one in group:
                    one.turn.is_busy = True
                jobs = [(one, Content.take(one)) for one in group]
                self._under_way.update(jobs)
                self.lock.release()
                error: Exception | None = None
                try:
                    self._write_whole(jobs) if whole else self._handle(*jobs[0])
                except Exception as e:  # whatever a store raises must not end the writer
                    error = e
                finally:
                    self.lock.acquire()
                    self._active -= 1
                    del self._began[threading.get_ident()]
                    for one in group:
                        one.turn.is_busy = False
                        self._give_back(one)
                for one in group:
                    if error is None:
                        self._succeeded(one)
                    elif whole:  # the store will report again which one it refuses, and why
                        one.turn.is_alone = one.uncertain = True
                        self._enqueue(one)
                    else:
                        self._failed(one, error, now)
                self._done.notify_all()
                self._work.notify_all() if self._max_threads > 1 else None

    def _give_back(self, record: RunRecord) -> None:
        """What a request took of the record and has not written is still to be written."""
        content = self._under_way.pop(record, None)
        if content is not None:
            content.give_back(record)

    def _write_whole(self, jobs: list[tuple[RunRecord, Content]]) -> None:
        """Create runs of trials that are over, with all their content; without the lock."""
        for _, content in jobs:
            content.metrics = with_finals_last(content.metrics, {})
        for (record, _), run_id in zip(jobs, self._store.create_whole(jobs), strict=True):
            self._exists(record, run_id)

    def _handle(self, record: RunRecord, content: Content) -> None:
        """One request, or a few, for one record; without the lock."""
        is_new = False
        if record.run_id is None:
            run_id, is_new = self._create(record, content)
            self._exists(record, run_id)
            if content.status is None:
                return
        assert record.run_id is not None
        if any(point.final for point in content.metrics):
            latest = {} if is_new else self._store.latest(record.run_id)
            content.metrics = with_finals_last(content.metrics, latest)
        self._store.write(record.run_id, content)

    def _create(self, record: RunRecord, content: Content) -> tuple[str, bool]:
        """The run's id, and whether it did not exist before."""
        if record.prepare is not None:
            return record.prepare(), False
        if self._may_exist(record) and (found := self._store.find(record)):
            return found, False
        tags = dict(itertools.islice(content.tags.items(), TAGS_AT_FIRST))
        run_id = self._store.create(record, tags)
        for key in tags:
            del content.tags[key]
        return run_id, True

    def _exists(self, record: RunRecord, run_id: str) -> None:
        """The run was created: pass its id to those that wait for it."""
        with self.lock:
            record.run_id, record.failures = run_id, 0
            self._last_success, self._n_failed = self._clock(), 0
            if record.turn.created is not None:
                record.turn.created.set()
            waiting, record.turn.waiting = record.turn.waiting, []
            for tell, _ in waiting:
                tell(run_id)

    def _succeeded(self, record: RunRecord) -> None:
        self._last_success = self._clock()
        self._n_failed = record.failures = 0
        record.not_before = 0.0
        if record.dirty:
            dues = [due for due in (record.turn.due, record.turn.fill_due) if due is not None]
            record.turn.due = record.turn.fill_due = None
            self._enqueue(record, max(0.0, min(dues) - self._clock()) if dues else 0.0)
        else:
            record.turn.due = None
            self._unclean.pop(record, None)
        if self._trouble is not None:
            logger.info("MLflow answers again; %d runs wait to be written", len(self._queue))
            self._trouble = None
            self._work.notify_all()
        self._pause_s, self._not_before, self._busy_since = FIRST_PAUSE_S, 0.0, None

    def _failed(self, record: RunRecord, error: Exception, began: float) -> None:
        record.turn.due = None  # the next attempt writes all that it holds
        is_busy = isinstance(error, StoreBusyError)
        if is_busy and self._is_patient():
            self._pause(error)
            self._enqueue(record, first=True)
            return
        if record.run_id is None:
            record.uncertain = True
        if isinstance(error, RefusedError):
            self._set_aside(record, error)
            return
        now = self._clock()
        is_silent = isinstance(error, TimeoutError) and now - SILENT_S >= began >= self._last_success
        if self._trouble is None and not is_busy and not is_silent:
            record.failures += 1
            self._n_failed += began >= self._last_success
            if record.failures == 1:
                record.failed_at = record.failing_since = now
                self._enqueue(record, first=True)
                return
            if record.failures > MAX_FAILURES and now - record.failing_since >= LONGEST_FAILING_S:
                self._set_aside(record, error)  # something else succeeded after each failure
                return
            if self._last_success > record.failed_at or self._n_failed < self._n_for_outage:
                record.failed_at = now
                longest_s = min(FIRST_RETRY_S * 2 ** (record.failures - 2), LONGEST_RETRY_S)
                record.not_before = now + random.uniform(0, longest_s)
                self._enqueue(record)
                return
        if self._trouble is None:
            self._trouble = in_short(error)
            logger.warning(
                "MLflow cannot be written to (%s). The study continues; records are kept and written when "
                "the server is back.",
                self._trouble,
            )
            self._wake_waiting()
        self._release_waiting(record)
        self._pause(error)
        self._enqueue(record)

    def _is_patient(self) -> bool:
        """The store asks to wait: whether it has not asked for long, and is not known to be away."""
        now = self._clock()
        if self._busy_since is None:
            self._busy_since = now
        return self._trouble is None and now - self._busy_since < BUSY_PATIENCE_S

    def _pause(self, error: Exception) -> None:
        wanted_s = error.pause_s if isinstance(error, StoreBusyError) else 0.0
        self._not_before = self._clock() + max(wanted_s, self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _set_aside(self, record: RunRecord, error: Exception) -> None:
        record.set_aside = in_short(error)
        is_child = record.parent is not None
        what = f"the run {record.name!r}" if record.name else "the parent run"
        is_known = is_child in self._warned_abandoned or isinstance(error, UnusableError)
        level = logging.DEBUG if is_known else logging.WARNING
        self._warned_abandoned.add(is_child)
        logger.log(level, "MLflow does not take %s: %s", what, record.set_aside)
        self._release_waiting(record)
        if record.parent is None and record.run_id is None:  # no run can be created now
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        for record in self._unclean:
            if record.run_id is None:
                self._release_waiting(record)

    def _release_waiting(self, record: RunRecord) -> None:
        """Call those that cannot wait for the run with None; the others when it exists."""
        if record.turn.created is not None:
            record.turn.created.set()
        pressing = [tell for tell, hurry in record.turn.waiting if hurry]
        record.turn.waiting = [(tell, hurry) for tell, hurry in record.turn.waiting if not hurry]
        for tell in pressing:
            record.uncertain = True
            tell(None)

    def when_created(self, record: RunRecord, tell: Callable[[str | None], None], *, hurry: bool) -> None:
        """Have ``tell`` called with the record's run id once it exists; immediately where it does.

        With ``hurry`` the run is created before others, and ``tell(None)`` means that it cannot be created
        for now; the record counts as uncertain from then on. ``tell`` is called from any thread, under the
        lock, and must not block.
        """
        with self.lock:
            if record.run_id is not None:
                tell(record.run_id)
                return
            record.turn.waiting.append((tell, hurry))
            if hurry and self._is_lost(record):
                self._release_waiting(record)
            elif hurry and not record.turn.is_busy and can_be_written(record):
                self._queue.move_up(record, self._clock())
                self._call_a_thread()

    def _is_lost(self, record: RunRecord) -> bool:
        """Whether the run cannot be created for now, or never."""
        return self._closed or self._trouble is not None or _is_abandoned(record)

    def wait_created(self, record: RunRecord, stall_s: float, longest_s: float) -> str | None:
        """The record's run id, waiting for it while the store makes progress.

        Returns None immediately in trouble, after ``stall_s`` seconds without any success of the store, and
        after ``longest_s`` seconds. A record for which None was returned counts as uncertain from then on.
        """
        start = self._clock()
        while True:
            with self.lock:
                now = self._clock()
                left = min(longest_s - (now - start), stall_s - (now - max(start, self._last_success)))
                if record.run_id is not None:
                    return record.run_id
                if self._is_lost(record) or left <= 0:
                    record.uncertain = True
                    return None
                if record.turn.created is None:
                    record.turn.created = threading.Event()
                record.turn.created.clear()
            record.turn.created.wait(left)

    def flush(self, records: Iterable[RunRecord] | None, stall_s: float, since: float | None = None) -> bool:
        """Wait until the records (default: all) are written, as long as the store makes progress.

        ``since`` is the time (``now``) from which on to wait, where that is earlier than the call.

        Returns:
            Whether all are; False after ``stall_s`` seconds without any success, and when what is left was
            abandoned.
        """
        chosen = None if records is None else list(records)
        start = self._clock() if since is None else since
        with self.lock:
            self._not_before, self._pause_s = 0.0, FIRST_PAUSE_S
            self._work.notify_all()
            while True:
                left = [r for r in (self._unclean if chosen is None else chosen) if r in self._unclean]
                if not left:
                    return True
                for record in left:
                    if record.turn.due is not None and not record.turn.is_busy:  # now, not later
                        record.turn.due = None
                        self._enqueue(record)
                patience = stall_s - (self._clock() - max(start, self._last_success))
                if patience <= 0 or self._closed or all(map(_is_abandoned, left)):
                    return False
                self._done.wait(patience)

    def unwritten(self) -> list[RunRecord]:
        """Every record that is not fully written, parents first."""
        with self.lock:
            return sorted(self._unclean, key=lambda record: record.parent is not None)

    def close(self) -> None:
        """End the threads once their requests under way return; does not wait for them.

        What these have not written until now counts as unwritten.
        """
        with self.lock:
            self._closed = True
            for record in list(self._under_way):
                self._give_back(record)
            self._work.notify_all()
            self._wake_waiting()
