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
        self._known = {*_keys(history.values), *_keys(history.pending)}

    def __contains__(self, row: Array) -> bool:
        return _keys(row[None])[0] in self._known

    def add(self, row: Array) -> None:
        """Count a configuration as tried."""
        self._known.add(_keys(row[None])[0])

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


def _keys(values: Array) -> list[bytes]:
    """A key for each configuration: equal values, equal keys, also for NaN and for -0.0."""
    plain = np.where(np.isnan(values), np.nan, values + 0.0)
    data, size = plain.tobytes(), plain.itemsize * plain.shape[1]
    return [data[i * size : (i + 1) * size] for i in range(len(plain))]
