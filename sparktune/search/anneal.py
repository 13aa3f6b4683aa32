"""Annealing: points near a good one, ever nearer.

The algorithm of ``hyperopt.anneal`` (J. Bergstra), in numpy: "begins by sampling from the prior, but tends
over time to sample from points closer and closer to the best ones observed".
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune import _hyperopt_names
from sparktune.search.history import History
from sparktune.search.novelty import Tried
from sparktune.search.suggestion import suggestions
from sparktune.space.parameters import Array, Parameter
from sparktune.space.search_space import SearchSpace

__getattr__ = _hyperopt_names.missing_from(__name__, "hyperopt.anneal")


def suggest(
    new_ids: Sequence[int],
    domain: Any,
    trials: Any,
    seed: Any,
    avg_best_idx: float = 2.0,
    shrink_coef: float = 0.1,
) -> list[Any]:
    """Draw each parameter from its distribution, narrowed and moved to the value of one of the best trials.

    Running trials count in the narrowing; failed ones are ignored; those terminated early come after the
    completed ones. Points that were tried before are avoided where others can be found. Set the options with
    ``functools.partial(anneal.suggest, shrink_coef=0.05)``.

    Args:
        new_ids: ids of the trials to suggest.
        domain: the ``hyperopt.Domain``.
        trials: the ``hyperopt.Trials`` so far.
        seed: the same seed and trials give the same points.
        avg_best_idx: mean of the geometric distribution of the good trial's rank, 1 being the best trial's;
            at least 1.
        shrink_coef: after ``t`` trials with a parameter, its neighbourhood is ``1 / (1 + t * shrink_coef)``
            of the whole; at least 0.

    Returns:
        One trial document for each id.

    Raises:
        InvalidSpace: the space cannot be searched.
        ValueError: an option is out of its range.
    """
    if not avg_best_idx >= 1:
        raise ValueError(f"avg_best_idx is {avg_best_idx!r}; it is a mean rank, 1 being the best trial's")
    if not shrink_coef >= 0:
        raise ValueError(f"shrink_coef is {shrink_coef!r}; it must be at least 0")
    chosen = functools.partial(propose, avg_best_idx=avg_best_idx, shrink_coef=shrink_coef)
    return suggestions(chosen, new_ids, domain, trials, seed)


def propose(
    space: SearchSpace,
    history: History,
    n: int,
    rng: np.random.Generator,
    *,
    avg_best_idx: float = 2.0,
    shrink_coef: float = 0.1,
) -> Array:
    """Propose ``n`` configurations near good ones, for ``suggest``."""
    ranked = history.ranks_best_first()
    good = history.values[ranked[history.losses[ranked] < np.inf]]
    known = np.concatenate([good, history.pending])
    share = 1 / (1 + shrink_coef * np.sum(~np.isnan(known), axis=0))
    tried = Tried(history)

    def near() -> Array:
        return _near_good(space, good, share, avg_best_idx, rng)

    def anywhere() -> Array:
        return space.sample(1, rng).reshape(-1)

    rows = [tried.first_new(near, anywhere) for _ in range(n)]
    return np.array(rows).reshape(n, len(space))


def _near_good(
    space: SearchSpace, good: Array, share: Array, avg_best_idx: float, rng: np.random.Generator
) -> Array:
    """One configuration; ``good`` holds trials, best first, ``share`` the width left for each parameter."""
    row = np.full(len(space), np.nan)
    models: list[Array] = []
    for i, parameter in enumerate(space.parameters):
        if not space.is_active(row[np.newaxis], i)[0]:
            continue
        # The trial that gave the other values, so that values stay together; a runner-up where it does not
        # have a value.
        model = next((m for m in models if not np.isnan(m[i])), None)
        if model is None:
            having = good[~np.isnan(good[:, i])]
            if not len(having):
                row[i] = parameter.value(parameter.quantile(rng.random()))
                continue
            model = having[min(rng.geometric(1 / avg_best_idx), len(having)) - 1]
            models.append(model)
        row[i] = parameter.value(_near(parameter, float(parameter.coordinate(model[i])), share[i], rng))
    return row


def _near(parameter: Parameter, centre: float, share: float, rng: np.random.Generator) -> Any:
    """A coordinate from the prior, narrowed to ``share`` of its width around ``centre``."""
    if parameter.kind == "options":
        return centre if rng.random() >= share else parameter.quantile(rng.random())
    if parameter.kind == "normal":
        return rng.normal(centre, parameter.sigma * share)
    half = share * (parameter.high - parameter.low) / 2
    centre = min(max(centre, parameter.low + half), parameter.high - half)
    return min(max(rng.uniform(centre - half, centre + half), parameter.low), parameter.high)
