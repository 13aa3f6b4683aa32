"""A backend with a virtual clock: trials run in this process, and time passes only from event to event.

For tests, and for questions such as "what would 1,000 slots do": the objective is called when its trial is
launched, and its end arrives after the virtual seconds of ``duration_s``. What it reports arrives
evenly spread over that time, and a trial that is terminated early ends there.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
from sparktune.study.trial import TrialError
from sparktune.worker import reporting, results
from sparktune.worker.objective import Objective

logger = logging.getLogger("sparktune")


def one_second(_config: Mapping[str, Any], _result: Mapping[str, Any]) -> float:
    """The default virtual duration of a trial."""
    return 1.0


class WorkerDied(BaseException):
    """Raised by an objective in a simulation: the worker process dies here."""


class _Notes:
    """Takes down what an objective reports; in a simulation the answer comes later."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, float]] = []

    def report(self, step: int, value: float) -> bool:
        """Pass a report to the study; True when the trial is to end."""
        self.reports.append((step, value))
        return False


class SimulatedBackend:
    """Runs trials without Spark.

    Args:
        objective: what to run.
        slots: how many trials can run at the same time.
        duration_s: virtual seconds that a trial takes, of its config and its result (empty when it failed).
        attempts: how often a trial is tried when its worker dies.
    """

    def __init__(
        self,
        objective: Objective,
        slots: int = 1,
        duration_s: Callable[[Mapping[str, Any], Mapping[str, Any]], float] = one_second,
        attempts: int = 1,
    ) -> None:
        self._objective = objective
        self._slots = slots
        self._duration_s = duration_s
        self._attempts = attempts
        self._now = 0.0
        self._order = itertools.count()
        self._future: list[tuple[float, int, Event]] = []
        self._live: set[int] = set()
        self._noted: set[str] = set()
        self._began: dict[int, float] = {}

    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def slots(self) -> int:
        """How many trials can run now."""
        return self._slots

    def launch(self, task: Task) -> None:
        """Run a trial."""
        task.run_context()
        self._live.add(task.trial_id)
        result: dict[str, Any] = {}
        end: Event | None = None
        attempt = 0
        self._began[task.trial_id] = self._now
        while end is None:
            attempt += 1
            self._at(self._now, Started(task.trial_id, self._now, attempt, "simulated"))
            notes = _Notes()
            reporting.begin(notes)
            try:
                with interrupts.admitted():
                    result, attachments = self._objective.evaluate(task.trial_id, task.config)
                    result, attachments, dropped = results.sendable(result, attachments)
                    self._note(task, dropped)
                    duration = self._duration_s(task.config, result)
                end = Finished(task.trial_id, self._now + duration, result, attachments, duration)
            except WorkerDied as death:
                if attempt >= self._attempts:
                    end = self._failed(task, death)
            except KeyboardInterrupt:  # the user's: the objective runs in this very process
                raise
            except BaseException as error:
                end = self._failed(task, error)
            finally:
                reporting.begin(None)
        for index, (step, value) in enumerate(notes.reports, start=1):
            at_s = self._now + (end.at_s - self._now) * index / (len(notes.reports) + 1)
            self._at(at_s, Reported(task.trial_id, at_s, value, step))
        self._at(end.at_s, end)

    def _note(self, task: Task, notes: Sequence[str]) -> None:
        """Log which entries of results are dropped, once in a study: as where trials run on workers."""
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                logger.warning("%s: %s", task.description, note)

    def go_on(self, trial_id: int) -> None:
        """Answer a report: the objective continues: a simulated objective does not wait."""

    def terminate(self, trial_id: int) -> None:
        """Answer a report: the objective ends: the trial ends at this very moment."""
        self._cut(trial_id, Terminated(trial_id, self._now, self._now - self._began.get(trial_id, self._now)))

    def post(self, event: Event) -> None:
        """Have ``wait`` deliver an event from elsewhere."""
        self._at(self._now, event)

    def stop(self, trial_id: int) -> None:
        """Stop a trial: the trial ends at this very moment."""
        self._cut(trial_id, Cancelled(trial_id, self._now))

    def _cut(self, trial_id: int, end: Event) -> None:
        if trial_id in self._live:
            self._future = [entry for entry in self._future if entry[2].trial_id != trial_id]
            heapq.heapify(self._future)
            self._at(self._now, end)

    def under_way(self) -> set[int]:
        """The launched trials whose end has not been delivered."""
        return set(self._live)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Wait for events: the clock moves to the next event, or on by ``timeout_s``."""
        until = float("inf") if timeout_s is None else self._now + timeout_s
        if not self._future or self._future[0][0] > until:
            if timeout_s is None:
                raise RuntimeError("nothing runs in this simulation, so nothing can happen")
            self._now = until
            return []
        self._now, _, event = heapq.heappop(self._future)
        if not isinstance(event, Started | Lost | Reported):
            self._live.discard(event.trial_id)
            self._began.pop(event.trial_id, None)
        return [event]

    def close(self) -> None:
        """Forget what still runs."""
        self._future.clear()
        self._live.clear()

    def _failed(self, task: Task, error: BaseException) -> Failed:
        duration = self._duration_s(task.config, {})
        recorded = TrialError.of(error)
        return Failed(task.trial_id, self._now + duration, recorded, duration)

    def _at(self, time_s: float, event: Event) -> None:
        heapq.heappush(self._future, (time_s, next(self._order), event))
