"""A trend of the losses: they rise towards the bounds of the parameters, unless the trials show otherwise.

Ranges are mostly chosen around values that are thought to be good. A process that does not know this is least
certain at the bounds, expects improvements there, and spends its trials in corners, whose number grows with
the number of parameters. With strong noise a third to a half of the coordinates of early suggestions were at
a bound (Siivola et al. 2018, "Correcting boundary over-exploration deficiencies in Bayesian optimization with
virtual derivative sign observations"; Oh et al. 2018, "BOCK: Bayesian optimization with cylindrical
kernels").

So the process may have a basis function, ``rise``, whose coefficient has a normal prior (Rasmussen and
Williams 2006, "Gaussian processes for machine learning", section 2.7). Where the best values are at the
bounds the trend would do harm, so chance decides whether a process has it, by the odds that the trials give
(Kass and Raftery 1995, "Bayes factors"). They are approximated by the ratio of the densities at the likeliest
hyperparameters with and without it.
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
        variance: how far the trials may change that.
    """

    mean: float
    variance: float


FLAT = Trend(0.0, 0.0)
"""Without a trend."""
BOWL = Trend(0.5, 0.25)
"""A coefficient as likely to be near 0 as near 1: on average half of the losses' variance comes from it."""


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
    """The squared distance from the centre of the space, and no more beyond the bounds than at them.

    Numbers count where they are active; options, which have no bounds, never. The bounds of a normal
    parameter are those of ``encoding.NORMAL_REACH``. Over uniform parameters it has mean 0 and variance 1.
    """
    shown = points.active & encoding.warpable
    # The square of a number that is uniform from -1 to 1 has mean 1/3 and variance 4/45.
    scale = 1 / np.sqrt(np.maximum(shown.sum(1, keepdims=True), 1) * (4 / 45))
    away = 2 * points.numbers - 1
    inside = shown & (np.abs(away) <= 1)
    squares = np.minimum(away**2, 1.0) - 1 / 3
    return Rise((squares * shown * scale).sum(1), 4 * away * inside * scale)


def is_used(gain: float, draw: float) -> bool:
    """Whether to use the trend.

    Args:
        gain: by how much the logarithm of the density of the trials is greater with it.
        draw: a random number in [0, 1).
    """
    return draw < float(expit(PRIOR_LOG_ODDS + gain))
