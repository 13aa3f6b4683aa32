"""From proposed configurations to hyperopt's trial documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sparktune.search.history import History, history_of
from sparktune.search.parameters import Array
from sparktune.search.space import SearchSpace, space_of


class Propose(Protocol):
    """A search algorithm without hyperopt's clothes."""

    def __call__(self, space: SearchSpace, history: History, n: int, rng: np.random.Generator) -> Array:
        """Up to ``n`` configurations to try next, ``(<= n, n_params)``; fewer when there are no more."""


def suggestions(propose: Propose, new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
    """What a suggest function of hyperopt's form returns: trial documents for ``new_ids``.

    Args:
        propose: the algorithm.
        new_ids: ids of the trials to suggest, one configuration each.
        domain: the ``hyperopt.Domain`` of the objective and its space.
        trials: the ``hyperopt.Trials`` so far, running ones included.
        seed: what the suggestions are drawn from; the same seed and trials give the same suggestions.

    Raises:
        InvalidSpace: the space cannot be searched.
    """
    space = space_of(domain)
    rows = propose(space, history_of(trials, space), len(new_ids), np.random.default_rng(seed))
    return new_documents(rows, new_ids, space, domain, trials)


def new_documents(
    rows: Array,
    new_ids: Sequence[int],
    space: SearchSpace,
    domain: Any,
    trials: Any,
    marks: Sequence[Mapping[str, Any]] = (),
) -> list[Any]:
    """Trial documents of configurations, for algorithms that read more than the history.

    Args:
        rows: ``(<= len(new_ids), n_params)`` configurations.
        new_ids: as for ``suggestions``.
        space: what the columns of ``rows`` are.
        domain: as for ``suggestions``.
        trials: as for ``suggestions``.
        marks: one for each row, or none: what the algorithm writes into ``misc`` beside hyperopt's entries.
    """
    documents: list[Any] = []
    for i, (new_id, row) in enumerate(zip(new_ids, rows, strict=False)):
        config = space.config(row)
        misc = {
            "tid": new_id,
            "cmd": domain.cmd,
            "workdir": domain.workdir,
            "idxs": {label: [new_id] if label in config else [] for label in space.column},
            "vals": {label: [config[label]] if label in config else [] for label in space.column},
            **(marks[i] if marks else {}),
        }
        documents += trials.new_trial_docs([new_id], [None], [domain.new_result()], [misc])
    return documents
