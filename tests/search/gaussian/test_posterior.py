"""Mean and variance, and how they change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparktune.search.gaussian.fitting import fitted
from sparktune.search.gaussian.posterior import Posterior, inverse_and_root
from sparktune.search.gaussian.trend import BOWL
from tests.search.gaussian.studies import MIXED, joined, studied

pytestmark = pytest.mark.unit

ENCODING, POINTS, LOSSES = studied(MIXED, 30)
HYPER = replace(
    fitted(ENCODING, POINTS, LOSSES, True, 20, trend=BOWL).hyperparameters, log_noise=np.log(1e-3)
)
POSTERIOR = Posterior(ENCODING, POINTS, LOSSES, HYPER)
_, ELSEWHERE, _ = studied(MIXED, 7, seed=5)


def test_slopes() -> None:
    _, by_mean, by_variance = POSTERIOR.predict_with_slopes(ELSEWHERE)
    for j in range(ELSEWHERE.numbers.shape[1]):
        step = np.zeros_like(ELSEWHERE.numbers)
        step[:, j] = 1e-6
        above = POSTERIOR.predict(replace(ELSEWHERE, numbers=ELSEWHERE.numbers + step))
        below = POSTERIOR.predict(replace(ELSEWHERE, numbers=ELSEWHERE.numbers - step))
        assert by_mean[:, j] == pytest.approx((above.mean - below.mean) / 2e-6, rel=1e-3, abs=1e-5)
        assert by_variance[:, j] == pytest.approx(
            (above.variance - below.variance) / 2e-6, rel=1e-3, abs=1e-5
        )


def test_believing_is_the_same_as_knowing_what_was_expected() -> None:
    expected = POSTERIOR.predict(ELSEWHERE).mean
    believing = POSTERIOR.believing(ELSEWHERE)
    anew = Posterior(ENCODING, joined(POINTS, ELSEWHERE), np.append(LOSSES, expected), HYPER)
    assert believing.predict(POINTS).mean == pytest.approx(anew.predict(POINTS).mean)
    assert believing.predict(POINTS).variance == pytest.approx(anew.predict(POINTS).variance)


def test_what_is_believed_changes_no_mean() -> None:
    one = ELSEWHERE[np.array([2])]
    believing, before = POSTERIOR.believing(one), POSTERIOR.predict(ELSEWHERE)
    assert believing.predict(ELSEWHERE).mean == pytest.approx(before.mean)
    assert (believing.predict(ELSEWHERE).variance <= before.variance + 1e-9).all()
    assert believing.predict(one).variance[0] < 2e-3


def test_points_that_are_all_but_known_do_no_harm() -> None:
    exact = Posterior(ENCODING, POINTS, LOSSES, replace(HYPER, log_noise=np.log(1e-7), log_amplitude=4.0))
    believing = exact
    for i in range(40):
        numbers = POINTS.numbers[:1] + 1e-9 * i
        believing = believing.believing(replace(POINTS[:1], numbers=numbers))
    assert believing.predict(ELSEWHERE).mean == pytest.approx(exact.predict(ELSEWHERE).mean, abs=1e-3)
    assert np.isfinite(believing.predict(ELSEWHERE).variance).all()


def test_known_means_are_predictions() -> None:
    assert POSTERIOR.known_mean() == pytest.approx(POSTERIOR.predict(POINTS).mean, abs=1e-6)


def test_a_matrix_that_is_not_positive_definite_is_told() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        inverse_and_root(-np.eye(3))
