"""The logarithm of the expected improvement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import norm

from sparktune.search.gaussian.acquisition import log_expected_improvement, log_h

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("z", [-3.0, -1.0001, -0.9999, 0.0, 2.0, 6.0])
def test_it_is_the_logarithm_of_the_textbooks(z: float) -> None:
    assert log_h(np.array([z]))[0] == pytest.approx(np.log(norm.pdf(z) + z * norm.cdf(z)), rel=1e-9)


@given(z=st.floats(-1e9, 50))
def test_it_is_finite_and_grows(z: float) -> None:
    here, above = log_h(np.array([z, z + 1e-3 * (1 + abs(z))]))
    assert np.isfinite(here)
    assert here < above


@pytest.mark.parametrize("z", [-1.0, -1e4])
def test_its_pieces_join(z: float) -> None:
    below, above = log_h(np.array([np.nextafter(z, -np.inf), np.nextafter(z, np.inf)]))
    assert below == pytest.approx(above, rel=1e-9)


@pytest.mark.parametrize("mean", [-1.0, 0.5, 3.0, 40.0, 2000.0])
@pytest.mark.parametrize("std", [0.05, 1.0])
def test_derivatives(mean: float, std: float) -> None:
    found = log_expected_improvement(np.array([mean]), np.array([std]), 0.2)

    def log(m: float, s: float) -> float:
        return float(log_expected_improvement(np.array([m]), np.array([s]), 0.2).log[0])

    assert found.by_mean[0] == pytest.approx(
        (log(mean + 1e-6, std) - log(mean - 1e-6, std)) / 2e-6, rel=1e-4, abs=1e-6
    )
    step = 1e-6 * std
    assert found.by_std[0] == pytest.approx(
        (log(mean, std + step) - log(mean, std - step)) / (2 * step), rel=1e-3, abs=1e-6
    )
