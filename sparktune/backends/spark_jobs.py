"""The backend for Spark: one trial is one Spark task in its own one-task Spark job.

A pool of light threads, one per trial under way, each holds one job open. A trial's outcome comes over the
control channel while its Spark task is still being wound up, so the next trial is on its way before the slot
is free; where no worker reaches the driver's port, the outcome comes back as the job's result.

What differs between a classic session and Spark Connect is in the ``Application``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import pickle
import queue
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparktune.backends import control_port, encryption, spark_slots
from sparktune.backends.channel_server import ControlServer
from sparktune.backends.spark_application import Application
from sparktune.backends.spark_attempts import Attempts, Job, Losses
from sparktune.backends.spark_cluster import (
    COPIES,
    Ending,
    Waiting,
    attempts_of,
    default_attempts,
    ending_of,
    lost,
    with_remedy,
)
from sparktune.backends.spark_lanes import Lane, LaneJob, Lanes
from sparktune.backends.spark_pending import PendingJobs
from sparktune.backends.spark_session_end import SessionEnd
from sparktune.backends.spark_shipment import Shipment
from sparktune.backends.spark_slots import Kind, Plan, Size
from sparktune.errors import SparkNotAvailable, StudyCancelled
from sparktune.study import interrupts
from sparktune.study.backend import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Lost,
    Reported,
    Started,
    Task,
    Terminated,
)
from sparktune.study.tracker import RUN_PATIENCE_S, RunContext
from sparktune.worker import results
from sparktune.worker.channel import (
    Arrived,
    Asked,
    Begun,
    Endpoint,
    Gone,
    Prepared,
    ReportArrived,
    Signal,
    Wanted,
)
from sparktune.worker.objective import Objective
from sparktune.worker.processes import EndsInTime
from sparktune.worker.task import Outcome

logger = logging.getLogger("sparktune")

LOOK_S = 5.0
"""How often to look whether there are executors, while nothing happens."""
CANCEL_AGAIN_S = 0.25
"""How often a job that does not end is cancelled again: a cancel before Spark knows the job is lost."""
TERMINATE_S = 10.0
"""How long an objective may take to end after its ``report`` was answered so; then it is stopped."""
SILENT_S = 60.0
"""After so long a trial is taken for begun, where no worker has reached this machine and its task runs."""
ABANDON_AFTER_S = 60.0
"""How long a stopped trial's worker is waited for; only a worker machine that vanished takes so long."""


@dataclass(frozen=True, slots=True)
class _JobOver:
    """A trial's Spark job ended: with the rows it returned, or with an exception.

    ``is_last``: the events of its worker have been taken before.
    """

    trial_id: int
    rows: list[bytes]
    error: Exception | None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class _Unused:
    """A job ended that had waited for a trial and got none."""

    number: int
    error: Exception | None


@dataclass(eq=False)
class _Run:
    """What the backend knows of one launched trial beyond its ``attempts``.

    Attributes:
        task: the trial.
        attempts: the states of its job and of its objective.
        launched: the monotonic time at which its job was handed to Spark.
        lane: has its job; None while it has none.
        preparing_until: until then its worker, which knows that the trial is stopped, may do its cleanup.
        unanswered: the number of the report that waits for an answer.
        lacks_run: its worker did not get the trial's MLflow run.
    """

    task: Task
    attempts: Attempts
    launched: float
    lane: Lane[_Run] | None = None
    preparing_until: float | None = None
    unanswered: int | None = None
    lacks_run: bool = False

    @property
    def is_preparing(self) -> bool:
        """Whether its worker still has time for its cleanup."""
        return self.preparing_until is not None and time.monotonic() < self.preparing_until


