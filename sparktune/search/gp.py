"""Bayesian optimisation with a Gaussian process: fewest trials where the objective is smooth."""

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
    """Suggest the next trials by a Gaussian process."""
    options = Options(n_startup_jobs)
    return suggestions(functools.partial(propose, options=options), new_ids, domain, trials, seed)


def propose(
    space: SearchSpace, history: History, n: int, rng: np.random.Generator, options: Options = DEFAULTS
) -> Array:
    """The algorithm without hyperopt's clothes; see ``Propose``."""
    tried = Tried(history)
    rows = np.empty((n, len(space)))
    anywhere = functools.partial(_anywhere, space, rng)
    if history.n_finished < options.n_startup_jobs or not len(space):
        known = np.concatenate([history.values, history.pending])
        for i in range(n):
            draw = functools.partial(_spread_out, space, np.concatenate([known, rows[:i]]), rng)
            rows[i] = tried.first_new(draw, anywhere)
        return rows
    if not n:
        return rows
    model = Model(space, history, rng)
    for i in range(n):
        found = model.best_first()
        new = next((row for row in found if row not in tried), None)
        rows[i] = tried.first_new(anywhere) if new is None else new
        tried.add(rows[i])
        model.add_pending(rows[i])
    return rows


def _anywhere(space: SearchSpace, rng: np.random.Generator) -> Array:
    return np.asarray(space.sample(1, rng)[0])


def _spread_out(space: SearchSpace, known: Array, rng: np.random.Generator) -> Array:
    return np.asarray(spread_out(space, known, 1, rng)[0])
