"""What every backend does: subclass ``BackendConformance`` in the tests of a new one.

Objectives run in another process on real backends and in this one on the simulated one, so they are defined
inside functions, and meet the test through files.
"""

from __future__ import annotations

import abc
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hyperopt import hp
from hyperopt.pyll import as_apply

from sparktune.study.backend import Backend, Cancelled, Event, Failed, Finished, Lost, Started, Task
from sparktune.study.tracker import RunContext
from sparktune.worker import processes
from sparktune.worker.objective import Objective
from sparktune.worker.processes import EndsInTime
from tests.processes import is_over

Make = Callable[..., Backend]


def objective(fn: Callable[..., Any]) -> Objective:
    return Objective(fn, as_apply(hp.uniform("x", -100, 100)))


def task(trial_id: int, x: float = 0.0, **options: Any) -> Task:
    return Task(trial_id, {"x": x}, f"trial {trial_id}", **options)


def ends_of(events: list[Event]) -> dict[int, Event]:
    """How each trial ended; a trial that ended twice is an error."""
    ends: dict[int, Event] = {}
    for event in events:
        if not isinstance(event, Started | Lost):
            assert event.trial_id not in ends, f"trial {event.trial_id} ended twice"
            ends[event.trial_id] = event
    return ends


def wait_for(backend: Backend, done: Callable[[list[Event]], bool], patience_s: float = 60) -> list[Event]:
    """Every event until ``done`` says so of those that came."""
    events: list[Event] = []
    give_up = backend.now() + patience_s
    while not done(events):
        left = give_up - backend.now()
        assert left > 0, f"only {events} after {patience_s} s"
        events += backend.wait(left)
    return events


def wait_for_ends(backend: Backend, *trial_ids: int) -> list[Event]:
    return wait_for(backend, lambda events: set(trial_ids) <= set(ends_of(events)))


def started(trial_id: int) -> Callable[[list[Event]], bool]:
    return lambda events: any(isinstance(e, Started) and e.trial_id == trial_id for e in events)


def result_of(end: Event) -> Any:
    assert isinstance(end, Finished), end
    return end.result


def error_of(end: Event) -> Any:
    assert isinstance(end, Failed), end
    return end.error


def attempts_of(events: list[Event], trial_id: int) -> list[int]:
    return [e.attempt for e in events if isinstance(e, Started) and e.trial_id == trial_id]


class KillsWhoReadsIt(dict[str, str]):
    """An environment whose reader kills itself: a worker does before it begins a trial.

    Args:
        times: how many do; the others read an empty one.
        folder: counts them.
    """

    def __init__(self, times: int, folder: Path) -> None:
        self._die = (
            f"[os.open({str(folder)!r} + f'/{{len(seen)}}', os.O_CREAT), os.kill(os.getpid(), 9)]"
            f" if len(seen) < {times} else {{}}"
        )
        self._seen = f"os.listdir({str(folder)!r})"

    def __reduce__(self) -> Any:
        return eval, (f"(lambda os: (lambda seen: {self._die})({self._seen}))(__import__('os'))",)


class Saves(EndsInTime):
    """An objective without an end, which takes ``save_s`` to save what it has, and says so in a folder."""

    ends_within_s = 4.0

    def __init__(self, folder: Path, save_s: float) -> None:
        self.folder, self.save_s = folder, save_s

    def __call__(self, _x: float) -> float:
        def save() -> None:
            (self.folder / "saving").touch()
            time.sleep(self.save_s)
            (self.folder / "saved").touch()

        (self.folder / f"begun {os.getpid()}").touch()
        with processes.before_the_end(save):
            time.sleep(3600)
        return 0.0


def check_saving(make: Make, folder: Path, by: str, save_s: float) -> None:
    """A trial that is stopped saves first, is not run again, and has no more than its time."""
    backend = make(Saves(folder, save_s))
    backend.launch(task(0))
    wait_for(backend, started(0))
    wait_until(lambda: any(folder.glob("begun *")))
    began = time.monotonic()
    if by == "stop":
        backend.stop(0)
        backend.stop(0)
        assert isinstance(wait_for_ends(backend, 0)[-1], Cancelled)
        assert list(backend.wait(0)) == []
    else:
        backend.close()
    took = time.monotonic() - began
    (begun,) = folder.glob("begun *")
    assert is_over(int(begun.name.split()[1]))
    assert (folder / "saving").exists()
    if save_s < Saves.ends_within_s:
        assert (folder / "saved").exists()
        assert save_s <= took < save_s + 10
    else:
        assert not (folder / "saved").exists()
        assert Saves.ends_within_s <= took < Saves.ends_within_s + 10


