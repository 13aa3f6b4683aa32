"""The backend port: it runs trials, and turns what happens to them into events.

A backend owns the clock. The driver launches, stops, and waits; it never sleeps. For every launched trial
exactly one of the events that end it (``Finished``, ``Failed``, ``Terminated``, ``Cancelled``) is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sparktune.study.tracker import NullTracker, RunContext, Tell
from sparktune.study.trial import TrialError


class AskRun(Protocol):
    """``Tracker.ask_run`` of one trial."""

    def __call__(self, trial_id: int, tell: Tell, *, hurry: bool) -> None:
        """Ask for the run of ``trial_id``."""


@dataclass(frozen=True, slots=True)
class Task:
    """One trial to run.

    Attributes:
        trial_id: unique within the study.
        config: label -> raw value, hyperopt's form.
        description: for the Spark UI and for logs.
        run_context: called once, in one of the backend's threads, just before the task is shipped.
        ask_run: asks for the trial's run where the context has none (``Tracker.ask_run``); called in any of
            the backend's threads.
        seed: of the trial's random numbers, in [0, 2**32), or None.
        more: how many trials may follow in this study.
    """

    trial_id: int
    config: Mapping[str, Any]
    description: str = ""
    run_context: Callable[[], RunContext | None] = lambda: None
    ask_run: AskRun = NullTracker().ask_run
    seed: int | None = None
    more: float = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The objective began on its worker; sent again when a trial is run again after its worker was lost.

    ``attempt`` counts the beginnings from 1. ``at_s`` is the backend's clock.
    """

    trial_id: int
    at_s: float
    attempt: int = 1
    host: str | None = None
    worker_pid: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The trial's worker was lost, and the trial is run again; ``Started`` marks its new start."""

    trial_id: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The objective returned a valid result (``result`` is hyperopt's result dict)."""

    trial_id: int
    at_s: float
    result: Mapping[str, Any]
    attachments: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The objective raised, its result was invalid or could not be sent, or its worker died for good."""

    trial_id: int
    at_s: float
    error: TrialError
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The trial was stopped and no objective of it is running any more."""

    trial_id: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Reported:
    """The objective reported the primary metric: over ``report``, or it logged it where the tracker records.

    A trial that uses ``report`` is not judged by what the tracker reads too.
    """

    trial_id: int
    at_s: float
    value: float
    step: int
    source: Literal["report", "tracker"] = "report"


@dataclass(frozen=True, slots=True)
class Terminated:
    """The objective was ended by its call of ``report``; its worker takes the next trial."""

    trial_id: int
    at_s: float
    duration_s: float | None = None


Event = Started | Lost | Reported | Finished | Failed | Terminated | Cancelled


class Backend(Protocol):
    """Runs the trials of one study. All methods are called by one thread."""

    def now(self) -> float:
        """The clock, in seconds; never goes back. Unix time for real backends."""

    def slots(self) -> int:
        """How many trials can run at this moment, at least 1. Cheap enough to be asked at every event."""

    def launch(self, task: Task) -> None:
        """Run a trial. Returns immediately; what becomes of it arrives as events."""

    def stop(self, trial_id: int) -> None:
        """Stop a trial, and nothing else. Returns immediately.

        The trial ends as ``Cancelled``, unless its result or failure arrived first. Stopping a trial that
        has ended does nothing.
        """

    def go_on(self, trial_id: int) -> None:
        """Answer a report: the objective continues."""

    def terminate(self, trial_id: int) -> None:
        """End a trial in its call of ``report``, which keeps its worker; without a call, ``stop`` it."""

    def post(self, event: Event) -> None:
        """Have ``wait`` deliver an event from elsewhere. The one method that any thread may call."""

    def under_way(self) -> Set[int]:
        """The launched trials whose end has not been delivered by ``wait``."""

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """The one waiting call: block until something happens or ``timeout_s`` passes (then empty)."""

    def close(self) -> None:
        """Stop what still runs and release everything; returns when no objective is running any more."""
