"""``report``: how an objective reports its progress to its study, and learns that it is to end."""

from __future__ import annotations

import contextlib
import contextvars
import numbers
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class TrialTerminated(BaseException):
    """Raised by ``report`` inside an objective whose trial is to end; let it pass.

    It derives from ``BaseException`` so that an ``except Exception`` in the objective does not swallow it;
    ``finally`` blocks and context managers run.
    """


class Reporter(Protocol):
    """Where reports of the trial that this process runs go."""

    def report(self, step: int, value: float) -> bool:
        """Pass a report on; True when the trial is to end."""


class Ending:
    """Whether a trial that runs in a thread of this process is to end, for a study that runs inside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.is_due = False

    def set(self) -> None:
        """The trial is to end now."""
        with self._lock:
            self.is_due = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextlib.contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` when the trial is to end while the block runs; from any thread, once."""
        with self._lock:
            is_due = self.is_due
            if not is_due:
                self._callbacks.append(callback)
        if is_due:
            callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks = [known for known in self._callbacks if known is not callback]


class _State:
    """Of one trial.

    Attributes:
        reporter: where its reports go; None outside of trials.
        ending: whether it is to end; None where only a report finds out.
        next_step: the number of a report that has none.
        last: what was reported last.
    """

    def __init__(self, reporter: Reporter | None = None, ending: Ending | None = None) -> None:
        self.reporter, self.ending = reporter, ending
        self.next_step = 1
        self.last: float | None = None


_of_process = _State()
_of_thread: contextvars.ContextVar[_State | None] = contextvars.ContextVar("sparktune_trial", default=None)


def _current() -> _State:
    return _of_thread.get() or _of_process


def report(value: float, step: int | None = None) -> None:
    """Report the primary metric of the running trial: its study may end the trial here.

    The reports are a series of the trial's MLflow run under the name of the study's metric. Outside of a
    study nothing happens, so the same code runs alone.

    Args:
        value: the primary metric, as ``SparkTrials(goal=...)`` understands it.
        step: the epoch, round or batch; numbered 1, 2, ... when left out.

    Raises:
        TrialTerminated: the study ends this trial.
        TypeError: ``value`` is not a number, or ``step`` not a whole number.
    """
    number = _as_float(value)
    state = _current()
    if step is None:
        step = state.next_step
    elif isinstance(step, bool) or not isinstance(step, numbers.Integral):
        raise TypeError(f"report got the step {step!r}; it must be a whole number")
    state.next_step, state.last = int(step) + 1, number
    reporter = state.reporter
    if reporter is not None and reporter.report(int(step), number):
        raise TrialTerminated("the study ended this trial early")


def begin(reporter: Reporter | None) -> None:
    """From now on reports of this process go to ``reporter``; steps begin at 1."""
    global _of_process
    _of_process = _State(reporter)


@contextlib.contextmanager
def in_thread(reporter: Reporter, ending: Ending | None = None) -> Iterator[None]:
    """While the block runs, reports of this thread go to ``reporter``; steps begin at 1."""
    token = _of_thread.set(_State(reporter, ending))
    try:
        yield
    finally:
        _of_thread.reset(token)


def is_in_trial() -> bool:
    """Whether this process, or this thread, runs a trial of a study at this moment."""
    return _current().reporter is not None


def ending() -> Ending | None:
    """Whether the trial that this thread runs is to end; None outside of one, and in a worker process."""
    return _current().ending


def check_ending() -> None:
    """Do nothing, unless the trial that this thread runs is to end.

    Raises:
        TrialTerminated: it is.
    """
    found = ending()
    if found is not None and found.is_due:
        raise TrialTerminated("the study ended the trial in which this study runs")


def last_value() -> float | None:
    """What was reported last since ``begin``, if anything was."""
    return _current().last


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"report got {value!r} ({type(value).__name__}); it must be a number") from None
