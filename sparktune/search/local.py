"""Local search: change one hyperparameter of the best configuration.

The ``LocalSearcher`` of "Dive into Deep Learning" (hyperparameter optimization API), for conditional spaces
too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune.search.history import History
from sparktune.search.novelty import Tried
from sparktune.search.suggestion import suggestions
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace


def suggest(
    new_ids: Sequence[int],
    domain: Any,
    trials: Any,
    seed: Any,
    num_init_random: int = 5,
    probab_local: float = 0.95,
) -> list[Any]:
    """Redraw one active hyperparameter of the best configuration or, at times, all of them.

    When the changed one is a choice, the parameters of the new branch are drawn, those that both branches
    share are kept. Points that were tried before are avoided where others can be found. Set the options with
    ``functools.partial(local.suggest, num_init_random=10)``.

    Args:
        new_ids: ids of the trials to suggest.
        domain: the ``hyperopt.Domain``.
        trials: the ``hyperopt.Trials`` so far.
        seed: the same seed and trials give the same points.
        num_init_random: so many trials are random first; at least 0.
        probab_local: the probability of a local step after that.

    Returns:
        One trial document for each id.

    Raises:
        InvalidSpace: the space cannot be searched.
        ValueError: an option is out of its range.
    """
    if not num_init_random >= 0:
        raise ValueError(f"num_init_random is {num_init_random!r}; it must be at least 0")
    if not 0 <= probab_local <= 1:
        raise ValueError(f"probab_local is {probab_local!r}; it is a probability, from 0 to 1")
    chosen = functools.partial(propose, num_init_random=num_init_random, probab_local=probab_local)
    return suggestions(chosen, new_ids, domain, trials, seed)


def propose(
    space: SearchSpace,
    history: History,
    n: int,
    rng: np.random.Generator,
    *,
    num_init_random: int = 5,
    probab_local: float = 0.95,
) -> Array:
    """Propose ``n`` configurations, for ``suggest``."""
    ranked = history.ranks_best_first()
    good = ranked[history.losses[ranked] < np.inf]
    n_before = history.n_finished + len(history.pending)
    tried = Tried(history)

    def anywhere() -> Array:
        return space.sample(1, rng).reshape(-1)

    rows = []
    for i in range(n):
        if n_before + i >= num_init_random and len(good) and rng.random() < probab_local:
            best = history.values[good[0]]
            rows.append(tried.first_new(functools.partial(_step, space, best, rng), anywhere))
        else:
            rows.append(tried.first_new(anywhere))
    return np.array(rows).reshape(n, len(space))


def _step(space: SearchSpace, best: Array, rng: np.random.Generator) -> Array:
    """``best`` with one of its active hyperparameters redrawn, and what then becomes active."""
    drawn = rng.random(len(space))
    changeable = [i for i, p in enumerate(space.parameters) if not np.isnan(best[i]) and p.n_options != 1]
    if not changeable:
        return best.copy()
    changed = changeable[rng.integers(len(changeable))]
    row = best.copy()
    for i, parameter in enumerate(space.parameters):
        if not space.is_active(row[np.newaxis], i)[0]:
            row[i] = np.nan
        elif i == changed or np.isnan(row[i]):
            row[i] = parameter.value(parameter.quantile(drawn[i]))
        elif parameter.kind == "options":
            row[i] = parameter.value(parameter.coordinate(row[i]))  # an option that there is
    return row
