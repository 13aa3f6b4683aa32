"""What runs on a worker: a copy of the objective, at one point, in a process as it was; then the outcome.

A worker process keeps the pickled objective and the modules that trials have imported, and nothing else of a
trial: each gets its own copy of the objective (``parcel``), and what it changes in the process is put back
(``process_state``). Measured with no-op trials: 0.2 ms of processor time, where a forked child for each trial
took 5 ms with the imports of sparktune alone, 10 with those of MLflow and scikit-learn.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import logging
import os
import pickle
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from sparktune.private import presence
from sparktune.study.tracker import RUN_PATIENCE_S, RunContext
from sparktune.study.trial import TrialError
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.redirect import redirect
from sparktune.tracking.worker.run_metric import RunMetric
from sparktune.worker import imports, parcel, processes, reporting, results
from sparktune.worker.channel import Endpoint
from sparktune.worker.channel_client import ControlClient
from sparktune.worker.parcel import Original
from sparktune.worker.process_state import ProcessState

logger = logging.getLogger("sparktune")

LEFT_PROCESSES = (
    "the objective leaves processes running when it ends: they were ended, and their worker process too, so "
    "that the next trial imports everything again. Close pools and wait for commands in the objective"
)
RETRY_S = 300.0
"""How long a driver that could not be reached is not tried again, which takes seconds."""
OVER = 0
"""In place of the number of an attempt: the trial has ended."""
KEPT_STUDIES = 2
"""How many studies' objectives a worker process keeps: one, and another that runs at the same time."""


class Outcome(NamedTuple):
    """How a trial's objective ended on its worker: with ``payload``, with ``error``, or ``terminated``.

    Attributes:
        payload: the pickled ``(result, attachments)``; pickled apart, so that a class which only the worker
            can import fails this trial alone.
        error: why there is no result.
        duration_s: seconds in the objective.
        attempt: 1, and one more for each worker that was lost before, also before the objective had begun.
        host, worker_pid: where it ran.
        terminated: ``report`` ended it.
        reports: (step, value) of reports that did not reach the driver.
        notes: what the driver is to log about it, once for all trials.
        spent: it did not run: workers were lost before, and the driver is to decide.
    """

    payload: bytes | None
    error: TrialError | None
    duration_s: float
    attempt: int = 1
    host: str = ""
    worker_pid: int = 0
    terminated: bool = False
    reports: tuple[tuple[int, float], ...] = ()
    notes: tuple[str, ...] = ()
    spent: bool = False


@dataclass(frozen=True)
class Assignment:
    """One trial's task as it is sent.

    Attributes:
        study_id: the key of the worker's caches.
        trial_id: the trial.
        config: label -> raw value; empty where there is a point.
        point: what the objective is called with; see ``Objective.point``.
        parcel: holds the objective's container; see ``parcel.opened``.
        companions: broadcast variables that the objective itself uses; they must travel with the task.
        endpoint: the driver's control port, or None.
        run_context: for MLflow calls in the objective.
        watched: the metric that the driver reads in MLflow, or None: where the driver cannot be reached,
            reports go there.
        seed: of the trial's random numbers, in [0, 2**32); None leaves them as they are.
        fresh_worker: the process is not used again.
        first_attempt: the number of the first attempt of its Spark job.
        last_attempt: the number of the last one that may run the objective, however often Spark tries.
        has_copies: Spark may start a later attempt while an earlier one runs.
    """

    study_id: str
    trial_id: int
    config: Mapping[str, Any]
    parcel: Any
    point: bytes | None = None
    companions: tuple[Any, ...] = ()
    endpoint: Endpoint | None = None
    run_context: RunContext | None = None
    watched: str | None = None
    seed: int | None = None
    fresh_worker: bool = False
    first_attempt: int = 1
    last_attempt: int = sys.maxsize
    has_copies: bool = False


ANNOUNCEMENT = "sparktune.trial"
"""The job's local property with the trial for the worker. It is written to Spark's event log: it
holds the trial's config, which its description shows as well, and nothing secret."""


TAGS = "spark.job.tags"
NOT_RUN, NOT_ANNOUNCED = b"", b"?"
"""Outcomes of a job whose trial was not run: its process is to be another (it had run a trial before, or has
modules that have changed), or did not receive its trial; or the driver gave it none."""
WAITING = "?"
"""Begins the announcement of a job that is to ask the driver; not a character of Base64."""


class Announcement(NamedTuple):
    """The part of a trial's task that it does not share with all others of its study."""

    trial_id: int
    config: Mapping[str, Any]
    point: bytes | None
    seed: int | None
    run_id: str | None
    claim: str | None
    first_attempt: int
    last_attempt: int

    def as_text(self) -> str:
        """For a local property."""
        return base64.b64encode(pickle.dumps(tuple(self), pickle.HIGHEST_PROTOCOL)).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Announcement:
        """What ``as_text`` gave."""
        return cls(*pickle.loads(base64.b64decode(text)))


