"""Watches the primary metric of running trials on the tracking server.

For objectives that merely log to MLflow, by hand or by autologging: one request per interval asks for all
running trials; the whole series is asked for only where more than one point was missed.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

logger = logging.getLogger("sparktune")

Sink = Callable[[int, float, int], None]
"""``sink(trial_id, value, step)`` takes each new point, in the watcher's thread."""


class MetricSource(Protocol):
    """What the watcher asks of a store."""

    def running_metrics(self, parent_run_id: str) -> Mapping[str, Mapping[str, tuple[float, int, int]]]:
        """Run id -> metric -> its latest (value, step, time in ms), for the parent's running children."""

    def series(self, run_id: str, metric: str) -> list[tuple[float, int, int]]:
        """All points of a run's metric: (value, step, time in milliseconds), in the order of step."""


class MetricWatcher:
    """Polls a metric in a thread of its own, until closed.

    Args:
        source: the store.
        metric: the primary metric.
        interval_s: seconds between two requests.
        parent: the parent's run id, or None while it is not known.
        trials: run id -> trial id, of the trials under way.
        sink: takes the new points.
    """

    def __init__(
        self,
        source: MetricSource,
        metric: str,
        interval_s: float,
        parent: Callable[[], str | None],
        trials: Callable[[], Mapping[str, int]],
        sink: Sink,
    ) -> None:
        self._source, self._metric, self._interval_s = source, metric, interval_s
        self._parent, self._trials, self._sink = parent, trials, sink
        self._seen: dict[str, tuple[float, int, int]] = {}
        self._closed = threading.Event()
        self._in_trouble = False
        self.names: set[str] = set()
        """The metrics that were seen, whatever their name."""
        self._thread = threading.Thread(target=self._run, name="sparktune-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; waits for a request under way, a little."""
        self._closed.set()
        self._thread.join(timeout=self._interval_s + 5.0)

    def poll(self) -> None:
        """Ask once, and hand on what is new."""
        parent = self._parent()
        trials = self._trials()
        if parent is None or not trials:
            return
        for run_id, metrics in self._source.running_metrics(parent).items():
            self.names.update(metrics)
            latest = metrics.get(self._metric)
            if latest is None or run_id not in trials or latest == self._seen.get(run_id):
                continue
            for value, step in self._new_points(run_id, latest):
                self._sink(trials[run_id], value, step)
            self._seen[run_id] = latest

    def _new_points(self, run_id: str, latest: tuple[float, int, int]) -> list[tuple[float, int]]:
        before = self._seen.get(run_id)
        if before is not None and latest[1] == before[1] + 1:
            return [latest[:2]]
        points = self._source.series(run_id, self._metric)
        after = (-math.inf, -math.inf) if before is None else (before[1], before[2])
        return [point[:2] for point in points if (point[1], point[2]) > after]

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            try:
                self.poll()
                self._in_trouble = False
            except Exception as error:  # whatever the store raises, the next poll may succeed
                if not self._in_trouble:
                    self._in_trouble = True
                    logger.warning(
                        "the metric %r cannot be read from MLflow now, so it ends no trial early: %s",
                        self._metric,
                        error,
                    )
