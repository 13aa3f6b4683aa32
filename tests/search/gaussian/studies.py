"""Spaces and trials for the tests of the Gaussian process."""

from __future__ import annotations

import numpy as np
from hyperopt import hp

from sparktune.search.gaussian.encoding import Encoding, Points
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace
from tests.search.spaces import CONDITIONAL

MIXED = SearchSpace(CONDITIONAL)
SQUARE = SearchSpace({"x": hp.uniform("x", 0, 1), "y": hp.loguniform("y", -8, 0)})


def studied(space: SearchSpace, n: int, seed: int = 0) -> tuple[Encoding, Points, Array]:
    """The encoding of a space, random points in it, and losses of mean 0 and variance 1."""
    rng = np.random.default_rng(seed)
    encoding = Encoding(space)
    points = encoding.points(space.sample(n, rng))
    losses = ((points.numbers - 0.4) ** 2).sum(1) + points.indicators.sum(1) + 0.05 * rng.standard_normal(n)
    return encoding, points, (losses - losses.mean()) / losses.std()


def joined(a: Points, b: Points) -> Points:
    return Points(
        np.concatenate([a.numbers, b.numbers]),
        np.concatenate([a.active, b.active]),
        np.concatenate([a.indicators, b.indicators]),
    )
