"""A Gaussian process given observations: mean and variance elsewhere, and their gradients.

Rasmussen and Williams 2006, "Gaussian processes for machine learning", section 2.2. The process has a
constant mean and a trend, whose coefficients have normal priors: the same as a mean that is known, and a term
added to the kernel for each (their section 2.7).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from sparktune.search.gaussian.encoding import Encoding, Points
from sparktune.search.gaussian.kernels import matern, squared_distances
from sparktune.search.gaussian.trend import FLAT, Trend, rise
from sparktune.search.gaussian.warping import Warped, unwarped, warp
from sparktune.space.parameters import Array

MEAN_VARIANCE = 1.0
"""Of the prior of the constant mean; the losses have variance 1."""
LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Hyperparameters:
    """What a process is made of.

    Attributes:
        log_lengths: ``(n_groups,)`` logarithms of length scales.
        log_amplitude: logarithm of the kernel's variance.
        log_noise: logarithm of the noise's variance.
        log_a, log_b: ``(k,)`` of the warping, or None: no warping.
        trend: towards the bounds.
    """

    log_lengths: Array
    log_amplitude: float
    log_noise: float
    log_a: Array | None = None
    log_b: Array | None = None
    trend: Trend = FLAT

    def warped(self, numbers: Array) -> Warped:
        """``(n, k)`` numbers of ``Points``, warped."""
        if self.log_a is None or self.log_b is None:
            return unwarped(numbers)
        return warp(numbers, self.log_a, self.log_b)


def inverse_and_root(matrix: Array) -> tuple[Array, Array]:
    """The inverse of a positive definite matrix, and its lower Cholesky factor.

    Raises:
        numpy.linalg.LinAlgError: it is not positive definite.
    """
    root, failed = lapack.dpotrf(matrix, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    half, _ = lapack.dpotri(root, lower=1)  # above the diagonal it stays 0
    inverse = half + half.T
    inverse.flat[:: len(half) + 1] /= 2
    return inverse, root


@dataclass(frozen=True)
class Prediction:
    """At ``m`` points: ``(m,)`` means and variances without noise."""

    mean: Array
    variance: Array


class Posterior:
    """A Gaussian process given some trials.

    Args:
        encoding: of the space.
        points: the configurations of the trials, ``n`` of them.
        losses: ``(n,)`` normalised.
        hyperparameters: of the process.
    """

    def __init__(
        self, encoding: Encoding, points: Points, losses: Array, hyperparameters: Hyperparameters
    ) -> None:
        self._encoding, self._hyper = encoding, hyperparameters
        self._scales = np.exp(-hyperparameters.log_lengths)[encoding.groups]
        self._amplitude = float(np.exp(hyperparameters.log_amplitude))
        self._noise = float(np.exp(hyperparameters.log_noise))
        self._trend = hyperparameters.trend
        self._condition(self._scaled(points), rise(encoding, points).values, losses)

    def _condition(self, known: Array, risen: Array, losses: Array) -> None:
        self._known, self._risen, self._losses = known, risen, losses
        prior = self._amplitude * matern(squared_distances(known, known))[0] + MEAN_VARIANCE
        prior.flat[:: len(losses) + 1] = self._amplitude + MEAN_VARIANCE + self._noise
        prior += self._trend.variance * np.outer(risen, risen)
        self._inverse = inverse_and_root(prior)[0]
        self._weights = self._inverse @ (losses - self._trend.mean * risen)
        # The trend's, given the trials.
        self._coefficient = self._trend.mean + self._trend.variance * float(risen @ self._weights)

    def _scaled(self, points: Points) -> Array:
        warped = self._hyper.warped(points.numbers).values
        return self._encoding.features(points, warped) * self._scales

    def predict(self, points: Points) -> Prediction:
        """Mean and variance at ``m`` points."""
        kernel = matern(squared_distances(self._scaled(points), self._known))[0]
        risen = rise(self._encoding, points).values
        cross = self._cross(kernel, risen)
        return self._prediction(cross, cross @ self._inverse, risen)

    def predict_with_slopes(self, points: Points) -> tuple[Prediction, Array, Array]:
        """The same, with the derivatives of mean and variance by the ``(m, k)`` numbers of the points."""
        encoding = self._encoding
        warped = self._hyper.warped(points.numbers)
        at = encoding.features(points, warped.values) * self._scales
        kernel, slope = matern(squared_distances(at, self._known))
        risen = rise(encoding, points)
        cross, slope = self._cross(kernel, risen.values), self._amplitude * slope
        solved = cross @ self._inverse
        variance_by_rise = 2 * self._trend.variance * (risen.values - solved @ self._risen)

        def by_numbers(weights: Array) -> Array:
            """Of a sum over the known points, each weighted by its derivative by the squared distance."""
            by_features = 2 * (at * weights.sum(1)[:, None] - weights @ self._known) * self._scales
            return encoding.pull_back(points, warped, by_features) * warped.by_x

        return (
            self._prediction(cross, solved, risen.values),
            by_numbers(slope * self._weights) + self._coefficient * risen.slopes,
            by_numbers(slope * solved * -2) + variance_by_rise[:, None] * risen.slopes,
        )

    def _cross(self, kernel: Array, risen: Array) -> Array:
        """Covariances of ``m`` points with the ``n`` known ones, ``(m, n)``.

        ``kernel`` is theirs, ``(m, n)``, and ``risen`` the values of ``rise`` at the points, ``(m,)``.
        """
        return np.asarray(
            self._amplitude * kernel + MEAN_VARIANCE + self._trend.variance * np.outer(risen, self._risen)
        )

    def _prediction(self, cross: Array, solved: Array, risen: Array) -> Prediction:
        """At points with such covariances; ``solved`` is these times the inverse of the known ones."""
        prior = self._amplitude + MEAN_VARIANCE + self._trend.variance * risen**2
        variance = np.maximum(prior - np.einsum("ij,ij->i", solved, cross), LEAST_VARIANCE)
        return Prediction(self._trend.mean * risen + cross @ self._weights, variance)

    def known_mean(self) -> Array:
        """``(n,)`` means at the known points: the losses without their noise."""
        return np.asarray(self._losses - self._noise * self._weights)

    def believing(self, points: Points) -> Posterior:
        """The process given that other points gave the expected loss: this changes no mean.

        The inverse is recomputed: growing it by a row and a column is unstable where a point is nearly known.
        """
        grown = copy.copy(self)
        expected = self.predict(points).mean
        grown._condition(
            np.concatenate([self._known, self._scaled(points)]),
            np.append(self._risen, rise(self._encoding, points).values),
            np.append(self._losses, expected),
        )
        return grown
