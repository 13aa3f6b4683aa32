"""Tables of configurations."""

from __future__ import annotations

from typing import Any

import hyperopt
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from sparktune.space.search_space import SearchSpace, space_of
from tests.search.conformance import domain_of
from tests.search.spaces import CONDITIONAL, assert_point_fits, nested_spaces

pytestmark = pytest.mark.unit


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(space=nested_spaces())
def test_any_point_of_the_cube_is_a_configuration(space: Any) -> None:
    compiled = SearchSpace(space)
    unit = np.random.default_rng(0).random((40, len(compiled)))
    unit[:2] = [[0.0], [np.nextafter(1, 0)]]
    values = compiled.from_unit(unit)
    assert values.shape == unit.shape
    again = compiled.from_unit(compiled.to_unit(values))
    assert np.allclose(values[2:], again[2:], rtol=1e-6, atol=1e-6, equal_nan=True)
    inner = compiled.to_unit(values)
    assert np.all((inner[~np.isnan(inner)] >= 0) & (inner[~np.isnan(inner)] <= 1))
    for row in values:
        config = compiled.config(row)
        assert_point_fits(space, config)
        assert np.array_equal(compiled.row(config), row, equal_nan=True)


def test_coordinates_of_the_cube_come_back() -> None:
    compiled = SearchSpace(CONDITIONAL)
    unit = np.random.default_rng(1).random((500, len(compiled)))
    back = compiled.to_unit(compiled.from_unit(unit))
    for i, parameter in enumerate(compiled.parameters):
        if parameter.kind != "options" and parameter.q is None:
            known = ~np.isnan(back[:, i])
            assert known.any()
            assert np.allclose(back[known, i], unit[known, i], atol=1e-9)


def test_no_parameters() -> None:
    compiled = SearchSpace({"a": 1})
    assert len(compiled) == 0
    assert compiled.sample(3, np.random.default_rng(0)).shape == (3, 0)


def test_unknown_labels_are_left_out_of_rows() -> None:
    assert np.isnan(SearchSpace(CONDITIONAL).row({"gone": 3.0})).all()


def test_a_domain_is_compiled_once() -> None:
    domain = domain_of(CONDITIONAL)
    assert space_of(domain) is space_of(domain)
    domain.expr = hyperopt.pyll.as_apply({"x": hyperopt.hp.uniform("x", 0, 1)})
    assert [p.label for p in space_of(domain).parameters] == ["x"]
