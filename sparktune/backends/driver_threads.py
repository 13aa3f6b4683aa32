"""A backend that runs each trial in a thread of this process, for objectives that use Spark themselves.

A thread cannot be ended from outside. A trial that is to end is ended at its next report, and at its next
Spark job: the jobs of its tag are cancelled repeatedly until its thread has ended. One that does neither is
abandoned after a while, with a warning.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sparktune.backends.spark_application import Application
from sparktune.backends.spark_cluster import cancelled_with_caller
from sparktune.errors import SparkNotAvailable, StudyCancelled
from sparktune.study import interrupts
from sparktune.study.backend import Cancelled, Event, Failed, Finished, Reported, Started, Task, Terminated
from sparktune.study.tracker import RunContext, Tell
from sparktune.study.trial import TrialError
from sparktune.worker import reporting, threads
from sparktune.worker.objective import Objective

logger = logging.getLogger("sparktune")

CANCEL_AGAIN_S = 0.25
"""How often the Spark jobs of a trial that is to end are cancelled: it may start another."""
TERMINATE_S = 10.0
"""How long an objective may take to end after its ``report`` was answered so; then it is stopped."""
ABANDON_AFTER_S = 10.0
"""How long a stopped trial is waited for."""
ANSWER_S = 5.0
"""How long a report waits for its answer; a busy driver's decision then takes effect at the next report."""

Recorded = Callable[[RunContext | None, Callable[[Tell], None]], contextlib.AbstractContextManager[None]]
"""The context of a trial's MLflow run: ``tracking.driver_runs.DriverRuns.trial``."""


@dataclass(eq=False)
class _Run:
    """One trial under way; it is its own ``reporting.Reporter``.

    Attributes:
        task: what runs.
        tag: of its Spark jobs.
        slot: 0, 1, ... of those at the same time.
        inbox: where its events go.
        ending: set when its next report ends it; a study that runs inside it ends then.
        terminating_since: monotonic time at which a report was answered with the trial's end, or None.
        stopping_since: monotonic time of the first stop, or None.
        is_asking: a report waits for its answer.
        answered: set to wake the report that waits.
        is_over: its end was delivered, or it was abandoned.
    """

    task: Task
    tag: str
    slot: int
    inbox: queue.SimpleQueue[Any]
    ending: reporting.Ending = field(default_factory=reporting.Ending)
    terminating_since: float | None = None
    stopping_since: float | None = None
    is_asking: bool = False
    answered: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False

    @property
    def is_to_end(self) -> bool:
        """Whether its next report ends it."""
        return self.ending.is_due

    def report(self, step: int, value: float) -> bool:
        """Pass a report to the study; True when the trial is to end."""
        if not self.is_to_end:
            self.answered.clear()
            self.is_asking = True
            self.inbox.put(Reported(self.task.trial_id, _now(), value, step))
            if not self.is_to_end:  # it may have ended meanwhile, before the event was cleared
                self.answered.wait(ANSWER_S)
            self.is_asking = False
        return self.is_to_end

    def end(self) -> None:
        """Have the next report end the trial, and the one that waits."""
        self.ending.set()
        self.answered.set()


_EPOCH = time.time() - time.monotonic()


def _now() -> float:
    return _EPOCH + time.monotonic()


