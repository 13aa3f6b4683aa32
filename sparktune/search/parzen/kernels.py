"""Parzen estimators over some parameters of a space: densities that are sums of product kernels.

Sources, cited where used:
- Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization (NeurIPS): the estimators l and g, with
  the prior as one kernel among the others, truncated at the bounds.
- Falkner et al. 2018, BOHB (ICML, arXiv 1807.01774), section 3.1: one joint kernel per observation instead
  of one density per parameter.
- Watanabe 2023, Tree-Structured Parzen Estimator (arXiv 2304.11127): weights and bandwidths.
- Aitchison and Aitken 1976, Multivariate binary discrimination by the kernel method: kernels of options.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace

Indices = NDArray[np.intp]

NORMAL_REACH = 3.0
"""A parameter without bounds is scaled so that its prior's mean -+ this many sigma becomes [0, 1]."""
UNIFORM_STD = 12**-0.5
"""Standard deviation of the uniform distribution on [0, 1]."""


class Block:
    """Parameters that are modelled jointly, and their scaled coordinates.

    Numbers are scaled so that the prior's range becomes [0, 1]; options are indices.

    Attributes:
        columns: of the space; the numbers first, then the options.
        n_numbers: how many of the columns are numbers.
    """

    def __init__(self, space: SearchSpace, columns: list[int]) -> None:
        parameters = space.parameters
        numbers = [c for c in columns if parameters[c].kind != "options"]
        options = [c for c in columns if parameters[c].kind == "options"]
        self.columns = numbers + options
        self.n_numbers = len(numbers)
        self.numbers = [parameters[c] for c in numbers]
        self.options = [parameters[c] for c in options]
        self.is_bounded = np.array([p.kind == "uniform" for p in self.numbers], bool)
        reach = [(p.low, p.high) if p.kind == "uniform" else _reach(p.mu, p.sigma) for p in self.numbers]
        self.low = np.array([low for low, _ in reach])
        self.width = np.array([high - low for low, high in reach])
        self.prior_std = np.where(self.is_bounded, UNIFORM_STD, 1 / (2 * NORMAL_REACH))

    @functools.cached_property
    def log_priors(self) -> list[Array]:
        """For each choice the logarithms of its options' prior probabilities."""
        with np.errstate(divide="ignore"):
            return [np.log(p.probabilities) for p in self.options]

    def scaled(self, values: Array) -> tuple[Array, Indices]:
        """``(n, n_params)`` values to ``(n, n_numbers)`` coordinates and ``(n, n_options)`` indices."""
        return self.scaled_columns(values[:, self.columns])

    def scaled_columns(self, values: Array) -> tuple[Array, Indices]:
        """``scaled`` of the block's own columns, ``(n, n_columns)``."""
        k = self.n_numbers
        numbers = np.empty((len(values), k))
        for j, parameter in enumerate(self.numbers):
            numbers[:, j] = parameter.coordinate(values[:, j])
        numbers = (numbers - self.low) / self.width
        # Rounding may leave the range, and the user's points may be outside.
        numbers = np.where(self.is_bounded, np.clip(numbers, 0.0, 1.0), numbers)
        options = np.empty((len(values), len(self.options)), np.intp)
        for j, parameter in enumerate(self.options):
            options[:, j] = parameter.coordinate(values[:, k + j])
        return numbers, options

    def log_prior_numbers(self, numbers: Array) -> Array:
        """Logarithm of the prior density of each of ``(n, n_numbers)`` coordinates."""
        z = (numbers - 0.5) * 2 * NORMAL_REACH
        log_normal = z**2 / -2 - math.log(math.sqrt(2 * math.pi) / (2 * NORMAL_REACH))
        return np.where(self.is_bounded, 0.0, log_normal)

    def mass(self, centres: Array, widths: Array) -> Array:
        """How much of normal kernels on ``(..., n_numbers)`` centres lies within the bounds."""
        inside = ndtr((1 - centres) / widths) - ndtr(-centres / widths)
        return np.where(self.is_bounded, inside, 1.0)

    def values(self, numbers: Array, options: Indices) -> Array:
        """The inverse of ``scaled``, rounded: ``(n, n_columns)``, in the order of ``columns``."""
        out = np.empty((len(numbers), len(self.columns)))
        coordinates = self.low + numbers * self.width
        for j, parameter in enumerate(self.numbers):
            out[:, j] = parameter.value(coordinates[:, j])
        for j, parameter in enumerate(self.options):
            out[:, self.n_numbers + j] = parameter.value(options[:, j])
        return out


