"""Metrics that objectives merely log are read to their last point."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from sparktune.tracking.watcher import MetricWatcher

pytestmark = pytest.mark.unit

Point = tuple[float, int, int]


class Source:
    """A store with the series that a test writes."""

    def __init__(self) -> None:
        self.points: dict[str, list[Point]] = {}
        self.running: set[str] = set()
        self.away = False
        self.asked = threading.Event()

    def running_metrics(self, parent_run_id: str) -> Mapping[str, Mapping[str, Point]]:
        return {run: {"m": self.points[run][-1]} for run in self.running if self.points.get(run)}

    def series(self, run_id: str, metric: str) -> list[Point]:
        self.asked.set()
        if self.away:
            raise OSError("away")
        return list(self.points.get(run_id, []))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def told() -> list[tuple[int, float, int]]:
    return []


@pytest.fixture
def watcher(source: Source, told: list[tuple[int, float, int]]) -> Iterator[MetricWatcher]:
    def sink(trial_id: int, value: float, step: int) -> None:
        told.append((trial_id, value, step))

    watcher = MetricWatcher(source, "m", 3600.0, lambda: "parent", lambda: {"a": 0, "b": 1}, sink)
    yield watcher
    watcher.close()


def test_what_the_driver_wrote_at_the_end_is_no_report(
    source: Source, watcher: MetricWatcher, told: list[tuple[int, float, int]]
) -> None:
    source.points["a"] = [(0.1, 0, 5), (0.1, 1, 7)]
    watcher.ended("a", 0, (0.1, 7))
    source.points["b"] = [(0.3, 0, 9)]
    watcher.ended("b", 1, (0.3, 9))
    watcher.settle(30)
    assert told == [(0, 0.1, 0)]


def test_a_trial_that_ends_while_running_ones_are_read_is_read_at_its_end(
    source: Source,
    watcher: MetricWatcher,
    told: list[tuple[int, float, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.running, source.points["a"] = {"a"}, [(0.1, 0, 5), (0.2, 2, 6)]
    read = source.series

    def ends(run_id: str, metric: str) -> list[Point]:
        monkeypatch.undo()
        watcher.ended("a", 0, (0.2, 7))
        source.points["a"].insert(1, (0.2, 1, 7))
        return read(run_id, metric)

    monkeypatch.setattr(source, "series", ends)
    watcher.poll()
    watcher.settle(30)
    assert told == [(0, 0.1, 0), (0, 0.2, 2)]


def test_a_series_that_has_grown_since_its_latest_point_was_read(
    source: Source, watcher: MetricWatcher, told: list[tuple[int, float, int]]
) -> None:
    source.running, source.points["a"] = {"a"}, [(0.1, 0, 5)]
    latest = source.running_metrics("")
    source.points["a"] += [(0.2, 1, 6)]
    source.running_metrics = lambda _: latest  # type: ignore[method-assign]
    watcher.poll()
    latest = {"a": {"m": (0.3, 2, 7)}}
    source.points["a"] += [(0.3, 2, 7)]
    watcher.poll()
    assert told == [(0, 0.1, 0), (0, 0.2, 1), (0, 0.3, 2)]


def test_a_trial_shorter_than_the_interval_leaves_its_curve(
    source: Source, watcher: MetricWatcher, told: list[tuple[int, float, int]]
) -> None:
    source.points["a"] = [(0.1, 1, 1), (0.2, 2, 2)]
    watcher.ended("a", 0)
    watcher.settle(30)
    assert told == [(0, 0.1, 1), (0, 0.2, 2)]


def test_a_longer_one_keeps_its_tail_and_nothing_comes_twice(
    source: Source, watcher: MetricWatcher, told: list[tuple[int, float, int]]
) -> None:
    source.running, source.points["a"] = {"a"}, [(0.1, 1, 1)]
    watcher.poll()
    source.points["a"] += [(0.2, 2, 2), (0.3, 3, 3)]
    watcher.ended("a", 0)
    watcher.settle(30)
    assert told == [(0, 0.1, 1), (0, 0.2, 2), (0, 0.3, 3)]


def test_what_has_ended_is_read_before_what_runs(
    source: Source, watcher: MetricWatcher, told: list[tuple[int, float, int]]
) -> None:
    source.running = {"b"}
    source.points = {"a": [(0.9, 1, 1)], "b": [(0.1, 1, 1)]}
    with watcher._wake:
        watcher._ended["a"] = 0, None
    watcher.poll()
    assert told == [(0, 0.9, 1), (1, 0.1, 1)]


def test_a_server_that_is_away_is_not_waited_for_and_read_later(
    source: Source,
    watcher: MetricWatcher,
    told: list[tuple[int, float, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source.away, source.points["a"] = True, [(0.1, 1, 1)]
    watcher.ended("a", 0)
    watcher.settle(30)
    assert source.asked.is_set()
    assert told == []
    assert "cannot be read from MLflow" in caplog.text
    source.away = False
    watcher.poll()
    assert told == [(0, 0.1, 1)]


def test_without_ended_trials_nothing_is_waited_for(watcher: MetricWatcher) -> None:
    watcher.settle(3600)