class DriverThreadsBackend:
    """Runs trials in threads.

    Args:
        objective: what to run; it is not copied.
        slots: how many trials run at the same time.
        application: where their Spark jobs run, or None.
        recorded: surrounds each objective in its thread, for its MLflow calls to land on the trial's run.
    """

    def __init__(
        self,
        objective: Objective,
        slots: int,
        application: Application | None = None,
        recorded: Recorded = lambda _context, _ask: contextlib.nullcontext(),
    ) -> None:
        self._objective = objective
        self._slots = slots
        self._app = application
        self._recorded = recorded
        self._name = f"sparktune-{secrets.token_hex(8)}"
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._runs: dict[int, _Run] = {}
        self._abandoned: list[_Run] = []
        self._undelivered: list[Event] = []
        self._is_cut_off = False
        self._ended_by: StudyCancelled | None = None
        """An objective's jobs were cancelled from outside; the driver must still be notified."""
        self._insist_at = 0.0
        self._is_interrupted = self._interrupt_is_due = False
        """An objective raised KeyboardInterrupt; the driver must still be notified."""
        self._host = socket.gethostname()

    def now(self) -> float:
        """Unix time in seconds that never goes back."""
        return _now()

    def slots(self) -> int:
        """How many trials can run now."""
        return self._slots

    def launch(self, task: Task) -> None:
        """Run a trial."""
        taken = {run.slot for run in self._runs.values()}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        run = _Run(task, f"{self._name}-{task.trial_id}", slot, self._inbox)
        self._runs[task.trial_id] = run

        def body() -> None:
            self._work(run)

        target = body if self._app is None else self._app.inheriting(body)
        threading.Thread(target=target, name=run.tag, daemon=True).start()

    def go_on(self, trial_id: int) -> None:
        """Answer a report: the objective continues."""
        run = self._runs.get(trial_id)
        if run is not None:
            run.answered.set()

    def terminate(self, trial_id: int) -> None:
        """Answer a report: the objective ends: at its next report or Spark job, whichever comes first."""
        run = self._runs.get(trial_id)
        if run is None:
            return
        if run.is_asking:
            run.terminating_since = time.monotonic()
            run.end()
        elif run.terminating_since is None:
            self.stop(trial_id)  # its metric was read in MLflow: it may never report

    def stop(self, trial_id: int) -> None:
        """Stop a trial."""
        run = self._runs.get(trial_id)
        if run is None:
            return
        if run.stopping_since is None:
            run.stopping_since = time.monotonic()
        run.end()
        self._cancel_jobs(run)

    def _cancel_jobs(self, run: _Run) -> None:
        if self._app is not None:
            with interrupts.held(), contextlib.suppress(Exception):  # a session that has ended has no jobs
                self._app.cancel(run.tag)

    def post(self, event: Event) -> None:
        """Have ``wait`` deliver an event from elsewhere."""
        self._inbox.put(event)

    def under_way(self) -> set[int]:
        """The launched trials whose end has not been delivered."""
        return {*self._runs, *(event.trial_id for event in self._undelivered)}

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Wait for events.

        Raises:
            KeyboardInterrupt: an objective raised it: in this process it ends the study, as Ctrl-C does.
            StudyCancelled: once, when others cancelled the Spark jobs of an objective with all those of
                ``fmin``'s caller.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._undelivered:
            is_stopping = bool(self._abandoned) or any(run.is_to_end for run in self._runs.values())
            left = max(0.0, until - time.monotonic())
            patience = min(CANCEL_AGAIN_S, left) if is_stopping else left
            with contextlib.suppress(queue.Empty):
                event = interrupts.get(self._inbox, None if math.isinf(patience) else patience)
                if self._interrupt_is_due:
                    self._interrupt_is_due = False
                    self._inbox.put(event)  # it is taken in when the study has been stopped
                    raise KeyboardInterrupt
                self._undelivered += self._taken(event)
                while True:
                    self._undelivered += self._taken(interrupts.get(self._inbox, 0.0))
            if time.monotonic() >= self._insist_at:  # however busy the inbox is
                self._insist_at = time.monotonic() + CANCEL_AGAIN_S
                self._undelivered += self._insist()
            if time.monotonic() >= until:
                break
        if self._ended_by is not None:
            error, self._ended_by = self._ended_by, None
            raise error
        events, self._undelivered = self._undelivered, []
        return events

    def _taken(self, event: Event) -> list[Event]:
        if isinstance(event, Reported) and event.source == "tracker":  # perhaps of a trial that has ended
            return [event]
        run = self._runs.get(event.trial_id)
        if run is None:
            return []  # its thread was abandoned
        if not isinstance(event, Started | Reported):
            del self._runs[event.trial_id]
        # By the clock of its delivery: threads do not come in the order of theirs.
        return [replace(event, at_s=self.now())]

    def _insist(self) -> list[Event]:
        """Cancel the jobs of trials that are to end again, and abandon those that take too long."""
        events: list[Event] = []
        now = time.monotonic()
        for run in [run for run in self._runs.values() if run.is_to_end]:
            if run.stopping_since is None:
                if run.terminating_since is not None and now - run.terminating_since > TERMINATE_S:
                    self.stop(run.task.trial_id)  # it continues after TrialTerminated
                continue
            self._cancel_jobs(run)
            if now - run.stopping_since > ABANDON_AFTER_S:
                logger.warning(
                    "%s was stopped %.0f s ago and still runs in a thread of this process: it neither "
                    "reports nor runs Spark jobs, and cannot be ended from outside. It goes on until it "
                    "returns, and its result is not used",
                    run.task.description,
                    ABANDON_AFTER_S,
                )
                del self._runs[run.task.trial_id]
                self._abandoned.append(run)
                events.append(Cancelled(run.task.trial_id, self.now()))
        self._abandoned = [run for run in self._abandoned if not run.is_over]
        for run in self._abandoned:
            self._cancel_jobs(run)
        return events

    def close(self) -> None:
        """Stop what still runs and release everything: ends what can be ended."""
        for trial_id in list(self._runs):
            self.stop(trial_id)
        while self._runs:
            self.wait(CANCEL_AGAIN_S)

    # -- in the trial's thread -------------------------------------------------------------------------

    def _is_cancelled(self, run: _Run, error: BaseException) -> bool:
        return self._app is not None and run.stopping_since is None and self._app.is_cancelled(error)

    def _work(self, run: _Run) -> None:
        task = run.task
        began = time.perf_counter()
        end: Event
        try:
            if run.is_to_end or self._is_interrupted:
                self._inbox.put(Cancelled(task.trial_id, self.now()))
                return
            if self._app is not None:
                self._app.mark(run.tag)
                self._app.use_pool(f"sparktune-{run.slot}")
            context = task.run_context()
            self._inbox.put(Started(task.trial_id, self.now(), 1, self._host, os.getpid()))
            ask = functools.partial(task.ask_run, task.trial_id, hurry=True)
            with self._recorded(context, ask), reporting.in_thread(run, run.ending), threads.inherited():
                result, attachments = self._objective.evaluate(task.trial_id, task.config)
            took = time.perf_counter() - began
            end = Finished(task.trial_id, self.now(), result, attachments, took)
        except reporting.TrialTerminated:
            end = Terminated(task.trial_id, self.now(), time.perf_counter() - began)
        except KeyboardInterrupt:
            self._is_interrupted = self._interrupt_is_due = True
            end = Cancelled(task.trial_id, self.now())
        except BaseException as error:
            if self._is_cancelled(run, error):
                if not self._is_cut_off:
                    self._is_cut_off, self._ended_by = True, cancelled_with_caller(error)
                run.stopping_since = time.monotonic()  # not the trial's own failure
            end = Failed(task.trial_id, self.now(), TrialError.of(error), time.perf_counter() - began)
        if run.stopping_since is not None and not isinstance(end, Finished):
            end = Cancelled(task.trial_id, self.now())
        run.is_over = True
        self._inbox.put(end)


def spark_or_none(make: Any) -> Application | None:
    """What ``make`` gives; None, where there is no Spark for the objective to use."""
    try:
        application: Application = make()
    except SparkNotAvailable as error:
        logger.info("trials run without Spark: %s", error)
        return None
    return application