class SparkBackend:
    """Runs trials as Spark jobs from this process.

    Args:
        application: where; see ``spark_classic`` and ``spark_connect``.
        objective: what to run; sent to the workers once.
        fresh_worker: each trial gets a new Python process, which imports all that it needs.
        watched: the metric that the driver reads in MLflow, or None.
        max_attempts: how often the objective of one trial may begin whose workers are lost; None for
            ``default_attempts``.
        ports: which the study may open for its workers; None for what is set, or any.
        plan: what the study asks for; where the cluster's number of slots is not known.

    Raises:
        ControlPortNotAvailable: none of them is free.
        ObjectiveNotPicklable: see ``sparktune.worker.pickling``.
        ValueError: Spark refuses the resource profile.
    """

    def __init__(
        self,
        application: Application,
        objective: Objective,
        *,
        fresh_worker: bool = False,
        watched: str | None = None,
        max_attempts: int | None = None,
        ports: control_port.Ports | None = None,
        plan: Plan | None = None,
    ) -> None:
        self._app = application
        self._plan = plan or Plan()
        self._max_attempts = max_attempts or default_attempts(application.master)
        self._ends_within_s = objective.fn.ends_within_s if isinstance(objective.fn, EndsInTime) else 0.0
        self._watched = watched
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._runs: dict[int, _Run] = {}
        self._size = Size(1, 1)
        self._slots_until = 0.0
        self._is_woken = False
        self._waiting = Waiting(application)
        self._epoch = time.time() - time.monotonic()
        self._closed = False
        self._session = SessionEnd(application)
        self._events: list[Event] = []
        self._insist_at = self._look_at = 0.0
        self._noted: set[str] = set()
        # Workers on this machine reach the driver's port; elsewhere the first to do so shows that it is open.
        self._is_reached = application.is_near
        self._may_be_reached = True
        application.admit()
        self._control = self._listen(ports)
        try:
            self._shipment = Shipment(
                application, objective, self._endpoint, watched=watched, fresh_worker=fresh_worker
            )
        except BaseException:
            self._control.close()
            raise
        name = f"sparktune-{self._shipment.study_id}"
        self._lanes: Lanes[_Run] = Lanes(application, name, self._prepare, self._job_ended, self._job_unused)
        self._pending: PendingJobs[_Run] = PendingJobs(self._lanes, self._give)
        self._more = 0.0

    # -- the port --------------------------------------------------------------------------------------

    def now(self) -> float:
        """Unix time in seconds that never goes back."""
        return self._epoch + time.monotonic()

    def slots(self) -> int:
        """How many trials are to be under way at this moment, see ``spark_slots``."""
        if time.monotonic() >= self._slots_until:
            with self._session.asking_spark():
                self._size = spark_slots.size_of_application(self._app)
                if not self._app.is_fixed:
                    self._waiting.look(self._size.now)
            self._slots_until = time.monotonic() + self._app.slots_ttl_s
        return self._to_launch()

    def _to_launch(self) -> int:
        if self._size.kind is Kind.FIXED:
            return max(1, self._size.now or 0)
        return spark_slots.to_launch(self._seen_size(), self._plan, may_wait=self._app.may_wait)

    def _seen_size(self) -> Size:
        """The cluster's size; at least what is seen to run, as a new executor may be counted late."""
        running = sum(run.attempts.job is Job.RUNNING for run in self._open())
        return self._size.at_least(running + self._pending.n_parked)

    def _open(self) -> list[_Run]:
        """The trials whose end was not reported."""
        return [run for run in self._runs.values() if not run.attempts.has_ended]

    def launch(self, task: Task) -> None:
        """Run a trial."""
        with self._session.asking_spark():
            run = _Run(task, Attempts(self._max_attempts), time.monotonic())
            lane = self._pending.bind(run) if self._is_reached else None
            run.lane = lane or self._lanes.take()
            self._runs[task.trial_id] = run
            self._hand_on(run, run.lane, is_pending=lane is not None)
            self._more = task.more
        if not self._may_be_reached:
            self._events += self._presumed(0.0)

    def _hand_on(self, run: _Run, lane: Lane[_Run], *, is_pending: bool = False) -> None:
        """Have its lane run the trial's job, unless it ``is_pending`` at Spark already."""
        if not is_pending:
            lane.inbox.put(run)
        run.attempts.to_job(Job.WAITING)

    def _grow(self) -> None:
        """Where an elastic cluster is busy, keep tasks pending, so that it adds executors; else none."""
        shared = self._shipment.shared
        if self._size.kind is not Kind.ELASTIC or shared is None or self._session.error or self._closed:
            return
        n = 0
        under_way = self._open()
        if self._app.may_wait and any(run.attempts.stopping_since is None for run in under_way):
            n = spark_slots.to_wait(self._seen_size(), self._plan, len(under_way), self._more)
        with self._session.trying_spark():
            self._pending.top_up(n, shared)
            self._pending.withdraw(keep=n)

    def stop(self, trial_id: int) -> None:
        """Stop a trial: cancels the trial's job and ends its worker process.

        Where the objective is one that ``EndsInTime``, its worker is notified first, and gets the time for
        it.
        """
        run = self._runs.get(trial_id)
        if run is None or run.attempts.has_ended:
            return
        if run.attempts.stopping_since is None:
            run.attempts.stopping_since = time.monotonic()
            self._control.refuse(trial_id)
            if run.attempts.has_worker and self._ends_within_s > 0 and not self._session.is_dead:
                run.preparing_until = run.attempts.stopping_since + self._ends_within_s
                self._control.prepare(trial_id)
        if run.attempts.job is Job.NEW and run.lane is not None:
            # Ctrl-C came in the middle of its launch: its thread reports its end without running it.
            self._hand_on(run, run.lane)
        self._cancel(run)

    def go_on(self, trial_id: int) -> None:
        """Answer a report: the objective continues."""
        self._answer(trial_id, terminate=False)

    def terminate(self, trial_id: int) -> None:
        """Answer a report: the objective ends."""
        run = self._runs.get(trial_id)
        if run is None or run.attempts.has_ended:
            return
        if run.unanswered is None and run.attempts.terminating_since is None:
            self.stop(trial_id)  # its metric was read in MLflow: the objective does not listen
            return
        run.attempts.terminating_since = run.attempts.terminating_since or time.monotonic()
        self._answer(trial_id, terminate=True)

    def post(self, event: Event) -> None:
        """Have ``wait`` deliver an event from elsewhere."""
        self._inbox.put(event)

    def _answer(self, trial_id: int, *, terminate: bool) -> None:
        run = self._runs.get(trial_id)
        if run is not None and run.unanswered is not None:
            self._control.answer(trial_id, run.unanswered, terminate=terminate)
            run.unanswered = None

    def under_way(self) -> set[int]:
        """The launched trials whose end has not been delivered."""
        undelivered = {event.trial_id for event in self._events}
        return undelivered | {run.task.trial_id for run in self._open()}

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Wait for events.

        Raises:
            SparkNotAvailable: once, when the Spark session was stopped; trials under way end as cancelled.
            StudyCancelled: once, when the jobs of ``fmin``'s caller were cancelled from outside; likewise.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        had_ended = self._session.error is not None
        self._is_woken = False
        self._grow()
        while not self._events and not self._is_woken:
            is_stopping = any(run.attempts.is_to_end for run in self._runs.values())
            left = math.inf if until is None else max(0.0, until - time.monotonic())
            with contextlib.suppress(queue.Empty):
                is_short = is_stopping or self._pending.n_parked > 0
                patience = min(CANCEL_AGAIN_S if is_short else LOOK_S, left)
                while True:
                    self._events += self._take(interrupts.get(self._inbox, patience))
                    patience = 0.0
            if self._session.error is not None and not had_ended:
                raise self._session.error
            self._events += self._looked_after()
            if until is not None and time.monotonic() >= until:
                break
        events, self._events = self._events, []
        return events

    def _looked_after(self) -> list[Event]:
        """Periodic work, however busy the inbox is."""
        now = time.monotonic()
        events: list[Event] = []
        if now >= self._insist_at:
            self._insist_at = now + CANCEL_AGAIN_S
            self._pending.let_go()
            self._grow()
            for run in [run for run in self._runs.values() if run.attempts.is_to_end]:
                events += self._insist(run)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            events += self._presumed(SILENT_S if self._may_be_reached else 0.0)
            if not self._session.is_dead and not self._app.is_fixed:
                with contextlib.suppress(SparkNotAvailable, StudyCancelled):  # shown by the ends of its jobs
                    self.slots()
        return events

    def close(self) -> None:
        """Stop what still runs and release everything."""
        if self._closed:
            return
        self._closed = True
        for trial_id in list(self._runs):
            self.stop(trial_id)
        give_up = time.monotonic() + ABANDON_AFTER_S
        self._close_pending()
        unused_until = time.monotonic() + LOOK_S
        try:
            while self._runs or (
                self._pending.n_open and not self._session.is_dead and time.monotonic() < unused_until
            ):
                if time.monotonic() >= give_up:
                    break
                try:
                    self._take(interrupts.get(self._inbox, CANCEL_AGAIN_S))
                except queue.Empty:
                    self._close_pending()
                    for run in [run for run in self._runs.values() if run.attempts.stopping_since]:
                        self._insist(run)
            for run in self._runs.values():
                logger.warning("%s may still be running on a worker", run.task.description)
        finally:
            self._lanes.close()
            self._control.close()
            with contextlib.suppress(Exception):
                self._shipment.discard()

    def _close_pending(self) -> None:
        if not self._session.is_dead:
            with contextlib.suppress(Exception):  # they run nothing
                self._pending.close()

    # -- signals to events -----------------------------------------------------------------------------

    def _receive(self, signal: Signal) -> None:
        """Take a signal in the channel's thread; what concerns MLflow runs is not for the driver."""
        if isinstance(signal, Wanted):
            self._is_reached = True
            self._inbox.put(signal)
            return
        run = self._runs.get(signal.trial_id)
        if isinstance(signal, Asked):
            if run is not None:
                self._ask_run(run, hurry=True)
            return
        if isinstance(signal, Begun):
            self._is_reached = True
            if run is not None and run.lacks_run:
                self._ask_run(run, hurry=False)
        self._inbox.put(signal)

    def _ask_run(self, run: _Run, *, hurry: bool) -> None:
        trial_id = run.task.trial_id
        run.task.ask_run(trial_id, functools.partial(self._control.send_run, trial_id), hurry=hurry)

    def _has_others_waiting(self) -> bool:
        """Whether a trial's job waits for a slot, which no job without a trial may hold then."""
        waiting = [run for run in self._open() if run.attempts.job is Job.WAITING]
        return not all(self._pending.has_worker(run.lane) for run in waiting)

    def _wake(self) -> None:
        """A job without a trial has got a slot: count again, and let the study launch a trial for it."""
        if self._size.kind is Kind.ELASTIC:
            self._slots_until = 0.0
            self._is_woken = True

    def _give(self, number: int, lane: Lane[_Run] | None, run: _Run | None) -> None:
        """Send a worker its trial; none where its job was made for other trials than this one."""
        job: LaneJob | None = None
        if run is not None:
            with contextlib.suppress(Exception):  # raised again in the lane, which then runs it
                job = self._prepare(run)
        is_meant = job is not None and lane is not None and job.assignment == lane.assignment
        self._control.give(number, job.announcement if job is not None and is_meant else "")

    def _take(self, signal: Signal | _JobOver | _Unused | Event) -> list[Event]:
        if isinstance(signal, Reported):  # read in MLflow, perhaps of a trial that has ended meanwhile
            return [signal]
        if isinstance(signal, Wanted):
            self._pending.asked(signal.number, may_park=not self._has_others_waiting())
            if self._pending.n_parked:
                self._wake()
            return []
        if isinstance(signal, _Unused):
            self._pending.ended(signal.number, signal.error)
            self._wake()
            return []
        run = self._runs.get(signal.trial_id)
        if run is None:
            if isinstance(signal, Begun):  # another attempt, of a trial that has ended
                self._control.kill(signal.trial_id)
            return []
        events: list[Event] = []
        attempts = run.attempts
        match signal:
            case Begun():
                self._begun(run, signal)
                run.preparing_until = None  # Spark runs it again
                if attempts.has_ended or attempts.stopping_since is not None:
                    self._cancel(run)
                else:
                    events.append(
                        Started(signal.trial_id, self.now(), attempts.begun, signal.host, signal.worker_pid)
                    )
            case ReportArrived():
                run.unanswered = signal.number
                if not attempts.has_ended:
                    events.append(Reported(signal.trial_id, self.now(), signal.value, signal.step))
            case Arrived() if attempts.has_ended:
                attempts.worker_over()
            case Arrived():
                outcome: Outcome = pickle.loads(signal.outcome)
                if not attempts.arrived(outcome.attempt):
                    # Its worker had been taken for lost: the second run is not needed.
                    attempts.stopping_since = time.monotonic()
                    self._cancel(run)
                events += self._outcome(run, outcome, is_begin_known=True)
            case Prepared():
                self._prepared(run)
            case Gone():
                attempts.worker_over()
                if attempts.job is Job.OVER and not attempts.has_ended:
                    events += self._end(run, Cancelled(signal.trial_id, self.now()))
                self._prepared(run)
            case _JobOver() if attempts.job is Job.OVER:
                pass  # it was passed on twice, in the middle of an interrupt
            case _JobOver(rows=[], error=None, is_last=False) if not attempts.has_ended:
                # The worker's outcome is confirmed, and on its way to the inbox.
                put = functools.partial(self._inbox.put, replace(signal, is_last=True))
                self._control.after_arrivals(put, hops=0)
            case _JobOver():
                if run.lane is not None:
                    self._pending.forget(run.lane)
                    self._lanes.give_back(run.lane)
                    run.lane = None
                attempts.to_job(Job.OVER)
                events += self._job_over(run, signal)
        self._forget(run)
        return events

    def _unreached(self) -> list[Event]:
        """A worker could not report its outcome: unless another one could, none is to try it for seconds."""
        if self._is_reached or not self._may_be_reached:
            return []
        self._may_be_reached = False
        reports = "are read in MLflow" if self._watched else "arrive when a trial ends"
        logger.warning(
            "workers do not reach this machine at %s: a trial that is to end is cancelled, and reports %s",
            self._control.endpoint,
            reports,
        )
        self._warn_of_copies()
        return self._presumed(0.0)

    def _warn_of_copies(self) -> None:
        if self._app.has_copies:
            logger.warning(
                "%s is set: Spark may run a trial on two workers at the same time, and these cannot wait for "
                "one another, because they do not reach this machine. Remedy: spark.speculation=false",
                COPIES,
            )

    def _presumed(self, silent_s: float) -> list[Event]:
        """Take trials for begun that were handed to Spark ``silent_s`` ago, without any sign since."""
        if self._is_reached:
            return []
        events: list[Event] = []
        for run in self._runs.values():
            is_waiting = run.attempts.job is Job.WAITING and run.attempts.stopping_since is None
            if run.lane is None or not is_waiting:
                continue
            has_task = run.lane.has_task if self._app.shows_tasks else self._size.now != 0
            if has_task and time.monotonic() - run.launched >= silent_s:
                run.attempts.presume_begun()
                events.append(Started(run.task.trial_id, self.now(), run.attempts.begun + 1))
        return events

    def _job_over(self, run: _Run, signal: _JobOver) -> list[Event]:
        attempts = run.attempts
        if attempts.has_ended:
            return []
        outcome: Outcome | None = pickle.loads(signal.rows[0]) if signal.rows else None
        if outcome is not None and not outcome.spent:
            attempts.worker_over()
            return self._unreached() + self._outcome(run, outcome, is_begin_known=False)
        if attempts.stopping_since is None:
            self._session.look(signal.error)
            if self._session.error is not None:
                attempts.stopping_since = time.monotonic()  # not a failure of the trial
                self._control.refuse(run.task.trial_id)
        if attempts.stopping_since is not None:
            if attempts.has_worker:
                if not run.is_preparing:
                    self._control.kill(run.task.trial_id)
                return []
            return self._end(run, Cancelled(run.task.trial_id, self.now()))
        n_lost = attempts_of(signal.error) if outcome is None else outcome.attempt - attempts.tried - 1
        return self._lost(run, signal.error, n_lost)

    # -- lost workers ----------------------------------------------------------------------------------

    def _begun(self, run: _Run, signal: Begun) -> None:
        """Count it. Where it is not the first attempt of its job, Spark has lost workers and tries again."""
        if signal.attempt <= run.attempts.tried:  # its executor was abandoned, another runs the trial
            self._control.kill(signal.trial_id)
        for losses in run.attempts.began(signal.attempt, f"pid {signal.worker_pid} on {signal.host}"):
            self._warn(run, losses, "Spark runs it again")

    def _lost(self, run: _Run, error: Exception | None, n_lost: int) -> list[Event]:
        """A job ended without an outcome: run the trial again where workers were lost, or fail it.

        Args:
            run: the trial.
            error: what Spark raised.
            n_lost: how many attempts by Spark the job had.
        """
        trial_id, attempts = run.task.trial_id, run.attempts
        if attempts.has_worker:  # of an executor that Spark has abandoned
            self._control.kill(trial_id)
            attempts.worker_over()
        if ending_of(error) is not Ending.WORKER_LOST:
            return self._end(run, Failed(trial_id, self.now(), lost(error)))
        events: list[Event] = []
        losses = attempts.lost(n_lost, is_reached=self._is_reached)
        if not self._is_reached:
            events.append(Started(trial_id, self._epoch + run.launched, attempts.begun))
        if attempts.may_begin:
            self._warn(run, losses, "running it again")
            self._run_again(run)
            return [*events, Lost(trial_id, self.now())]
        return events + self._end(run, Failed(trial_id, self.now(), lost(error, losses)))

    def _warn(self, run: _Run, losses: Losses, what_now: str) -> None:
        # What Spark runs again of one that is to end is cancelled.
        if not run.attempts.has_ended and run.attempts.stopping_since is None:
            logger.warning("trial %d: %s; %s", run.task.trial_id, losses, what_now)

    def _run_again(self, run: _Run) -> None:
        """Give the trial a new Spark job; a stop meanwhile finds it as just launched."""
        run.attempts.to_job(Job.NEW)
        run.lacks_run, run.unanswered = False, None
        run.launched = time.monotonic()
        self._pending.let_go(0.0)  # its job needs a slot
        run.lane = self._lanes.take()
        self._hand_on(run, run.lane)

    # -- outcomes --------------------------------------------------------------------------------------

    def _outcome(self, run: _Run, outcome: Outcome, *, is_begin_known: bool) -> list[Event]:
        self._note(run, outcome.notes)
        trial_id, at_s = run.task.trial_id, self.now()
        events: list[Event] = []
        if not is_begin_known:
            begun_s = at_s - outcome.duration_s
            run.attempts.began_unreported(outcome.attempt, is_reached=self._is_reached)
            events.append(Started(trial_id, begun_s, run.attempts.begun, outcome.host, outcome.worker_pid))
        events += [Reported(trial_id, at_s, value, step) for step, value in outcome.reports]
        if outcome.terminated:
            return events + self._end(run, Terminated(trial_id, at_s, outcome.duration_s))
        error = outcome.error
        if outcome.payload is not None:
            result, attachments, dropped = results.unpacked(outcome.payload)
            self._note(run, dropped)
            finished = Finished(trial_id, at_s, result, attachments, outcome.duration_s)
            return events + self._end(run, finished)
        assert error is not None
        return events + self._end(
            run, Failed(trial_id, at_s, with_remedy(error, self._app), outcome.duration_s)
        )

    def _note(self, run: _Run, notes: Iterable[str]) -> None:
        """Log what a worker noted, once in a study."""
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                logger.warning("%s: %s", run.task.description, note)

    def _end(self, run: _Run, event: Event) -> list[Event]:
        run.attempts.end()
        return [event]

    def _forget(self, run: _Run) -> None:
        if run.attempts.is_over:
            self._runs.pop(run.task.trial_id, None)

    # -- stopping --------------------------------------------------------------------------------------

    def _prepared(self, run: _Run) -> None:
        """Its worker has done its cleanup, or is dead: now Spark cancels the job."""
        if run.preparing_until is not None and not run.attempts.has_ended:
            run.preparing_until = None
            self._cancel(run)

    def _cancel(self, run: _Run) -> None:
        if run.is_preparing:
            return
        if run.lane is not None and not self._session.is_dead:
            with self._session.trying_spark():
                self._lanes.cancel(run.lane, run)
        self._control.kill(run.task.trial_id)

    def _insist(self, run: _Run) -> list[Event]:
        """A trial that is to end has not: stop it, cancel again, or abandon a worker that vanished."""
        attempts = run.attempts
        if attempts.stopping_since is None:
            if time.monotonic() - (attempts.terminating_since or 0.0) > TERMINATE_S:
                self.stop(run.task.trial_id)
            return []
        self._cancel(run)
        if attempts.job is not Job.OVER:
            return []
        if attempts.has_worker:
            if time.monotonic() - attempts.stopping_since <= ABANDON_AFTER_S:
                return []
            logger.warning(
                "%s was stopped, but its worker has not answered for %.0f s and may still run it",
                run.task.description,
                ABANDON_AFTER_S,
            )
            attempts.worker_over()
        events = self._end(run, Cancelled(run.task.trial_id, self.now()))
        self._forget(run)
        return events

    # -- in the lanes' threads -------------------------------------------------------------------------

    def _job_ended(self, run: _Run, rows: list[bytes], error: Exception | None) -> None:
        over = _JobOver(run.task.trial_id, rows, error)
        put = functools.partial(self._inbox.put, over)
        if error is not None:  # what its worker sent before it died comes first
            self._control.after_arrivals(put)
        else:
            put()

    def _job_unused(self, number: int, error: Exception | None) -> None:
        self._inbox.put(_Unused(number, error))

    def _prepare(self, run: _Run) -> LaneJob | None:
        """The trial's job; None where it is not to run any more."""
        context = self._run_context(run)
        if run.attempts.stopping_since is not None or run.attempts.has_ended:
            return None
        return self._shipment.job(run.task, run.attempts, context)

    def _endpoint(self) -> Endpoint | None:
        return self._control.endpoint if self._may_be_reached else None

    def _run_context(self, run: _Run) -> RunContext | None:
        """What the trial's worker needs. Its MLflow run is sent later to a worker that can be reached."""
        context = run.task.run_context()
        if context is None or context.run_id is not None:
            return context
        run.lacks_run = True
        if self._is_reached:
            return context
        answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        run.task.ask_run(run.task.trial_id, answer.put, hurry=True)
        with contextlib.suppress(queue.Empty):
            context = dataclasses.replace(context, run_id=answer.get(timeout=RUN_PATIENCE_S))
        return context

    def _listen(self, ports: control_port.Ports | None) -> ControlServer:
        """Open the port for the workers: not announced where it cannot be encrypted."""
        bind, advertise = self._app.driver_addresses()
        ports = control_port.ports(ports, self._app)
        if not self._app.is_encrypted():
            return ControlServer(self._receive, bind, advertise, ports)
        if encryption.is_possible():
            return ControlServer(self._receive, bind, advertise, ports, encryption.for_study())
        logger.warning(encryption.MISSING)
        self._warn_of_copies()
        self._is_reached = self._may_be_reached = False
        return ControlServer(self._receive, "127.0.0.1", "127.0.0.1")
