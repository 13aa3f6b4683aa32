"""Points that were not tried before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparktune.search.history import History
from sparktune.search.parameters import Array

TRIES = 20
"""How often a point that was tried before is drawn again."""


class Tried:
    """The configurations of a history, and those proposed since.

    Args:
        history: finished and pending trials.
    """

    def __init__(self, history: History) -> None:
        self._values = np.concatenate([history.values, history.pending])
        self._missing = np.isnan(self._values)

    def __contains__(self, row: Array) -> bool:
        missing = np.isnan(row)
        same = (self._values == row) | (self._missing & missing)
        return bool(same.all(axis=1).any())

    def add(self, row: Array) -> None:
        """Count a configuration as tried."""
        self._values = np.vstack([self._values, row])
        self._missing = np.isnan(self._values)

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