def _reach(mu: float, sigma: float) -> tuple[float, float]:
    return mu - NORMAL_REACH * sigma, mu + NORMAL_REACH * sigma


@dataclass(frozen=True)
class Kernels:
    """A Parzen estimator: a kernel on each observation, and the prior as one more.

    Attributes:
        block: the parameters.
        numbers: ``(n, n_numbers)`` centres, scaled.
        options: ``(n, n_options)`` centres, indices.
        weights: ``(n + 1,)`` mixture weights, the prior's last; their sum is 1.
        bandwidths: ``(n_numbers,)`` standard deviations of the normal kernels, scaled.
        spill: ``(n_options,)`` probability with which a kernel of options gives way to the prior.
    """

    block: Block
    numbers: Array
    options: Indices
    weights: Array
    bandwidths: Array
    spill: Array

    def _log_normalised(self, numbers: Array, weights: Array) -> Array:
        """Logarithm of weight over normalisation of kernels on ``(n, n_numbers)`` centres, ``(n,)``."""
        norm = np.log(self.block.mass(numbers, self.bandwidths)).sum(axis=1)
        return np.asarray(np.log(weights) - norm - self._log_area)

    @functools.cached_property
    def _log_area(self) -> float:
        """Logarithm of the integral of a kernel that is cut off nowhere and is 1 at its centre."""
        return float(np.log(self.bandwidths * np.sqrt(2 * np.pi)).sum())

    @functools.cached_property
    def _log_options(self) -> list[Array]:
        """For each choice the log probability of an option (column) under a kernel on one (row)."""
        tables = []
        for parameter, spill in zip(self.block.options, self.spill, strict=True):
            prior: Array = np.tile(parameter.probabilities, (parameter.n_options, 1))
            with np.errstate(divide="ignore"):
                tables.append(np.log(spill * prior + (1 - spill) * np.eye(parameter.n_options)))
        return tables

    def log_density(self, numbers: Array, options: Indices) -> Array:
        """The mixture's log density at ``(m, ...)`` points: ``(m,)``."""
        centres, points = self.numbers / self.bandwidths, numbers / self.bandwidths
        # |p - c|^2 = |p|^2 + |c|^2 - 2 pc, so that the work is one product of matrices.
        square = (points**2).sum(1)[:, None] + (centres**2).sum(1)[None, :] - 2 * _products(points, centres)
        logs = self._log_normalised(self.numbers, self.weights[:-1]) - np.maximum(square, 0.0) / 2
        for j, table in enumerate(self._log_options):
            logs += table.T[options[:, j]][:, self.options[:, j]]
        prior = np.log(self.weights[-1]) + self._log_prior(numbers, options)
        most = np.maximum(logs.max(axis=1, initial=-np.inf), prior)
        total = np.exp(logs - most[:, None]).sum(axis=1) + np.exp(prior - most)
        return np.asarray(most + np.log(total))

    def log_kernel(self, number: Array, option: Indices, numbers: Array, options: Indices) -> Array:
        """Log density at ``(m, ...)`` points of one more kernel, which weighs as much as each of the others.

        Args:
            number: ``(n_numbers,)`` its centre.
            option: ``(n_options,)`` its centre.
            numbers: of the points, scaled.
            options: of the points, indices.
        """
        steps = (numbers - number) / self.bandwidths
        weight = self.weights[:1] if len(self.numbers) else self.weights[-1:]
        logs = self._log_normalised(number[None], weight)[0] - (steps**2).sum(axis=1) / 2
        for j, table in enumerate(self._log_options):
            logs += table[option[j], options[:, j]]
        return np.asarray(logs)

    def _log_prior(self, numbers: Array, options: Indices) -> Array:
        log = self.block.log_prior_numbers(numbers).sum(axis=1)
        for j, log_prior in enumerate(self.block.log_priors):
            log = log + log_prior[options[:, j]]
        return np.asarray(log)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Indices]:
        """``n`` points drawn from the mixture, scaled."""
        kernel = rng.choice(len(self.weights), size=(n, 1), p=self.weights)
        return self.draw(kernel, self.bandwidths, self.spill, rng)

    def draw(
        self, kernel: Indices, widths: Array, spill: Array, rng: np.random.Generator
    ) -> tuple[Array, Indices]:
        """A draw from the kernel of each value: ``(m, n_numbers)`` scaled and ``(m, n_options)`` indices.

        Args:
            kernel: ``(m, 1)`` or ``(m, n_columns)``, numbers first: which kernel; the last one is the prior.
            widths: ``(n_numbers,)`` or ``(m, n_numbers)`` standard deviations.
            spill: ``(n_options,)`` or ``(m, n_options)``.
            rng: what it is drawn from.
        """
        block, n_kernels, k = self.block, len(self.numbers), self.block.n_numbers
        kernel = np.broadcast_to(kernel, (len(kernel), len(block.columns)))
        of_numbers, of_options = kernel[:, :k], kernel[:, k:]
        uniform = rng.random((len(kernel), k + 2 * len(block.options)))
        numbers, options = _prior_quantiles(block, uniform[:, : len(block.columns)])
        if n_kernels == 0:
            return numbers, options
        if k:
            centres = self.numbers[np.minimum(of_numbers, n_kernels - 1), np.arange(k)]
            near = _kernel_quantiles(block, centres, widths, uniform[:, :k])
            numbers = np.where(of_numbers < n_kernels, near, numbers)
        if len(block.options):
            seen = self.options[np.minimum(of_options, n_kernels - 1), np.arange(len(block.options))]
            stays = (of_options < n_kernels) & (uniform[:, len(block.columns) :] >= spill)
            options = np.where(stays, seen, options)
        return numbers, options


