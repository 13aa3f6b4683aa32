"""What search algorithms learn from: the trials of a study as arrays, read from hyperopt's documents.

Documents of trials that are over do not change, so they are read once per trials object.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE, JOB_STATE_ERROR, STATUS_OK
from numpy.typing import NDArray

from sparktune.private import of_hyperopt
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace


def config_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Label -> raw value of a trial document, active labels only."""
    return {label: values[0] for label, values in document["misc"]["vals"].items() if len(values)}


@dataclass(frozen=True)
class History:
    """The trials so far.

    Attributes:
        values: ``(n, n_params)`` configurations of finished trials, in the order of their documents.
        losses: ``(n,)``; infinite where the trial failed.
        is_weak: ``(n,)`` terminated early or failed: bad, whatever their loss is.
        pending: ``(m, n_params)`` configurations of trials that run or wait.
    """

    values: Array
    losses: Array
    is_weak: NDArray[np.bool_]
    pending: Array

    @property
    def n_finished(self) -> int:
        """Trials to learn from."""
        return len(self.losses)

    def ranks_best_first(self) -> NDArray[np.intp]:
        """Indices of the finished trials, best first: completed ones by loss, then the weak ones."""
        return np.lexsort((self.losses, self.is_weak))


@dataclass
class _Table:
    """Rows of the finished trials of one trials object; grown by doubling."""

    space: SearchSpace
    values: Array
    losses: Array
    is_weak: NDArray[np.bool_]
    results: list[Any] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)  # kept, so that their ids are not reused
    seen: dict[int, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, space: SearchSpace) -> _Table:
        return cls(space, np.empty((16, len(space))), np.empty(16), np.empty(16, bool))

    def add(self, document: Mapping[str, Any]) -> None:
        n = len(self.results)
        if n == len(self.losses):
            self.values = np.concatenate([self.values, np.empty_like(self.values)])
            self.losses = np.concatenate([self.losses, np.empty_like(self.losses)])
            self.is_weak = np.concatenate([self.is_weak, np.empty_like(self.is_weak)])
        self.values[n] = self.space.row(config_of(document))
        self.losses[n], self.is_weak[n] = _loss(document)
        self.results.append(document["result"])
        self.documents.append(document)
        self.seen[id(document)] = n


_TABLES: weakref.WeakKeyDictionary[Any, _Table] = weakref.WeakKeyDictionary()


def history_of(trials: Any, space: SearchSpace) -> History:
    """The history of a ``hyperopt.Trials`` (all its documents, also those that failed).

    Cancelled trials are left out.
    """
    table = _TABLES.get(trials)
    if table is None or table.space is not space:
        table = _TABLES[trials] = _Table.empty(space)
    documents = of_hyperopt.documents(trials)
    pending: list[Array] = []
    n_over = 0
    for document in documents:
        state = document["state"]
        if state in (JOB_STATE_DONE, JOB_STATE_ERROR):
            at = table.seen.get(id(document))
            if at is None:
                table.add(document)
            elif table.results[at] is not document["result"]:
                return _reread(trials, space)
            n_over += 1
        elif state != JOB_STATE_CANCEL:
            pending.append(space.row(config_of(document)))
    if n_over != len(table.results):
        return _reread(trials, space)
    n = n_over
    return History(
        values=table.values[:n],
        losses=table.losses[:n],
        is_weak=table.is_weak[:n],
        pending=np.array(pending) if pending else np.empty((0, len(space))),
    )


def _reread(trials: Any, space: SearchSpace) -> History:
    """Read all again: documents were removed or replaced (``delete_all``, trials filled manually)."""
    _TABLES.pop(trials, None)
    return history_of(trials, space)


def _loss(document: Mapping[str, Any]) -> tuple[float, bool]:
    """The loss, infinite for a failure, and whether the trial is bad by other means than its loss."""
    result = document["result"]
    loss = result.get("loss")
    if document["state"] == JOB_STATE_ERROR or result.get("status") != STATUS_OK or loss is None:
        return math.inf, True
    value = float(loss)
    if math.isnan(value):
        return math.inf, True
    return value, "early_terminated" in document["misc"]
