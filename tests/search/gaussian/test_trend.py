"""Losses that rise towards the bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sparktune import hp
from sparktune.search import gp
from sparktune.search.gaussian import model
from sparktune.search.gaussian.encoding import Encoding
from sparktune.search.gaussian.fitting import NOISE, LogPosterior, fitted
from sparktune.search.gaussian.kernels import matern, squared_distances
from sparktune.search.gaussian.posterior import MEAN_VARIANCE, Hyperparameters, Posterior
from sparktune.search.gaussian.trend import BOWL, FLAT, Trend, is_used, rise
from sparktune.search.history import History
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace
from tests.search.gaussian.studies import MIXED, studied

pytestmark = pytest.mark.unit

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


def test_where_there_are_no_trials_the_trend_is_what_is_expected() -> None:
    encoding, points, losses = studied(CUBE, 12)
    # Lengths so short that no trial tells anything of another point.
    hyper = Hyperparameters(np.full(encoding.n_groups, -5.0), 0.0, 0.0, trend=replace(BOWL, variance=0.0))
    at = encoding.points(np.array([[3.0] * 5, [1.0] * 5]))
    corner, centre = Posterior(encoding, points, np.zeros_like(losses), hyper).predict(at).mean
    risen = rise(encoding, at).values
    assert corner - centre == pytest.approx(BOWL.mean * (risen[0] - risen[1]))


@pytest.mark.parametrize("trend", [FLAT, BOWL])
def test_the_density_is_that_of_a_process_with_the_trend(trend: Trend) -> None:
    encoding, points, losses = studied(CUBE, 15)
    density = LogPosterior(encoding, points, losses, False, trend=trend)
    hyper = density.hyperparameters(density.start)
    features = encoding.features(points, points.numbers) * np.exp(-hyper.log_lengths)[encoding.groups]
    risen = rise(encoding, points).values
    variance = np.exp(hyper.log_amplitude) * matern(squared_distances(features, features))[0] + MEAN_VARIANCE
    variance += trend.variance * np.outer(risen, risen) + np.exp(hyper.log_noise) * np.eye(15)
    wanted = multivariate_normal(trend.mean * risen, variance).logpdf(losses)
    # At the start the only hyperparameter that is not where its prior is greatest is the noise.
    prior = ((hyper.log_noise - NOISE.mean) / NOISE.std) ** 2 / 2
    assert -density(density.start)[0] == pytest.approx(wanted + 15 / 2 * np.log(2 * np.pi) - prior, rel=1e-6)


@pytest.mark.parametrize("used", [False, True])
def test_a_process_has_the_trend_that_was_decided_on(used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "is_used", lambda _gain, _draw: used)
    values = CUBE.sample(12, np.random.default_rng(0))
    process = model.BranchProcess(
        CUBE, np.full(5, np.nan), values, np.linspace(-1, 1, 12), True, np.random.default_rng(0)
    )
    assert process._posterior._trend == (BOWL if used else FLAT)


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        (hp.normal("x", 0, 1), [1000.0, 1000.0, 0.0]),
        (hp.lognormal("x", 0, 0.5), [0.0, 0.0, 1.0]),
        (hp.qnormal("x", 3.4, 1e-4, 1), [3.0, 3.0, 3.0]),
    ],
    ids=["normal", "lognormal", "qnormal"],
)
def test_points_far_beyond_the_bounds_do_no_harm(expression: Any, values: list[float]) -> None:
    space = SearchSpace({"x": expression})
    found = History(np.array(values)[:, None], np.array([1.0, 1.1, 0.5]), np.zeros(3, bool), np.empty((0, 1)))
    rows = gp.propose(space, found, 2, np.random.default_rng(0), model.Options(n_startup_jobs=2))
    assert np.isfinite(rows).all()
