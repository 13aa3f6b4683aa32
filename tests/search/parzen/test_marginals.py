"""A density that is half joint, half the product of its marginals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sparktune.search.parzen.kernels import Block, Kernels
from sparktune.search.parzen.marginals import SHARE, Mixture
from tests.search.parzen.test_kernels import SPACE, block_of, kernels_on

pytestmark = pytest.mark.unit


def mixture_on(block: Block, n: int) -> Mixture:
    joint = kernels_on(block, n)
    return Mixture(joint, joint.bandwidths * 0.7)


@pytest.mark.parametrize("labels", [("x",), ("z",), ("x", "c"), ("z", "p"), ("c", "p")])
def test_the_density_integrates_to_one(labels: tuple[str, ...]) -> None:
    block = block_of(*labels)
    mixture = mixture_on(block, 7)
    grid = np.linspace(-3, 4, 7001) if labels[0] == "z" else (np.arange(1000) + 0.5) / 1000
    total = 0.0
    for options in itertools.product(*(range(p.n_options) for p in block.options)):
        at = np.tile(np.array(options, int), (len(grid), 1)).reshape(len(grid), len(options))
        numbers = grid[:, None] if block.n_numbers else np.empty((len(grid), 0))
        found = np.exp(mixture.log_density(numbers, at))
        total += found.sum() * (grid[1] - grid[0]) if block.n_numbers else found[0]
    assert total == pytest.approx(1, rel=1e-3)


def test_the_marginals_of_numbers_are_kernel_estimators() -> None:
    """Two numbers: the product of two estimators of one number each."""
    block = block_of("x", "y")
    mixture = mixture_on(block, 6)
    numbers = np.random.default_rng(1).random((20, 2))
    none = np.empty((20, 0), int)
    product = np.zeros(20)
    for j, label in enumerate(("x", "y")):
        alone = Kernels(
            block_of(label),
            mixture.joint.numbers[:, j : j + 1],
            np.empty((6, 0), int),
            mixture.joint.weights,
            mixture.bandwidths[j : j + 1],
            np.empty(0),
        )
        product += alone.log_density(numbers[:, j : j + 1], none)
    assert mixture.log_product(numbers, none) == pytest.approx(product)


def test_the_marginal_of_a_choice_is_a_weighted_count() -> None:
    joint = Kernels(
        block_of("c"),
        np.empty((3, 0)),
        np.array([[2], [2], [0]]),
        np.array([0.4, 0.2, 0.1, 0.3]),
        np.empty(0),
        np.array([0.5]),
    )
    found = Mixture(joint, np.empty(0)).log_product(np.empty((3, 0)), np.array([[0], [1], [2]]))
    assert np.exp(found) == pytest.approx([0.2, 0.1, 0.7])


def test_samples_follow_the_density() -> None:
    mixture = mixture_on(block_of("x", "c"), 4)
    numbers, options = mixture.sample(20_000, np.random.default_rng(5))
    grid = (np.arange(500) + 0.5) / 500
    for option in range(3):
        wanted = np.exp(mixture.log_density(grid[:, None], np.full((500, 1), option)))
        drawn = numbers[options[:, 0] == option, 0]
        assert len(drawn) / 20_000 == pytest.approx(wanted.mean(), abs=0.02)
        cumulative = np.concatenate([[0.0], np.cumsum(wanted)]) / wanted.sum()
        edges = np.arange(501) / 500
        assert stats.kstest(drawn, lambda x, c=cumulative, e=edges: np.interp(x, e, c)).pvalue > 1e-4


def test_values_of_different_trials_are_put_together() -> None:
    """Two good trials, x low with the first option and x high with the second one."""
    joint = Kernels(
        block_of("x", "c"),
        np.array([[0.1], [0.9]]),
        np.array([[0], [1]]),
        np.array([0.45, 0.45, 0.1]),
        np.array([0.05]),
        np.array([0.0]),
    )

    def crossed(density: Kernels | Mixture) -> float:
        numbers, options = density.sample(4000, np.random.default_rng(0))
        return float(((numbers[:, 0] > 0.6) & (options[:, 0] == 0)).mean())

    assert crossed(joint) < 0.03  # the prior's
    assert crossed(Mixture(joint, joint.bandwidths)) > 0.45**2 * SHARE * 0.9


def test_a_mixture_is_the_mean_of_two() -> None:
    mixture = mixture_on(block_of("x", "z", "c", "p"), 6)
    numbers, options = mixture.joint.block.scaled(SPACE.sample(20, np.random.default_rng(2)))
    one = math.log(1 - SHARE) + mixture.joint.log_density(numbers, options)
    two = math.log(SHARE) + mixture.log_product(numbers, options)
    assert mixture.log_density(numbers, options) == pytest.approx(np.logaddexp(one, two))
