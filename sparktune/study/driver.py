"""The driver: an event loop over a backend's one waiting call.

It fills every free slot, waits for events, passes them to the study, and launches the next trial the moment
one ends. One thread runs it, and that thread alone changes trials; backends and trackers work in their own
threads and send events or take records.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from sparktune.study import interrupts
from sparktune.study.backend import Backend, Cancelled, Event, Lost, Reported, Started, Task
from sparktune.study.cut_off import cut_off_reason
from sparktune.study.reasons import TIMEOUT
from sparktune.study.study import Study
from sparktune.study.tracker import Tracker
from sparktune.study.trial import Trial, TrialState

logger = logging.getLogger("sparktune")

SLOTS_RECHECK_S = 5.0
"""While more parallelism was asked for than there are slots: how often to look whether slots have joined."""


READ_WATCHED_S = 10.0
"""How long the end of a study waits for what its last trials logged to MLflow."""
LONGEST_WAIT_S = 86400.0
"""One wait: a timeout of ``sys.maxsize`` seconds is more than a queue can wait for."""


class Observer(Protocol):
    """Is called at every change of a trial, in the driver's thread; what it raises ends the study."""

    def changed(self, trial: Trial) -> None:
        """The trial was launched, began on its worker, or reached a final state."""


class Keeper(Protocol):
    """Saves what became of the trials where it outlives this process."""

    def keep(self) -> None:
        """Save what the observers have seen, before anything acts on it; what it raises ends the study.

        Called once for all the ends that came together, before their slots are used again, and after
        launches.
        """


class Chore(Protocol):
    """Periodic work in the driver's thread, whether or not trials change."""

    def due_in_s(self) -> float | None:
        """In how many seconds it is due (0 or less: now); None while there is nothing to do."""

    def do(self) -> None:
        """Do it; what it raises ends the study."""


