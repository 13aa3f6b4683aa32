"""Where an acquisition function is greatest in a mixed, conditional space.

Candidates from the prior and around the best trials; from the best of them, in turn, L-BFGS over the
continuous parameters and the best of all neighbours in the discrete ones, until neither helps (as Optuna's
and HEBO's optimisers of mixed acquisition functions do).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sparktune.search.gaussian.acquisition import log_expected_improvement, log_h
from sparktune.search.gaussian.encoding import Encoding, Points
from sparktune.search.gaussian.neighbours import Moves
from sparktune.search.gaussian.posterior import Posterior
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace

GRAIN = 2.0**-20
"""Continuous parameters are rounded to multiples of it, as a share of their range: see ``fitting.GRAIN``."""
LEAST_GAIN = 1e-3
"""A step of L-BFGS that gains less than this share of the function is the last one. Measured with 5 to 20
parameters and 30 to 200 trials: further steps take as much time again, and gain 0.001 at most."""
DIGITS = 9
"""Values of the acquisition function are equal when they agree to so many decimals."""


@dataclass(frozen=True)
class Effort:
    """How hard to look.

    Attributes:
        n_anywhere: candidates from the prior.
        n_near: candidates around the best trials.
        n_starts: local searches.
        n_rounds: of each local search, at most.
        n_steps: of L-BFGS in each round, at most.
    """

    n_anywhere: int = 400
    n_near: int = 400
    n_starts: int = 5
    n_rounds: int = 4
    n_steps: int = 20


class Acquisition:
    """The logarithm of the expected improvement under a posterior; on configurations.

    Args:
        posterior: the process.
        best: what is to be improved on.
    """

    def __init__(self, encoding: Encoding, posterior: Posterior, best: float) -> None:
        self.encoding, self._posterior, self._best = encoding, posterior, best

    def at(self, values: Array) -> Array:
        """At ``(m, n_params)`` configurations: ``(m,)``."""
        found = self._posterior.predict(self.encoding.points(values))
        std = np.sqrt(found.variance)
        return np.asarray(log_h((self._best - found.mean) / std) + np.log(std))

    def with_slopes(self, points: Points) -> tuple[Array, Array]:
        """At ``m`` points, and the derivatives by their ``(m, k)`` numbers."""
        found, mean_slopes, variance_slopes = self._posterior.predict_with_slopes(points)
        std = np.sqrt(found.variance)
        improvement = log_expected_improvement(found.mean, std, self._best)
        by_mean, by_variance = improvement.by_mean, improvement.by_std / (2 * std)
        return improvement.log, by_mean[:, None] * mean_slopes + by_variance[:, None] * variance_slopes


class Maximiser:
    """Looks for the maximum of acquisition functions on one space.

    Args:
        space: the search space.
        branch: where to look; see ``branches``.
        best_first: ``(n, n_params)`` known configurations, best first.
        effort: how hard to look.
        rng: what candidates are drawn from.
    """

    def __init__(
        self,
        space: SearchSpace,
        branch: Array,
        best_first: Array,
        effort: Effort,
        rng: np.random.Generator,
    ) -> None:
        self._space, self._effort, self._rng = space, effort, rng
        self._best_first = best_first
        self._moves = Moves(space, branch, best_first, rng)
        self._is_discrete = any(p.q is not None or p.n_options > 1 for p in space.parameters)

    def best_first(self, acquisition: Acquisition) -> Array:
        """Configurations, those where the function is greatest first."""
        near = self._moves.perturbed(self._centres())
        anywhere = self._moves.anywhere(self._effort.n_anywhere)
        candidates = np.concatenate([near, anywhere])
        heights = acquisition.at(candidates)
        starts = _apart(heights, np.arange(len(candidates)) < len(near), self._effort.n_starts)
        ends, end_heights = self._climbed(acquisition, candidates[starts], heights[starts])
        found = np.concatenate([ends, candidates])
        order = np.argsort(-np.round(np.concatenate([end_heights, heights]), DIGITS), kind="stable")
        return found[order]

    def _centres(self) -> Array:
        """The configurations that candidates lie around: the best one most often."""
        n = len(self._best_first)
        if not n:
            return self._moves.anywhere(self._effort.n_near)
        ranks = np.minimum(self._rng.geometric(0.2, self._effort.n_near) - 1, n - 1)
        return np.asarray(self._best_first[ranks])

    def _climbed(self, acquisition: Acquisition, values: Array, heights: Array) -> tuple[Array, Array]:
        """Local maxima above ``(m, n_params)`` configurations, and the values there."""
        values, heights = values.copy(), heights.copy()
        moving = np.arange(len(values))
        for _ in range(self._effort.n_rounds):
            values[moving], heights[moving] = self._glided(acquisition, values[moving], heights[moving])
            if not self._is_discrete:
                break
            moving = self._stepped(acquisition, values, heights, moving)
            if not len(moving):
                break
        return values, heights

    def _stepped(
        self, acquisition: Acquisition, values: Array, heights: Array, moving: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Move configurations to their best neighbour where it is better; returns which moved."""
        neighbours, whose = self._moves.one_step_away(values[moving])
        if not len(neighbours):
            return moving[:0]
        around = np.round(acquisition.at(neighbours), DIGITS)
        # The best of each one first, and of equal ones that which comes first.
        order = np.lexsort((-around, whose))
        owners, first = np.unique(whose[order], return_index=True)
        best, gone = order[first], moving[owners]
        better = around[best] > heights[gone] + 10.0**-DIGITS
        best, gone = best[better], gone[better]
        values[gone], heights[gone] = neighbours[best], around[best]
        return gone

    def _glided(self, acquisition: Acquisition, values: Array, heights: Array) -> tuple[Array, Array]:
        """L-BFGS over the continuous parameters of all configurations together, the discrete ones fixed."""
        encoding = acquisition.encoding
        parameters = self._space.parameters
        continuous = np.array(
            [parameters[i].kind != "options" and parameters[i].q is None for i in encoding.columns], bool
        )
        points = encoding.points(values)
        free = points.active & continuous
        if not free.any():
            return values, heights
        bounds = [(0.0, 1.0)] * int(free.sum())

        def negative(numbers: Array) -> tuple[float, Array]:
            moved = points.numbers.copy()
            moved[free] = numbers
            at, slopes = acquisition.with_slopes(Points(moved, points.active, points.indicators))
            return -float(at.sum()), -slopes[free]

        n_steps = self._effort.n_steps
        options = {"maxiter": n_steps, "maxfun": 2 * n_steps, "ftol": LEAST_GAIN}
        start = np.clip(points.numbers[free], 0.0, 1.0)
        end = minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        numbers = points.numbers.copy()
        numbers[free] = np.round(end.x / GRAIN) * GRAIN
        moved = values.copy()
        for j, column in enumerate(encoding.columns):
            rows = free[:, j]
            moved[rows, column] = encoding.value(j, numbers[rows, j])
        moved_heights = acquisition.at(moved)
        better = moved_heights > heights
        return np.where(better[:, None], moved, values), np.where(better, moved_heights, heights)


def _apart(heights: Array, is_near: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
    """Where to start: the best candidates near known trials, and as many of the others."""
    order = np.argsort(-np.round(heights, DIGITS), kind="stable")
    near, far = order[is_near[order]], order[~is_near[order]]
    chosen = np.concatenate([near[: (n + 1) // 2], far[: n // 2]])
    return np.asarray(chosen)
