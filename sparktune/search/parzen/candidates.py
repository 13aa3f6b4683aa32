"""Candidates of TPE: drawn from the density l of good points, judged by l / g (see ``tpe``)."""

from __future__ import annotations

import functools
import math
from typing import Protocol

import numpy as np

from sparktune.search.parzen.kernels import Block, Indices, Kernels, scott, spill_of, spread
from sparktune.search.parzen.marginals import Mixture
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace

LEAST_BANDWIDTH = 0.01
"""No kernel is narrower, as a share of the range; the prior's part in ``spread`` keeps nearly all wider."""

OTHERS_SHARPNESS = 0.7
"""Kernels of g, in units of Scott's rule: made for one hill, it would blur what failed around a peak."""

MOST_OTHERS = 1000
"""With more other trials, g is made of some of them: a suggestion costs the same after many trials."""


@functools.lru_cache(maxsize=256)
def block_of(space: SearchSpace, columns: tuple[int, ...]) -> Block:
    """The block of these columns; cached, since a study needs the same ones repeatedly."""
    return Block(space, list(columns))


class Density(Protocol):
    """What l must be able to do."""

    def log_density(self, numbers: Array, options: Indices) -> Array:
        """Logarithms at ``(m, ...)`` points: ``(m,)``."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Indices]:
        """``n`` points, scaled."""


class Pool:
    """Candidates drawn from l, and the logarithms of l and g at each.

    Args:
        block: the parameters.
        good: the density l.
        others: the density g.
        size: how many candidates to draw together.
        n_compete: how many of them compete for one suggestion.
        rng: what they are drawn from.
    """

    def __init__(
        self,
        block: Block,
        good: Density,
        others: Kernels,
        size: int,
        n_compete: int,
        rng: np.random.Generator,
    ) -> None:
        self.block = block
        self._good, self._others = good, others
        self._size, self._n_compete, self._rng = size, n_compete, rng
        self._drawn: list[Array] = []
        self._fill()

    def _fill(self) -> None:
        block = self.block
        self._values = block.values(*self._good.sample(self._size, self._rng))
        self._points = block.scaled_columns(self._values)  # after rounding
        self._log_l = self._good.log_density(*self._points)
        self._log_g = self._others.log_density(*self._points)
        self._left = np.arange(self._size)
        if self._drawn:
            for numbers, options in zip(*block.scaled_columns(np.array(self._drawn)), strict=True):
                self._repel(numbers, options)

    def draw(self) -> Array:
        """The best of some candidates that were not drawn yet; values in the order of the block's columns.

        It counts as running from now on: g grows around it.
        """
        if not len(self._left):
            self._fill()
        some = self._left
        if len(some) > self._n_compete:
            some = some[self._rng.choice(len(some), self._n_compete, replace=False, shuffle=False)]
        best = some[(self._log_l[some] - self._log_g[some]).argmax()]
        self._left = self._left[self._left != best]
        if len(self._left):
            self._drawn.append(self._values[best])
            self._repel(self._points[0][best], self._points[1][best])
        return np.asarray(self._values[best])

    def _repel(self, numbers: Array, options: Indices) -> None:
        self._log_g = np.logaddexp(self._log_g, self._others.log_kernel(numbers, options, *self._points))


# -- the two densities -----------------------------------------------------------------------------------


def rank_weights(n: int) -> Array:
    """Weights of ``n`` good trials, best first, with mean 1: ``ln(n + 1/2) - ln(rank)``, normalised."""
    weights = np.log(n + 0.5) - np.log(np.arange(1, n + 1))
    return np.asarray(weights * (n / weights.sum())) if n else weights


def good_density(block: Block, values: Array, prior_weight: float) -> Density:
    """The density l on good configurations, ``(n, n_params)``, best first."""
    numbers, options = block.scaled(values)
    n, n_columns = len(values), len(block.columns)
    weights = rank_weights(n)
    deviations = spread(numbers, weights, block.prior_std)
    joint = _kernels(block, numbers, options, weights, deviations * scott(n + 1, n_columns), prior_weight)
    if n == 0 or n_columns == 1:
        return joint
    widths = np.maximum(deviations * scott(n + 1, 1), LEAST_BANDWIDTH)
    return Mixture(joint, widths)


def other_kernels(block: Block, values: Array, prior_weight: float, weights: Array | None = None) -> Kernels:
    """The density g on other configurations, ``(n, n_params)``; each weighs 1, or ``(n,)`` weights."""
    numbers, options = block.scaled(values)
    weights = np.ones(len(values)) if weights is None else weights
    widths = OTHERS_SHARPNESS * block.prior_std * scott(_count(weights) + 1, len(block.columns))
    return _kernels(block, numbers, options, weights, widths, prior_weight)


def thinned(n: int) -> tuple[Indices, Array]:
    """Of ``n`` trials, best first, at most ``MOST_OTHERS``, and the weight of each.

    The best half of these is kept as it is, since l and g are compared near good trials; of the rest every
    k-th stands for its neighbours in rank.
    """
    if n <= MOST_OTHERS:
        return np.arange(n), np.ones(n)
    n_near = MOST_OTHERS // 2
    rest = np.arange(n_near, n, math.ceil((n - n_near) / (MOST_OTHERS - n_near)))
    weights = np.ones(n_near + len(rest))
    weights[n_near:] = (n - n_near) / len(rest)
    return np.concatenate([np.arange(n_near), rest]), weights


def _count(weights: Array) -> int:
    """How many trials these weights stand for."""
    return round(float(weights.sum()))


def _kernels(
    block: Block, numbers: Array, options: Indices, weights: Array, widths: Array, prior_weight: float
) -> Kernels:
    mixture = np.append(weights, prior_weight)
    return Kernels(
        block=block,
        numbers=numbers,
        options=options,
        weights=mixture / mixture.sum(),
        bandwidths=np.maximum(widths, LEAST_BANDWIDTH),
        spill=spill_of(block, _count(weights)),
    )
