"""Parzen estimators: densities that integrate to 1, and samples that follow them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hyperopt import hp
from hypothesis import given, settings, strategies as st
from scipy import stats

from sparktune.search.parzen.kernels import Block, Kernels, scott, spill_of, spread
from sparktune.space.search_space import SearchSpace

pytestmark = pytest.mark.unit

SPACE = SearchSpace(
    {
        "x": hp.uniform("x", -2, 3),
        "y": hp.loguniform("y", -5, 1),
        "z": hp.normal("z", 10, 2),
        "c": hp.choice("c", ["a", "b", "d"]),
        "p": hp.pchoice("p", [(0.9, 0), (0.1, 1)]),
    }
)


def block_of(*labels: str) -> Block:
    return Block(SPACE, [SPACE.column[label] for label in labels])


def kernels_on(block: Block, n: int, seed: int = 0, prior_weight: float = 1.0) -> Kernels:
    rng = np.random.default_rng(seed)
    numbers, options = block.scaled(SPACE.sample(n, rng))
    weights = np.append(rng.random(n) + 0.1, prior_weight)
    widths = rng.random(block.n_numbers) * 0.3 + 0.02
    return Kernels(block, numbers, options, weights / weights.sum(), widths, spill_of(block, n))


@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("labels", [("x",), ("y",), ("z",), ("c",), ("x", "c"), ("z", "p", "c")])
def test_the_density_integrates_to_one(labels: tuple[str, ...], n: int) -> None:
    block = block_of(*labels)
    kernels = kernels_on(block, n)
    grid = np.linspace(-3, 4, 7001) if labels[0] == "z" else (np.arange(1000) + 0.5) / 1000
    total = 0.0
    for options in itertools.product(*(range(p.n_options) for p in block.options)):
        at = np.tile(np.array(options, int), (len(grid), 1)).reshape(len(grid), len(options))
        numbers = grid[:, None] if block.n_numbers else np.empty((len(grid), 0))
        density = np.exp(kernels.log_density(numbers, at))
        total += density.sum() * (grid[1] - grid[0]) if block.n_numbers else density[0]
    assert total == pytest.approx(1, rel=1e-3)


def slow_log_density(kernels: Kernels, numbers: np.ndarray, options: np.ndarray) -> np.ndarray:
    """Kernel by kernel, parameter by parameter."""
    block, total = kernels.block, np.zeros(len(numbers))
    for k, weight in enumerate(kernels.weights):
        product = np.full(len(numbers), weight)
        is_prior = k == len(kernels.numbers)
        for j, parameter in enumerate(block.numbers):
            if is_prior:
                normal = stats.norm(0.5, 1 / 6).pdf(numbers[:, j])
                product *= 1.0 if parameter.kind == "uniform" else normal
                continue
            kernel = stats.norm(kernels.numbers[k, j], kernels.bandwidths[j])
            mass = kernel.cdf(1) - kernel.cdf(0) if parameter.kind == "uniform" else 1.0
            product *= kernel.pdf(numbers[:, j]) / mass
        for j, parameter in enumerate(block.options):
            prior = np.array(parameter.probabilities)[options[:, j]]
            spill = 1.0 if is_prior else kernels.spill[j]
            stays = 0.0 if is_prior else (options[:, j] == kernels.options[k, j]) * (1 - spill)
            product *= spill * prior + stays
        total += product
    return np.log(total)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_the_density_is_that_of_its_definition(seed: int, n: int) -> None:
    block = block_of("x", "z", "y", "c", "p")
    kernels = kernels_on(block, n, seed)
    numbers, options = block.scaled(SPACE.sample(9, np.random.default_rng(seed + 1)))
    assert kernels.log_density(numbers, options) == pytest.approx(slow_log_density(kernels, numbers, options))


def test_one_more_kernel_is_one_of_the_sum() -> None:
    block = block_of("x", "z", "c")
    kernels = kernels_on(block, 5)
    equal = Kernels(
        block, kernels.numbers, kernels.options, np.full(6, 1 / 6), kernels.bandwidths, kernels.spill
    )
    numbers, options = block.scaled(SPACE.sample(20, np.random.default_rng(3)))
    one_by_one = [
        equal.log_kernel(kernels.numbers[i], kernels.options[i], numbers, options) for i in range(5)
    ]
    prior_alone = kernels_on(block, 0).log_density(numbers, options) + np.log(1 / 6)
    total = np.logaddexp.reduce([*one_by_one, prior_alone])
    assert equal.log_density(numbers, options) == pytest.approx(total)


def test_samples_follow_the_density() -> None:
    block = block_of("x", "c")
    kernels = kernels_on(block, 4)
    numbers, options = kernels.sample(20_000, np.random.default_rng(5))
    assert ((numbers >= 0) & (numbers <= 1)).all()
    grid = (np.arange(500) + 0.5) / 500
    for option in range(3):
        at = np.full((500, 1), option)
        density = np.exp(kernels.log_density(grid[:, None], at))
        drawn = numbers[options[:, 0] == option, 0]
        assert len(drawn) / 20_000 == pytest.approx(density.mean(), abs=0.02)
        cumulative = np.concatenate([[0.0], np.cumsum(density)]) / density.sum()
        edges = np.arange(501) / 500
        assert stats.kstest(drawn, lambda x, c=cumulative, e=edges: np.interp(x, e, c)).pvalue > 1e-4


def test_values_outside_of_the_range_are_taken_to_its_edge() -> None:
    """The user's own points, and what rounding makes of the last bin."""
    row = np.full((1, len(SPACE)), np.nan)
    row[0, SPACE.column["x"]] = 99.0
    assert block_of("x").scaled(row)[0].tolist() == [[1.0]]


def test_spread() -> None:
    prior = np.array([0.3])
    assert spread(np.empty((0, 1)), np.empty(0), prior).tolist() == [0.3]
    agreed = spread(np.full((20, 1), 0.7), np.ones(20), prior)[0]
    apart = spread(np.linspace(0, 1, 20)[:, None], np.ones(20), prior)[0]
    assert 0 < agreed < 0.5 * apart
    assert scott(100, 1) < scott(10, 1) < scott(10, 5) <= 1
