"""Options that are objects have names: the same in each process, and different for different options."""

from __future__ import annotations

import functools
import math
import os.path
from typing import Any

import numpy as np
import pytest
from hyperopt import hp

from sparktune._naming import named
from sparktune.space.signature import signature
from sparktune.space.view import SpaceView

pytestmark = pytest.mark.unit


def relu(x: float) -> float:
    return max(x, 0.0)


class Layer:
    def call(self) -> None: ...

    @classmethod
    def make(cls) -> None: ...


class WithText:
    def __repr__(self) -> str:
        return "WithText()"


def closure(n: int) -> Any:
    def add(x: int) -> int:
        return x + n

    return add


def test_what_has_a_text_stays() -> None:
    options = ["a", 1, 2.5, None, True, (1, "b"), {"k": [1]}, Layer, np.tanh, WithText(), math.sin]
    assert all(a is b for a, b in zip(named(options), options, strict=True))


def test_objects_are_told_by_name() -> None:
    here = __name__
    options = [
        relu, Layer().call, Layer(), functools.partial(relu, 1, f=os.path.join), [relu, Layer()], {"f": relu},
    ]  # fmt: skip
    assert named(options) == [
        f"{here}.relu",
        f"{here}.Layer.call",
        f"<{here}.Layer object>",
        f"partial({here}.relu, 1, f=posixpath.join)",
        f"[<function relu>, <{here}.Layer object>]",
        "{'f': <function relu>}",
    ]


def test_different_options_have_different_names() -> None:
    lambdas = [lambda x: x, lambda x: 2 * x]
    options = [*lambdas, closure(1), closure(2), Layer(), Layer(), relu, f"{__name__}.relu"]
    names = named(options)
    assert len(set(names)) == len(options)
    assert names[0].endswith("<lambda> (option 0)")
    assert names[7] == options[7]
    assert " at 0x" not in "".join(names)


def test_no_address_leaves_the_space() -> None:
    options = [relu, lambda x: x, Layer(), [closure(1)], "plain", {"act": relu, "n": hp.uniform("n", 0, 1)}]
    view = SpaceView({"act": hp.choice("act", options), "p": hp.pchoice("p", [(0.5, relu), (0.5, Layer())])})
    shown = [view.params({"act": i, "p": i % 2, "n": 0.5}) for i in range(len(options))]
    for text in (str(shown), view.text, str(signature(view))):
        assert " at 0x" not in text
