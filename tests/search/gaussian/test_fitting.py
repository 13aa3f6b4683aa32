"""The density of hyperparameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from sparktune.search.gaussian.fitting import LogPosterior, fitted, length_prior
from sparktune.search.gaussian.trend import BOWL, FLAT, Trend
from tests.search.gaussian.studies import MIXED, SQUARE, studied

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("trend", [FLAT, BOWL])
@pytest.mark.parametrize("with_warping", [False, True])
def test_the_gradient(with_warping: bool, trend: Trend) -> None:
    density = LogPosterior(*studied(MIXED, 25), with_warping, trend=trend)
    rng = np.random.default_rng(1)
    at = density.start + 0.2 * rng.standard_normal(len(density.start))
    numeric = approx_fprime(at, lambda v: density(v)[0], 1e-6)
    assert density(at)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_what_matters_has_a_short_length() -> None:
    encoding, points, _ = studied(SQUARE, 40)
    losses = np.sin(6 * points.numbers[:, 0])
    losses = (losses - losses.mean()) / losses.std()
    hyper = fitted(encoding, points, losses, False, 60).hyperparameters
    assert hyper.log_lengths[0] < hyper.log_lengths[1] - 1
    assert hyper.log_noise < np.log(1e-3)


def test_noise_is_learned() -> None:
    encoding, points, _ = studied(SQUARE, 120)
    rng = np.random.default_rng(0)
    losses = rng.standard_normal(120) + points.numbers[:, 0]
    losses = (losses - losses.mean()) / losses.std()
    hyper = fitted(encoding, points, losses, False, 60).hyperparameters
    assert np.exp(hyper.log_noise) > 0.5


def test_a_warping_is_learned_where_it_helps() -> None:
    encoding, points, _ = studied(SQUARE, 60)
    losses = np.sin(8 * points.numbers[:, 0] ** 3)
    losses = (losses - losses.mean()) / losses.std()
    hyper = fitted(encoding, points, losses, True, 80).hyperparameters
    assert hyper.log_a is not None
    assert hyper.log_a[0] > 0.3
    assert abs(hyper.log_a[1]) < 0.3


def test_what_the_trials_do_not_tell_is_long_or_short_as_it_is_asked_for() -> None:
    encoding, points, losses = studied(MIXED, 8)
    short, long = (
        fitted(encoding, points, losses, False, 40, is_long).hyperparameters for is_long in (False, True)
    )
    assert np.median(long.log_lengths - short.log_lengths) > 1


def test_lengths_grow_with_the_dimension() -> None:
    assert length_prior(40).mean == pytest.approx(length_prior(10).mean + np.log(2))
