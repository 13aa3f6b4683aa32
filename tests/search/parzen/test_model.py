"""Which branches the model draws."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import hp

from sparktune.search.history import History
from sparktune.search.parzen.model import DEFAULTS, TreeModel
from sparktune.space.search_space import SearchSpace

pytestmark = pytest.mark.unit


def history(space: SearchSpace, values: np.ndarray, losses: np.ndarray) -> History:
    return History(values, losses, np.zeros(len(losses), bool), np.empty((0, len(space))))


def drawn(space: SearchSpace, known: History, n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([TreeModel(space, known, 1, DEFAULTS, rng).draw() for _ in range(n)])


def test_the_runner_up_of_nested_choices_is_tried_more_than_the_last() -> None:
    inner = hp.choice("inner", [{"a": hp.uniform("a", 0, 1)}, {"b": hp.uniform("b", 0, 1)}])
    options = [{"inner": inner}, {"c": hp.uniform("c", 0, 1)}, {"d": hp.uniform("d", 0, 1)}]
    space = SearchSpace(hp.choice("outer", options))
    rng = np.random.default_rng(0)
    rows, losses = [], []
    for outer, label, n, floor in (
        (0, "a", 60, 0.0),
        (0, "b", 12, 1.0),
        (1, "c", 12, 2.0),
        (2, "d", 12, 3.0),
    ):
        for _ in range(n):
            row = np.full(len(space), np.nan)
            row[space.column["outer"]] = outer
            row[space.column[label]] = rng.random()
            if outer == 0:
                row[space.column["inner"]] = "ab".index(label)
            rows.append(row)
            losses.append(floor + rng.random())
    points = drawn(space, history(space, np.array(rows), np.array(losses)))
    a, b, c, d = ((~np.isnan(points[:, space.column[label]])).mean() for label in "abcd")
    assert a > 0.4
    assert b > 0.08
    assert c > d
