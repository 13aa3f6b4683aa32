"""A curve in the notebook that follows the study: the best loss so far, drawn anew in place."""

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

from sparktune.study.trial import Trial, TrialState
from sparktune.study.words import n_trials
from sparktune.trials import curve

if TYPE_CHECKING:
    from sparktune.trials.base import StudyTrials

logger = logging.getLogger("sparktune")

UPDATE_EVERY_S = 1.0
MAX_SHARE = 0.02
"""The share of the driver's time that drawing may take: of very many trials the curve is drawn less often."""


class LivePlot:
    """Draws the curve while the study runs (an ``Observer`` and a ``Chore``).

    Args:
        handle: of IPython's display, or None to draw nothing.
        name: of the trials' class.
        earlier: trials of earlier calls that have ended.
    """

    def __init__(self, handle: Any, name: str, earlier: Sequence[Trial] = ()) -> None:
        self._handle, self._name = handle, name
        ended = sorted((t for t in earlier if t.state.is_final), key=lambda trial: trial.ended_s or 0.0)
        self._losses: list[float | None] = []
        self._best = math.inf
        for trial in ended:
            self._add(trial)
        self._drawn = -1
        self._due_s = 0.0

    def changed(self, trial: Trial) -> None:
        """See ``Observer``."""
        if self._handle is not None and trial.state.is_final:
            self._add(trial)

    def _add(self, trial: Trial) -> None:
        # As in the study, what was terminated early does not count for the best.
        loss = trial.loss if trial.state is TrialState.COMPLETED else None
        self._losses.append(loss)
        if loss is not None:
            self._best = min(self._best, loss)

    def due_in_s(self) -> float | None:
        """See ``Chore``."""
        if self._handle is None or len(self._losses) == self._drawn:
            return None
        return self._due_s - time.monotonic()

    def do(self) -> None:
        """See ``Chore``: draw."""
        if self._handle is None or len(self._losses) == self._drawn:
            return
        began = time.monotonic()
        self._drawn = len(self._losses)
        try:
            self._handle.update(_Html(self.html()))
        except Exception as error:  # of the notebook's: a picture must not cost a study
            logger.warning("the live plot ends: %s: %s", type(error).__name__, error)
            self._handle = None
        took_s = time.monotonic() - began
        self._due_s = began + max(UPDATE_EVERY_S, took_s / MAX_SHARE)

    def html(self) -> str:
        """What the notebook shows now."""
        best = f"best loss {self._best:.6g}" if math.isfinite(self._best) else "no loss yet"
        head = html.escape(f"{self._name}: {n_trials(len(self._losses))}, {best}")
        return f"<div><div>{head}</div>{curve.svg(self._losses)}</div>"


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
    plot = LivePlot(_handle() if wanted else None, type(trials).__name__, earlier)
    plot.do()
    try:
        yield plot
    finally:
        plot.do()


def _handle() -> Any:
    """A place in the output of the notebook's cell; None, and a warning, where there is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        logger.warning("live_plot=True has no effect: it draws in notebooks, and this is none")
        return None
    public: Any = importlib.import_module("IPython.display")
    return public.display(_Html(""), display_id=True)
