"""Threads of the driver: the shared suite, and what they alone can show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sparktune.backends import driver_threads
from sparktune.backends.driver_threads import DriverThreadsBackend
from sparktune.backends.session import application
from sparktune.study.backend import Cancelled, Reported, Terminated
from sparktune.worker import reporting
from sparktune.worker.objective import Objective
from tests.backends.conformance import (
    BackendConformance,
    ends_of,
    objective,
    result_of,
    started,
    task,
    wait_for,
    wait_for_ends,
)


class TestConformance(BackendConformance):
    attempts = 1
    spark: Any

    @pytest.fixture
    def context(self, spark: Any) -> Any:
        self.spark = spark
        return spark

    def create(self, objective: Objective, context: Any) -> DriverThreadsBackend:
        return DriverThreadsBackend(objective, 4, application(context))

    def dying(self) -> Callable[[float], float]:
        raise NotImplementedError

    def test_dead_worker(self) -> None:  # type: ignore[override]
        pytest.skip("an objective that ends its process ends the driver")

    test_a_worker_that_dies_once = test_dead_worker  # type: ignore[assignment]
    test_workers_that_die_before_the_objective_begins = test_dead_worker  # type: ignore[assignment]
    test_workers_that_always_die_before_the_objective_begins = test_dead_worker  # type: ignore[assignment]
    test_a_trial_that_is_stopped_while_its_worker_is_being_lost = test_dead_worker  # type: ignore[assignment]

    def test_unpicklable_result(self, make: Any) -> None:
        """Nothing is sent: it stays what it is."""
        lock = threading.Lock()
        backend = make(lambda x: {"status": "ok", "loss": x, "model": lock})
        backend.launch(task(0))
        assert result_of(wait_for_ends(backend, 0)[-1])["model"] is lock

    def endless(self) -> Callable[[float], float]:
        def fn(x: float) -> float:
            if x < 0:
                run_for_an_hour(self.spark)
            return x

        return fn


def run_for_an_hour(spark: Any) -> None:
    """A Spark job, which is cancelled with its trial."""

    def wait(batches: Any) -> Any:
        for batch in batches:
            time.sleep(3600)
            yield batch

    spark.range(0, 1, 1, 1).mapInArrow(wait, "id long").collect()


def test_a_trial_that_goes_on_with_its_spark_jobs_is_stopped_at_each(spark: Any) -> None:
    tried: list[int] = []

    def stubborn(_x: float) -> float:
        while len(tried) < 3:
            try:
                run_for_an_hour(spark)
            except Exception:
                tried.append(1)
        return 0.0

    backend = DriverThreadsBackend(objective(stubborn), 1, application(spark))
    backend.launch(task(0))
    wait_for(backend, started(0))
    backend.stop(0)
    ends = ends_of(wait_for(backend, bool))
    assert ends[0].__class__.__name__ == "Finished", "a result that arrived stays a result"
    assert len(tried) == 3


def test_what_cannot_be_ended_is_given_up_and_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_threads, "ABANDON_AFTER_S", 0.3)
    go_on = threading.Event()

    def computes(_x: float) -> float:
        go_on.wait(60)
        return 0.0

    backend = DriverThreadsBackend(objective(computes), 1)
    backend.launch(task(0))
    wait_for(backend, started(0))
    backend.stop(0)
    assert isinstance(ends_of(wait_for(backend, bool))[0], Cancelled)
    assert "trial 0 was stopped 0 s ago and still runs in a thread of this process" in caplog.text
    go_on.set()
    assert backend.wait(0.3) == []
    backend.close()


@pytest.mark.parametrize("terminate", [True, False])
def test_a_report_waits_for_its_answer_and_ends_the_trial(terminate: bool) -> None:
    def reports(_x: float) -> float:
        for step in range(1000):
            reporting.report(float(step), step)
        return 0.0

    backend = DriverThreadsBackend(objective(reports), 1)
    backend.launch(task(0))
    events = wait_for(backend, lambda events: any(isinstance(event, Reported) for event in events))
    backend.go_on(0)
    events += wait_for(backend, lambda events: any(isinstance(event, Reported) for event in events))
    (backend.terminate if terminate else backend.stop)(0)
    events += wait_for(backend, bool)
    assert [event.step for event in events if isinstance(event, Reported)] == [0, 1]
    assert isinstance(events[-1], Terminated if terminate else Cancelled)


def test_one_that_goes_on_after_its_end_is_stopped_however_busy_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver_threads, "TERMINATE_S", 0.2)
    monkeypatch.setattr(driver_threads, "ABANDON_AFTER_S", 0.2)
    over = threading.Event()

    def ignores(_x: float) -> float:
        try:
            reporting.report(1.0)
        except reporting.TrialTerminated:
            over.wait(60)
        return 0.0

    backend = DriverThreadsBackend(objective(ignores), 1)
    backend.launch(task(0))
    wait_for(backend, lambda events: any(isinstance(event, Reported) for event in events))

    def keep_busy() -> None:
        while not over.wait(0.01):
            backend.post(Reported(1, 0.0, 1.0, 1, "tracker"))

    busy = threading.Thread(target=keep_busy)
    busy.start()
    backend.terminate(0)
    try:
        events = wait_for(backend, lambda events: any(event.trial_id == 0 for event in events))
    finally:
        over.set()
        busy.join()
    assert isinstance(events[-1], Cancelled)


def test_a_metric_that_was_read_in_mlflow_stops_a_trial_that_never_reports(spark: Any) -> None:
    backend = DriverThreadsBackend(objective(lambda _x: run_for_an_hour(spark)), 1, application(spark))
    backend.launch(task(0))
    wait_for(backend, started(0))
    backend.terminate(0)
    assert isinstance(ends_of(wait_for(backend, bool))[0], Cancelled)


def test_reports_of_threads_are_told_apart() -> None:
    both = threading.Barrier(2, timeout=60)

    def reports(x: float) -> Any:
        both.wait()
        reporting.report(x)
        both.wait()
        return {"status": "ok", "loss": reporting.last_value(), "in_trial": reporting.is_in_trial()}

    backend = DriverThreadsBackend(objective(reports), 2)
    for i in range(2):
        backend.launch(task(i, float(i)))
    events: list[Any] = []
    while len(ends := ends_of_trials(events)) < 2:
        for event in backend.wait(60):
            events.append(event)
            if isinstance(event, Reported):
                assert event.value == event.trial_id
                backend.go_on(event.trial_id)
    assert {i: end.result["loss"] for i, end in ends.items()} == {0: 0.0, 1: 1.0}
    assert not reporting.is_in_trial()


def ends_of_trials(events: list[Any]) -> dict[int, Any]:
    return ends_of([event for event in events if not isinstance(event, Reported)])
