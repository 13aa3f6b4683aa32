"""The one random stream of a study, also when its trials object is used again, and the seeds of trials."""

from __future__ import annotations

import base64
import hashlib
import json
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
        ValueError: a negative seed, or one in the environment that is not a number.
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


class SeedStream:
    """The stream of seeds from which a study draws its suggestions.

    Args:
        generator: where the seeds come from; advanced by each.
        began_with: ``fingerprint`` of the state with which the study's stream began; that of ``generator``
            now by default.

    Attributes:
        origin: ``fingerprint`` of the state from which ``draws`` are counted.
        draws: how many seeds have been drawn since.
    """

    def __init__(self, generator: np.random.Generator, began_with: bytes | None = None) -> None:
        self.generator = generator
        self.origin = fingerprint(generator)
        self.began_with = began_with or self.origin
        self.draws = 0

    def integers(self, low: int, /) -> Any:
        """A random integer in ``[0, low)``."""
        self.draws += 1
        return self.generator.integers(low)

    def as_json(self) -> str | None:
        """What ``from_json`` needs beside the number of draws; None for a bit generator outside numpy."""
        origin, began = (_state_json(pickle.loads(state)) for state in (self.origin, self.began_with))
        if origin is None or began is None:
            return None
        known = {"origin": origin} if origin == began else {"origin": origin, "began_with": began}
        return json.dumps(known, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, draws: int, bound: int) -> SeedStream:
        """The stream as it was after ``draws`` seeds in ``[0, bound)``.

        Raises:
            ValueError: the text was not made by ``as_json``.
        """
        try:
            known = json.loads(text)
            generator = _generator_of(known["origin"])
            began_with = fingerprint(_generator_of(known.get("began_with", known["origin"])))
        except (KeyError, TypeError, AttributeError) as error:
            cause = f"{type(error).__name__}: {error}"
            raise ValueError(f"not a random stream ({cause}): {text[:200]!r}") from error
        stream = cls(generator, began_with)
        while stream.draws < draws:
            stream.integers(bound)
        return stream


_BYTES = "uint8 in base64"


def _state_json(state: Any) -> Any:
    """The state of one of numpy's bit generators in plain values; None for another."""
    if not isinstance(getattr(np.random, str(state["bit_generator"]), None), type):
        return None

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, np.ndarray):
            return {_BYTES: base64.b64encode(value.tobytes()).decode(), "dtype": value.dtype.str}
        return value.item() if isinstance(value, np.generic) else value

    return plain(state)


def _generator_of(state: Any) -> np.random.Generator:
    def rich(value: Any) -> Any:
        if isinstance(value, dict) and _BYTES in value:
            return np.frombuffer(base64.b64decode(value[_BYTES]), np.dtype(value["dtype"])).copy()
        return {key: rich(entry) for key, entry in value.items()} if isinstance(value, dict) else value

    bits = getattr(np.random, state["bit_generator"])()
    bits.state = rich(state)
    return np.random.Generator(bits)


def continued(rstate: Any, known: SeedStream | None) -> SeedStream:
    """The stream for a call on a trials object.

    Without ``rstate`` the known stream continues. With an ``rstate`` in the very state with which the known
    stream began (a cell run again, ``rstate=default_rng(42)``) it continues too: starting it over would
    suggest the same points again. Any other ``rstate`` begins a new stream.
    """
    if known is None:
        return SeedStream(as_generator(rstate))
    if rstate is None:
        return known
    generator = as_generator(rstate)
    is_known = generator is known.generator or fingerprint(generator) == known.began_with
    return known if is_known else SeedStream(generator)


def seeds(began_with: bytes) -> Callable[[int], int]:
    """Trial id -> the seed of the trial's own random numbers, in [0, 2**32).

    Args:
        began_with: the state with which the study's stream began, so that the same study gives its trials the
            same seeds. Nothing is drawn from the stream: suggestions stay what they are.
    """
    state = pickle.loads(began_with)
    kind = getattr(np.random, state["bit_generator"], None)
    if kind is None:  # a bit generator outside numpy
        entropy = int.from_bytes(hashlib.sha256(began_with).digest())
    else:
        bits = kind()
        bits.state = state
        entropy = int(np.random.Generator(bits).integers(2**63))

    def seed_of(trial_id: int) -> int:
        digest = hashlib.blake2b(f"{entropy} {trial_id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest)

    return seed_of
