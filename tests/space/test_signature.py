"""A space in words: the same in every process, and compared parameter by parameter."""

from __future__ import annotations

from typing import Any

import pytest

from sparktune import hp
from sparktune.space.signature import signature
from sparktune.space.view import SpaceView

pytestmark = pytest.mark.unit


def of(space: Any) -> dict[str, str]:
    return signature(SpaceView(space))


class Thing:
    """An option whose text names its address."""


def space(thing: Any = None) -> Any:
    return {
        "x": hp.uniform("x", 0, 1),
        "kind": hp.choice("kind", ["a", thing, {"depth": hp.randint("depth", 1, 4)}]),
    }


def test_it_tells_distributions_options_and_conditions() -> None:
    found = of(space())
    assert found["x"].endswith("uniform(0, 1)")
    assert "'a', None, 'option 2'" in found["kind"]
    assert found["depth"].endswith(", where kind=2")


def test_objects_are_the_same_in_every_process() -> None:
    assert of(space(Thing())) == of(space(Thing()))
