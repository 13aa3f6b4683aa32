"""The states of a trial's job and of its objective: every order of what may arrive, without Spark."""

from __future__ import annotations

import itertools
import pickle
import queue
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sparktune.backends import spark_jobs
from sparktune.backends.spark_attempts import (
    JOB_TRANSITIONS,
    OBJECTIVE_TRANSITIONS,
    UNBEGUN_LOSSES,
    Attempts,
    Job,
    Objective,
)
from sparktune.backends.spark_jobs import SparkBackend
from sparktune.backends.spark_lanes import Lane
from sparktune.backends.spark_session_end import SessionEnd
from sparktune.study.backend import Event, Lost, Reported, Started
from sparktune.worker import results
from sparktune.worker.channel import Arrived, Begun, Gone, Prepared, ReportArrived
from sparktune.worker.task import Outcome
from tests.backends.conformance import task

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("before", "after"), [*itertools.product(Job, Job)])
def test_transitions_of_a_job(before: Job, after: Job) -> None:
    attempts = Attempts(1, job=before)
    if after in JOB_TRANSITIONS[before]:
        attempts.to_job(after)
        assert attempts.job is after
    else:
        with pytest.raises(ValueError, match=f"is {before.name} cannot become {after.name}"):
            attempts.to_job(after)
        assert attempts.job is before


@pytest.mark.parametrize(("before", "after"), [*itertools.product(Objective, Objective)])
def test_transitions_of_an_objective(before: Objective, after: Objective) -> None:
    attempts = Attempts(1, objective=before)
    if after in OBJECTIVE_TRANSITIONS[before]:
        attempts.to_objective(after)
        assert attempts.objective is after
    else:
        with pytest.raises(ValueError, match=f"is {before.name} cannot become {after.name}"):
            attempts.to_objective(after)
        assert attempts.objective is before


def test_an_end_is_reported_once() -> None:
    attempts = Attempts(1)
    attempts.end()
    with pytest.raises(ValueError, match="ENDED"):
        attempts.end()


def test_a_worker_is_left_when_the_end_comes_from_another() -> None:
    attempts = Attempts(4, job=Job.WAITING)
    attempts.began(1, "a")
    attempts.began(2, "b")
    assert not attempts.arrived(1)
    attempts.end()
    attempts.to_job(Job.OVER)
    assert attempts.is_left
    assert not attempts.is_over
    attempts.worker_over()
    assert attempts.is_over


@given(
    st.lists(st.tuples(st.sampled_from(["began", "lost"]), st.integers(1, 4)), max_size=40), st.integers(1, 9)
)
def test_beginnings_and_losses_are_counted_apart(steps: list[tuple[str, int]], most: int) -> None:
    attempts = Attempts(most, job=Job.WAITING)
    n_begun = n_lost = 0
    for kind, n in steps:
        if kind == "began":
            before = max(attempts.heard, attempts.tried)
            lost = attempts.began(before + n, "w")
            n_begun += 1
            n_lost += n - 1
            assert [loss.in_objective for loss in lost][-(n - 1) :] == [False] * (n - 1) or n == 1
        else:
            before = max(attempts.heard, attempts.tried)
            attempts.worker_over()
            attempts.lost(n, is_reached=True)
            n_lost += attempts.tried - before
    assert (attempts.begun, attempts.unbegun) == (n_begun, n_lost)
    assert attempts.may_begin == (n_begun < most and n_lost < UNBEGUN_LOSSES)


# -- the backend, with Spark and the workers played by the test --------------------------------------------


class Control:
    """The channel to workers that never listen."""

    endpoint = "nowhere"

    def after_arrivals(self, then: Any, *, hops: int = 5) -> None:
        then()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Threads:
    """Lanes whose jobs end when the test says so."""

    def take(self) -> Lane[Any]:
        return Lane("tag")

    def bind(self, lane: Any, item: Any) -> bool:
        return False

    def give_back(self, *_: Any) -> None:
        pass

    cancel = give_back


