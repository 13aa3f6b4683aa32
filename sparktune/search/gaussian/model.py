"""What the Gaussian process tells of a study: where to look next (see ``gp`` for the algorithm)."""

from __future__ import annotations

import functools
import numbers
from dataclasses import dataclass

import numpy as np

from sparktune.search.gaussian.encoding import Encoding
from sparktune.search.gaussian.fitting import fitted
from sparktune.search.gaussian.losses import normalised
from sparktune.search.gaussian.maximising import Acquisition, Effort, Maximiser
from sparktune.search.gaussian.posterior import Posterior
from sparktune.search.gaussian.subset import telling
from sparktune.search.history import History
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace

MOST_TRIALS = 400
"""The process is given so many trials at most."""
MOST_TO_FIT = 150
"""Its hyperparameters are fitted to so many at most."""
FEWEST_TO_WARP = 20
"""With fewer trials a warping of the inputs would follow chance."""


@dataclass(frozen=True)
class Options:
    """The parameters of the algorithm.

    Attributes:
        n_startup_jobs: how many trials must have finished before anything is modelled.
    """

    n_startup_jobs: int = 8

    def __post_init__(self) -> None:
        value = self.n_startup_jobs
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"n_startup_jobs of gp is {value!r}; it must be a whole number, at least 1")


DEFAULTS = Options()


@functools.lru_cache(maxsize=64)
def encoding_of(space: SearchSpace) -> Encoding:
    """The encoding of a space; kept, for a study asks for it again and again."""
    return Encoding(space)


class Model:
    """What the trials tell, for some suggestions in one call.

    Args:
        space: the search space.
        history: the trials, at least one of them finished.
        n: how many suggestions there will be.
        rng: what candidates are drawn from.
    """

    def __init__(self, space: SearchSpace, history: History, n: int, rng: np.random.Generator) -> None:
        self._encoding = encoding_of(space)
        order = _canonical(history)
        values = history.values[order]
        losses = normalised(history.losses[order], history.is_weak[order])
        by_loss = np.argsort(losses, kind="stable")
        values, losses = values[by_loss], losses[by_loss]
        # Points of the user may lie elsewhere, and trials may be from before the space had a parameter.
        kept = telling(len(values), MOST_TRIALS)
        points = self._encoding.points(values)
        to_fit = telling(len(values), MOST_TO_FIT)
        with_warping = len(values) >= FEWEST_TO_WARP and bool(self._encoding.warpable.any())
        hyper = fitted(self._encoding, points[to_fit], losses[to_fit], with_warping, 40)
        self._posterior = Posterior(self._encoding, points[kept], losses[kept], hyper)
        means = self._posterior.known_mean()
        self._best = float(means.min())
        best_first = values[kept][np.argsort(np.round(means, 9), kind="stable")]
        self._maximiser = Maximiser(space, best_first, Effort(), rng)
        for row in _sorted(history.pending):
            self.add_pending(row)

    def best_first(self) -> Array:
        """Configurations, most promising first."""
        return self._maximiser.best_first(Acquisition(self._encoding, self._posterior, self._best))

    def add_pending(self, row: Array) -> None:
        """The configuration runs from now on: it is believed to give what is expected of it.

        The kriging believer (Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization",
        section 4.2).
        """
        point = self._encoding.points(row[None])
        self._posterior = self._posterior.with_observation(
            point, float(self._posterior.predict(point).mean[0])
        )


def _canonical(history: History) -> Array:
    """An order of the finished trials that depends on them alone, not on when each of them ended."""
    return np.lexsort((*_columns(history.values), history.is_weak, history.losses))


def _sorted(values: Array) -> Array:
    return values[np.lexsort(_columns(values))] if values.size else values


def _columns(values: Array) -> Array:
    return np.where(np.isnan(values), -np.inf, values).T
