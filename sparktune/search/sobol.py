"""Quasi-random search: a scrambled Sobol sequence, which leaves smaller gaps than independent draws.

Owen-scrambled points of Joe and Kuo's direction numbers, by ``scipy.stats.qmc`` (Joe and Kuo 2008,
"Constructing Sobol sequences with better two-dimensional projections"; Owen 1998, "Scrambling Sobol' and
Niederreiter-Xing points").
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune.errors import InvalidSpace
from sparktune.private import of_hyperopt
from sparktune.search.suggestion import new_documents
from sparktune.space.parameters import Array
from sparktune.space.search_space import space_of

MAX_DIMENSIONS = 21201
"""Joe and Kuo's table of direction numbers ends here."""

_BLOCK = 256


def suggest(new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
    """The next points of one scrambled Sobol sequence over the whole study.

    The scramble's seed and the point's index are kept in each trial's ``misc["sobol"]``. So the sequence
    continues across calls, with many running trials, and in a resumed study, whatever seed a later call has.
    Each parameter has its own dimension, which is unused where the parameter is inactive.

    Args:
        new_ids: ids of the trials to suggest.
        domain: the ``hyperopt.Domain``.
        trials: the ``hyperopt.Trials`` so far.
        seed: of the scramble, read when the study has no point of a sequence yet.

    Returns:
        One trial document for each id.

    Raises:
        InvalidSpace: the space cannot be searched, or has more than 21,201 parameters.
    """
    space = space_of(domain)
    if len(space) > MAX_DIMENSIONS:
        raise InvalidSpace(
            f"the search space has {len(space):,} parameters, and Sobol sequences are known for up to "
            f"{MAX_DIMENSIONS:,} dimensions: use algo=rand.suggest"
        )
    miscs = [document["misc"] for document in of_hyperopt.documents(trials)]
    marks = [misc["sobol"] for misc in miscs if "sobol" in misc]
    if marks:
        latest = max(marks, key=lambda mark: int(mark["index"]))
        scramble, begin = int(latest["seed"]), int(latest["index"]) + 1
    else:
        scramble, begin = int(np.random.default_rng(seed).integers(2**31 - 1)), 0
    indices = range(begin, begin + len(new_ids))
    rows = space.from_unit(points(len(space), scramble, indices))
    new_marks = [{"sobol": {"seed": scramble, "index": index}} for index in indices]
    return new_documents(rows, new_ids, space, domain, trials, new_marks)


def points(n_dimensions: int, seed: int, indices: range) -> Array:
    """Points of the sequence by their indices, ``(len(indices), n_dimensions)``, in ``[0, 1)``."""
    if not n_dimensions or not indices:
        return np.empty((len(indices), n_dimensions))
    return np.stack([_block(n_dimensions, seed, i // _BLOCK)[i % _BLOCK] for i in indices])


@functools.lru_cache(maxsize=8)
def _block(n_dimensions: int, seed: int, block: int) -> Array:
    """Points from ``block * 256``, ``(256, n_dimensions)``: making one costs as much as making all."""
    from scipy.stats import qmc  # takes half a second, and few studies need it

    # The old name, which scipy accepts beside the new one (rng) since 1.15.
    sequence = qmc.Sobol(n_dimensions, scramble=True, seed=np.random.default_rng(seed))
    if block:
        sequence.fast_forward(block * _BLOCK)
    return np.asarray(sequence.random(_BLOCK))
