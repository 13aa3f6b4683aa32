"""What is near to what."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import hp
from hypothesis import HealthCheck, given, settings, strategies as st

from sparktune.search.gaussian.encoding import OPTION_DISTANCE, RADIUS, Encoding
from sparktune.search.gaussian.kernels import matern, squared_distances
from sparktune.space.search_space import SearchSpace
from tests.search.gaussian.studies import MIXED
from tests.search.spaces import nested_spaces

pytestmark = pytest.mark.unit


def square_distances(space: SearchSpace, configs: list[dict[str, float]]) -> np.ndarray:
    encoding = Encoding(space)
    points = encoding.points(np.array([space.row(config) for config in configs]))
    features = encoding.features(points, points.numbers)
    return squared_distances(features, features)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_kernel_is_positive_definite_in_every_space(data: st.DataObject) -> None:
    space = SearchSpace(data.draw(nested_spaces()))
    encoding = Encoding(space)
    points = encoding.points(space.sample(20, np.random.default_rng(0)))
    features = encoding.features(points, points.numbers)
    kernel = matern(squared_distances(features, features))[0]
    assert np.linalg.eigvalsh(kernel).min() > -1e-8


TREE = SearchSpace(
    {"z": hp.uniform("z", 0, 2), "m": hp.choice("m", [{"x": hp.uniform("x", 0, 1)}, "a", "b", "c"])}
)


def test_inactive_parameters_do_not_count() -> None:
    same = square_distances(TREE, [{"z": 1, "m": 1}, {"z": 1, "m": 1}])
    assert same == pytest.approx(np.zeros((2, 2)))
    apart = square_distances(TREE, [{"z": 1, "m": 1}] + [{"z": 1, "m": 0, "x": x} for x in (0.0, 0.3, 1.0)])
    assert apart[0, 1:] == pytest.approx(np.full(3, OPTION_DISTANCE**2 + RADIUS**2))


def test_numbers_are_scaled_and_options_are_equally_far() -> None:
    numbers = square_distances(TREE, [{"z": 0.0, "m": 1}, {"z": 1.0, "m": 1}])
    assert numbers[0, 1] == pytest.approx(0.25)
    options = square_distances(TREE, [{"z": 0, "m": i} for i in (1, 2, 3)])
    assert options[0, 1] == options[0, 2] == pytest.approx(OPTION_DISTANCE**2)


def test_values_within_a_step_are_the_same() -> None:
    space = SearchSpace(hp.qloguniform("n", 0, 4, 1))
    values = np.array([[3.0], [3.0], [4.0]])
    numbers = Encoding(space).points(values).numbers[:, 0]
    assert numbers[0] == numbers[1] == pytest.approx(np.log(3) / 4)


def test_many_options_are_ordered() -> None:
    space = SearchSpace(hp.choice("c", list(range(30))))
    encoding = Encoding(space)
    points = encoding.points(np.array([[0.0], [29.0]]))
    assert points.numbers[:, 0].tolist() == [0.0, 1.0]
    assert points.indicators.shape == (2, 0)


def test_coordinates_become_values_again() -> None:
    encoding = Encoding(MIXED)
    values = MIXED.sample(50, np.random.default_rng(1))
    points = encoding.points(values)
    for j, column in enumerate(encoding.columns):
        there = points.active[:, j]
        assert encoding.value(j, points.numbers[there, j]) == pytest.approx(values[there, column])
