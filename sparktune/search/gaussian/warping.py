"""Learned warping of inputs: a monotone map of [0, 1] to itself that makes an objective more even.

The distribution function of Kumaraswamy, ``1 - (1 - x ** a) ** b`` (Snoek et al. 2014, "Input warping for
Bayesian optimization of non-stationary functions", section 3.1, with Kumaraswamy's in place of the beta
distribution): the identity for a = b = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparktune.space.parameters import Array

EDGE = 1e-5
"""The slope is infinite at the edges for a < 1 or b < 1; so near to them the map is a straight line."""


@dataclass(frozen=True)
class Warped:
    """Warped numbers, and how they depend on what they are made of; all ``(n, k)``.

    Attributes:
        values: the warped numbers.
        by_x: derivatives by the numbers.
        by_log_a, by_log_b: derivatives by the logarithms of a and b.
    """

    values: Array
    by_x: Array
    by_log_a: Array
    by_log_b: Array


def warp(x: Array, log_a: Array, log_b: Array) -> Warped:
    """``(n, k)`` numbers warped by ``(k,)`` logarithms of a and b.

    Outside of [0, 1], where only parameters without bounds can be, the map continues with slope 1.
    """
    a, b = np.exp(log_a), np.exp(log_b)
    inside = np.clip(x, EDGE, 1 - EDGE)
    log_x = np.log(inside)
    power = np.exp(a * log_x)
    rest = 1 - power
    log_rest = np.log(rest)
    left = np.exp(b * log_rest)  # (1 - x ** a) ** b
    steep = b * a * left / rest * power
    return Warped(
        values=1 - left + (x - inside),
        by_x=np.where(x == inside, steep / inside, 1.0),
        by_log_a=steep * log_x,
        by_log_b=-left * b * log_rest,
    )


def unwarped(x: Array) -> Warped:
    """The same for the identity, which has no parameters."""
    nothing = np.zeros_like(x)
    return Warped(x, np.ones_like(x), nothing, nothing)
