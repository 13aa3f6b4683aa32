"""The report of a study in its parent run: at its end, and periodically while it runs.

It is made in its own thread, never in the driver's: dispatch does not wait for it. Making it takes about 20
ms for 20 trials and a second for 5,000, plus half a second once in a process to compress plotly.js.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from sparktune.errors import PlotlyNotAvailable
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.tracker import Tracker

logger = logging.getLogger("sparktune")

WAIT_S = 20.0
"""How long the end of a study waits for its report."""
REST = 20.0
"""The pause between two reports is at least so many times the time that making one took."""


def check(report_every: float | None, *, mlflow: bool, wanted: bool = True) -> None:
    """Refuse an interval at which no report could be logged.

    Raises:
        ValueError: nothing is recorded in MLflow, or no report is wanted.
        PlotlyNotAvailable: plotly is not installed.
    """
    if report_every is None:
        return
    if not mlflow:
        raise ValueError(
            f"report_every={report_every!r} logs a report to MLflow, and with mlflow=False nothing is "
            "recorded there: leave one of them out"
        )
    if not wanted:
        raise ValueError(
            f"report_every={report_every!r} logs a report periodically, and log_report=False logs none: "
            "leave one of them out"
        )
    if not is_available():
        from sparktune.plots.style import NO_PLOTLY

        raise PlotlyNotAvailable(NO_PLOTLY)


def is_available() -> bool:
    """Whether plotly is installed; it is not imported."""
    try:
        return importlib.util.find_spec("plotly") is not None
    except ValueError:  # blocked: sys.modules has None
        return False


class Reporter:
    """Makes the reports of one study.

    Args:
        snapshot: the study at this moment; called in another thread.
        tracker: takes reports while the study runs.
        every_s: seconds between two of them; None for none.
        wanted: whether there is one at the end.
    """

    def __init__(
        self,
        snapshot: Callable[[], StudySnapshot],
        tracker: Tracker,
        every_s: float | None = None,
        *,
        wanted: bool = True,
    ) -> None:
        self._wanted = wanted
        self._snapshot, self._tracker, self._every_s = snapshot, tracker, every_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_warned = False

    def start(self) -> None:
        """Start the reports at intervals, where they are wanted."""
        if self._every_s is not None:
            self._thread = threading.Thread(target=self._run, name="sparktune-report", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause_s = self._every_s or 0.0
        seen: tuple[int, ...] = ()
        while not self._over.wait(pause_s):
            began = time.monotonic()
            try:
                study = self._snapshot()
                known = _extent(study)
                if known == seen or not study.trials:
                    continue
                text = _page(study)
                if not self._over.is_set():
                    self._tracker.keep_report(text)
                seen = known
            except Exception as error:  # a report must not cost a study
                self._warn(error)
            pause_s = max(self._every_s or 0.0, REST * (time.monotonic() - began))

    def final(self) -> Callable[[], str | None] | None:
        """End the reports at intervals, and start the last one.

        Returns:
            A function that returns it, waiting ``WAIT_S`` seconds at most, or None: it failed, or takes too
            long. None where there is nothing to report, no report is wanted, or plotly is missing.
        """
        self._over.set()
        try:
            return self._begin_last()
        except Exception as error:  # a report must not cost a study
            self._warn(error)
            return None

    def _begin_last(self) -> Callable[[], str | None] | None:
        if not self._tracker.study_id or not self._wanted:
            return None
        if not is_available():
            logger.debug("no report is logged: plotly is not installed (pip install 'sparktune[plots]')")
            return None
        study = replace(self._snapshot(), is_running=False, run_id=self._tracker.run_id)
        if not study.trials:
            return None
        found: list[str] = []

        def make() -> None:
            try:
                found.append(_page(study))
            except Exception as error:  # as above
                self._warn(error)

        thread = threading.Thread(target=make, name="sparktune-report", daemon=True)
        thread.start()

        def wait() -> str | None:
            thread.join(WAIT_S)
            if thread.is_alive():
                logger.warning(
                    "the study's report is not ready after %g s, and is left out; make it later: sparktune "
                    "report %s",
                    WAIT_S,
                    study.run_id,
                )
            return found[0] if found else None

        return wait

    def _warn(self, error: Exception) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        logger.log(level, "the study's report cannot be made: %s: %s", type(error).__name__, error)


def _page(study: StudySnapshot) -> str:
    from sparktune.plots import report

    return report(study)


def _extent(study: StudySnapshot) -> tuple[int, ...]:
    """What changes with every change that a report shows."""
    n_over = sum(trial.state.is_final for trial in study.trials)
    return len(study.trials), n_over, sum(len(curve) for curve in study.reports.values())
