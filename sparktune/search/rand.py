"""Random search: every point drawn from the prior, whatever the results are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune.search.history import History
from sparktune.search.parameters import Array
from sparktune.search.space import SearchSpace
from sparktune.search.suggestion import suggestions


def suggest(new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
    """Independent draws from the space's own distributions, as ``hyperopt.rand.suggest`` draws them.

    Finite spaces may see a point again.

    Args:
        new_ids: ids of the trials to suggest.
        domain: the ``hyperopt.Domain``.
        trials: the ``hyperopt.Trials`` so far.
        seed: the same seed gives the same points.

    Returns:
        One trial document for each id.

    Raises:
        InvalidSpace: the space cannot be searched.
    """
    return suggestions(propose, new_ids, domain, trials, seed)


def propose(space: SearchSpace, history: History, n: int, rng: np.random.Generator) -> Array:
    """See ``suggest``."""
    del history
    return space.sample(n, rng)