@dataclass
class _Process:
    """What this worker process keeps between trials."""

    originals: OrderedDict[str, Original] = field(default_factory=OrderedDict)
    clients: OrderedDict[str, ControlClient | float] = field(default_factory=OrderedDict)
    """A study's connection, or the monotonic time before which its driver is not tried again."""
    is_outdated: bool = False
    compared: tuple[str, int] = ("", 0)
    pid: int = 0
    frozen_modules: int = 0


_process = _Process()


def ready(rows: Iterable[Any]) -> Iterator[Any]:
    """The body of a worker that is started before there is a trial: it only imports this module."""
    for _ in rows:
        pass
    return iter(())


def run_announced(study: Assignment, rows: Any) -> list[bytes]:
    """``run_assignment``, of the trial that the job's local property announces.

    Gives ``NOT_RUN`` where the job asked for its trial, and was given none; and as ``run_assignment`` does.
    """
    from pyspark import TaskContext

    task = TaskContext.get()
    announcement = (task and task.getLocalProperty(ANNOUNCEMENT)) or ""
    if announcement.startswith(WAITING):
        if _is_outdated(study):
            return [NOT_RUN]
        announcement = _given(study, int(announcement.removeprefix(WAITING)))
        if not announcement:
            for _ in rows:
                pass
            return [NOT_RUN]
    return run_assignment(_of_trial(study, announcement), rows)


def announcing_tag(study: Assignment, announcement: str) -> str:
    """The tag of a Spark Connect query whose function has no announcement."""
    return f"{ANNOUNCEMENT}:{study.study_id}:{announcement}"


def _announced_by_tag(study: Assignment) -> str | None:
    from pyspark import TaskContext

    task = TaskContext.get()
    tags = (task and task.getLocalProperty(TAGS)) or ""
    start = announcing_tag(study, "")
    return next((tag.partition(start)[2] for tag in tags.split(",") if start in tag), None)


def waiting(number: int) -> str:
    """The announcement of a job that asks the driver for its trial when it has a worker."""
    return f"{WAITING}{number}"


def _given(study: Assignment, number: int) -> str:
    """What announces the trial that the driver has chosen meanwhile for a job; empty where it runs none."""
    _leave_parents_connections()
    client = _client(study)
    try:
        return "" if client is None else client.take(number)
    except OSError:
        return ""


def run_in_arrow(study: Assignment, announcement: str | None, batches: Iterator[Any]) -> Iterator[Any]:
    """``run_assignment`` for ``mapInArrow``, of the trial announced here, or by a tag of the query.

    The outcome is ``NOT_RUN`` where the driver gives a waiting query no trial; and where the trial is to have
    a new process (``_not_run``).
    """
    import pyarrow

    announcement = announcement or _announced_by_tag(study)
    is_outdated = _is_outdated(study)
    nothing = NOT_ANNOUNCED if announcement is None else NOT_RUN
    if announcement is not None and announcement.startswith(WAITING):
        if is_outdated:
            yield pyarrow.RecordBatch.from_pydict({"outcome": [NOT_RUN]})
            return
        announcement = _given(study, int(announcement.removeprefix(WAITING)))
    if not announcement:
        for _ in batches:
            pass
        yield pyarrow.RecordBatch.from_pydict({"outcome": [nothing]})
        return
    assignment = _of_trial(study, announcement)
    if study.fresh_worker and _process.pid == os.getpid():
        outcomes = _not_run(assignment)
    else:
        outcomes = run_assignment(assignment, batches)
    for outcome in outcomes:
        yield pyarrow.RecordBatch.from_pydict({"outcome": [outcome]})


def _of_trial(study: Assignment, announcement: str) -> Assignment:
    trial = Announcement.from_text(announcement)
    context = study.run_context and replace(study.run_context, run_id=trial.run_id, claim=trial.claim)
    return replace(
        study,
        trial_id=trial.trial_id,
        config=trial.config,
        point=trial.point,
        seed=trial.seed,
        run_context=context,
        first_attempt=trial.first_attempt,
        last_attempt=trial.last_attempt,
    )


def run_assignment(assignment: Assignment, rows: Any) -> list[bytes]:
    """The body of a trial's Spark task.

    Returns:
        Nothing when the driver confirmed the outcome over the control channel; else the pickled outcome, or
        that of ``_not_run``.
    """
    if _is_outdated(assignment):
        return _not_run(assignment)
    outcomes, is_to_end = _outcomes(assignment)
    if not (assignment.fresh_worker or is_to_end):
        for _ in rows:  # a task that does not read its input to the end loses its Python worker
            pass
    return outcomes


