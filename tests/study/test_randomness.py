"""The study's one random stream: where it comes from, and when it goes on."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from sparktune.study.randomness import as_generator, continued


def draws(generator: np.random.Generator) -> list[int]:
    return generator.integers(1000, size=5).tolist()


def test_a_generator_is_used_as_it_is() -> None:
    generator = np.random.default_rng(1)
    assert as_generator(generator) is generator


@pytest.mark.parametrize("seed", [7, np.int32(7)])
def test_a_seed(seed: Any) -> None:
    assert draws(as_generator(seed)) == draws(np.random.default_rng(7))


def test_a_random_state_is_advanced() -> None:
    state = np.random.RandomState(7)
    first = draws(as_generator(state))
    assert first == draws(as_generator(np.random.RandomState(7)))
    assert first != draws(as_generator(state))


def test_the_environment_gives_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPEROPT_FMIN_SEED", "7")
    assert draws(as_generator(None)) == draws(np.random.default_rng(7))
    assert draws(as_generator(8)) == draws(np.random.default_rng(8))
    monkeypatch.setenv("HYPEROPT_FMIN_SEED", "seven")
    with pytest.raises(ValueError, match="HYPEROPT_FMIN_SEED is 'seven'"):
        as_generator(None)
    monkeypatch.setenv("HYPEROPT_FMIN_SEED", "")
    assert draws(as_generator(None)) != draws(as_generator(None))


@pytest.mark.parametrize(
    ("rstate", "error"), [(-1, ValueError), ("7", TypeError), (1.5, TypeError), (True, TypeError)]
)
def test_anything_else_is_refused(rstate: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="rstate is"):
        as_generator(rstate)


def test_the_known_stream_goes_on() -> None:
    known, began_with = continued(42, None, None)
    draws(known)
    for again in (None, 42, np.random.default_rng(42), np.random.RandomState(42), known):
        if not isinstance(again, np.random.RandomState):  # another bit generator, another stream
            assert continued(again, known, began_with)[0] is known


def test_it_goes_on_in_another_process() -> None:
    known, began_with = continued(42, None, None)
    draws(known)
    restored = pickle.loads(pickle.dumps(known))
    assert draws(continued(np.random.default_rng(42), restored, began_with)[0]) == draws(known)


def test_another_seed_begins_another_stream() -> None:
    known, began_with = continued(42, None, None)
    other, other_began_with = continued(43, known, began_with)
    assert other is not known
    assert other_began_with != began_with
    assert draws(other) == draws(np.random.default_rng(43))
