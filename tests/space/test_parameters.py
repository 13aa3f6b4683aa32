"""One parameter: values, coordinates and the prior agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperopt import hp, pyll
from hypothesis import given, strategies as st

from sparktune.space.parameters import Parameter
from sparktune.space.search_space import SearchSpace
from tests.search.spaces import KINDS, assert_value_fits

pytestmark = pytest.mark.unit


def parameter_of(node: Any) -> Parameter:
    (parameter,) = SearchSpace({"x": node}).parameters
    return parameter


def dist_of(node: Any) -> Any:
    (found,) = (n.arg["obj"] for n in pyll.dfs(pyll.as_apply(node)) if n.name == "hyperopt_param")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_share_gives_a_value_that_hyperopt_can_give(kind: str) -> None:
    parameter = parameter_of(KINDS[kind])
    shares = [0.0, 1e-300, 0.25, 0.5, 1 - 1e-10, np.nextafter(1, 0), *np.random.default_rng(0).random(300)]
    for value in parameter.value(parameter.quantile(shares)).tolist():
        assert_value_fits(dist_of(KINDS[kind]), parameter.plain(value))


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_are_the_inverse_of_values(kind: str) -> None:
    parameter = parameter_of(KINDS[kind])
    shares = np.random.default_rng(1).random(300)
    values = parameter.value(parameter.quantile(shares))
    again = parameter.value(parameter.coordinate(values))
    assert np.allclose(values, again, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_cdf_is_the_inverse_of_quantile(kind: str) -> None:
    parameter = parameter_of(KINDS[kind])
    shares = np.linspace(0.001, 0.999, 500)
    again = parameter.cdf(parameter.quantile(shares))
    slack = max(parameter.probabilities) / 2 if parameter.kind == "options" else 0
    assert np.all(np.abs(again - shares) <= slack + 1e-9)
    assert np.all(np.diff(again) >= 0)


def test_zero_of_a_rounded_logarithm_has_a_coordinate() -> None:
    parameter = parameter_of(hp.qloguniform("x", -5, 3, 2))
    assert parameter.coordinate(0) == pytest.approx(np.log(0.5))
    assert parameter.value(parameter.coordinate(0)) == 0


def test_what_is_no_option_counts_as_the_nearest_one() -> None:
    parameter = parameter_of(hp.randint("x", 2, 7))
    assert parameter.coordinate([-1, 2, 6, 100]).tolist() == [0, 0, 4, 4]
    assert np.isnan(parameter.coordinate(np.nan))


@pytest.mark.parametrize("node", [hp.lognormal("x", 0, 200), hp.qlognormal("x", 600, 100, 1)])
def test_a_far_tail_is_finite(node: Any) -> None:
    parameter = parameter_of(node)
    far = parameter.value([600.0, 800.0, 1e6])
    assert np.all(np.isfinite(far))
    assert np.all(np.diff(far) >= 0)
    assert np.all(np.isfinite(parameter.coordinate(far)))


def test_no_negative_zero() -> None:
    parameter = parameter_of(hp.quniform("x", -3, 3, 2))
    assert not np.any(np.signbit(parameter.value(np.array([-0.4, 0.0, 0.3]))))


@given(st.integers(-(2**40), 2**40), st.integers(10_001, 2**40), st.floats(0, 1, exclude_max=True))
def test_a_wide_randint_stays_inside(first: int, n: int, share: float) -> None:
    parameter = parameter_of(hp.randint("x", first, first + n))
    assert parameter.kind == "uniform"
    value = parameter.plain(float(parameter.value(parameter.quantile(share))))
    assert type(value) is int
    assert first <= value < first + n


def test_options_without_probability_are_never_drawn() -> None:
    parameter = parameter_of(hp.pchoice("x", [(0.0, "a"), (1.0, "b"), (0.0, "c")]))
    assert set(parameter.quantile([0.0, 0.5, np.nextafter(1, 0)]).tolist()) == {1.0}
