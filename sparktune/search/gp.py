"""Bayesian optimisation with a Gaussian process: few trials where the objective is smooth, noisy or finite.

The next configuration is the one whose improvement on the best is expected to be greatest (Mockus 1975; Jones
et al. 1998, "Efficient global optimization of expensive black-box functions"), under a Gaussian process that
was fitted to the trials so far. Its parts, each with its source, are in ``gaussian``:

- ``encoding``: which configurations are near to each other, in mixed and conditional spaces.
- ``losses``: a power transform; neither outliers nor failures dominate the fit.
- ``fitting``: length scales, amplitude, noise and a warping of the inputs, by their posterior density. Half
  of the suggestions come from a process with long length scales, half from one with short ones (``model``).
- ``trend``: losses rise towards the bounds, unless the trials show otherwise.
- ``acquisition``: the logarithm of the expected improvement. What is to be improved on is the lowest mean
  of a trial, not the lowest loss, which with noise is luck.
- ``maximising``: candidates, then gradients in continuous and neighbours in discrete parameters, in turn.
- ``branches``: which options to try, where other parameters depend on them.
- ``subset``: of very many trials the most informative ones, since the cost grows with their cube.

Running trials are taken to give the expected loss. Failed trials count as the worst one, those
that were terminated early as the median at best. No configuration is tried twice, as long as there is another
one. The first ones are spread evenly (``parzen.startup``), until ``n_startup_jobs`` have *finished*.

The model is rebuilt at each call from the trials alone, in whatever order they ended: the same seed and
trials give the same suggestions, also after a study was resumed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune.search.gaussian.model import DEFAULTS, Model, Options
from sparktune.search.history import History
from sparktune.search.novelty import Tried
from sparktune.search.parzen.startup import spread_out
from sparktune.search.suggestion import suggestions
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace


def suggest(
    new_ids: Sequence[int],
    domain: Any,
    trials: Any,
    seed: Any,
    n_startup_jobs: int = DEFAULTS.n_startup_jobs,
) -> list[Any]:
    """Suggest the next trials by a Gaussian process; see the module for the algorithm.

    Use it as ``algo=gp.suggest``, or with parameters: ``algo=partial(gp.suggest, n_startup_jobs=20)``.

    Args:
        new_ids: ids of the trials to suggest; several get different, good points in one call.
        domain: the ``hyperopt.Domain`` of the objective and its space.
        trials: the ``hyperopt.Trials`` so far; including running ones.
        seed: what the suggestions are drawn from; the same seed and trials give the same suggestions.
        n_startup_jobs: how many trials must have finished before anything is modelled; at least 1.

    Raises:
        InvalidSpace: the space cannot be searched.
        ValueError: a parameter is out of its range.
    """
    options = Options(n_startup_jobs)
    return suggestions(functools.partial(propose, options=options), new_ids, domain, trials, seed)


def propose(
    space: SearchSpace, history: History, n: int, rng: np.random.Generator, options: Options = DEFAULTS
) -> Array:
    """The algorithm on configurations; see ``Propose``."""
    tried = Tried(history)
    rows = np.empty((n, len(space)))
    if history.n_finished < options.n_startup_jobs or not len(space) or not n:
        known = np.concatenate([history.values, history.pending])
        for i in range(n):
            draw = functools.partial(_spread_out, space, np.concatenate([known, rows[:i]]), rng)
            rows[i] = tried.first_new(draw, functools.partial(_anywhere, space, rng))
        return rows
    model = Model(space, history, rng)
    for i in range(n):
        new = (row for row in model.best_first() if row not in tried)
        # All candidates were tried: in a small or an exhausted space.
        row = next(new, None)
        rows[i] = tried.first_new(functools.partial(_anywhere, space, rng)) if row is None else row
        tried.add(rows[i])
        model.add_pending(rows[i])
    return rows


def _anywhere(space: SearchSpace, rng: np.random.Generator) -> Array:
    return np.asarray(space.sample(1, rng)[0])


def _spread_out(space: SearchSpace, known: Array, rng: np.random.Generator) -> Array:
    return np.asarray(spread_out(space, known, 1, rng)[0])
