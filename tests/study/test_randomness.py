"""The study's one random stream: where it comes from, and when it goes on."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sparktune.study.randomness import SeedStream, as_generator, continued, fingerprint

pytestmark = pytest.mark.unit


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


BOUND = 2**31 - 1


def seeds_of(stream: SeedStream, n: int = 5) -> list[int]:
    return [int(stream.integers(BOUND)) for _ in range(n)]


def test_the_known_stream_goes_on() -> None:
    known = continued(42, None)
    seeds_of(known)
    for again in (None, 42, np.random.default_rng(42), known.generator):
        assert continued(again, known) is known
    assert continued(np.random.RandomState(42), known) is not known, "another bit generator, another stream"


def test_it_goes_on_in_another_process() -> None:
    known = continued(42, None)
    seeds_of(known)
    restored = pickle.loads(pickle.dumps(known))
    assert seeds_of(continued(np.random.default_rng(42), restored)) == seeds_of(known)


def test_another_seed_begins_another_stream() -> None:
    known = continued(42, None)
    other = continued(43, known)
    assert other is not known
    assert other.began_with != known.began_with
    assert seeds_of(other) == seeds_of(SeedStream(np.random.default_rng(43)))


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
@given(n=st.integers(0, 40))
def test_it_is_restored_from_text_and_the_number_of_draws(kind: str, n: int) -> None:
    stream = SeedStream(np.random.Generator(getattr(np.random, kind)(7)))
    text = stream.as_json()
    assert text is not None
    assert len(text) < 5000, "it is a tag in MLflow"
    seeds_of(stream, n)
    restored = SeedStream.from_json(text, stream.draws, BOUND)
    assert restored.draws == n
    assert restored.began_with == stream.began_with
    assert seeds_of(restored) == seeds_of(stream)


def test_a_stream_that_does_not_count_from_its_beginning() -> None:
    generator = np.random.default_rng(1)
    began_with = fingerprint(generator)
    generator.integers(10, size=3)
    stream = SeedStream(generator, began_with)
    restored = SeedStream.from_json(stream.as_json() or "", 0, BOUND)
    assert restored.began_with == began_with
    assert seeds_of(restored) == seeds_of(stream)


def test_a_bit_generator_of_the_users_has_no_text() -> None:
    class Mine(np.random.PCG64):
        @property
        def state(self) -> Any:
            return {"bit_generator": "Mine"}

    assert SeedStream(np.random.Generator(Mine(1))).as_json() is None


@pytest.mark.parametrize("text", ["{}", "[]", '{"origin": {"bit_generator": "nothing"}}', "1", "not JSON"])
def test_what_is_no_stream_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a random stream|Expecting value"):
        SeedStream.from_json(text, 0, BOUND)
