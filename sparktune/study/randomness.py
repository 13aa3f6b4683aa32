"""The one random stream of a study, also when its trials object is used again, and the seeds of trials."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np


def as_generator(rstate: Any) -> np.random.Generator:
    """The generator that ``rstate`` of ``fmin`` means.

    Args:
        rstate: a ``Generator`` (used as it is, and advanced), a ``RandomState`` (its bit generator is used,
            and advanced), a whole number (a seed), or None: the seed in the environment variable
            ``HYPEROPT_FMIN_SEED`` if it is set, else fresh entropy.

    Raises:
        TypeError: anything else.
        ValueError: a negative seed, or one in the environment that is no number.
    """
    if rstate is None:
        text = os.environ.get("HYPEROPT_FMIN_SEED", "")
        try:
            return np.random.default_rng(int(text) if text else None)
        except ValueError:
            raise ValueError(
                f"the environment variable HYPEROPT_FMIN_SEED is {text!r}; it must be a whole number >= 0"
            ) from None
    if isinstance(rstate, np.random.Generator):
        return rstate
    if isinstance(rstate, np.random.RandomState):
        return np.random.Generator(rstate._bit_generator)
    if isinstance(rstate, int | np.integer) and not isinstance(rstate, bool):
        if rstate < 0:
            raise ValueError(f"rstate is {rstate}; a seed must be >= 0")
        return np.random.default_rng(int(rstate))
    raise TypeError(
        f"rstate is {rstate!r} ({type(rstate).__name__}); give a numpy.random.Generator, a RandomState, "
        "or a seed"
    )


def fingerprint(generator: np.random.Generator) -> bytes:
    """The generator's state, to be compared."""
    return pickle.dumps(generator.bit_generator.state)


def continued(
    rstate: Any, known: np.random.Generator | None, began_with: bytes | None
) -> tuple[np.random.Generator, bytes]:
    """The stream for a call on a trials object, and the state with which that stream began.

    Without ``rstate`` the known stream goes on. With an ``rstate`` in the very state with which the known
    stream began (a cell run again, ``rstate=default_rng(42)``) it goes on too: starting it over would
    suggest the same points again. Any other ``rstate`` begins a new stream.
    """
    if known is not None and began_with is not None:
        if rstate is None:
            return known, began_with
        generator = as_generator(rstate)
        if fingerprint(generator) == began_with:
            return known, began_with
        return generator, fingerprint(generator)
    generator = as_generator(rstate)
    return generator, fingerprint(generator)


def seeds(began_with: bytes) -> Callable[[int], int]:
    """Trial id -> the seed of the trial's own random numbers, in [0, 2**32).

    Args:
        began_with: the state with which the study's stream began, so that the same study gives its trials the
            same seeds. Nothing is drawn from the stream: suggestions stay what they are.
    """
    state = pickle.loads(began_with)
    kind = getattr(np.random, state["bit_generator"], None)
    if kind is None:  # a bit generator of the user's
        entropy = int.from_bytes(hashlib.sha256(began_with).digest())
    else:
        bits = kind()
        bits.state = state
        entropy = int(np.random.Generator(bits).integers(2**63))

    def seed_of(trial_id: int) -> int:
        digest = hashlib.blake2b(f"{entropy} {trial_id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest)

    return seed_of
