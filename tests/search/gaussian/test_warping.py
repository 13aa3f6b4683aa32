"""Kumaraswamy's distribution function."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sparktune.search.gaussian.warping import unwarped, warp

pytestmark = pytest.mark.unit

LOGS = st.floats(-1.5, 1.5)


def test_it_is_the_identity_for_a_and_b_of_1() -> None:
    x = np.linspace(0, 1, 11)[:, None]
    assert warp(x, np.zeros(1), np.zeros(1)).values == pytest.approx(x)
    assert unwarped(x).values is x


@given(log_a=LOGS, log_b=LOGS)
def test_it_is_monotone_and_keeps_the_range(log_a: float, log_b: float) -> None:
    x = np.linspace(-0.2, 1.2, 57)[:, None]
    values = warp(x, np.array([log_a]), np.array([log_b])).values[:, 0]
    assert (np.diff(values) > 0).all()
    inside = values[(x[:, 0] >= 0) & (x[:, 0] <= 1)]
    assert inside.min() >= -1e-4
    assert inside.max() <= 1 + 1e-4


@given(x=st.floats(0.01, 0.99), log_a=LOGS, log_b=LOGS)
def test_derivatives(x: float, log_a: float, log_b: float) -> None:
    at = np.array([x, log_a, log_b])

    def value(v: np.ndarray) -> float:
        return float(warp(v[:1, None], v[1:2], v[2:]).values[0, 0])

    found = warp(at[:1, None], at[1:2], at[2:])
    exact = [found.by_x[0, 0], found.by_log_a[0, 0], found.by_log_b[0, 0]]
    step = 1e-6 * np.eye(3)
    numeric = [(value(at + s) - value(at - s)) / 2e-6 for s in step]
    assert exact == pytest.approx(numeric, rel=1e-4, abs=1e-6)
