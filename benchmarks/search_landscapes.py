"""Spaces of choices only, for search.py: tables with interactions and strong local optima.

Each landscape is a whole table, so that its best cell is known and an evaluation is one look-up.
"""

from __future__ import annotations

import numpy as np
from hyperopt import hp
from search_functions import Config, Problem


def of_table(losses: np.ndarray) -> Problem:
    """A problem whose parameters are the axes of a table, each a choice."""
    names = [f"c{i}" for i in range(losses.ndim)]
    space = {name: hp.choice(name, list(range(size))) for name, size in zip(names, losses.shape, strict=True)}

    def truth(config: Config) -> float:
        return float(losses[tuple(int(config[name]) for name in names)])

    return Problem(f"categorical {losses.ndim}-d", space, truth, float(losses.min()))


def nk_table(sizes: tuple[int, ...], k: int, seed: int) -> np.ndarray:
    """Kauffman and Levin 1987: each choice costs a random number that depends on it and on ``k`` others.

    The more others, the more local optima.
    """
    rng = np.random.default_rng(seed)
    losses = np.zeros(sizes)
    for i in range(len(sizes)):
        others = rng.permutation([j for j in range(len(sizes)) if j != i])[:k]
        shape = [size if j == i or j in others else 1 for j, size in enumerate(sizes)]
        losses += rng.random(shape)
    return losses / len(sizes)


def pairs_table(sizes: tuple[int, ...], n_pairs: int, seed: int) -> np.ndarray:
    """Each choice has its own effect, of falling weight; some pairs have one as large together."""
    rng = np.random.default_rng(seed)
    weights = rng.permutation(0.75 ** np.arange(len(sizes)))
    losses = np.zeros(sizes)
    for i, size in enumerate(sizes):
        losses += weights[i] * rng.random([size if j == i else 1 for j in range(len(sizes))])
    for _ in range(n_pairs):
        pair = rng.choice(len(sizes), 2, replace=False)
        shape = [size if j in pair else 1 for j, size in enumerate(sizes)]
        losses += np.sqrt(weights[pair].prod()) * rng.random(shape)
    return losses


def basins_table(sizes: tuple[int, ...], n_basins: int, seed: int) -> np.ndarray:
    """Some cells are bottoms of basins, in which the loss grows with the number of choices that differ.

    The deeper a basin, the narrower; ripples of an NK landscape on the whole.
    """
    rng = np.random.default_rng(seed)
    losses = np.full(sizes, np.inf)
    for rank in range(n_basins):
        bottom = [rng.integers(size) for size in sizes]
        weights = rng.dirichlet(np.full(len(sizes), 3.0))
        distance = np.zeros(sizes)
        for i, size in enumerate(sizes):
            shape = [size if j == i else 1 for j in range(len(sizes))]
            distance += weights[i] * (np.arange(size) != bottom[i]).reshape(shape)
        losses = np.minimum(losses, 0.12 * rank + (1 - 0.12 * rank) * distance ** (0.6 + 0.25 * rank))
    return losses + 0.1 * nk_table(sizes, 1, seed + 1)


def nk8() -> Problem:
    """8 choices of 2 to 6, each coupled with two others: 17,280 cells."""
    return of_table(nk_table((3, 4, 2, 5, 3, 4, 2, 6), 2, 8))


def nk12() -> Problem:
    """12 choices of 2 or 3, each coupled with three others: 46,656 cells."""
    return of_table(nk_table((2, 3) * 6, 3, 12))


def basins9() -> Problem:
    """9 choices of 2 to 6, four basins: 62,208 cells."""
    return of_table(basins_table((2, 2, 4, 3, 3, 6, 2, 6, 6), 4, 9))


def pairs10() -> Problem:
    """10 choices of 2 to 5, twelve pairs that interact: 86,400 cells."""
    return of_table(pairs_table((2, 3, 5, 2, 4, 3, 2, 5, 3, 4), 12, 10))
