"""The first configurations: spread evenly over every parameter and every branch.

A Latin hypercube (McKay, Beckman and Conover 1979) that grows: each new point takes, for every parameter on
its own, one of the strata of equal prior probability that no earlier point lies in. Nothing is planned ahead,
so it continues from whatever is there: the user's points, running trials, an interrupted study.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparktune.space.parameters import Array, Parameter
from sparktune.space.search_space import SearchSpace


def spread_out(space: SearchSpace, known: Array, n: int, rng: np.random.Generator) -> Array:
    """``n`` configurations where there are fewest yet.

    Args:
        space: the search space.
        known: ``(m, n_params)`` configurations that there are, finished or running.
        n: how many to add.
        rng: chooses among strata that are equally empty, and the place within one.
    """
    values = np.vstack([known, np.full((n, len(space)), np.nan)])
    for at in range(len(known), len(values)):
        for i, parameter in enumerate(space.parameters):
            if space.is_active(values[at : at + 1], i)[0]:
                earlier = values[:at, i]
                values[at, i] = _next_value(parameter, earlier[~np.isnan(earlier)], rng)
    return values[len(known) :]


def _next_value(parameter: Parameter, earlier: Array, rng: np.random.Generator) -> float:
    coordinates = parameter.coordinate(earlier)
    if parameter.kind == "options":
        counts = np.bincount(coordinates.astype(int), minlength=parameter.n_options)
        probabilities = np.asarray(parameter.probabilities)
        # The expected number after one more point, less what there is: the option that lags most.
        lag = (len(earlier) + 1) * probabilities - counts
        return float(parameter.value(rng.choice(np.flatnonzero(lag >= lag.max() - 1e-9))))
    n_strata = len(earlier) + 1
    stratum = _empty_stratum(parameter.cdf(coordinates), n_strata, rng)
    return float(parameter.value(parameter.quantile((stratum + rng.random()) / n_strata)))


def _empty_stratum(unit: Array, n_strata: int, rng: np.random.Generator) -> int:
    """One of the strata of ``[0, 1)`` that hold none of the points; there are fewer points than strata."""
    taken: NDArray[np.intp] = np.minimum((unit * n_strata).astype(int), n_strata - 1)
    counts = np.bincount(taken, minlength=n_strata)
    return int(rng.choice(np.flatnonzero(counts == 0)))
