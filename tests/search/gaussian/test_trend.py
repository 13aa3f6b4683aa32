"""Losses that rise towards the bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sparktune import hp
from sparktune.search.gaussian.encoding import Encoding
from sparktune.search.gaussian.fitting import fitted
from sparktune.search.gaussian.posterior import Posterior
from sparktune.search.gaussian.trend import BOWL, FLAT, is_used, rise
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace
from tests.search.gaussian.studies import MIXED, studied

CUBE = SearchSpace({name: hp.uniform(name, -1, 3) for name in "abcde"})


def test_over_the_space_its_mean_is_0_and_its_variance_1() -> None:
    encoding, points, _ = studied(CUBE, 20_000)
    values = rise(encoding, points).values
    assert values.mean() == pytest.approx(0, abs=0.03)
    assert values.std() == pytest.approx(1, abs=0.03)


def test_it_is_least_in_the_centre_and_greatest_in_a_corner() -> None:
    encoding = Encoding(CUBE)
    points = encoding.points(np.array([[1.0] * 5, [3.0, -1.0, 3.0, -1.0, 3.0], [1.0, 1.0, 1.0, 1.0, 3.0]]))
    centre, corner, wall = rise(encoding, points).values
    assert centre < wall < corner


def test_slopes() -> None:
    encoding, points, _ = studied(MIXED, 15)
    slopes = rise(encoding, points).slopes
    for j in range(points.numbers.shape[1]):
        step = np.zeros_like(points.numbers)
        step[:, j] = 1e-6
        above = rise(encoding, replace(points, numbers=points.numbers + step)).values
        below = rise(encoding, replace(points, numbers=points.numbers - step)).values
        assert slopes[:, j] == pytest.approx((above - below) / 2e-6, abs=1e-6)


def test_options_have_no_bounds() -> None:
    space = SearchSpace({"c": hp.choice("c", [1, 2, 3]), "d": hp.randint("d", 4)})
    encoding, points, _ = studied(space, 10)
    assert not rise(encoding, points).values.any()


def gain(losses: Callable[[Array], Array]) -> float:
    """By how much the trend makes 40 trials likelier."""
    encoding, points, _ = studied(CUBE, 40)
    found = losses(points.numbers)
    found = (found - found.mean()) / found.std()
    flat, bowl = (
        fitted(encoding, points, found, False, 40, True, trend=trend).log_density for trend in (FLAT, BOWL)
    )
    return bowl - flat


def test_the_trials_tell_whether_there_is_one() -> None:
    assert gain(lambda unit: ((unit - 0.45) ** 2).sum(1)) > 2
    assert gain(lambda unit: unit @ np.array([1, 0.7, 0.5, 0.3, 0.2])) < -2


@pytest.mark.parametrize(("log_odds", "share"), [(-30.0, 0.0), (-1.0, 0.5), (30.0, 1.0)])
def test_chance_decides_by_the_odds(log_odds: float, share: float) -> None:
    draws = np.linspace(0.0005, 0.9995, 1000)
    assert np.mean([is_used(log_odds, float(draw)) for draw in draws]) == pytest.approx(share, abs=0.002)


def test_without_a_trial_nearby_a_corner_is_expected_to_be_bad() -> None:
    encoding, points, losses = studied(CUBE, 12)
    corner, centre = encoding.points(np.array([[3.0] * 5])), encoding.points(np.array([[1.0] * 5]))
    hyper = fitted(encoding, points, losses, False, 40, True).hyperparameters
    means = [
        [
            float(Posterior(encoding, points, losses, replace(hyper, trend=trend)).predict(at).mean[0])
            for at in (centre, corner)
        ]
        for trend in (FLAT, BOWL)
    ]
    assert means[1][1] - means[1][0] > means[0][1] - means[0][0]
