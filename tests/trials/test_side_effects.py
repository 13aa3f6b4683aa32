"""What an objective writes to outside of itself."""

from __future__ import annotations

import collections
import functools
import logging
import os
import types
from os import environ
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparktune.trials.side_effects import written_by

pytestmark = pytest.mark.unit

RESULTS: list[Any] = []
CACHE: dict[str, Any] = {"inner": []}
STATE = types.SimpleNamespace(best=None)
FRAME = pd.DataFrame({"x": [1.0]})
CURVE = np.zeros(3)
COUNTS: collections.Counter[str] = collections.Counter()
counter = 0
logger = logging.getLogger(__name__)


class Tuner:
    best: Any = None

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.model = Model()

    def objective(self, point: Any) -> float:
        self.losses.append(point)
        self.best = point
        return self.model.fit(point).score

    def reads(self, point: Any) -> float:
        scale = len(self.losses)
        return scale * self.model.fit(point).score

    def __call__(self, point: Any) -> float:
        self.losses += [point]
        return 0.0


class Model:
    score = 0.0

    def fit(self, point: Any) -> Model:
        self.score = point
        return self


def appends(x: float) -> float:
    RESULTS.append(x)
    return x


def counts(x: float) -> float:
    global counter
    counter += 1
    return x


def many(x: float) -> float:
    CACHE["x"] = x
    CACHE["inner"].append(x)
    CACHE.setdefault("y", []).append(x)
    STATE.best, CURVE[0] = x, x
    FRAME.loc[len(FRAME)] = [x]
    del COUNTS["x"]
    return x


def by_helper(x: float) -> float:
    return appends(x)


def with_history(x: float, history: list[float]) -> float:
    history.append(x)
    return x


def in_a_comprehension(x: float) -> float:
    return sum([RESULTS.append(i) or x for i in range(3)])  # type: ignore[func-returns-value]


def closing_over() -> Any:
    losses: list[float] = []
    n = 0

    def objective(x: float) -> float:
        nonlocal n
        n += 1
        losses.append(x)
        return x

    return objective


@functools.cache
def decorated(x: float) -> float:
    return x


def only_reads(x: float) -> float:
    results: list[float] = []
    results.append(x + len(RESULTS))
    cache = dict(CACHE)
    cache["x"] = x
    cache.update(y=1)
    logger.info("x is %s", x)
    os.environ["SPARKTUNE_TEST_X"] = "1"
    model = Model()
    model.fit(x)
    model.score = 3.0
    CACHE.get("x")
    curve = CURVE.copy()
    curve[0] = x
    environ["SPARKTUNE_TEST_X"] = "2"

    def inner(RESULTS: list[float]) -> None:  # noqa: N803
        RESULTS.append(x)

    inner([])
    return sum(results)


@pytest.mark.parametrize(
    ("fn", "names"),
    [
        (appends, {"RESULTS"}),
        (counts, {"counter"}),
        (many, {"CACHE", "STATE.best", "CURVE", "FRAME", "COUNTS"}),
        (by_helper, {"RESULTS"}),
        (in_a_comprehension, {"RESULTS"}),
        (closing_over(), {"n", "losses"}),
        (Tuner().objective, {"self.losses", "self.best"}),
        (Tuner(), {"self.losses"}),
        (functools.partial(with_history, history=RESULTS), {"history"}),
        (functools.partial(appends), {"RESULTS"}),
        (lambda x: RESULTS.append(x) or x, {"RESULTS"}),  # type: ignore[func-returns-value]
    ],
)
def test_what_is_written(fn: Any, names: set[str]) -> None:
    assert set(written_by(fn)) == names


@pytest.mark.parametrize(
    "fn", [only_reads, Tuner().reads, with_history, decorated, abs, len, np.sum, Model, 3]
)
def test_no_false_alarm(fn: Any) -> None:
    assert written_by(fn) == []
