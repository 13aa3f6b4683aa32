"""Which arguments are whole numbers: hyperopt takes ``4.0`` and numpy's where Python's ``range`` does not."""

from __future__ import annotations

import numbers
import operator
from typing import Any


def as_whole(value: Any) -> int | None:
    """A whole number as an ``int``, whatever type it has; None for anything else.

    ``4``, ``4.0``, ``numpy.int64(4)`` and ``numpy.float64(4)`` are 4; ``True``, ``"4"`` and infinity are
    not whole numbers.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):  # numpy's is an index below 1.24
        return None
    try:
        return operator.index(value)
    except TypeError:
        is_whole = isinstance(value, numbers.Real) and float(value).is_integer()
        return int(value) if is_whole else None
