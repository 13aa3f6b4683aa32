"""Which trials a Gaussian process uses when there are too many: its cost grows with their cube."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOOD_SHARE = 0.5
"""The share of the best trials in a subset: near the optimum the process is to be exact."""


def representative(n: int, size: int) -> NDArray[np.intp]:
    """Which of ``n`` trials, best first, to keep: the best ones, and of the others every so many-th.

    It is deterministic: the same trials give the same subset.

    Args:
        n: how many there are.
        size: how many to keep, at most.
    """
    if n <= size:
        return np.arange(n)
    n_good = int(GOOD_SHARE * size)
    others = np.linspace(n_good, n - 1, size - n_good).round().astype(np.intp)
    return np.concatenate([np.arange(n_good), others])
