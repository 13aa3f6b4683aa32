"""One trial: its states, the table of transitions, and the immutable record that all parts share."""

from __future__ import annotations

import math
import numbers
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sparktune.early_termination.base import Decision

SUMMARY_CHARS = 1000
"""How much of an error's message goes into one line."""


class TrialState(StrEnum):
    """What a trial is doing, or how it ended."""

    QUEUED = "queued"
    """Suggested, and waiting for a slot (``max_queue_len`` > 1, or a point given by the user)."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    """The objective raised, returned NaN or a bad result, or its worker died for good."""
    CANCELLED = "cancelled"
    """Stopped because the whole study stopped: timeout, Ctrl-C, loss threshold, early stop."""
    EARLY_TERMINATED = "early_terminated"
    """Stopped by an early termination policy."""
    TIMED_OUT = "timed_out"
    """Stopped because it ran longer than ``trial_timeout``."""

    def __repr__(self) -> str:
        """As its text: people print ``trials.counts()``."""
        return repr(self.value)

    @property
    def is_final(self) -> bool:
        """Whether a trial in this state has ended: its state never changes again.

        Nor does anything else, but for the loss of an early terminated one (``Study.conclude``).
        """
        return self not in (TrialState.QUEUED, TrialState.RUNNING)


TRANSITIONS: Mapping[TrialState, frozenset[TrialState]] = {
    TrialState.QUEUED: frozenset({TrialState.RUNNING, TrialState.CANCELLED}),
    TrialState.RUNNING: frozenset(
        {
            TrialState.COMPLETED,
            TrialState.FAILED,
            TrialState.CANCELLED,
            TrialState.EARLY_TERMINATED,
            TrialState.TIMED_OUT,
        }
    ),
    **{state: frozenset() for state in TrialState if state.is_final},
}
"""Every transition that is allowed. Finished is final: a late cancel never overwrites a success."""


@dataclass(frozen=True, slots=True)
class TrialError:
    """Why a trial failed, as text, so that it can cross processes and be stored.

    Attributes:
        kind: the exception's class as ``str(type(error))``, hyperopt's form: ``<class 'ValueError'>``.
        message: ``str(error)``.
        traceback: the formatted traceback on the worker, or the message where there is none.
    """

    kind: str
    message: str
    traceback: str

    @property
    def type_name(self) -> str:
        """The bare class name: ``ValueError``, ``MyError``."""
        return self.kind.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]

    @property
    def summary(self) -> str:
        """``ValueError: the message``, on one line (``in_one_line``)."""
        message = in_one_line(self.message)
        return f"{self.type_name}: {message}" if message else self.type_name

    @classmethod
    def of(cls, error: BaseException) -> TrialError:
        """The record of an exception, whatever its class makes of ``str``."""
        message = text_of(error)
        formatted = f"{type(error).__name__}: {message}"
        if error.__traceback__ is not None:
            formatted = _plain(lambda: "".join(traceback.format_exception(error)))
        return cls(text_of(type(error)), message, formatted)


def in_one_line(message: str) -> str:
    """A message on one line; of a long one the beginning and the end.

    Where a traceback is part of it (scikit-learn's "All the 5 fits failed" has those of the fits), the end is
    the last exception in it.
    """
    head, traceback_follows, rest = message.partition("Traceback (most recent call last):")
    if traceback_follows:
        lines = rest.rstrip().splitlines()
        # Frames are indented, the exception behind them is not.
        behind = next((n for n in range(len(lines), 0, -1) if lines[n - 1].startswith(" ")), 0)
        cause = " ".join(" ".join(lines[behind:]).split())
        if cause:
            return f"{_cut(head, SUMMARY_CHARS // 4)} ... {_cut(cause, SUMMARY_CHARS // 2)}"
    return _cut(message, SUMMARY_CHARS)


def _cut(text: str, limit: int) -> str:
    if len(text) > 2 * limit:  # of millions of characters, most need not be processed
        text = f"{text[:limit]}{text[-limit:]}"
        return (
            f"{' '.join(text[:limit].split())[: limit * 2 // 3]} ... {' '.join(text.split())[-limit // 3 :]}"
        )
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit * 2 // 3]} ... {text[-limit // 3 :]}"


def text_of(value: object) -> str:
    """``str(value)``, as a plain string, or what it raises instead."""
    return _plain(lambda: str(value))


def _plain(text: Callable[[], str]) -> str:
    try:
        return str.__str__(text())  # of a subclass of str too, which another process may not know
    except Exception as raised:
        return f"<no text: {type(raised).__name__}>"


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial as it is at one moment; a change makes a new record, so any thread may keep one.

    Attributes:
        trial_id: hyperopt's ``tid``; the n-th trial of the study has ``n - 1``.
        config: the assignment in hyperopt's form, label -> raw value (for ``hp.choice`` the index);
            active labels only.
        params: label -> the value that the objective receives (for ``hp.choice`` the option itself where
            it is a scalar); active labels only.
        state: see ``TrialState``.
        loss: the loss, once there is one; finite or infinite, never NaN.
        result: the objective's result dict without its attachments, once there is one.
        attachments: what the objective attached (``{"attachments": {...}}``).
        error: why the trial failed.
        attempts: how often the objective was begun (more than 1: a worker was lost, and it was run again).
        steps: number of reports seen.
        last_step: the largest step that was reported.
        submitted_s, started_s, ended_s: seconds of the backend's clock (Unix time for real backends) when
            the trial was handed to the backend, when its objective truly started, and when its end was known.
        duration_s: seconds the objective ran, measured on its worker.
        host, worker_pid: where it ran last.
        stop_reason: why it was stopped, for states that mean so.
        decision: what an early termination policy decided, and why.
        run_id: its MLflow run, known when the study is over.
        draws: how many seeds of the study's random stream had been drawn when it was suggested; None for a
            point that was not suggested.
    """

    trial_id: int
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    state: TrialState = TrialState.QUEUED
    loss: float | None = None
    result: Mapping[str, Any] | None = None
    attachments: Mapping[str, Any] = field(default_factory=dict)
    error: TrialError | None = None
    attempts: int = 0
    steps: int = 0
    last_step: int = 0
    submitted_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    duration_s: float | None = None
    host: str | None = None
    worker_pid: int | None = None
    stop_reason: str | None = None
    decision: Decision | None = None
    run_id: str | None = None
    draws: int | None = None

    def to(self, state: TrialState, **changes: Any) -> Trial:
        """The record after a transition.

        Raises:
            ValueError: the transition is not in ``TRANSITIONS``.
        """
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"trial {self.trial_id} is {self.state}; it cannot become {state}")
        return replace(self, state=state, **changes)

    @property
    def describe(self) -> str:
        """``trial 17: C=0.31 kernel=rbf``, for people: the Spark UI, log lines."""
        params = " ".join(f"{label}={format_value(value)}" for label, value in self.params.items())
        return f"trial {self.trial_id}: {params}" if params else f"trial {self.trial_id}"


