"""The densities l and g, and which trials they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import hp

from sparktune.search.parzen.candidates import MOST_OTHERS, block_of, good_density, other_kernels, thinned
from sparktune.search.parzen.kernels import Kernels
from sparktune.search.parzen.marginals import Mixture
from sparktune.space.search_space import SearchSpace

pytestmark = pytest.mark.unit

SPACE = SearchSpace({"x": hp.uniform("x", 0, 1), "c": hp.choice("c", ["a", "b", "d"])})


@pytest.mark.parametrize("n", [0, 1, MOST_OTHERS, MOST_OTHERS + 1, 1501, 2222, 50_000])
def test_a_thinned_history_stands_for_the_whole(n: int) -> None:
    rows, weights = thinned(n)
    assert len(rows) == len(weights) <= MOST_OTHERS
    assert len(rows) > 0.6 * min(n, MOST_OTHERS) or n == 0
    assert weights.sum() == pytest.approx(n)
    assert (np.diff(rows) > 0).all()
    assert rows[: MOST_OTHERS // 2].tolist() == list(range(min(n, MOST_OTHERS // 2)))


def test_g_of_a_thinned_history_is_nearly_g() -> None:
    block = block_of(SPACE, (0, 1))
    values = SPACE.sample(4000, np.random.default_rng(0))
    values = values[np.argsort(np.abs(values[:, SPACE.column["x"]] - 0.3))]
    rows, weights = thinned(len(values))
    some, all_of_them = other_kernels(block, values[rows], 1.0, weights), other_kernels(block, values, 1.0)
    assert some.bandwidths == pytest.approx(all_of_them.bandwidths)
    points = block.scaled(SPACE.sample(200, np.random.default_rng(1)))
    assert np.abs(some.log_density(*points) - all_of_them.log_density(*points)).mean() < 0.2


def test_l_is_joint_alone_for_one_parameter_or_without_trials() -> None:
    values = SPACE.sample(5, np.random.default_rng(0))
    assert isinstance(good_density(block_of(SPACE, (0, 1)), values, 1.0), Mixture)
    assert isinstance(good_density(block_of(SPACE, (0, 1)), values[:0], 1.0), Kernels)
    assert isinstance(good_density(block_of(SPACE, (0,)), values, 1.0), Kernels)


def test_marginals_are_narrower_than_joint_kernels() -> None:
    values = SPACE.sample(20, np.random.default_rng(0))
    density = good_density(block_of(SPACE, (0, 1)), values, 1.0)
    assert isinstance(density, Mixture)
    assert (density.bandwidths < density.joint.bandwidths).all()
