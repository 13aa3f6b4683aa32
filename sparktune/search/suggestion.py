"""From proposed configurations to hyperopt's trial documents."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from sparktune.search.history import History, history_of
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace, space_of

logger = logging.getLogger("sparktune")


class Propose(Protocol):
    """A search algorithm on configurations, without hyperopt's documents."""

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


_WARNED: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
"""Domain, of which there is one per study -> the warnings that were logged."""


def warn_once(domain: Any, message: str, *values: Any) -> None:
    """Log a warning once per study, for suggest functions, which are called for every trial."""
    warned = _WARNED.setdefault(domain, set())
    if message not in warned:
        warned.add(message)
        logger.warning(message, *values)


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
    return [
        new_document(new_id, space.config(row), space.column, domain, trials, marks[i] if marks else {})
        for i, (new_id, row) in enumerate(zip(new_ids, rows, strict=False))
    ]


def new_document(
    new_id: int,
    config: Mapping[str, Any],
    labels: Collection[str],
    domain: Any,
    trials: Any,
    mark: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """The trial document of one configuration.

    Args:
        new_id: its ``tid``.
        config: active label -> raw value.
        labels: every label of the space.
        domain: as for ``suggestions``.
        trials: as for ``suggestions``.
        mark: the entries in ``misc`` beside hyperopt's.
    """
    misc = {
        "tid": new_id,
        "cmd": domain.cmd,
        "workdir": domain.workdir,
        "idxs": {label: [new_id] if label in config else [] for label in labels},
        "vals": {label: [config[label]] if label in config else [] for label in labels},
        **mark,
    }
    (document,) = trials.new_trial_docs([new_id], [None], [domain.new_result()], [misc])
    return document


def is_ours(algo: Any) -> bool:
    """Whether a suggest function is one of sparktune's."""
    while isinstance(algo, functools.partial):
        algo = algo.func
    return str(getattr(algo, "__module__", "")).startswith("sparktune.search.")


NOT_ADAPTIVE = frozenset(
    ("hyperopt.rand", "sparktune.search.grid", "sparktune.search.rand", "sparktune.search.sobol")
)
"""Modules of the suggest functions that do not use results."""


def is_adaptive(algo: Any) -> bool:
    """Whether a suggest function learns from results; True for an unknown one."""
    while isinstance(algo, functools.partial):
        algo = algo.func
    return getattr(algo, "__module__", None) not in NOT_ADAPTIVE
