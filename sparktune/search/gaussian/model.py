"""The model of a study by Gaussian processes: where to look next (see ``gp`` for the algorithm)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparktune.search.gaussian.branches import drawn_branch, is_in
from sparktune.search.gaussian.encoding import Encoding
from sparktune.search.gaussian.fitting import fitted
from sparktune.search.gaussian.losses import normalised
from sparktune.search.gaussian.maximising import Acquisition, Effort, Maximiser
from sparktune.search.gaussian.posterior import Posterior
from sparktune.search.gaussian.subset import representative
from sparktune.search.gaussian.trend import BOWL, is_used
from sparktune.search.history import History
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace
from sparktune.study.numeric import as_whole

MOST_TRIALS = 320
"""The process is given so many trials at most."""
MOST_TO_FIT = 120
"""Its hyperparameters are fitted to so many at most."""
MOST_STEPS = 25
"""So many times the density of hyperparameters is computed, at most."""
MOST_STEPS_WITH_TREND = 8
"""So many times it is computed with a trend, from the likeliest hyperparameters without one."""
SHARE_OF_LONG = 0.5
"""So many suggestions come from a process with long length scales, the others from one with short ones.

With the likeliest hyperparameters alone the search is too sure of them, and may never leave the neighbourhood
of a local optimum (Bull 2011, "Convergence rates of efficient global optimization algorithms"). Short lengths
follow the details near the best trials; long ones see the trend across the space, and lead elsewhere. Neither
is better everywhere, so chance decides between them, as in a portfolio of acquisition functions (Hoffman et
al. 2011, "Portfolio allocation for Bayesian optimization"), and each learns from the trials of the other. It
costs no time, as averaging over both would.
"""
FEWEST_IN_BRANCH = 8
"""With fewer trials in just this branch, those of all others are used too."""
FEWEST_TO_WARP = 20
"""With fewer trials a warping of the inputs would follow chance."""


@dataclass(frozen=True)
class Options:
    """The parameters of the algorithm.

    Attributes:
        n_startup_jobs: how many trials must have finished before anything is modelled.
    """

    n_startup_jobs: int = 10

    def __post_init__(self) -> None:
        value = self.n_startup_jobs
        if (as_whole(value) or 0) < 1:
            raise ValueError(f"n_startup_jobs of gp is {value!r}; it must be a whole number, at least 1")


DEFAULTS = Options()


@functools.lru_cache(maxsize=64)
def encoding_of(space: SearchSpace) -> Encoding:
    """The encoding of a space; cached, since a study needs it at each suggestion."""
    return Encoding(space)


class Model:
    """The model of the trials, for some suggestions in one call.

    Args:
        space: the search space.
        history: the trials.
        rng: what candidates are drawn from.
    """

    def __init__(self, space: SearchSpace, history: History, rng: np.random.Generator) -> None:
        order = _canonical(history)
        self._space, self._rng = space, rng
        self._values, self._losses = history.values[order], history.losses[order]
        self._is_weak = history.is_weak[order]
        self._ranked = self._values[np.lexsort((np.arange(len(order)), self._losses, self._is_weak))]
        self._pending = _sorted(history.pending)
        self._processes: dict[tuple[bytes, bool], BranchProcess] = {}

    def best_first(self) -> Array:
        """Configurations, most promising first."""
        branch = drawn_branch(self._space, self._ranked, self._pending, self._rng)
        is_long = bool(self._rng.random() < SHARE_OF_LONG)
        key = branch.tobytes(), is_long
        if key not in self._processes:
            self._processes[key] = self._process_in(branch, is_long)
        return self._processes[key].best_first()

    def add_pending(self, row: Array) -> None:
        """The configuration was suggested: it runs from now on."""
        self._pending = np.concatenate([self._pending, row[None]])
        for process in self._processes.values():
            process.add_pending(row[None])

    def _process_in(self, branch: Array, is_long: bool) -> BranchProcess:
        """The process of the trials in a branch, or of all trials where these are few."""
        inside = is_in(self._values, branch)
        chosen = inside if inside.sum() >= FEWEST_IN_BRANCH else np.ones(len(inside), bool)
        process = BranchProcess(
            self._space,
            branch,
            self._values[chosen],
            normalised(self._losses[chosen], self._is_weak[chosen]),
            is_long,
            self._rng,
        )
        process.add_pending(self._pending)
        return process


class BranchProcess:
    """A Gaussian process for the configurations of one branch.

    Args:
        space: the search space.
        branch: see ``branches``.
        values: ``(n, n_params)`` configurations to learn from, at least one.
        losses: ``(n,)`` of them, normalised.
        is_long: whether its length scales are long; see ``fitting.length_prior``.
        rng: what candidates are drawn from.
    """

    def __init__(
        self,
        space: SearchSpace,
        branch: Array,
        values: Array,
        losses: Array,
        is_long: bool,
        rng: np.random.Generator,
    ) -> None:
        self._encoding = encoding_of(space)
        by_loss = np.argsort(losses, kind="stable")
        values, losses = values[by_loss], losses[by_loss]
        points = self._encoding.points(values)
        to_fit, kept = representative(len(values), MOST_TO_FIT), representative(len(values), MOST_TRIALS)
        with_warping = len(values) >= FEWEST_TO_WARP and bool(self._encoding.warpable.any())
        learned = self._encoding, points[to_fit], losses[to_fit], with_warping
        chosen = fitted(*learned, MOST_STEPS, is_long)
        if self._encoding.warpable.any():
            with_trend = fitted(*learned, MOST_STEPS_WITH_TREND, is_long, BOWL, chosen.vector)
            if is_used(with_trend.log_density - chosen.log_density, float(rng.random())):
                chosen = with_trend
        self._posterior = Posterior(self._encoding, points[kept], losses[kept], chosen.hyperparameters)
        means = np.round(self._posterior.known_mean(), 9)
        inside = is_in(values[kept], branch)
        # Improve on what is known of the branch: another branch may be better than anything here.
        self._best = float(means[inside].min()) if inside.any() else float(np.median(means))
        order = np.lexsort((means, ~inside))
        self._maximiser = Maximiser(space, branch, values[kept][order], Effort(), rng)

    def best_first(self) -> Array:
        """Configurations of the branch, most promising first."""
        return self._maximiser.best_first(Acquisition(self._encoding, self._posterior, self._best))

    def add_pending(self, values: Array) -> None:
        """``(m, n_params)`` configurations run: they are taken to give the expected loss.

        The kriging believer (Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization",
        section 4.2).
        """
        if len(values):
            self._posterior = self._posterior.believing(self._encoding.points(values))


def _canonical(history: History) -> NDArray[np.intp]:
    """An order of the finished trials that depends on them alone, not on when each of them ended."""
    return np.lexsort((*_columns(history.values), history.is_weak, history.losses))


def _sorted(values: Array) -> Array:
    return values[np.lexsort(_columns(values))] if values.size else values


def _columns(values: Array) -> Array:
    return np.where(np.isnan(values), -np.inf, values).T
