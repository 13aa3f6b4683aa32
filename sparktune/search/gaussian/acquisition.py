"""The logarithm of the expected improvement, which has a gradient even where the improvement is 0.

Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization" (NeurIPS),
section 4.1 and equation 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from sparktune.space.parameters import Array

_LOG_ROOT_2PI = math.log(2 * math.pi) / 2
_LOG_ROOT_HALF_PI = math.log(math.pi / 2) / 2
_FAR = -1e4
"""Below it ``1 - z erfcx`` is lost to rounding, and the first term of its series is all there is."""


@dataclass(frozen=True)
class Improvement:
    """The logarithm of the expected improvement, and its derivatives by mean and standard deviation."""

    log: Array
    by_mean: Array
    by_std: Array


def log_h(z: Array) -> Array:
    """``log(pdf(z) + z cdf(z))`` of the standard normal distribution, without loss of digits."""
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-(near**2) / 2 - _LOG_ROOT_2PI) + near * ndtr(near))
    below = np.clip(z, _FAR, -1.0)
    # 1 - |z| erfcx(|z| / sqrt 2) sqrt(pi / 2): what is left of 1 falls as z ** -2.
    share = np.log(erfcx(-below / math.sqrt(2)) * -below) + _LOG_ROOT_HALF_PI
    tail = -(below**2) / 2 - _LOG_ROOT_2PI + _log_1m_exp(share)
    far = np.minimum(z, _FAR)
    farthest = -(far**2) / 2 - _LOG_ROOT_2PI - 2 * np.log(-far)
    return np.asarray(np.where(z > -1, direct, np.where(z > _FAR, tail, farthest)))


def _log_1m_exp(x: Array) -> Array:
    """``log(1 - exp(x))`` of negative numbers (Maechler 2012)."""
    x = np.minimum(x, -1e-300)
    return np.asarray(
        np.where(x > -math.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(np.minimum(x, -math.log(2)))))
    )


def log_expected_improvement(mean: Array, std: Array, best: float) -> Improvement:
    """How much lower than ``best`` a normal variable is expected to be, on a logarithmic scale."""
    z = (best - mean) / std
    h = log_h(z)
    near, near_h = np.maximum(z, _FAR), np.where(z > _FAR, h, 0.0)
    # Farther out the differences of logarithms lose all digits, and the ratios are |z| and its square.
    cdf_by_h = np.where(z > _FAR, np.exp(log_ndtr(near) - near_h), -z)
    pdf_by_h = np.where(z > _FAR, np.exp(-(near**2) / 2 - _LOG_ROOT_2PI - near_h), z**2)
    return Improvement(log=h + np.log(std), by_mean=-cdf_by_h / std, by_std=pdf_by_h / std)
