"""Progress: hyperopt's protocol, and silence where nobody looks on."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sparktune.study import console, progress
from sparktune.study.trial import TrialState

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def own(initial: int, total: int) -> Iterator[Any]:
    yield (initial, total)


@pytest.mark.parametrize(
    ("show", "verbose", "terminal", "reporter"),
    [
        (True, True, True, progress.bar),
        (True, True, False, progress.lines),
        (True, False, True, progress.silent),
        (False, True, True, progress.silent),
        (own, True, True, own),
        (own, True, False, own),
        (own, False, True, progress.silent),
    ],
)
def test_who_reports(
    show: Any, verbose: bool, terminal: bool, reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    assert progress.reporter(show, verbose) is reporter


def test_a_notebook_sees_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", object())  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress.reporter(True, True) is progress.bar


def test_no_standard_error_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """``pythonw`` and some services run without one."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert progress.reporter(True, True) is progress.lines


def test_the_bar_shows_counts_and_the_best_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar(1, 3) as shown:
        shown.postfix = "best loss: 0.5"
        shown.update(2)
    assert "3/3" in terminal.getvalue()
    assert "best loss: 0.5" in terminal.getvalue()


def test_the_bar_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar(0, sys.maxsize) as shown:
        shown.update(2)
    assert "2trial" in terminal.getvalue()
    assert str(sys.maxsize) not in terminal.getvalue()


def test_silence_takes_what_a_bar_takes() -> None:
    with progress.silent(0, 10) as shown:
        shown.postfix = "best loss: 1"
        shown.update(1)


def test_postfix() -> None:
    assert progress.postfix(None, {}) == "best loss: ?"
    assert progress.postfix(0.25, {TrialState.COMPLETED: 3}) == "best loss: 0.25"
    assert progress.postfix(0.25, {TrialState.FAILED: 2}) == "best loss: 0.25, failed: 2"
    counts = {TrialState.FAILED: 2, TrialState.EARLY_TERMINATED: 3, TrialState.TIMED_OUT: 1}
    text = "best loss: 0.25, running: 4, failed: 2, terminated: 3, timed out: 1"
    assert progress.postfix(0.25, counts, 4) == text
    assert progress.postfix(None, {}, 4, 0) == "waiting for the first of 4 trials"
    assert progress.postfix(None, {}, 1, 0) == "waiting for the first trial"
    assert progress.postfix(None, {}, 0, 0) == "best loss: ?"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.message for record in caplog.records]
    caplog.clear()
    return found


def test_a_log_gets_a_line_at_each_tenth_and_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    clock = Clock()
    shown = progress._Lines(0, 50, clock)
    shown.postfix = "best loss: 1"
    shown.refresh()
    assert said(caplog) == []
    clock.now += 30
    shown.refresh()
    shown.refresh()
    assert said(caplog) == ["0 of 50 trials after 30 s, best loss: 1"]
    clock.now += 2
    for _ in range(4):
        shown.update(1)
    assert said(caplog) == []
    shown.update(1)
    assert said(caplog) == ["5 of 50 trials after 32 s, best loss: 1"]
    for _ in range(44):  # all in one moment
        shown.update(1)
    assert said(caplog) == []
    clock.now += 2
    shown.update(1)
    assert said(caplog) == [], "of the last the summary tells"


def test_a_log_of_a_study_without_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    clock = Clock()
    shown = progress._Lines(2, sys.maxsize, clock)
    shown.update(1)
    clock.now += 31
    shown.update(1)
    assert said(caplog) == ["4 trials after 31 s, best loss: ?"]


def test_nothing_is_written_beside_the_log(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with progress.lines(0, 2) as shown:
        shown.update(1)
        progress.show(shown, "opening MLflow")
    assert capfd.readouterr() == ("", "")


def test_what_is_done_is_told_where_a_person_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        monkeypatch.setattr(sys, "stderr", stream)
        console.announce("starting Spark", logging.getLogger("sparktune"))
    assert (terminal.getvalue(), file.getvalue()) == ("starting Spark\n", "")


def test_a_loss_is_short_in_our_own_bar_and_whole_in_the_users() -> None:
    assert progress.postfix(1 / 3, {}, is_short=True) == "best loss: 0.333333"
    assert progress.postfix(1 / 3, {}) == f"best loss: {1 / 3}"


def test_what_comes_before_the_trials_is_not_in_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bar(0, 3) as shown:
        shown.start_t -= 100.0
        shown.last_print_t -= 100.0
        progress.begin(shown)
        assert shown.format_dict["elapsed"] < 50.0
    with progress.silent(0, 3) as shown:
        progress.begin(shown)