class Played(SparkBackend):
    """A backend without Spark, which is given what arrives."""

    def __init__(self, is_reached: bool, most: int) -> None:
        self._app: Any = SimpleNamespace(
            has_stopped=lambda _error=None: False,
            is_cancelled=lambda _error: False,
            is_near=True,
            has_copies=False,
            shows_tasks=False,
            is_fixed=True,
        )
        self._max_attempts, self._is_reached, self._may_be_reached = most, is_reached, True
        self._runs, self._events, self._noted = {}, [], set()
        self._inbox = queue.SimpleQueue()
        self._control: Any = Control()
        self._lanes: Any = Threads()
        self._pending = spark_jobs.PendingJobs(self._lanes, lambda *_: None)
        self._size = spark_jobs.Size(2, 2)
        self._session = SessionEnd(self._app)
        self._closed, self._watched = False, None
        self._ends_within_s, self._epoch = 0.0, 0.0

    def deliver(self, signal: Any) -> list[Event]:
        """What a signal, and all that follow from it, become."""
        (self._inbox.put if isinstance(signal, spark_jobs._JobOver) else self._receive)(signal)
        events: list[Event] = []
        while not self._inbox.empty():
            events += self._take(self._inbox.get())
        return events


LOST = RuntimeError("Python worker exited unexpectedly (crashed)")
REFUSED = RuntimeError("Spark does not want to")
STEPS = ("begun", "again", "arrived", "late", "gone", "told", "prepared", "stop", "terminate", "presume")
ENDS = ("returned", "spent", "lost", "refused", "silent")


def outcome(attempt: int, *, spent: bool = False) -> bytes:
    payload = None if spent else results.packed({"status": "ok", "loss": 0.0}, {})[0]
    return pickle.dumps(Outcome(payload, None, 0.0, attempt, "host", 1, spent=spent))


@settings(max_examples=400)
@given(st.lists(st.sampled_from(STEPS + ENDS), max_size=25), st.booleans(), st.integers(1, 5))
def test_in_any_order_a_trial_ends_once(steps: list[str], is_reached: bool, most: int) -> None:
    backend = Played(is_reached, most)
    backend.launch(task(7))
    run = backend._runs[7]
    attempts = run.attempts
    events: list[Event] = []
    attempt = 1

    def over(rows: list[bytes], error: Exception | None = None) -> None:
        if attempts.job is not Job.OVER:
            events.extend(backend.deliver(spark_jobs._JobOver(7, rows, error)))

    for step in steps:
        match step:
            case "begun" | "again":
                attempt += step == "again"
                events += backend.deliver(Begun(7, attempt, "host", 1))
            case "arrived" | "late":
                backend_outcome = outcome(max(1, attempt - (step == "late")))
                events += backend.deliver(Arrived(7, backend_outcome))
            case "gone":
                events += backend.deliver(Gone(7))
            case "told":
                events += backend.deliver(ReportArrived(7, 1, 1, 0.5))
            case "prepared":
                events += backend.deliver(Prepared(7))
            case "stop":
                backend.stop(7)
            case "terminate":
                backend.terminate(7)
            case "presume":
                events += backend._presumed(0.0)
            case "returned":
                over([outcome(attempts.tried + 1)])
            case "spent":
                over([outcome(attempts.last + 1, spent=True)])
            case "lost":
                over([], LOST)
            case "refused":
                over([], REFUSED)
            case "silent":
                over([])
    # In the end it is stopped, its job ends, and so do the workers.
    backend.stop(7)
    over([], LOST)
    events += backend.deliver(Gone(7))
    ends = [event for event in events if not isinstance(event, Started | Lost | Reported)]
    assert len(ends) == 1, events
    assert (attempts.job, attempts.objective, attempts.is_left) == (Job.OVER, Objective.ENDED, False)
    assert attempts.is_over
    assert backend._runs == {}
    numbers = [event.attempt for event in events if isinstance(event, Started)]
    assert numbers == sorted(numbers)
