"""What TPE learns from the trials: where to look next, branch by branch (see ``tpe`` for the algorithm)."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparktune.search.history import History
from sparktune.search.parzen.branches import challenge_rate, draw_option
from sparktune.search.parzen.candidates import Pool, block_of, good_density, other_kernels, thinned
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace
from sparktune.study.numeric import as_whole

Mask = NDArray[np.bool_]

MOST_GOOD = 25
"""More good trials than these sharpen nothing (Bergstra's own limit)."""
LEAST_PRIOR_WEIGHT = 1e-3
"""With no prior at all the search would never leave the neighbourhood of the trials it has."""
FEWEST_IN_BRANCH = 10
"""With fewer trials in just this branch, those of its neighbours are used too."""
EXTRA_CANDIDATES = 2
"""How many candidates each further suggestion of the same call adds to the pool."""


@dataclass(frozen=True)
class Options:
    """The parameters of the algorithm.

    Attributes:
        n_startup_jobs: how many trials must have finished before anything is modelled.
        gamma: the share of the finished trials that count as good. From 1 on it has hyperopt's meaning, and
            multiplies the square root of their number; at 0 and below, the best one alone is good.
        n_EI_candidates: how many points drawn from l compete for one suggestion.
        prior_weight: what the prior weighs in l and g; one trial weighs 1 on average. 0 is taken as
            ``LEAST_PRIOR_WEIGHT``.
    """

    n_startup_jobs: int = 6
    gamma: float = 0.15
    n_EI_candidates: int = 12  # noqa: N815  hyperopt's name
    prior_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("n_startup_jobs", "gamma", "prior_weight"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or math.isnan(value):
                raise ValueError(f"{name} of tpe is {value!r}; it must be a number")
        n_candidates = as_whole(self.n_EI_candidates)
        if n_candidates is None or n_candidates < 1:
            raise ValueError(
                f"n_EI_candidates of tpe is {self.n_EI_candidates!r}; it must be a whole number, at least 1"
            )
        object.__setattr__(self, "n_EI_candidates", n_candidates)
        if math.isinf(self.gamma):
            raise ValueError(f"gamma of tpe is {self.gamma!r}; it must be finite")
        if not 0 <= self.prior_weight < math.inf:
            raise ValueError(f"prior_weight of tpe is {self.prior_weight!r}; it must be at least 0")
        object.__setattr__(self, "prior_weight", max(self.prior_weight, LEAST_PRIOR_WEIGHT))

    def n_good(self, n: int) -> int:
        """How many of ``n`` finished trials count as good, at most ``MOST_GOOD``."""
        share = self.gamma * n if self.gamma < 1 else self.gamma * math.sqrt(n)
        return min(n, max(1, math.ceil(share)), MOST_GOOD)


DEFAULTS = Options()


class TreeModel:
    """The model of the trials, for some suggestions in one call.

    Args:
        n: how many suggestions there will be.
    """

    def __init__(
        self, space: SearchSpace, history: History, n: int, options: Options, rng: np.random.Generator
    ) -> None:
        self._space, self._options, self._rng = space, options, rng
        order = history.ranks_best_first()
        self._best_first = history.values[order]
        self._is_weak = history.is_weak[order]
        self._pending = history.pending
        self._pool_size = options.n_EI_candidates + EXTRA_CANDIDATES * (n - 1)
        self._pools: dict[bytes, list[Pool]] = {}

    def draw(self) -> Array:
        """A configuration, ``(n_params,)``."""
        row = self._branch()
        pools = self._pools.get(row.tobytes())
        if pools is None:
            pools = self._pools[row.tobytes()] = self._pools_in(row)
        for pool in pools:
            row[pool.block.columns] = pool.draw()
        return row

    def add_pending(self, row: Array) -> None:
        """The configuration was suggested: it runs from now on."""
        self._pending = np.concatenate([self._pending, row[None]])

    def _branch(self) -> Array:
        """A configuration of which only the options are set that decide which parameters there are."""
        space = self._space
        row = np.full((1, len(space)), np.nan)
        branching = [i for i, parameter in enumerate(space.parameters) if parameter.is_branching]
        n_choices = int((~np.isnan(self._best_first[:1, branching])).sum())  # of the best trial
        challenge = challenge_rate(n_choices)
        for i in branching:
            if space.is_active(row, i)[0]:
                parameter = space.parameters[i]
                seen, running = self._best_first[:, i], self._pending[:, i]
                option = draw_option(
                    parameter.coordinate(seen[~np.isnan(seen)]).astype(int),
                    parameter.coordinate(running[~np.isnan(running)]).astype(int),
                    parameter.possible,
                    self._rng,
                    challenge,
                )
                row[0, i] = parameter.value(option)
        return np.asarray(row[0])

    def _pools_in(self, branch: Array) -> list[Pool]:
        """The candidates for the parameters of a branch: one joint pool where the branch has trials enough.

        Else a pool for each set of parameters that are active together, since outer parameters can be learned
        in the neighbouring branches.
        """
        space = self._space
        chosen = np.flatnonzero(~np.isnan(branch))
        differing = (self._best_first[:, chosen] != branch[chosen]).sum(axis=1)
        differing_pending = (self._pending[:, chosen] != branch[chosen]).sum(axis=1)
        groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for i, parameter in enumerate(space.parameters):
            if not parameter.is_branching and space.is_active(branch[None], i)[0]:
                groups.setdefault(parameter.conditions, []).append(i)
        if (differing == 0).sum() >= FEWEST_IN_BRANCH and groups:
            columns = [i for group in groups.values() for i in group]
            return [self._pool(columns, differing == 0, differing_pending == 0)]
        pools = []
        for columns in groups.values():
            active = ~np.isnan(self._best_first[:, columns[0]])
            active_pending = ~np.isnan(self._pending[:, columns[0]])
            reach = 0
            while (active & (differing <= reach)).sum() < FEWEST_IN_BRANCH and reach < len(chosen):
                reach += 1
            near, near_pending = differing <= reach, differing_pending <= reach
            pools.append(self._pool(columns, active & near, active_pending & near_pending))
        return pools

    def _pool(self, columns: list[int], rows: Mask, pending: Mask) -> Pool:
        block = block_of(self._space, tuple(columns))
        # Trials from before the space had one of these parameters are not informative about all of them.
        rows = rows & ~np.isnan(self._best_first[:, columns]).any(axis=1)
        pending = pending & ~np.isnan(self._pending[:, columns]).any(axis=1)
        values, options = self._best_first[rows], self._options
        n_good = min(options.n_good(len(values)), int((~self._is_weak[rows]).sum()))
        chosen, weights = thinned(len(values) - n_good)
        running = self._pending[pending]
        others = np.concatenate([values[n_good + chosen], running])
        weights = np.concatenate([weights, np.ones(len(running))])
        return Pool(
            block,
            good_density(block, values[:n_good], options.prior_weight),
            other_kernels(block, others, options.prior_weight, weights),
            self._pool_size,
            options.n_EI_candidates,
            self._rng,
        )