def _outcomes(assignment: Assignment) -> tuple[list[bytes], bool]:
    """What ``run_assignment`` returns, and whether this process is to end."""
    _leave_parents_connections()
    client, attempt = _turn(assignment)
    if attempt == OVER:
        return [], False
    if attempt > assignment.last_attempt:
        return [_spent(attempt)], assignment.has_copies
    host = socket.gethostname()
    arrival = _arrival(assignment, client)
    if client is not None:
        try:
            client.begin(assignment.trial_id, attempt, host, arrival.tell)
        except OSError:
            client, arrival = None, _arrival(assignment, None)
    children = processes.children()
    with presence.left_to_driver():
        outcome = _run(assignment, client, arrival, attempt, host)
    if outcome is None:
        return [], False
    if _process.pid != os.getpid():
        # The objective called os.fork, and its child came here too: it must not report the trial's outcome.
        os._exit(0 if outcome.error is None else 1)
    is_to_end = processes.end_started_since(children)
    if is_to_end:
        outcome = outcome._replace(notes=(*outcome.notes, LEFT_PROCESSES))
    data = _packed(outcome)
    if client is not None and client.end(assignment.trial_id, data):
        return [], is_to_end
    return [data], is_to_end


def _not_run(assignment: Assignment) -> list[bytes]:
    """The outcome where the trial is to have another process than this one.

    This one ends: its task has not read its input.
    """
    attempt = _attempt(assignment)
    if assignment.has_copies:
        _leave_parents_connections()
        attempt = _turn(assignment)[1]
        if attempt == OVER:
            return []
    # A job that is run again counts its attempts from the first: after a loss the driver does that.
    return [NOT_RUN if attempt == assignment.first_attempt else _spent(attempt)]


def _is_outdated(assignment: Assignment) -> bool:
    """Whether the study is new here, and this process has modules that a new one would import from others."""
    imports.watch()
    if assignment.fresh_worker or assignment.study_id in _process.originals:
        return _process.is_outdated
    try:
        with presence.left_to_driver():
            path = _original(assignment).import_path()
    except Exception:  # raised again, as the trial's
        return False
    _process.is_outdated = bool(imports.outdated(path))
    return _process.is_outdated


def _leave_parents_connections() -> None:
    if _process.pid != os.getpid():  # a fork of another worker: its connections are not ours
        _process.clients.clear()
        _process.pid = os.getpid()


def _arrival(assignment: Assignment, client: ControlClient | None) -> RunArrival:
    run_id = None if assignment.run_context is None else assignment.run_context.run_id
    if client is None:
        return RunArrival(run_id, search_s=RUN_PATIENCE_S)
    return RunArrival(run_id, partial(client.ask_run, assignment.trial_id))


class TrialReporter:
    """Sends a trial's reports to the driver, or logs them where it reads; keeps the others for the outcome.

    A process that the objective forks gets its own connection when it first reports. A lost connection is
    reopened, once per trial.

    Args:
        client: the worker's connection, or None.
        endpoint: the driver's control port, or None.
        trial_id: the trial.
        log: logs a report (step, value) to MLflow, where the driver reads it; or None.
        again: gives a new connection when the worker's is lost, or None.

    Attributes:
        unsent: (step, value) of the reports that could not be sent.
    """

    def __init__(
        self,
        client: ControlClient | None,
        endpoint: Endpoint | None,
        trial_id: int,
        log: Callable[[int, float], None] | None = None,
        again: Callable[[], ControlClient | None] = lambda: None,
    ) -> None:
        self._log, self._again = log, again
        self._client = client
        self._endpoint = endpoint
        self._trial_id = trial_id
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.unsent: list[tuple[int, float]] = []

    def report(self, step: int, value: float) -> bool:
        """Pass a report to the study; True when the trial is to end."""
        if self._pid != os.getpid():
            self._connect_forked()
        with self._lock:
            while self._client is not None:
                try:
                    return self._client.report(self._trial_id, step, value)
                except OSError:
                    self._client.close()
                    self._reconnect()
            if self._log is not None:
                try:
                    self._log(step, value)
                    return False
                except Exception as error:  # MLflow's trouble must not cost the trial its result
                    self._log = None
                    logger.warning("reports cannot be logged to MLflow: %s", error)
            self.unsent.append((step, value))
            return False

    def _reconnect(self) -> None:
        again, self._again = self._again, lambda: None
        self._client = again()
        if self._client is not None:
            self._client.join(self._trial_id)

    def _connect_forked(self) -> None:
        self._pid, self._lock, self._again = os.getpid(), threading.Lock(), lambda: None
        if self._client is not None and self._endpoint is not None:
            try:
                self._client = ControlClient(self._endpoint)
                self._client.join(self._trial_id)
            except OSError:
                self._client = None


class _Stopped(BaseException):
    """The trial was stopped while its worker prepared it."""


