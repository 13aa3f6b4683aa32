"""Hyperparameters of a Gaussian process: the likeliest ones given the trials and sound priors.

The marginal likelihood and its gradient: Rasmussen and Williams 2006, "Gaussian processes for machine
learning", equations 5.8 and 5.9.

The gradient by all length scales and warpings costs one product of matrices more than the one by the
amplitude alone: the sum of ``w_ij (x_i - x_j) ** 2`` over pairs is ``2 x (r x - w x)``, ``r`` the row sums
of ``w``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from sparktune.search.gaussian.encoding import Encoding, Points
from sparktune.search.gaussian.kernels import matern, squared_distances
from sparktune.search.gaussian.posterior import MEAN_VARIANCE, Hyperparameters, inverse_and_root
from sparktune.search.gaussian.trend import FLAT, Trend, rise
from sparktune.space.parameters import Array

GRAIN = 2.0**-9
"""Hyperparameters are rounded to multiples of it, so that the last digits of a machine's linear algebra do
not change a suggestion."""

LEAST_GAIN = 1e-4
"""A step that gains less than this share of the density's logarithm is the last one."""


@dataclass(frozen=True)
class Normal:
    """A normal prior of the logarithm of a hyperparameter, and bounds of the logarithm.

    Attributes:
        unit: the optimiser works on the logarithm divided by it. L-BFGS needs fewer steps where the curvature
            is similar in all hyperparameters. The density depends little on a small noise, so its unit is
            large, and much on the warping, so its unit is small; the values are from measurements.
    """

    mean: float
    std: float
    low: float
    high: float
    unit: float = 1.0


AMPLITUDE = Normal(0.0, 1.0, -4.0, 4.0)
NOISE = Normal(math.log(1e-4), 2.5, math.log(1e-7), 0.0, unit=4.0)
WARP = Normal(0.0, 0.4, -1.5, 1.5, unit=0.5)
"""Of both parameters; Snoek et al. 2014, section 3.2, have priors of this form around the identity."""
LENGTH_VARIANCE = 3.0
"""Of the logarithm of a length scale, a priori."""


def length_prior(n_parameters: float, is_long: bool = False) -> Normal:
    """Of length scales: they grow with the root of the dimension.

    Hvarfner et al. 2024, "Vanilla Bayesian optimization performs great in high dimensions" (ICML),
    section 5: a log-normal prior. What is likeliest under it depends on what is asked for: the density of a
    length is highest at the mean of its logarithm less the variance, that of the logarithm at the mean
    itself, which is the median length.

    Args:
        n_parameters: the dimension.
        is_long: whether the likeliest logarithm is asked for, not the likeliest length.
    """
    median = math.sqrt(2) + math.log(max(n_parameters, 1.0)) / 2
    likeliest = median if is_long else median - LENGTH_VARIANCE
    return Normal(likeliest, math.sqrt(LENGTH_VARIANCE), -4.0, 6.0)


