"""Parzen estimators of each parameter on its own, and a density that is half joint, half their product.

A joint kernel (Falkner et al. 2018, section 3.1) knows which values go together, but its candidates are near
one good trial in everything. The product of the marginals (Bergstra et al. 2011, section 4: one density for
each parameter) puts together what is good in different trials: a candidate takes each value from another one.
Which of the two suits a problem is not known beforehand, so that l is the mean of both.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from sparktune.search.parzen.kernels import Indices, Kernels
from sparktune.space.parameters import Array

SHARE = 0.5
"""The weight of the product of the marginals in l, and the share of the candidates drawn from it."""


@dataclass(frozen=True)
class Mixture:
    """The mean of a joint density and the product of its marginals, weighted by ``SHARE``.

    The marginals are those of the same observations with the same weights, smoothed as one-dimensional
    estimators are.

    Attributes:
        joint: the joint density.
        bandwidths: ``(n_numbers,)`` standard deviations of the normal kernels of the marginals, scaled.
    """

    joint: Kernels
    bandwidths: Array

    @functools.cached_property
    def _log_options(self) -> list[Array]:
        """For each choice the marginal's log probabilities: weighted counts, with the prior's."""
        joint, tables = self.joint, []
        for parameter, seen in zip(joint.block.options, joint.options.T, strict=True):
            counts = np.bincount(seen, joint.weights[:-1], parameter.n_options)
            with np.errstate(divide="ignore"):
                tables.append(np.log(counts + joint.weights[-1] * np.asarray(parameter.probabilities)))
        return tables

    @functools.cached_property
    def _peaks(self) -> Array:
        """``(n, n_numbers)`` heights of the marginals' kernels, weighted."""
        joint, width = self.joint, self.bandwidths * math.sqrt(2 * math.pi)
        return joint.weights[:-1, None] / (joint.block.mass(joint.numbers, self.bandwidths) * width)

    def log_product(self, numbers: Array, options: Indices) -> Array:
        """Log density of the product of the marginals at ``(m, ...)`` points: ``(m,)``."""
        joint = self.joint
        steps = (numbers[:, None] - joint.numbers) / self.bandwidths  # (m, n, n_numbers)
        prior = joint.weights[-1] * np.exp(joint.block.log_prior_numbers(numbers))
        logs = np.log((self._peaks * np.exp(steps * steps / -2)).sum(axis=1) + prior).sum(axis=1)
        for j, table in enumerate(self._log_options):
            logs += table[options[:, j]]
        return np.asarray(logs)

    def log_density(self, numbers: Array, options: Indices) -> Array:
        """The mixture's log density at ``(m, ...)`` points: ``(m,)``."""
        together = self.joint.log_density(numbers, options) + math.log(1 - SHARE)
        return np.asarray(np.logaddexp(together, self.log_product(numbers, options) + math.log(SHARE)))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Indices]:
        """``n`` points, scaled: each value from its own kernel, or all from the same one."""
        joint = self.joint
        apart = rng.random((n, 1)) < SHARE
        kernel = rng.choice(len(joint.weights), size=(n, len(joint.block.columns)), p=joint.weights)
        return joint.draw(
            np.where(apart, kernel, kernel[:, :1]),
            np.where(apart, self.bandwidths, joint.bandwidths),
            np.where(apart, 0.0, joint.spill),
            rng,
        )