def _run(
    assignment: Assignment, client: ControlClient | None, arrival: RunArrival, attempt: int, host: str
) -> Outcome | None:
    """Run the objective; None where the driver does not let it begin."""
    started = time.perf_counter()
    payload: bytes | None = None
    error: TrialError | None = None
    terminated = False
    log = None
    if client is None and assignment.watched is not None and assignment.run_context is not None:
        log = RunMetric(assignment.run_context, arrival, assignment.watched).log
    again = partial(_client, assignment)
    reporter = TrialReporter(client, assignment.endpoint, assignment.trial_id, log, again)
    reporting.begin(reporter)
    state: ProcessState | None = None
    notes: list[str] = []
    dropped: list[str] = []
    try:
        original = _original(assignment)
        state = ProcessState()
        if assignment.seed is not None:
            state.seed(assignment.seed)
        objective = original.copy()
        if client is not None and not client.is_admitted():
            raise _Stopped
        started = time.perf_counter()
        with redirect(assignment.run_context, arrival) as notes:
            result, attachments = objective.evaluate(assignment.trial_id, assignment.config, assignment.point)
        payload, dropped = results.packed(result, attachments)
    except _Stopped:
        return None
    except reporting.TrialTerminated:
        terminated = True
    except BaseException as raised:  # sys.exit() too: Spark would run the trial again, up to four times
        error = TrialError.of(raised)
    finally:
        duration_s = time.perf_counter() - started
        reporting.begin(None)
        if state is not None:
            state.restore()
    notes += [*dropped, *_module_notes(assignment)]
    return Outcome(
        payload,
        error,
        duration_s,
        attempt,
        host,
        os.getpid(),
        terminated,
        reports=tuple(reporter.unsent),
        notes=tuple(dict.fromkeys([*notes, *presence.said()])),
    )


def _module_notes(assignment: Assignment) -> list[str]:
    """Notes for the driver on modules that differ from its own."""
    original = _process.originals.get(assignment.study_id)
    now = assignment.study_id, len(sys.modules)
    if original is None or _process.compared == now:
        return []
    _process.compared = now
    return imports.differing(original.sources)


def _packed(outcome: Outcome) -> bytes:
    try:
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as raised:  # out of memory: the trial's failure, which Spark need not try again
        return pickle.dumps(outcome._replace(payload=None, error=TrialError.of(raised)))


def _original(assignment: Assignment) -> Original:
    kept = _process.originals
    original = kept.get(assignment.study_id)
    if original is None:
        original = parcel.opened(assignment.parcel)
        while len(kept) >= KEPT_STUDIES:
            kept.popitem(last=False)
        kept[assignment.study_id] = original
    kept.move_to_end(assignment.study_id)
    if len(sys.modules) != _process.frozen_modules:
        # PySpark's daemon collects garbage after every task: what will stay need not be scanned again.
        gc.collect()
        gc.freeze()
        _process.frozen_modules = len(sys.modules)
    return original


def _client(assignment: Assignment) -> ControlClient | None:
    kept = _process.clients
    known = kept.get(assignment.study_id)
    if isinstance(known, ControlClient) and known.is_alive():
        return known
    if assignment.endpoint is None or (isinstance(known, float) and time.monotonic() < known):
        return None
    if isinstance(known, ControlClient):
        known.close()
    kept.pop(assignment.study_id, None)
    client: ControlClient | None = None
    with contextlib.suppress(OSError):
        client = ControlClient(assignment.endpoint)
    while len(kept) >= KEPT_STUDIES:
        old = kept.popitem(last=False)[1]
        if isinstance(old, ControlClient):
            old.close()
    kept[assignment.study_id] = client or time.monotonic() + RETRY_S
    return client


def _turn(assignment: Assignment) -> tuple[ControlClient | None, int]:
    """The driver's connection, and this attempt's number; ``OVER`` when the trial is not to run any more.

    Where Spark copies tasks, this waits while another worker runs the trial; one that does not reach the
    driver cannot. Spark takes the first result, and ends the other attempts: even one that is not to run the
    trial has to wait before it says so. What it has claimed is given back by the end of its process.
    """
    known = _process.clients.get(assignment.study_id)
    if isinstance(known, ControlClient) and known.is_over and known.endpoint == assignment.endpoint:
        return None, OVER
    client = _client(assignment)
    if client is None or not assignment.has_copies:
        return client, _attempt(assignment)
    while client is not None:
        with contextlib.suppress(OSError):  # the connection was lost: another one claims the trial
            return client, client.claim(assignment.trial_id, assignment.first_attempt)
        client = _client(assignment)
    return None, OVER


def _attempt(assignment: Assignment) -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return assignment.first_attempt + (0 if context is None else context.attemptNumber())


def _spent(attempt: int) -> bytes:
    return pickle.dumps(Outcome(None, None, 0.0, attempt, spent=True))