class LogPosterior:
    """The negative logarithm of the density of hyperparameters given trials, up to a constant.

    Args:
        encoding: of the space.
        points: the configurations, ``n`` of them.
        losses: ``(n,)`` normalised.
        with_warping: whether a warping is learned.
        is_long: see ``length_prior``.
        trend: towards the bounds.

    Attributes:
        start: ``(m,)`` hyperparameters to begin with, as one vector.
        bounds: ``(m, 2)``.
        units: ``(m,)``; see ``Normal``.
    """

    def __init__(
        self,
        encoding: Encoding,
        points: Points,
        losses: Array,
        with_warping: bool,
        is_long: bool = False,
        trend: Trend = FLAT,
    ) -> None:
        risen = rise(encoding, points).values
        self._encoding, self._points, self._trend = encoding, points, trend
        # With a prior of its coefficient a basis function is a known mean and a term of the kernel.
        self._losses = losses - trend.mean * risen
        self._basis_variance = MEAN_VARIANCE + trend.variance * np.outer(risen, risen)
        self._warped = np.flatnonzero(encoding.warpable) if with_warping else np.empty(0, np.intp)
        self._with_warping = with_warping
        n_active = encoding.n_parameters - (~points.active).mean(0).sum()
        length = length_prior(n_active, is_long)
        n_groups = encoding.n_groups
        priors = [length] * n_groups + [AMPLITUDE, NOISE] + [WARP] * (2 * len(self._warped))
        self._means = np.array([prior.mean for prior in priors])
        self._stds = np.array([prior.std for prior in priors])
        self.bounds = np.array([(prior.low, prior.high) for prior in priors])
        self.units = np.array([prior.unit for prior in priors])
        self.start = self._means.copy()
        self.start[n_groups + 1] = math.log(1e-3)

    def hyperparameters(self, vector: Array) -> Hyperparameters:
        """What a vector means."""
        g, w = self._encoding.n_groups, len(self._warped)
        lengths, amplitude, noise = vector[:g], float(vector[g]), float(vector[g + 1])
        if not self._with_warping:
            return Hyperparameters(lengths, amplitude, noise, trend=self._trend)
        log_a, log_b = np.zeros((2, len(self._encoding.columns)))
        log_a[self._warped], log_b[self._warped] = vector[g + 2 : g + 2 + w], vector[g + 2 + w :]
        return Hyperparameters(lengths, amplitude, noise, log_a, log_b, self._trend)

    def __call__(self, vector: Array) -> tuple[float, Array]:
        """The value at a vector, and its gradient."""
        away = (vector - self._means) / self._stds
        value, gradient = self._likelihood(self.hyperparameters(vector))
        return value + float(away @ away) / 2, gradient + away / self._stds

    def _likelihood(self, hyper: Hyperparameters) -> tuple[float, Array]:
        encoding, points, losses = self._encoding, self._points, self._losses
        n = len(losses)
        warped = hyper.warped(points.numbers)
        scales = np.exp(-hyper.log_lengths)[encoding.groups]
        features = encoding.features(points, warped.values) * scales
        amplitude, noise = math.exp(hyper.log_amplitude), math.exp(hyper.log_noise)
        kernel, slope = matern(squared_distances(features, features))
        # Rounding in the squared distances leaves the diagonal a little below 1.
        kernel.flat[:: n + 1] = 1.0
        prior = amplitude * kernel + self._basis_variance
        prior.flat[:: n + 1] += noise
        inverse, root = inverse_and_root(prior)
        weights = inverse @ losses
        value = float(losses @ weights) / 2 + float(np.log(root.diagonal()).sum())
        by_prior = (inverse - np.outer(weights, weights)) / 2
        by_square = by_prior * slope * amplitude
        pull = features * by_square.sum(1)[:, None] - by_square @ features
        # log length: the squared distance falls with the square of the length.
        by_feature = (features * pull).sum(0)
        by_length: Array = np.asarray(-4 * np.bincount(encoding.groups, by_feature, encoding.n_groups), float)
        gradient: list[Array] = [
            by_length,
            np.array([amplitude * float((by_prior * kernel).sum()), noise * float(by_prior.trace())]),
        ]
        if self._with_warping:
            by_warped = encoding.pull_back(points, warped, 4 * pull * scales)
            gradient.append((by_warped * warped.by_log_a).sum(0)[self._warped])
            gradient.append((by_warped * warped.by_log_b).sum(0)[self._warped])
        return value, np.concatenate(gradient)


class Fit(NamedTuple):
    """The likeliest hyperparameters, rounded, the same as a vector, and the logarithm of their density.

    The logarithm is taken before rounding, and lacks a constant that does not depend on the trend.
    """

    hyperparameters: Hyperparameters
    vector: Array
    log_density: float


def fitted(
    encoding: Encoding,
    points: Points,
    losses: Array,
    with_warping: bool,
    max_steps: int,
    is_long: bool = False,
    trend: Trend = FLAT,
    start: Array | None = None,
) -> Fit:
    """The likeliest hyperparameters, by L-BFGS: the same trials, the same answer.

    Args:
        encoding: of the space.
        points: the configurations.
        losses: normalised.
        with_warping: whether a warping is learned.
        max_steps: so many times the density is computed, roughly.
        is_long: see ``length_prior``.
        trend: towards the bounds.
        start: the vector of another fit to begin with; None: what is likeliest without any trial.
    """
    density = LogPosterior(encoding, points, losses, with_warping, is_long, trend)
    units = density.units

    def in_units(counts: Array) -> tuple[float, Array]:
        value, gradient = density(counts * units)
        return value, gradient * units

    best = minimize(
        in_units,
        (density.start if start is None else start) / units,
        jac=True,
        method="L-BFGS-B",
        bounds=density.bounds / units[:, None],
        options={"maxfun": max_steps, "maxiter": max_steps, "maxcor": 20, "ftol": LEAST_GAIN},
    )
    vector = np.round(best.x * units / GRAIN) * GRAIN
    return Fit(density.hyperparameters(vector), vector, -float(best.fun))
