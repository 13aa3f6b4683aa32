"""Moves in a mixed, conditional space: perturbed configurations, and all those one step away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparktune.search.gaussian.branches import moved_into
from sparktune.space.parameters import Array, Parameter
from sparktune.space.search_space import SearchSpace

SHORTEST_STEP, LONGEST_STEP = 0.003, 0.3
"""Standard deviations of perturbations, as a share of the prior's range; the logarithm is drawn evenly."""
MEAN_CHANGES = 2.0
"""So many parameters of a configuration are perturbed, on average."""
MOST_LEVELS = 24
"""Of a parameter with more values than this only some are neighbours: near ones, and ever farther ones."""


class Moves:
    """Moves from configurations to others.

    In *full unit* form a configuration is a row of numbers in [0, 1), also for parameters that are inactive:
    what they become when a move makes them active.

    Args:
        space: the search space.
        branch: all moves end in it; see ``branches``.
        best_first: ``(n, n_params)`` known configurations, best first: parameters that become active take the
            value that they have in the best one that has them.
        rng: what is drawn from.
    """

    def __init__(
        self, space: SearchSpace, branch: Array, best_first: Array, rng: np.random.Generator
    ) -> None:
        self._space, self._branch, self._rng = space, branch, rng
        unit = space.to_unit(best_first)
        has = ~np.isnan(unit)
        self._spare = np.full(len(space), 0.5)
        if len(unit):
            first = has.argmax(0)
            found = unit[first, np.arange(len(space))]
            self._spare = np.where(np.isnan(found), 0.5, found)
        is_discrete = [p.q is not None or p.n_options > 1 for p in space.parameters]
        self._discrete = np.flatnonzero(np.array(is_discrete, bool) & np.isnan(branch))
        self._known_units: dict[tuple[int, float], Array] = {}
        self._is_choice = np.array([p.kind == "options" for p in space.parameters], bool)

    def anywhere(self, n: int) -> Array:
        """``n`` configurations drawn from the prior."""
        return self._values(self._rng.random((n, len(self._space))))

    def _values(self, unit: Array) -> Array:
        return moved_into(self._space, unit, self._branch)

    def full(self, values: Array) -> Array:
        """``(n, n_params)`` configurations in full unit form."""
        unit = self._space.to_unit(values)
        return np.where(np.isnan(unit), self._spare, unit)

    def perturbed(self, values: Array) -> Array:
        """Configurations, each with some parameters changed a little, or redrawn if they are choices."""
        rng, n, d = self._rng, len(values), len(self._space)
        unit = self.full(values)
        # The options of the branch are not changed.
        active = ~np.isnan(values) & np.isnan(self._branch)
        share = MEAN_CHANGES / np.maximum(active.sum(1), 1)
        changes = active & (rng.random((n, d)) < share[:, None])
        # One change at the least, in a parameter that is active.
        some = np.where(active, rng.random((n, d)), -1.0).argmax(1)
        changes[np.arange(n), some] = True
        spread = np.exp(rng.uniform(np.log(SHORTEST_STEP), np.log(LONGEST_STEP), (n, 1)))
        near = unit + spread * rng.standard_normal((n, d))
        near = 1 - np.abs(1 - np.abs(near))  # reflected at the bounds
        near = np.clip(near, 0.0, 1 - 1e-12)
        redrawn = rng.random((n, d))
        # What becomes active by the change of another parameter is redrawn half of the time.
        spare = np.isnan(values) & (rng.random((n, d)) < 0.5)
        moved = np.where(self._is_choice, redrawn, near)
        return self._values(np.where(changes, moved, np.where(spare, redrawn, unit)))

    def one_step_away(self, rows: Array) -> tuple[Array, NDArray[np.intp]]:
        """The neighbours of configurations in their discrete parameters, and whose neighbour each is.

        Args:
            rows: ``(k, n_params)``.

        Returns:
            ``(m, n_params)`` configurations and ``(m,)`` indices of rows, in order.
        """
        full = self.full(rows)
        whose, changed, others = [], [], [np.empty(0)]
        for k, row in enumerate(rows):
            for i in self._discrete.tolist():
                if not np.isnan(row[i]):
                    others.append(self._other_units(i, float(row[i])))
                    whose += [k] * len(others[-1])
                    changed += [i] * len(others[-1])
        owners = np.array(whose, np.intp)
        units = full[owners]
        units[np.arange(len(units)), np.array(changed, np.intp)] = np.concatenate(others)
        return self._values(units), owners

    def _other_units(self, column: int, value: float) -> Array:
        """Other values of a discrete parameter, as numbers in [0, 1)."""
        found = self._known_units.get((column, value))
        if found is None:
            found = _other_units(self._space.parameters[column], value)
            self._known_units[column, value] = found
        return found


def _other_units(parameter: Parameter, value: float) -> Array:
    """Other values of a discrete parameter, as numbers in [0, 1)."""
    if parameter.kind == "options":
        others = _levels(float(parameter.coordinate(value)), 0, parameter.n_options - 1)
        others = others[parameter.possible[others.astype(int)]]
        return np.asarray(parameter.cdf(others))
    if parameter.q is None:
        return np.empty(0)
    low, high = _bounds(parameter)
    at, lowest, highest = np.round(np.array([value, low, high]) / parameter.q).tolist()
    levels = _levels(at, lowest, highest) * parameter.q
    return np.asarray(np.clip(parameter.cdf(parameter.coordinate(levels)), 0.0, 1 - 1e-12))


def _levels(at: float, low: float, high: float) -> Array:
    """The whole numbers from low to high without ``at``; only some if there are many."""
    if high - low < MOST_LEVELS:
        found = np.arange(low, high + 1, dtype=float)
    else:
        steps = 2.0 ** np.arange(min(int(np.log2(high - low)), 50) + 1)
        found = np.concatenate([at - steps[::-1], at + steps])
    return np.asarray(found[(found != at) & (found >= low) & (found <= high)])


def _bounds(parameter: Parameter) -> tuple[float, float]:
    """The lowest and the highest value that is tried."""
    if parameter.kind == "uniform":
        low, high = parameter.low, parameter.high
    else:
        low, high = parameter.mu - 4 * parameter.sigma, parameter.mu + 4 * parameter.sigma
    ends = parameter.value(np.array([low, high]))
    return float(ends[0]), float(ends[1])
