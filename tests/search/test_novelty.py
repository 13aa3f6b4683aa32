"""What was tried before."""

from __future__ import annotations

import numpy as np
import pytest

from sparktune.search.history import History
from sparktune.search.novelty import TRIES, Tried

pytestmark = pytest.mark.unit

NAN = np.nan
HISTORY = History(
    values=np.array([[0.0, 1.0, NAN], [2.0, NAN, 3.0]]),
    losses=np.zeros(2),
    is_weak=np.zeros(2, bool),
    pending=np.array([[5.0, 5.0, 5.0]]),
)


def test_finished_running_and_new_ones_are_known() -> None:
    tried = Tried(HISTORY)
    for row in ([0.0, 1.0, NAN], [-0.0, 1.0, NAN], [2.0, NAN, 3.0], [5.0, 5.0, 5.0]):
        assert np.array(row) in tried
    for row in ([0.0, 1.0, 1.0], [NAN, 1.0, NAN], [2.0, NAN, 3.5], [5.0, 5.0, NAN]):
        assert np.array(row) not in tried
    tried.add(np.array([0.0, NAN, NAN]))
    assert np.array([-0.0, NAN, NAN]) in tried
    assert np.array([0.0, 0.0, NAN]) not in tried


def test_the_first_new_one_of_each_source_in_turn() -> None:
    tried, drawn = Tried(HISTORY), []

    def old() -> np.ndarray:
        drawn.append("old")
        return np.array([5.0, 5.0, 5.0])

    assert tried.first_new(old, lambda: np.array([1.0, 1.0, 1.0])).tolist() == [1.0, 1.0, 1.0]
    assert len(drawn) == TRIES + 1
    assert np.array([1.0, 1.0, 1.0]) in tried
    assert tried.first_new(old).tolist() == [5.0, 5.0, 5.0]
