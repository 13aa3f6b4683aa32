"""Candidates of TPE: drawn from the density l of good points, judged by l / g (see ``tpe``)."""

from __future__ import annotations

import functools

import numpy as np

from sparktune.search.parameters import Array
from sparktune.search.parzen import Block, Indices, Kernels, scott, spill_of, spread
from sparktune.search.space import SearchSpace

LEAST_BANDWIDTH = 0.01
"""No kernel is narrower, as a share of the range; the prior's part in ``spread`` keeps nearly all wider."""


@functools.lru_cache(maxsize=256)
def block_of(space: SearchSpace, columns: tuple[int, ...]) -> Block:
    """The block of these columns; kept, for a study asks for the same ones again and again."""
    return Block(space, list(columns))


class Pool:
    """Candidates drawn from l, and the logarithm of l / g at each."""

    def __init__(
        self,
        block: Block,
        good: Kernels,
        others: Kernels,
        size: int,
        n_compete: int,
        rng: np.random.Generator,
    ) -> None:
        self.block = block
        self._good, self._others = good, others
        self._size, self._n_compete = size, n_compete
        self._running: list[Kernels] = []
        self._fill(rng)

    def _fill(self, rng: np.random.Generator) -> None:
        block = self.block
        self._values = block.values(*self._good.sample(self._size, rng))
        self._numbers, self._options = block.scaled_columns(self._values)  # after rounding
        self._score = self._good.log_density(self._numbers, self._options)
        self._log_g = self._others.log_density(self._numbers, self._options)
        self._left = np.arange(self._size)
        for kernel in self._running:
            self._log_g = np.logaddexp(self._log_g, kernel.log_density(self._numbers, self._options))

    def draw(self, rng: np.random.Generator) -> Array:
        """The best of some candidates that were not drawn yet; values in the order of the block's columns."""
        if not len(self._left):
            self._fill(rng)
        some = self._left
        if len(some) > self._n_compete:
            some = rng.choice(some, self._n_compete, replace=False)
        best = some[(self._score[some] - self._log_g[some]).argmax()]
        self._left = self._left[self._left != best]
        return np.asarray(self._values[best])

    def repel(self, row: Array) -> None:
        """Count a suggested configuration ``(n_params,)`` among the running ones."""
        kernel = self._others.on(*self.block.scaled(row[None]))
        self._running.append(kernel)
        self._log_g = np.logaddexp(self._log_g, kernel.log_density(self._numbers, self._options))


# -- the two densities -----------------------------------------------------------------------------------


def rank_weights(n: int) -> Array:
    """Weights of ``n`` good trials, best first, with mean 1: ``ln(n + 1/2) - ln(rank)``, normalised."""
    weights = np.log(n + 0.5) - np.log(np.arange(1, n + 1))
    return np.asarray(weights * (n / weights.sum())) if n else weights


def good_kernels(block: Block, values: Array, prior_weight: float) -> Kernels:
    """The density l on good configurations, ``(n, n_params)``, best first."""
    numbers, options = block.scaled(values)
    n = len(values)
    weights = rank_weights(n)
    widths = spread(numbers, weights, block.prior_std) * scott(n + 1, len(block.columns))
    return _kernels(block, numbers, options, weights, widths, prior_weight)


def other_kernels(block: Block, values: Array, prior_weight: float) -> Kernels:
    """The density g on all other configurations, ``(n, n_params)``."""
    numbers, options = block.scaled(values)
    n = len(values)
    widths = block.prior_std * scott(n + 1, len(block.columns))
    return _kernels(block, numbers, options, np.ones(n), widths, prior_weight)


def _kernels(
    block: Block, numbers: Array, options: Indices, weights: Array, widths: Array, prior_weight: float
) -> Kernels:
    n = len(numbers)
    mixture = np.append(weights, prior_weight)
    return Kernels(
        block=block,
        numbers=numbers,
        options=options,
        weights=mixture / mixture.sum(),
        bandwidths=np.maximum(widths, LEAST_BANDWIDTH),
        spill=spill_of(block, n),
    )
