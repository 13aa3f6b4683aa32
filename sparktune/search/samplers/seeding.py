"""Seeds a sampler for one call.

Optuna's samplers are seeded when they are made, and their ``reseed_rng`` takes its seed from the operating
system. So the random generators that an object holds are looked for and seeded one by one.
"""

from __future__ import annotations

import random
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Stream = np.random.RandomState | np.random.Generator | random.Random
_NOT_LOOKED_INTO = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, np.ndarray)


def reseed(sampler: Any, seed: Any) -> None:
    """Seed every generator of numpy and of ``random`` that a sampler holds, at any depth.

    Args:
        sampler: changed in place.
        seed: what ``numpy.random.default_rng`` takes.
    """
    rng = np.random.default_rng(seed)
    for stream in _streams(sampler, set()):
        word = int(rng.integers(2**32))
        if isinstance(stream, np.random.Generator):
            kind = type(stream.bit_generator)
            stream.bit_generator.state = kind(word).state
        else:
            stream.seed(word)


def _streams(thing: Any, seen: set[int]) -> Iterator[Stream]:
    """In the order of attributes, which is the same in every process."""
    if id(thing) in seen or isinstance(thing, _NOT_LOOKED_INTO):
        return
    seen.add(id(thing))
    if isinstance(thing, Stream):
        yield thing
        return
    if isinstance(thing, Mapping):
        parts = list(thing.values())
    elif isinstance(thing, list | tuple):
        parts = list(thing)
    else:
        if isinstance(getattr(type(thing), "rng", None), property):
            _ = thing.rng  # Optuna's samplers make theirs when it is first asked for
        parts = list(getattr(thing, "__dict__", {}).values())
    for part in parts:
        yield from _streams(part, seen)
