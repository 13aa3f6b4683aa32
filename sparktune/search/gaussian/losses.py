"""Losses prepared for a Gaussian process: near to normal, without outliers and infinities.

The power transform is that of HEBO (Cowen-Rivers et al. 2022, "HEBO: pushing the limits of sample-efficient
hyperparameter optimisation", section 4.1): Yeo and Johnson's 2000 ("A new family of power transformations to
improve normality or symmetry"), its parameter by maximum likelihood.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparktune.space.parameters import Array

POWERS = np.linspace(-1.0, 2.0, 31)
"""Among which the parameter of the power transform is chosen: 1 is the identity, 0 a logarithm."""
FEWEST_TO_TRANSFORM = 8
"""With fewer losses their distribution is not known."""
REACH = 3.0
"""Losses above the median by more than so many times its distance to the lower quartile are brought near."""


def normalised(losses: Array, is_weak: NDArray[np.bool_]) -> Array:
    """Losses with mean 0 and variance 1, in the same order but for ties, all finite.

    Args:
        losses: ``(n,)``, infinite where a trial failed.
        is_weak: ``(n,)`` failed or terminated early. A weak trial is taken to be no better than the median of
            the completed ones, a failed one to be as bad as the worst.
    """
    if not len(losses):
        return losses
    filled = _without_outliers(_filled(losses, is_weak))
    scaled = _standard(filled)
    if len(np.unique(scaled)) < FEWEST_TO_TRANSFORM:
        return scaled
    return _standard(yeo_johnson(scaled, most_normal_power(scaled)))


def _filled(losses: Array, is_weak: NDArray[np.bool_]) -> Array:
    """Finite losses: the worst for failed trials, at least the median for those terminated early."""
    complete = losses[~is_weak & np.isfinite(losses)]
    finite = losses[np.isfinite(losses)]
    if not len(complete):
        complete = finite if len(finite) else np.zeros(1)
    worst = max(float(complete.max()), float(finite.max(initial=-np.inf)))
    found = np.where(np.isneginf(losses), complete.min(), np.where(np.isfinite(losses), losses, worst))
    return np.asarray(np.where(is_weak, np.maximum(found, np.median(complete)), found))


def _without_outliers(losses: Array) -> Array:
    """Losses far above the others are brought near, in their order: how bad a bad one is hardly matters."""
    quartile, median = np.quantile(losses, (0.25, 0.75))[0], np.median(losses)
    unit = median - quartile
    if not unit > 0:
        return losses
    limit = median + REACH * unit
    above = np.maximum(losses - limit, 0.0) / unit
    return np.asarray(np.minimum(losses, limit) + unit * np.log1p(above))


def _standard(values: Array) -> Array:
    spread = values.std()
    # A spread of the size of rounding errors counts as 0.
    if not spread > 1e-12 * np.abs(values).max():
        return np.zeros_like(values)
    return np.asarray((values - values.mean()) / spread)


def yeo_johnson(values: Array, power: float) -> Array:
    """Yeo and Johnson's transform (their equation 2.1)."""
    above, below = np.log1p(np.maximum(values, 0)), np.log1p(np.maximum(-values, 0))
    return np.asarray(_box_cox_of_log(above, power) - _box_cox_of_log(below, 2 - power))


def _box_cox_of_log(logs: Array, power: float) -> Array:
    """``((1 + x) ** power - 1) / power`` of ``log(1 + x)``."""
    return logs if abs(power) < 1e-9 else np.expm1(power * logs) / power


def most_normal_power(values: Array) -> float:
    """The parameter of the transform under which the values are likeliest as a normal sample."""
    jacobian = (np.sign(values) * np.log1p(np.abs(values))).sum()
    n = len(values)
    scores = [
        -n / 2 * np.log(yeo_johnson(values, power).var() + 1e-300) + (power - 1) * jacobian
        for power in POWERS
    ]
    return float(POWERS[int(np.argmax(scores))])