def reported_metric(result: Mapping[str, Any] | None, metric: str) -> float | None:
    """What a result has under the name of the primary metric, where that is not the loss; None without it."""
    value = None if metric == "loss" else (result or {}).get(metric)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else None


def metric_value(
    result: Mapping[str, Any] | None, loss: float | None, metric: str, goal: str
) -> float | None:
    """The value of the primary metric of a trial: as its result gives it, else made of its loss.

    Args:
        result: what the objective returned, or None.
        loss: of the trial, or None.
        metric: the name of the primary metric.
        goal: ``minimize`` or ``maximize``; to be maximized, the loss is the metric's negative.
    """
    value = reported_metric(result, metric)
    if value is not None or loss is None:
        return value
    return -loss + 0.0 if goal == "maximize" else loss


def shown_value(trial: Trial | None, metric: str, goal: str) -> tuple[str, float | None]:
    """Name and value to show: the metric that is to be maximized, else the loss."""
    if goal != "maximize":
        return "loss", None if trial is None else trial.loss
    return metric, None if trial is None else metric_value(trial.result, trial.loss, metric, goal)


def format_value(value: Any) -> str:
    """A parameter's value for people: floats with three significant digits, of long text both ends.

    Never a key: two values may have the same text.
    """
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return f"{value:.3g}"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-19:]}"
