"""A curve in the notebook that follows the study: the best so far, redrawn in place."""

from __future__ import annotations

import contextlib
import html
import importlib
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sparktune.study.ranking import beats
from sparktune.study.trial import Trial, TrialState, shown_value
from sparktune.study.words import n_trials
from sparktune.trials import curve

if TYPE_CHECKING:
    from sparktune.trials.base import StudyTrials

logger = logging.getLogger("sparktune")

UPDATE_EVERY_S = 1.0
MAX_SHARE = 0.02
"""The share of the driver's time that drawing may take: with many trials the curve is drawn less often."""


class LivePlot:
    """Draws the curve while the study runs (an ``Observer`` and a ``Chore``).

    Args:
        handle: of IPython's display, or None to draw nothing.
        name: of the trials' class.
        earlier: trials of earlier calls that have ended.
        metric: of the study.
        goal: of the study.
    """

    def __init__(
        self,
        handle: Any,
        name: str,
        earlier: Sequence[Trial] = (),
        metric: str = "loss",
        goal: str = "minimize",
    ) -> None:
        self._handle, self._name = handle, name
        self._metric, self._goal = metric, goal
        ended = sorted((t for t in earlier if t.state.is_final), key=lambda trial: trial.ended_s or 0.0)
        self._losses: list[float | None] = []
        self._values: list[float | None] = []
        self._best: Trial | None = None
        for trial in ended:
            self._add(trial)
        self._drawn = -1
        self._due_s = 0.0

    def changed(self, trial: Trial) -> None:
        """Add a trial that ended to the curve."""
        if self._handle is not None and trial.state.is_final:
            self._add(trial)

    def _add(self, trial: Trial) -> None:
        if beats(trial, self._best):
            self._best = trial
        # The curve is that of the trials that completed.
        counted = trial if trial.state is TrialState.COMPLETED else None
        loss = None if counted is None else counted.loss
        _, value = shown_value(counted, self._metric, self._goal)
        self._losses.append(loss)
        self._values.append(value)

    def due_in_s(self) -> float | None:
        """Seconds until the curve may be redrawn; None while it has not changed."""
        if self._handle is None or len(self._losses) == self._drawn:
            return None
        return self._due_s - time.monotonic()

    def do(self) -> None:
        """Draw the curve."""
        if self._handle is None or len(self._losses) == self._drawn:
            return
        began = time.monotonic()
        self._drawn = len(self._losses)
        try:
            self._handle.update(_Html(self.html()))
        except Exception as error:  # raised by the notebook: a picture must not cost a study
            logger.warning("the live plot ends: %s: %s", type(error).__name__, error)
            self._handle = None
        took_s = time.monotonic() - began
        self._due_s = began + max(UPDATE_EVERY_S, took_s / MAX_SHARE)

    def html(self) -> str:
        """What the notebook shows now."""
        name, value = shown_value(self._best, self._metric, self._goal)
        best = f"no {name} yet" if value is None or not math.isfinite(value) else f"best {name} {value:.6g}"
        head = html.escape(f"{self._name}: {n_trials(len(self._losses))}, {best}")
        drawn = curve.svg(self._losses, label=name, values=self._values, goal=self._goal)
        return f"<div><div>{head}</div>{drawn}</div>"


class _Html:
    """For IPython's display."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<live plot>"


@contextlib.contextmanager
def shown(wanted: bool, trials: StudyTrials, earlier: Sequence[Trial] = ()) -> Iterator[LivePlot]:
    """A curve in the notebook's cell, complete when the block ends; outside of notebooks a warning instead.

    Args:
        wanted: False draws nothing.
        trials: whose curve it is.
        earlier: those of earlier calls.
    """
    handle = _handle() if wanted else None
    plot = LivePlot(handle, type(trials).__name__, earlier, trials.metric, trials.goal)
    plot.do()
    try:
        yield plot
    finally:
        plot.do()


def _handle() -> Any:
    """A display in the output of the notebook's cell; None, and a warning, outside of notebooks."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        logger.warning("live_plot=True has no effect: it draws in notebooks, and this is not one")
        return None
    public: Any = importlib.import_module("IPython.display")
    return public.display(_Html(""), display_id=True)
