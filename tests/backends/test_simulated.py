"""The simulated backend: the shared suite, and its virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparktune.backends.simulated import SimulatedBackend, WorkerDied
from sparktune.study.backend import Cancelled, Finished
from sparktune.worker.objective import Objective
from tests.backends.conformance import BackendConformance, objective, task

pytestmark = pytest.mark.unit


class TestConformance(BackendConformance):
    attempts = 3

    def create(self, objective: Objective, context: Any) -> SimulatedBackend:
        def duration_s(config: Any, _result: Any) -> float:
            return 3600.0 if config["x"] < 0 and not self.dies else 1.0

        return SimulatedBackend(objective, 2, duration_s, attempts=self.attempts)

    dies = False

    def dying(self) -> Callable[[float], float]:
        def fn(x: float) -> float:
            if x < 0:
                raise WorkerDied("out of memory")
            return x

        self.dies = True
        return fn

    def endless(self) -> Callable[[float], float]:
        return lambda x: x

    def test_workers_that_die_before_the_objective_begins(self) -> None:  # type: ignore[override]
        pytest.skip("there is no worker before the objective")

    test_workers_that_always_die_before_the_objective_begins = (  # type: ignore[assignment]
        test_workers_that_die_before_the_objective_begins
    )


def takes(seconds: Any) -> SimulatedBackend:
    return SimulatedBackend(objective(lambda x: x), 3, lambda config, _result: config["x"])


def test_time_passes_from_event_to_event() -> None:
    backend = takes("x")
    for i, x in enumerate([30.0, 10.0, 20.0]):
        backend.launch(task(i, x))
    seen = []
    for _ in range(6):
        (event,) = backend.wait()
        seen.append((type(event).__name__, event.trial_id, backend.now()))
    assert seen[3:] == [("Finished", 1, 10.0), ("Finished", 2, 20.0), ("Finished", 0, 30.0)]
    assert {name for name, *_ in seen[:3]} == {"Started"}
    assert all(at == 0 for *_, at in seen[:3])


def test_waiting_for_less_than_the_next_event_moves_the_clock_that_far() -> None:
    backend = takes("x")
    backend.launch(task(0, 10.0))
    backend.wait()
    assert backend.wait(4.0) == []
    assert backend.now() == 4.0
    (event,) = backend.wait(100.0)
    assert isinstance(event, Finished)
    assert backend.now() == 10.0


def test_a_stopped_trial_ends_at_that_moment() -> None:
    backend = takes("x")
    backend.launch(task(0, 10.0))
    backend.wait()
    backend.wait(4.0)
    backend.stop(0)
    assert backend.wait() == [Cancelled(0, 4.0)]


def test_waiting_for_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="nothing runs in this simulation"):
        takes("x").wait()
