"""The bandit that chooses among branches."""

from __future__ import annotations

import numpy as np
import pytest

from sparktune.search.parzen.branches import draw_option, n_best

NONE = np.empty(0, int)


def shares(tried: list[int], pending: list[int], n_options: int = 3, draws: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = [draw_option(np.array(tried, int), np.array(pending, int), n_options, rng) for _ in range(draws)]
    return np.bincount(drawn, minlength=n_options) / draws


def test_without_trials_the_option_with_fewest_running() -> None:
    assert shares([], [0, 0, 1]).tolist() == [0, 0, 1]


def test_the_option_of_the_best_trials_is_preferred() -> None:
    assert shares([1, 1, 1, 1, 1, 0, 2, 0, 2, 0, 2, 0, 2, 1, 1], [])[1] > 0.6


def test_no_option_is_given_up() -> None:
    assert (shares([1] * 20 + [0, 2] * 5, []) > 0.01).all()


def test_an_option_tried_in_vain_is_drawn_less() -> None:
    little, often = shares([1] * 10 + [0], []), shares([1] * 10 + [0] * 40, [])
    assert often[0] < little[0]


def test_running_trials_count_as_tries() -> None:
    assert shares([0, 1, 2, 0, 1, 2], [0] * 8)[0] < shares([0, 1, 2, 0, 1, 2], [])[0]


@pytest.mark.parametrize(("n", "best"), [(1, 1), (4, 1), (5, 2), (16, 2), (100, 5), (10_000, 50)])
def test_few_trials_count_as_best(n: int, best: int) -> None:
    assert n_best(n) == best
