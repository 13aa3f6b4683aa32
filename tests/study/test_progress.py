"""Progress: hyperopt's protocol, and silence where nobody looks on."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sparktune.study import progress
from sparktune.study.trial import TrialState


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
        (True, True, False, progress.silent),
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
    assert progress.reporter(True, True) is progress.silent


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
