"""The bandit that chooses among branches."""

from __future__ import annotations

import numpy as np
import pytest

from sparktune.search.parzen.branches import CHALLENGES, challenge_rate, draw_option, n_best

pytestmark = pytest.mark.unit

NONE = np.empty(0, int)
ALL = np.ones(3, bool)


def shares(tried: list[int], pending: list[int], n_options: int = 3, draws: int = 600) -> np.ndarray:
    rng, possible = np.random.default_rng(0), np.ones(n_options, bool)
    drawn = [draw_option(np.array(tried, int), np.array(pending, int), possible, rng) for _ in range(draws)]
    return np.bincount(drawn, minlength=n_options) / draws


def test_without_trials_the_option_with_fewest_running() -> None:
    assert shares([], [0, 0, 1]).tolist() == [0, 0, 1]


def test_the_option_of_the_best_trials_is_preferred() -> None:
    assert shares([1, 1, 1, 1, 1, 0, 2, 0, 2, 0, 2, 0, 2, 1, 1], [])[1] > 0.5


def test_no_option_is_given_up() -> None:
    assert (shares([1] * 20 + [0, 2] * 5, []) > 0.01).all()


def test_an_option_tried_in_vain_is_drawn_less() -> None:
    little, often = shares([1] * 10 + [0], []), shares([1] * 10 + [0] * 40, [])
    assert often[0] < little[0]


def test_running_trials_count_as_tries() -> None:
    assert shares([0, 1, 2, 0, 1, 2], [0] * 8)[0] < shares([0, 1, 2, 0, 1, 2], [])[0]


TUNED = [0] * 100 + [1] * 10 + [2] * 10
"""All the best trials are of one option; of the others, one is better at each number of trials."""


def test_the_leader_keeps_most_of_the_trials() -> None:
    assert 0.5 < shares(TUNED, [])[0] < 1 - 0.8 * CHALLENGES


@pytest.mark.parametrize(("challenge", "least", "most"), [(0.0, 0.7, 1.15), (CHALLENGES, 1.15, 9.0)])
def test_challengers_are_judged_among_themselves(challenge: float, least: float, most: float) -> None:
    """As long as the leader plays too, none of their trials is a success, and both are drawn alike."""
    rng = np.random.default_rng(0)
    drawn = [draw_option(np.array(TUNED), NONE, ALL, rng, challenge) for _ in range(2000)]
    _, second, last = np.bincount(drawn, minlength=3)
    assert least < second / last < most


def test_the_only_option_that_was_tried_is_challenged_by_those_that_were_not() -> None:
    rng = np.random.default_rng(0)
    drawn = {draw_option(np.zeros(50, int), np.array([1]), ALL, rng, challenge=1.0) for _ in range(600)}
    assert drawn <= {1, 2}
    assert 2 in drawn


def test_one_option_is_always_drawn() -> None:
    assert draw_option(np.zeros(5, int), NONE, ALL[:1], np.random.default_rng(0), challenge=1.0) == 0


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_all_choices_together_are_challenged_at_one_rate(n: int) -> None:
    assert 1 - (1 - challenge_rate(n)) ** max(n, 1) == pytest.approx(CHALLENGES)


@pytest.mark.parametrize(("n", "best"), [(1, 1), (4, 1), (5, 2), (16, 2), (100, 5), (10_000, 50)])
def test_few_trials_count_as_best(n: int, best: int) -> None:
    assert n_best(n) == best


@pytest.mark.parametrize("tried", [[], [0], [2, 2, 0], [1, 0]])
def test_an_option_without_probability_is_never_drawn(tried: list[int]) -> None:
    rng, possible = np.random.default_rng(0), np.array([True, False, True])
    drawn = {draw_option(np.array(tried, int), NONE, possible, rng) for _ in range(300)}
    assert drawn == {0, 2}
