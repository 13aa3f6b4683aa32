"""The Matern kernel of smoothness 5/2, as a function of squared distances.

Rasmussen and Williams 2006, "Gaussian processes for machine learning", equation 4.17. In squared distances it
has a derivative everywhere, at 0 too.
"""

from __future__ import annotations

import numpy as np

from sparktune.space.parameters import Array

ROOT_5 = 5**0.5


def squared_distances(a: Array, b: Array) -> Array:
    """``(n, m)`` squared Euclidean distances between ``(n, d)`` and ``(m, d)`` points."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2 ab, so that the work is one product of matrices.
    found = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(found, 0.0, out=found))


def matern(square: Array) -> tuple[Array, Array]:
    """The kernel at squared distances, and its derivative by them."""
    r = ROOT_5 * np.sqrt(square)
    decay = np.exp(-r)
    slope = (1 + r) * decay
    return slope + (5 / 3) * square * decay, slope * (-5 / 6)