class Driver:
    """Runs one study on one backend.

    Args:
        study: what to run.
        backend: where to run it; closed at the end.
        tracker: records launches and ends.
        observers: called immediately at every change, in their order.
        keeper: saves ends before a listener is called or a slot is used again; None for no saving.
        listeners: called at every end, in their order, before the study decides whether to continue.
        chores: done when they are due.
        parallelism: the most trials that run at the same time, or None for every slot; never more than the
            backend has slots at that moment.
        deadline_s: the backend's time at which the study is stopped, or None.
        trial_timeout_s: seconds that an objective may run, from the moment it truly starts, or None.
        seed_of: trial id -> the seed of its random numbers.
        document_of: trial id -> its document, for the tracker.
        stop_request: why the study is to stop, as something outside of it wants; None as long as it may run.
    """

    def __init__(
        self,
        study: Study,
        backend: Backend,
        tracker: Tracker,
        *,
        observers: Iterable[Observer] = (),
        keeper: Keeper | None = None,
        listeners: Iterable[Observer] = (),
        chores: Iterable[Chore] = (),
        parallelism: int | None,
        deadline_s: float | None = None,
        trial_timeout_s: float | None = None,
        seed_of: Callable[[int], int | None] = lambda _trial_id: None,
        document_of: Callable[[int], Mapping[str, Any] | None] = lambda _trial_id: None,
        stop_request: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._study = study
        self._backend = backend
        self._tracker = tracker
        self._observers = tuple(observers)
        self._keeper = keeper
        self._listeners = tuple(listeners)
        self._chores = tuple(chores)
        self._parallelism = math.inf if parallelism is None else parallelism
        self._events: deque[Event] = deque()
        self._ended: deque[Trial] = deque()
        self._deadline_s = deadline_s
        self._trial_timeout_s = trial_timeout_s
        self._seed_of, self._document_of = seed_of, document_of
        self._stop_request = stop_request
        self._trial_deadlines: list[tuple[float, int, float]] = []

    def run(self) -> None:
        """Run the study to its end; when this returns, or raises, no objective of it is running any more.

        Raises:
            KeyboardInterrupt: Ctrl-C; running trials are cancelled, finished results kept.
            StudyCancelled: the study's jobs were cancelled from outside; as Ctrl-C.
            Exception: whatever the suggest function, an early stop function or an observer raised.
        """
        try:
            with interrupts.shielded():
                self._loop()
                with interrupts.admitted():
                    self._tracker.read_watched(READ_WATCHED_S)
                for event in self._backend.wait(0.0):
                    self._study.tell(event)
        except BaseException as error:
            with interrupts.held():
                self._stop(cut_off_reason(error) or f"{type(error).__name__}: {error}")
                self._drain()
            raise
        finally:
            try:
                with interrupts.held():
                    self._backend.close()
            finally:
                # A second interrupt ended the wait for them.
                for trial_id in self._study.running:
                    self._settle(Cancelled(trial_id, self._backend.now()))

    def _loop(self) -> None:
        study, backend = self._study, self._backend
        self._fill()
        self._keep()
        while not study.is_over:
            self._events.extend(backend.wait(self._wait_s()))
            while self._events:
                event = self._events[0]  # removed once handled: an observer may raise
                trial = study.tell(event)
                if trial is not None:
                    self._announce(trial)
                    if isinstance(event, Started | Lost | Reported):
                        self._follow(trial, event)
                self._events.popleft()
            self._process_ends()
            self._end_overdue()
            reason = TIMEOUT if self._is_late() else self._stop_request()
            if reason is not None and not study.is_over:
                self._stop(reason)
                self._process_ends()
            self._fill()
            self._keep()
            for chore in self._chores:
                due_s = chore.due_in_s()
                if due_s is not None and due_s <= 0:
                    chore.do()

    def _fill(self) -> None:
        study, backend = self._study, self._backend
        if study.is_stopping:
            return
        free = int(min(self._parallelism, backend.slots())) - study.n_running
        while free > 0 and not self._is_late():
            interrupts.admit()  # before a seed is drawn
            trial = study.next_trial(backend.now())
            if trial is None:
                return
            free -= 1
            self._launch(trial)
        study.suggest_ahead()

    def _launch(self, trial: Trial) -> None:
        trial_id = trial.trial_id
        self._tracker.launched(trial, self._document_of(trial_id))
        for observer in self._observers:
            observer.changed(trial)
        self._backend.launch(
            Task(
                trial_id=trial_id,
                config=trial.config,
                description=trial.describe,
                run_context=lambda: self._tracker.run_context(trial_id),
                ask_run=self._tracker.ask_run,
                seed=self._seed_of(trial_id),
                more=self._study.n_to_come,
            )
        )

    def _follow(self, trial: Trial, event: Started | Lost | Reported) -> None:
        """A running trial sent an event: note when its time is up, or answer its report."""
        trial_id = event.trial_id
        if isinstance(event, Lost):
            return
        if isinstance(event, Started):
            if self._trial_timeout_s is not None:
                due = event.at_s + self._trial_timeout_s
                heapq.heappush(self._trial_deadlines, (due, trial_id, event.at_s))
            return
        if event.source == "report":
            self._tracker.reported(trial, event.value, event.step)
        if self._study.is_doomed(trial_id):
            self._backend.terminate(trial_id)
        else:
            self._backend.go_on(trial_id)

    def _end_overdue(self) -> None:
        now = self._backend.now()
        while self._trial_deadlines and self._trial_deadlines[0][0] <= now:
            _, trial_id, began_s = heapq.heappop(self._trial_deadlines)
            if self._study.began(trial_id) == began_s:  # not one that was lost or started again since
                self._study.time_out(trial_id)
                self._backend.stop(trial_id)

    def _announce(self, trial: Trial) -> None:
        if trial.state is TrialState.FAILED and trial.error is not None:
            logger.error("%s failed: %s", trial.describe, trial.error.summary)
        for observer in self._observers:
            observer.changed(trial)
        if trial.state.is_final:
            self._ended.append(trial)

    def _keep(self) -> None:
        if self._keeper is not None:
            self._keeper.keep()

    def _process_ends(self) -> None:
        """Save the ends that came together; then call the listeners, and see whether one stops the study."""
        while self._ended:
            self._keep()
            for _ in range(len(self._ended)):
                trial = self._ended.popleft()
                for listener in self._listeners:
                    listener.changed(trial)
                interrupts.admit()
                if self._study.check_stop(trial):
                    self._stop(self._study.stop_reason or "")

    def _is_late(self) -> bool:
        return self._deadline_s is not None and self._backend.now() >= self._deadline_s

    def _wait_s(self) -> float | None:
        """How long to wait for an event: until a deadline, a chore, or the next look for new slots."""
        wait_s = math.inf
        if self._deadline_s is not None and not self._study.is_stopping:
            wait_s = max(0.0, self._deadline_s - self._backend.now())
        if self._trial_deadlines:
            wait_s = min(wait_s, max(0.0, self._trial_deadlines[0][0] - self._backend.now()))
        if self._parallelism > self._study.n_running and not self._study.is_stopping:
            wait_s = min(wait_s, SLOTS_RECHECK_S)
        dues_s = [due_s for chore in self._chores if (due_s := chore.due_in_s()) is not None]
        wait_s = min([wait_s, *(max(0.0, due_s) for due_s in dues_s)])
        return None if math.isinf(wait_s) else min(wait_s, LONGEST_WAIT_S)

    def _stop(self, reason: str) -> None:
        for trial in self._study.stop(reason):
            self._announce(trial)
        for trial_id in self._study.running:
            self._backend.stop(trial_id)

    def _drain(self) -> None:
        """After an exception: take in what still arrives, so that a result that arrived stays a result."""
        while True:
            while self._events:
                self._settle(self._events.popleft())
            # A trial that was being launched when the exception came may be unknown to the backend.
            for trial_id in set(self._study.running) - self._backend.under_way():
                self._settle(Cancelled(trial_id, self._backend.now()))
            if not self._study.n_running:
                self._in_any_case(self._process_ends, "recording the last ends")
                return
            self._events.extend(self._backend.wait(None))

    def _settle(self, event: Event) -> None:
        trial = self._study.tell(event)
        if trial is not None:
            self._in_any_case(lambda: self._announce(trial), trial.describe)
        self._in_any_case(self._process_ends, f"recording the end of trial {event.trial_id}")

    def _in_any_case(self, do: Callable[[], None], what: str) -> None:
        try:
            do()
        except Exception:
            logger.exception("while the study was being stopped, %s", what)
