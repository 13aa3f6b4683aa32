"""How long a request may take, by how long the former ones took."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from sparktune.tracking.patience import LEAST_TIMEOUT_S, LEAST_TO_CREATE_S, Timeouts


def ask(timeouts: Timeouts, took_s: float, error: Exception | None = None) -> None:
    clock = itertools.count(0.0, took_s)
    with contextlib.suppress(type(error) if error else ()), timeouts.measured(lambda: next(clock)):
        if error is not None:
            raise error


def test_nothing_is_known_at_first() -> None:
    assert Timeouts(30).now_s() == 30


def test_a_quick_server_is_not_waited_for_long() -> None:
    timeouts = Timeouts(30)
    ask(timeouts, 0.01)
    assert timeouts.now_s() == LEAST_TIMEOUT_S
    assert timeouts.now_s(creates=True) == LEAST_TO_CREATE_S
    ask(timeouts, 0.5)
    assert timeouts.now_s() == pytest.approx(5.0)


def test_a_server_that_has_become_slow_is_given_time() -> None:
    timeouts = Timeouts(30)
    ask(timeouts, 0.01)
    limits = []
    for _ in range(5):
        ask(timeouts, 0.0, OSError("Read timed out."))
        limits.append(timeouts.now_s())
    assert limits == [6, 12, 24, 30, 30]
    ask(timeouts, 0.0, OSError("connection refused"))
    assert timeouts.now_s() == 30
    ask(timeouts, 0.02)
    assert timeouts.now_s() == LEAST_TIMEOUT_S


def test_the_limit_is_never_passed() -> None:
    timeouts = Timeouts(2)
    ask(timeouts, 1.0)
    assert timeouts.now_s(creates=True) == 2
