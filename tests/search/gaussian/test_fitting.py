"""The density of hyperparameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from sparktune.search.gaussian.fitting import LogPosterior, fitted, length_prior
from sparktune.search.gaussian.posterior import Posterior
from tests.search.gaussian.studies import MIXED, SQUARE, studied


@pytest.mark.parametrize("with_warping", [False, True])
def test_the_gradient(with_warping: bool) -> None:
    density = LogPosterior(*studied(MIXED, 25), with_warping)
    rng = np.random.default_rng(1)
    at = density.start + 0.2 * rng.standard_normal(len(density.start))
    numeric = approx_fprime(at, lambda v: density(v)[0], 1e-6)
    assert density(at)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_what_matters_has_a_short_length() -> None:
    encoding, points, _ = studied(SQUARE, 40)
    losses = np.sin(6 * points.numbers[:, 0])
    losses = (losses - losses.mean()) / losses.std()
    hyper = fitted(encoding, points, losses, False, 60)
    assert hyper.log_lengths[0] < hyper.log_lengths[1] - 1
    assert hyper.log_noise < np.log(1e-3)


def test_noise_is_learned() -> None:
    encoding, points, _ = studied(SQUARE, 120)
    rng = np.random.default_rng(0)
    losses = rng.standard_normal(120) + points.numbers[:, 0]
    losses = (losses - losses.mean()) / losses.std()
    hyper = fitted(encoding, points, losses, False, 60)
    assert np.exp(hyper.log_noise) > 0.5


def test_a_warping_is_learned_where_it_helps() -> None:
    encoding, points, _ = studied(SQUARE, 60)
    losses = np.sin(8 * points.numbers[:, 0] ** 3)
    losses = (losses - losses.mean()) / losses.std()
    fits = [fitted(encoding, points, losses, w, 80) for w in (False, True)]
    _, elsewhere, _ = studied(SQUARE, 200, seed=9)
    truth = np.sin(8 * elsewhere.numbers[:, 0] ** 3)
    plain = np.sin(8 * points.numbers[:, 0] ** 3)
    truth = (truth - plain.mean()) / plain.std()
    errors = [np.square(Posterior(encoding, points, losses, h).predict(elsewhere).mean - truth) for h in fits]
    assert errors[1].mean() < errors[0].mean()
    assert fits[1].log_a is not None
    assert fits[1].log_a[0] > 0.1


def test_lengths_grow_with_the_dimension() -> None:
    assert length_prior(40).mean == pytest.approx(length_prior(10).mean + np.log(2))
