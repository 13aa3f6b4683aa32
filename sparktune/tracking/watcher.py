"""Watches the primary metric of running trials on the tracking server.

For objectives that merely log to MLflow, explicitly or by autologging: one request per interval asks for all
running trials; the whole series is asked for only where more than one point was missed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from sparktune.tracking.location import without_password

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
    """Polls a metric in its own thread, until closed.

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
        self._wake = threading.Condition()
        self._ended: dict[str, tuple[int, tuple[float, int] | None]] = {}
        self._in_trouble = False
        self.names: set[str] = set()
        """The metrics that were seen, whatever their name."""
        self._thread = threading.Thread(target=self._run, name="sparktune-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; waits for a request under way, a little."""
        self._closed.set()
        with self._wake:
            self._wake.notify_all()
        self._thread.join(timeout=self._interval_s + 5.0)

    def ended(self, run_id: str, trial_id: int, own: tuple[float, int] | None = None) -> None:
        """A trial has ended: read its series once more, soon, and before anything of other trials is read.

        ``own`` is the value of the metric that the driver itself writes at the end, and its time in ms. Its
        step depends on what the run has by then.
        """
        with self._wake:
            self._ended[run_id] = trial_id, own
            self._wake.notify_all()

    def settle(self, timeout_s: float) -> None:
        """Wait until the series of trials that have ended are read, ``timeout_s`` seconds at most."""
        with self._wake:
            self._wake.wait_for(lambda: not self._ended or self._in_trouble, timeout_s)

    def read_ended(self) -> None:
        """Pass on what is new in the series of trials that have ended."""
        with self._wake:
            ended = dict(self._ended)
        for run_id, (trial_id, own) in ended.items():
            points = self._source.series(run_id, self._metric)
            ours = (n for n in reversed(range(len(points))) if (points[n][0], points[n][2]) == own)
            if (n := next(ours, None)) is not None:
                del points[n]
            if points:
                self.names.add(self._metric)
            for value, step, _ in self._after(points, self._seen.pop(run_id, None)):
                self._sink(trial_id, value, step)
            with self._wake:
                del self._ended[run_id]
                self._wake.notify_all()

    def poll(self) -> None:
        """Ask once, and pass on what is new."""
        self.read_ended()
        parent = self._parent()
        trials = self._trials()
        if parent is None or not trials:
            return
        for run_id, metrics in self._source.running_metrics(parent).items():
            self.names.update(metrics)
            latest = metrics.get(self._metric)
            if latest is None or run_id not in trials or latest == self._seen.get(run_id):
                continue
            points = self._new_points(run_id, latest)
            if run_id in self._ended:  # ended meanwhile: the driver's own point may be among them
                continue
            for value, step, _ in points:
                self._sink(trials[run_id], value, step)
            # Not the latest: the series was read after it, and may have grown.
            self._seen[run_id] = points[-1] if points else latest

    def _new_points(self, run_id: str, latest: tuple[float, int, int]) -> list[tuple[float, int, int]]:
        before = self._seen.get(run_id)
        if before is not None and latest[1] == before[1] + 1:
            return [latest]
        return self._after(self._source.series(run_id, self._metric), before)

    @staticmethod
    def _after(
        points: list[tuple[float, int, int]], before: tuple[float, int, int] | None
    ) -> list[tuple[float, int, int]]:
        """The points after the one that was seen last."""
        after = (-math.inf, -math.inf) if before is None else (before[1], before[2])
        return [point for point in points if (point[1], point[2]) > after]

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._closed.is_set():
            with self._wake:
                left = due - time.monotonic()
                # In trouble the series wait for the next poll, as everything does.
                self._wake.wait_for(
                    lambda: self._closed.is_set() or (bool(self._ended) and not self._in_trouble),
                    max(0.0, left),
                )
            if self._closed.is_set():
                return
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + self._interval_s
                    self.poll()
                else:
                    self.read_ended()
                self._in_trouble = False
            except Exception as error:  # whatever the store raises, the next poll may succeed
                if not self._in_trouble:
                    logger.warning(
                        "the metric %r cannot be read from MLflow now, so it ends no trial early: %s",
                        self._metric,
                        without_password(str(error)),
                    )
                with self._wake:
                    self._in_trouble = True
                    self._wake.notify_all()
