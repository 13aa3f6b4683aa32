"""Which branch of a conditional space to try, and which configurations are in it.

One process over the whole tree locks into the branch whose untuned configurations look best: the few points
in a branch do not show that it is better once tuned. So the options that other parameters depend on are drawn
by TPE's bandit (``parzen.branches``), and the process chooses the rest.

A *branch* is a row of the space's parameters that holds the drawn options, and NaN elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparktune.search.parzen.branches import draw_option
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace


def drawn_branch(space: SearchSpace, best_first: Array, pending: Array, rng: np.random.Generator) -> Array:
    """The branch to try next, ``(n_params,)``.

    Args:
        space: the search space.
        best_first: ``(n, n_params)`` configurations of the finished trials.
        pending: ``(m, n_params)`` configurations of those that run.
        rng: what it is drawn from.
    """
    row = np.full((1, len(space)), np.nan)
    for i, parameter in enumerate(space.parameters):
        if not parameter.is_branching or not space.is_active(row, i)[0]:
            continue
        seen, running = best_first[:, i], pending[:, i]
        option = draw_option(
            parameter.coordinate(seen[~np.isnan(seen)]).astype(int),
            parameter.coordinate(running[~np.isnan(running)]).astype(int),
            parameter.possible,
            rng,
        )
        row[0, i] = parameter.value(option)
    return np.asarray(row[0])


def is_in(values: Array, branch: Array) -> NDArray[np.bool_]:
    """Which of ``(n, n_params)`` configurations are in a branch."""
    chosen = np.flatnonzero(~np.isnan(branch))
    return np.asarray((values[:, chosen] == branch[chosen]).all(axis=1))


def moved_into(space: SearchSpace, unit: Array, branch: Array) -> Array:
    """``SearchSpace.from_unit`` within a branch: ``(n, n_params)`` numbers in [0, 1) to configurations."""
    unit = unit.copy()
    for i in np.flatnonzero(~np.isnan(branch)):
        parameter = space.parameters[i]
        unit[:, i] = parameter.cdf(parameter.coordinate(branch[i]))
    return space.from_unit(unit)
