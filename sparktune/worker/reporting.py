"""``report``: how an objective tells its study how it is doing, and learns that it is to end."""

from __future__ import annotations

import numbers
from typing import Any, Protocol


class TrialTerminated(BaseException):
    """Raised by ``report`` inside an objective whose trial is to end; let it pass.

    It derives from ``BaseException`` so that an ``except Exception`` in the objective does not swallow it;
    ``finally`` blocks and context managers run.
    """


class Reporter(Protocol):
    """Where reports of the trial that this process runs go."""

    def report(self, step: int, value: float) -> bool:
        """Hand a report on; True when the trial is to end."""


class _Current:
    reporter: Reporter | None = None
    next_step = 1
    last: float | None = None


def report(value: float, step: int | None = None) -> None:
    """Report the primary metric of the running trial: its study may end the trial here.

    The reports are a series of the trial's MLflow run under the name of the study's metric. Outside of a
    study nothing happens, so the same code runs alone.

    Args:
        value: the primary metric, as ``SparkTrials(goal=...)`` understands it.
        step: the epoch, round or batch; numbered 1, 2, ... when left out.

    Raises:
        TrialTerminated: the study ends this trial.
        TypeError: ``value`` is no number, or ``step`` no whole number.
    """
    number = _as_float(value)
    if step is None:
        step = _Current.next_step
    elif isinstance(step, bool) or not isinstance(step, numbers.Integral):
        raise TypeError(f"report got the step {step!r}; it must be a whole number")
    _Current.next_step, _Current.last = int(step) + 1, number
    reporter = _Current.reporter
    if reporter is not None and reporter.report(int(step), number):
        raise TrialTerminated("the study ended this trial early")


def begin(reporter: Reporter | None) -> None:
    """From now on reports go to ``reporter``; steps begin at 1."""
    _Current.reporter, _Current.next_step, _Current.last = reporter, 1, None


def is_in_trial() -> bool:
    """Whether this process runs a trial of a study at this moment."""
    return _Current.reporter is not None


def last_value() -> float | None:
    """What was reported last since ``begin``, if anything was."""
    return _Current.last


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"report got {value!r} ({type(value).__name__}); it must be a number") from None
