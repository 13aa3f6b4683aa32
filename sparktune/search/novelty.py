"""Points that were not tried before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparktune.search.history import History
from sparktune.space.parameters import Array

TRIES = 20
"""How often a point that was tried before is drawn again."""


class Tried:
    """The configurations of a history, and those proposed since.

    Args:
        history: finished and pending trials.
    """

    def __init__(self, history: History) -> None:
        self._before = [history.values, history.pending]
        self._since: set[bytes] = set()

    def __contains__(self, row: Array) -> bool:
        return _key(row) in self._since or any(_has(rows, row) for rows in self._before)

    def add(self, row: Array) -> None:
        """Count a configuration as tried."""
        self._since.add(_key(row))

    def first_new(self, *draws: Callable[[], Array]) -> Array:
        """The first new configuration of ``TRIES`` from each source in turn; counted as tried from now on.

        In a finite space everything may have been tried: then the last one drawn.
        """
        row = draws[0]()
        for draw in draws:
            for _ in range(TRIES):
                if row not in self:
                    self.add(row)
                    return row
                row = draw()
        self.add(row)
        return row


def _key(row: Array) -> bytes:
    """Equal values, equal keys, also for NaN and for -0.0."""
    return np.where(np.isnan(row), np.nan, row + 0.0).tobytes()


def _has(rows: Array, row: Array) -> bool:
    """Whether a row is among ``(n, n_params)`` others; column by column, so that few are compared in all."""
    at = np.arange(len(rows))
    for column, value in enumerate(row):
        if not len(at):
            return False
        seen = rows[at, column]
        at = at[np.isnan(seen) if np.isnan(value) else seen == value]
    return len(at) > 0
