"""What is made of losses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from sparktune.search.gaussian.losses import normalised, yeo_johnson

pytestmark = pytest.mark.unit

LOSSES = st.lists(st.floats(-1e6, 1e6) | st.just(np.inf), min_size=1, max_size=40)


@given(losses=LOSSES, data=st.data())
def test_they_are_finite_and_in_order(losses: list[float], data: st.DataObject) -> None:
    weak = np.array(data.draw(st.lists(st.booleans(), min_size=len(losses), max_size=len(losses))), bool)
    values = np.array(losses)
    found = normalised(values, weak | np.isinf(values))
    assert np.isfinite(found).all()
    strong = np.flatnonzero(~weak & np.isfinite(values))
    order = strong[np.argsort(values[strong], kind="stable")]
    assert (np.diff(found[order]) >= -1e-9).all()


def test_they_have_mean_0_and_variance_1() -> None:
    found = normalised(np.exp(np.random.default_rng(0).normal(0, 2, 200)), np.zeros(200, bool))
    assert (found.mean(), found.std()) == (pytest.approx(0), pytest.approx(1))
    assert abs(stats.skew(found)) < 0.5


def test_an_outlier_leaves_the_others_apart() -> None:
    losses = np.append(np.linspace(0, 1, 20), 1e12)
    found = normalised(losses, np.zeros(21, bool))
    assert found[19] - found[0] > 1.5


def test_weak_trials_are_no_better_than_the_median() -> None:
    losses = np.append(np.linspace(0, 1, 21), [-9.0, np.inf])
    found = normalised(losses, np.arange(23) >= 21)
    assert found[21] == pytest.approx(found[10])
    assert found[22] == pytest.approx(found[20])


@pytest.mark.parametrize("losses", [[], [1.0], [2.0] * 9, [np.inf] * 9, [-np.inf, 1.0]])
def test_there_may_be_nothing_to_normalise(losses: list[float]) -> None:
    found = normalised(np.array(losses), np.isposinf(losses))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_transform_is_scipys(power: float) -> None:
    values = np.linspace(-3, 3, 13)
    assert yeo_johnson(values, power) == pytest.approx(stats.yeojohnson(values, power))
