"""A trend of the losses: they rise towards the bounds of the parameters, as far as the trials say so.

Ranges are mostly chosen around values that are thought to be good. A process that does not know this is least
certain at the bounds, expects improvements there, and spends its trials in corners, of which there are the
more the more parameters there are; with strong noise nearly all of them (Siivola et al. 2018, "Correcting
boundary over-exploration deficiencies in Bayesian optimization with virtual derivative sign observations";
Oh et al. 2018, "BOCK: Bayesian optimization with cylindrical kernels").

So the process may have a basis function, ``rise``, whose coefficient has a normal prior (Rasmussen and
Williams 2006, "Gaussian processes for machine learning", section 2.7). Where the best values are at the
bounds the trend would do harm, so chance decides whether it is used, by the odds that the trials give: the
ratio of the densities with and without it (Kass and Raftery 1995, "Bayes factors").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sparktune.search.gaussian.encoding import Encoding, Points
from sparktune.space.parameters import Array

PRIOR_LOG_ODDS = 1.0
"""Of the trend, before anything is known."""


@dataclass(frozen=True)
class Trend:
    """The prior of the coefficient of ``rise``; the losses have variance 1.

    Attributes:
        mean: how much the losses are expected to rise.
        variance: how far the trials may say otherwise.
    """

    mean: float
    variance: float


FLAT = Trend(0.0, 0.0)
"""There is none."""
BOWL = Trend(0.5, 0.25)
"""A quarter of the losses' variance is expected to come from it, within a deviation as large as the mean."""


@dataclass(frozen=True)
class Rise:
    """The basis function at ``n`` points.

    Attributes:
        values: ``(n,)``.
        slopes: ``(n, k)``, the derivatives by the numbers of the points.
    """

    values: Array
    slopes: Array


def rise(encoding: Encoding, points: Points) -> Rise:
    """The squared distance from the centre of the space, with mean 0 and variance 1 over the space.

    Numbers count where they are active; options, which have no bounds, never.
    """
    shown = points.active & encoding.warpable
    # The square of a number that is uniform from -1 to 1 has mean 1/3 and variance 4/45.
    scale = 1 / np.sqrt(np.maximum(shown.sum(1, keepdims=True), 1) * (4 / 45))
    away = (2 * points.numbers - 1) * shown
    return Rise(((away**2 - 1 / 3) * shown * scale).sum(1), 4 * away * scale)


def is_used(gain: float, draw: float) -> bool:
    """Whether to use the trend.

    Args:
        gain: by how much the logarithm of the density of the trials is greater with it.
        draw: a random number in [0, 1).
    """
    # Rounded, so that the last digits of a machine's linear algebra do not decide.
    return draw < float(expit(PRIOR_LOG_ODDS + np.round(gain, 3)))
