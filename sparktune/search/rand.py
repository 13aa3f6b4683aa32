"""Random search: every point drawn from the prior, whatever the results are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune import _hyperopt_names
from sparktune.search.suggestion import new_documents
from sparktune.space.search_space import space_of

__getattr__ = _hyperopt_names.missing_from(__name__, "hyperopt.rand")


def suggest(new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
    """Independent draws from the space's distributions, as ``hyperopt.rand.suggest`` draws them.

    A point may repeat in a finite space. ``fmin`` then tries another one, unless the space has more
    than 10,000 configurations (``finite.LARGEST``) or the study is ``noisy``.

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
    space = space_of(domain)
    rows = space.sample(len(new_ids), np.random.default_rng(seed))
    # Without the history: reading it takes longer with every trial.
    return new_documents(rows, new_ids, space, domain, trials)
