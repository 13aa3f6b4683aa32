"""Progress bars: hyperopt's protocol, and defaults for terminals, notebooks and log files.

A progress reporter is a context manager factory ``(initial, total)``; it yields an object with ``update(n)``
and takes ``postfix`` as an attribute (``hyperopt.progress``). Those of this module also have ``refresh()``,
which shows a postfix that has changed since, and ``refresh_every_s``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from sparktune.study.console import someone_watches
from sparktune.study.trial import TrialState
from sparktune.study.words import in_words

logger = logging.getLogger("sparktune")

Reporter = Callable[[int, int], AbstractContextManager[Any]]

UNKNOWN = "best loss: ?"
BAR_EVERY_S = 1.0
"""How often a bar is redrawn while nothing happens: its elapsed time changes."""
CHANGED_AFTER_S = 0.5
"""How soon it is redrawn when the number of running trials changes."""
LINE_EVERY_S = 30.0
"""How often there is a line in a log while nothing happens."""
LINES = 10
"""How many lines a log gets in a study that has a limit, however fast it is."""
LINE_AFTER_S = 1.0
"""The least time between two lines."""


@contextlib.contextmanager
def silent(initial: int, total: int) -> Iterator[Any]:  # noqa: ARG001
    """Report nothing."""

    class Nothing:
        postfix: object = None

        def update(self, n: int) -> None:
            """Ignore the progress."""

    yield Nothing()


@contextlib.contextmanager
def bar(initial: int, total: int) -> Iterator[Any]:
    """A tqdm bar: on standard error, or a widget in a notebook that has ipywidgets."""
    with warnings.catch_warnings():
        # In a notebook without ipywidgets the bar is text, and needs no advice.
        warnings.filterwarnings("ignore", message=".*IProgress not found")
        from tqdm.auto import tqdm

    with tqdm(
        initial=initial,
        total=None if total >= sys.maxsize else total,
        unit="trial",
        dynamic_ncols=True,
        file=sys.stderr,
        miniters=1,
        postfix=UNKNOWN,
    ) as progress:
        progress.refresh_every_s = BAR_EVERY_S
        yield progress


class _Lines:
    """Lines in the log: at each tenth of the study, and periodically."""

    refresh_every_s = LINE_EVERY_S

    def __init__(self, initial: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.postfix: object = UNKNOWN
        self._n = initial
        self._total = None if total >= sys.maxsize else total
        self._clock = clock
        self._began_s = self._logged_s = clock()
        self._step = None if self._total is None else max(1, self._total // LINES)
        self._logged_n = initial

    def update(self, n: int) -> None:
        """So many further trials have ended."""
        self._n += n
        is_last = self._n == self._total  # which the study's summary reports
        if self._step is None or is_last or self._n - self._logged_n < self._step:
            self.refresh()
        elif self._clock() - self._logged_s >= LINE_AFTER_S:
            self._log()

    def refresh(self) -> None:
        """Log the progress, unless it was logged a short while ago."""
        if self._clock() - self._logged_s >= LINE_EVERY_S:
            self._log()

    def _log(self) -> None:
        self._logged_s, self._logged_n = self._clock(), self._n
        count = f"{self._n} trials" if self._total is None else f"{self._n} of {self._total} trials"
        logger.info("%s after %s, %s", count, in_words(self._logged_s - self._began_s), self.postfix)


@contextlib.contextmanager
def lines(initial: int, total: int) -> Iterator[Any]:
    """A periodic line in the log, where no bar can be drawn in place."""
    yield _Lines(initial, total)


def reporter(show: bool | Reporter, verbose: bool) -> Reporter:
    """The reporter that ``show_progressbar`` and ``verbose`` of ``fmin`` ask for."""
    if not show or not verbose:
        return silent
    if callable(show):
        return show
    return bar if someone_watches() else lines


def begin(context: Any) -> None:
    """The trials begin: the time before does not count in a bar's time per trial."""
    if hasattr(context, "unpause"):
        context.unpause()


def show(context: Any, text: str) -> None:
    """Have a reporter of this module show a text immediately, which hyperopt's protocol cannot."""
    if hasattr(context, "refresh"):
        context.postfix = text
        context.refresh()


def postfix(
    best: float | None,
    counts: Mapping[TrialState, int],
    n_running: int = 0,
    n_ended: int = 1,
    *,
    name: str = "loss",
    is_short: bool = False,
) -> str:
    """The text after the bar: the best value, and how many trials run, failed and were terminated.

    Args:
        best: the lowest loss, or the best value of a metric that is to be maximized; None without one.
        counts: of trials by state.
        n_running: how many are under way.
        n_ended: how many have ended in this call.
        name: of the value.
        is_short: with six digits of the value; else with all, as hyperopt has it.
    """
    if n_ended == 0 and n_running:
        waiting = "the first trial" if n_running == 1 else f"the first of {n_running} trials"
        return f"waiting for {waiting}"
    value = f"{best:.6g}" if is_short and best is not None else str(best)
    text = f"best {name}: {'?' if best is None else value}"
    words = {TrialState.FAILED: "failed", TrialState.EARLY_TERMINATED: "terminated"}
    words[TrialState.TIMED_OUT] = "timed out"
    shown = {"running": n_running} | {word: counts.get(state, 0) for state, word in words.items()}
    return ", ".join([text, *(f"{word}: {n}" for word, n in shown.items() if n)])