def wait_until(there: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    done = threading.Event()
    for _ in range(6000):
        if there():
            return
        done.wait(0.01)
    raise AssertionError("it has not come in a minute")


class BackendConformance(abc.ABC):
    """The suite. A subclass says how to make a backend, and which objectives die or take for ever there."""

    attempts: int
    """How often a trial is tried whose worker dies every time."""
    others_lost = 0
    """How many workers are lost at most that run no trial, where every worker is."""
    wakes_early = False
    """Whether ``wait`` may return before its time without an event."""

    @abc.abstractmethod
    def create(self, objective: Objective, context: Any) -> Backend:
        """A backend with at least 2 slots. ``context`` is what the fixture ``context`` gave."""

    @abc.abstractmethod
    def dying(self) -> Callable[[float], float]:
        """An objective that ends its worker process, without a word, when x is negative; else gives x."""

    @abc.abstractmethod
    def endless(self) -> Callable[[float], float]:
        """An objective that takes an hour when x is negative; else gives x at once."""

    @pytest.fixture
    def context(self) -> Any:
        """What ``create`` needs."""
        return None

    @pytest.fixture
    def make(self, context: Any) -> Iterator[Make]:
        """Makes backends of an objective's function; they are closed after the test."""
        with contextlib.ExitStack() as stack:

            def make(fn: Callable[..., Any]) -> Backend:
                backend = self.create(objective(fn), context)
                stack.callback(backend.close)
                return backend

            yield make

    # -- one trial -----------------------------------------------------------------------------------------

    def test_success(self, make: Make) -> None:
        def fn(x: float) -> Any:
            return {"status": "ok", "loss": x, "note": "n", "attachments": {"a": b"bytes"}}

        backend = make(fn)
        assert backend.slots() >= 1
        backend.launch(task(5, 2.5))
        first, end = wait_for_ends(backend, 5)
        assert isinstance(first, Started)
        assert (first.trial_id, first.attempt) == (5, 1)
        assert first.host
        assert result_of(end) == {"status": "ok", "loss": 2.5, "note": "n"}
        assert isinstance(end, Finished)
        assert end.attachments == {"a": b"bytes"}
        assert end.duration_s is not None
        assert 0 <= end.duration_s < 60
        assert first.at_s <= end.at_s <= backend.now()

    def test_exception_with_traceback(self, make: Make) -> None:
        def fn(x: float) -> float:
            def deep(y: float) -> float:
                raise LookupError(f"no {y}\nreally")

            return deep(x)

        backend = make(fn)
        backend.launch(task(0, 2.0))
        *before, end = wait_for_ends(backend, 0)
        error = error_of(end)
        assert (error.type_name, error.message) == ("LookupError", "no 2.0\nreally")
        assert error.traceback.startswith("Traceback (most recent call last)")
        assert "in deep" in error.traceback
        assert [type(event) for event in before] == [Started], "a user's error is not tried again"

    def test_an_exception_without_a_text(self, make: Make) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise LookupError

        class Odd(Exception):
            def __str__(self) -> str:
                class Text(str):
                    pass

                return Text("odd")

        def fn(x: float) -> float:
            raise Mute if x else Odd

        backend = make(fn)
        for x, message in enumerate(["odd", "<no text: LookupError>"]):
            backend.launch(task(x, float(x)))
            *before, end = wait_for_ends(backend, x)
            assert error_of(end).message == message
            assert [type(event) for event in before] == [Started]

    @pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
    def test_exceptions_that_are_no_errors(self, make: Make, error: type[BaseException]) -> None:
        def fn(_x: float) -> float:
            raise error("from the objective")

        backend = make(fn)
        backend.launch(task(0))
        assert error_of(wait_for_ends(backend, 0)[-1]).type_name == error.__name__

    def test_bad_result(self, make: Make) -> None:
        backend = make(lambda x: None)
        backend.launch(task(0))
        error = error_of(wait_for_ends(backend, 0)[-1])
        assert error.type_name == "BadResult"
        assert "return the loss as a number" in error.message

    def test_nan_passes_through_as_a_result(self, make: Make) -> None:
        backend = make(lambda x: math.nan)
        backend.launch(task(0))
        assert math.isnan(result_of(wait_for_ends(backend, 0)[-1])["loss"])

    def test_unpicklable_result(self, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        """The entry is dropped with one warning; the loss is kept."""

        def fn(x: float) -> Any:
            return {"status": "ok", "loss": x, "model": threading.Lock(), "accuracy": 0.5}

        backend = make(fn)
        for trial_id in (0, 1):
            backend.launch(task(trial_id, 2.0))
            *before, end = wait_for_ends(backend, trial_id)
            assert result_of(end) == {"status": "ok", "loss": 2.0, "accuracy": 0.5}
            assert [type(event) for event in before] == [Started]
        warned = [r for r in caplog.records if "the result['model'] is a lock" in r.getMessage()]
        assert len(warned) == 1

    def test_dead_worker(self, make: Make) -> None:
        backend = make(self.dying())
        backend.launch(task(0, -1.0))
        backend.launch(task(1, 1.0))
        events = wait_for_ends(backend, 0, 1)
        assert error_of(ends_of(events)[0]).message
        assert result_of(ends_of(events)[1])["loss"] == 1.0
        attempts = [e.attempt for e in events if isinstance(e, Started) and e.trial_id == 0]
        assert attempts == list(range(1, self.attempts + 1))
        backend.launch(task(2, 2.0))
        assert result_of(wait_for_ends(backend, 2)[-1])["loss"] == 2.0

    def test_a_worker_that_dies_once(self, make: Make, tmp_path: Path) -> None:
        dies = self.dying()
        died = tmp_path / "died"

        def fn(x: float) -> float:
            if x < 0 and not died.exists():
                died.touch()
                dies(x)
            return x

        backend = make(fn)
        backend.launch(task(0, -1.0))
        backend.launch(task(1, 1.0))
        events = wait_for_ends(backend, 0, 1)
        assert result_of(ends_of(events)[0])["loss"] == -1.0
        assert result_of(ends_of(events)[1])["loss"] == 1.0
        assert (attempts_of(events, 0), attempts_of(events, 1)) == ([1, 2], [1])
        assert list(backend.wait(0)) == []

    @pytest.mark.parametrize("times", [1, 9])
    def test_workers_that_die_before_the_objective_begins(
        self, make: Make, tmp_path: Path, times: int
    ) -> None:
        backend = make(lambda x: x)
        environment = KillsWhoReadsIt(times, tmp_path)
        context = RunContext("run", "http://127.0.0.1:1", None, "0", environment)
        backend.launch(task(0, 2.5, run_context=lambda: context))
        events = wait_for_ends(backend, 0)
        assert result_of(events[-1])["loss"] == 2.5
        assert attempts_of(events, 0) == [1], "they cost no attempt"
        assert len(list(tmp_path.iterdir())) == times

    def test_workers_that_always_die_before_the_objective_begins(self, make: Make, tmp_path: Path) -> None:
        backend = make(lambda x: x)
        environment = KillsWhoReadsIt(1000, tmp_path)
        context = RunContext("run", "http://127.0.0.1:1", None, "0", environment)
        backend.launch(task(0, 2.5, run_context=lambda: context))
        events = wait_for_ends(backend, 0)
        error = error_of(events[-1])
        assert error.type_name == "WorkerLost"
        assert "the worker died before the objective had begun" in error.message
        assert attempts_of(events, 0) == []
        n_lost = len(list(tmp_path.iterdir()))
        assert 10 <= n_lost < 14 + self.others_lost, "ten, or until Spark gives up"
        backend.launch(task(1, 2.0))
        assert result_of(wait_for_ends(backend, 1)[-1])["loss"] == 2.0

    def test_a_trial_that_is_stopped_while_its_worker_is_being_lost(self, make: Make, tmp_path: Path) -> None:
        """It ends once, and nothing of it begins after that."""
        dies = self.dying()
        backend = make(dies)
        for trial_id in range(6):
            backend.launch(task(trial_id, -1.0))
            events = wait_for(backend, started(trial_id))
            backend.stop(trial_id)
            if trial_id not in ends_of(events):
                events += wait_for_ends(backend, trial_id)
            ends_of(events)
            assert not isinstance(events[-1], Started)
            assert list(backend.wait(0)) == []

    def test_run_context_is_asked_once_per_trial(self, make: Make) -> None:
        asked: list[int] = []
        backend = make(lambda x: x)
        for i in range(3):
            backend.launch(task(i, run_context=lambda i=i: asked.append(i)))  # type: ignore[misc]
        wait_for_ends(backend, 0, 1, 2)
        assert sorted(asked) == [0, 1, 2]

    # -- many trials ---------------------------------------------------------------------------------------

    def test_every_trial_ends_once_and_slots_are_refilled(self, make: Make) -> None:
        backend = make(lambda x: x if x % 3 else 1 / 0)
        n, slots = 12, min(2, backend.slots())
        events: list[Event] = []
        launched = 0
        while len(ends := ends_of(events)) < n:
            while launched < min(n, len(ends) + slots):
                backend.launch(task(launched, float(launched)))
                launched += 1
            events += wait_for(backend, bool)
        assert {i for i, end in ends.items() if isinstance(end, Failed)} == {0, 3, 6, 9}
        assert all(result_of(end)["loss"] == i for i, end in ends.items() if i % 3)
        assert sorted(e.trial_id for e in events if isinstance(e, Started)) == list(range(n))
        assert list(backend.wait(0)) == []

    def test_the_clock_never_goes_back(self, make: Make) -> None:
        backend = make(lambda x: x)
        times = [backend.now()]
        for i in range(4):
            backend.launch(task(i))
            times.append(backend.now())
            for event in wait_for_ends(backend, i):
                times.append(event.at_s)
            times.append(backend.now())
        backend.wait(0.01)
        times.append(backend.now())
        assert times == sorted(times)
        assert times[-1] >= times[-2] + (0.0 if self.wakes_early else 0.009)

    # -- stopping ------------------------------------------------------------------------------------------

    def test_stopping_one_leaves_the_others(self, make: Make) -> None:
        backend = make(self.endless())
        backend.launch(task(0, -1.0))
        wait_for(backend, started(0))
        backend.launch(task(1, 1.0))
        backend.stop(0)
        ends = ends_of(wait_for_ends(backend, 0, 1))
        assert isinstance(ends[0], Cancelled)
        assert result_of(ends[1])["loss"] == 1.0
        backend.launch(task(2, 2.0))
        assert result_of(wait_for_ends(backend, 2)[-1])["loss"] == 2.0

    def test_stopping_at_once_after_the_launch(self, make: Make) -> None:
        backend = make(self.endless())
        for i in range(4):
            backend.launch(task(i, -1.0))
        for i in range(4):
            backend.stop(i)
            backend.stop(i)
        ends = ends_of(wait_for_ends(backend, 0, 1, 2, 3))
        assert all(isinstance(end, Cancelled) for end in ends.values())
        assert list(backend.wait(0)) == []

    def test_stopping_after_the_end_changes_nothing(self, make: Make) -> None:
        backend = make(lambda x: x)
        backend.launch(task(0, 1.0))
        wait_for_ends(backend, 0)
        backend.stop(0)
        backend.stop(99)
        assert list(backend.wait(0)) == []
        backend.launch(task(1, 2.0))
        assert result_of(wait_for_ends(backend, 1)[-1])["loss"] == 2.0

    def test_waiting_is_bounded(self, make: Make) -> None:
        backend = make(self.endless())
        backend.launch(task(0, -1.0))
        wait_for(backend, started(0))
        before = backend.now()
        assert list(backend.wait(0.05)) == []
        assert (0.0 if self.wakes_early else 0.04) <= backend.now() - before < 10

    def test_close_ends_everything(self, make: Make) -> None:
        backend = make(self.endless())
        for i in range(3):
            backend.launch(task(i, -1.0))
        # There may be fewer slots than trials, and which of them come first is the backend's affair.
        wait_for(backend, lambda events: any(isinstance(event, Started) for event in events))
        backend.close()
        backend.close()