def _prior_quantiles(block: Block, uniform: Array) -> tuple[Array, Indices]:
    """``(m, n_columns)`` numbers between 0 and 1 as quantiles of the prior, scaled."""
    k = block.n_numbers
    numbers = uniform[:, :k]
    if not block.is_bounded.all():
        normal = 0.5 + ndtri(np.clip(numbers, 1e-12, 1 - 1e-12)) / (2 * NORMAL_REACH)
        numbers = np.where(block.is_bounded, numbers, normal)
    options = np.empty((len(uniform), len(block.options)), np.intp)
    for j, parameter in enumerate(block.options):
        options[:, j] = parameter.quantile(uniform[:, k + j])
    return numbers, options


def _kernel_quantiles(block: Block, centres: Array, widths: Array, uniform: Array) -> Array:
    """``(m, n_numbers)`` numbers between 0 and 1 as quantiles of normal kernels within the bounds."""
    below, above = ndtr(-centres / widths), ndtr((1 - centres) / widths)
    if not block.is_bounded.all():
        below, above = np.where(block.is_bounded, below, 0.0), np.where(block.is_bounded, above, 1.0)
    near = centres + widths * ndtri(np.clip(below + uniform * (above - below), 1e-12, 1 - 1e-12))
    return np.asarray(np.where(block.is_bounded, np.clip(near, 0.0, 1.0), near))


def _products(points: Array, centres: Array) -> Array:
    """``points @ centres.T``, bit for bit the same with any BLAS: a study may be resumed elsewhere."""
    return np.asarray(np.einsum("ik,jk->ij", points, centres))


def spill_of(block: Block, n: int) -> Array:
    """Aitchison and Aitken's bandwidth: how often ``n`` kernels of options give way to the prior.

    As much as adding one observation of every option to the n there are (Bergstra 2011, section 4).
    """
    sizes = np.array([p.n_options for p in block.options], float)
    return np.asarray(sizes / (n + 1 + sizes))


def scott(n: int, n_columns: int) -> float:
    """Scott's rule for the bandwidth of ``n`` observations, in standard deviations."""
    return float(n ** (-1.0 / (n_columns + 4)))


def spread(numbers: Array, weights: Array, prior_std: Array) -> Array:
    """Weighted standard deviations ``(n_numbers,)``, the prior counted as one observation of mean weight.

    Args:
        numbers: ``(n, n_numbers)`` scaled.
        weights: ``(n,)``, any positive sum.
        prior_std: ``(n_numbers,)``.
    """
    if len(numbers) == 0:
        return prior_std
    own = weights.mean()
    total = weights.sum() + own
    mean = ((weights[:, None] * numbers).sum(0) + own * 0.5) / total
    squares = (weights[:, None] * (numbers - mean) ** 2).sum(0)
    variance = (squares + own * ((0.5 - mean) ** 2 + prior_std**2)) / total
    return np.asarray(np.sqrt(variance))
