"""Search spaces for the tests of search algorithms, and what hyperopt itself would say of a point in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hyperopt import hp, pyll
from hypothesis import strategies as st

from sparktune.space.view import SpaceView

KINDS: dict[str, Any] = {
    "uniform": hp.uniform("x", -2, 5),
    "quniform": hp.quniform("x", 1, 9.5, 0.5),
    "loguniform": hp.loguniform("x", -8, 1),
    "qloguniform": hp.qloguniform("x", -1, 4, 2),
    "normal": hp.normal("x", 3, 2),
    "qnormal": hp.qnormal("x", -3, 2, 0.25),
    "lognormal": hp.lognormal("x", 1, 0.5),
    "qlognormal": hp.qlognormal("x", 0, 1, 0.5),
    "randint": hp.randint("x", 7),
    "randint of two": hp.randint("x", -3, 4),
    "randint of many": hp.randint("x", 1, 2_000_001),
    "uniformint": hp.uniformint("x", 1, 20),
    "choice": hp.choice("x", ["a", None, 3]),
    "choice of one": hp.choice("x", ["a"]),
    "pchoice": hp.pchoice("x", [(0.2, "a"), (0.0, "never"), (0.8, "b")]),
}
"""One node of each kind, under the label ``x``."""

SHARED = hp.uniform("shared", 0, 1)
SHARED_CHOICE = hp.choice("shared choice", [{"deep": hp.normal("deep", 0, 1)}, {"no": 1}])

COMPUTED: dict[str, Any] = {
    "whole number": pyll.scope.switch(
        hp.uniformint("n", 0, 2), {"a": hp.uniform("a", 0, 1)}, hp.normal("b", 0, 1), hp.choice("c", "xy")
    ),
    "of every second": pyll.scope.switch(
        pyll.scope.int(hp.quniform("n", 0, 2, 2)), hp.uniform("a", 0, 1), "never", hp.uniform("c", 0, 1)
    ),
    "sum": pyll.scope.switch(
        pyll.scope.sub(hp.randint("r", 1, 4), 1), hp.uniform("a", 0, 1), 0.5, hp.uniform("c", 0, 1)
    ),
    "by name": pyll.scope.kwswitch(
        hp.choice("name", ["one", "two"]), one=hp.uniform("a", 0, 1), two=hp.uniform("b", 0, 1)
    ),
    "several parameters": pyll.scope.switch(
        pyll.scope.add(hp.randint("r", 2), hp.randint("s", 2)),
        hp.uniform("a", 0, 1),
        0.5,
        hp.uniform("c", 0, 1),
    ),
    "a number cut": pyll.scope.switch(
        pyll.scope.int(hp.uniform("n", 0, 1.9)), hp.uniform("a", 0, 1), hp.uniform("b", 0, 1)
    ),
}
"""Choices whose index the space computes."""

CONDITIONAL: dict[str, Any] = {
    "lr": hp.loguniform("lr", -10, 0),
    "model": hp.choice(
        "model",
        [
            {"name": "svm", "C": hp.lognormal("C", 0, 1), "momentum": SHARED, "net": SHARED_CHOICE},
            {
                "name": "forest",
                "depth": pyll.scope.int(hp.quniform("depth", 1, 20, 1)),
                "split": hp.pchoice(
                    "split", [(0.3, "gini"), (0.7, {"by": "entropy", "base": hp.uniformint("base", 2, 10)})]
                ),
            },
            {"name": "boost", "rounds": hp.qloguniform("rounds", 2, 6, 10), "momentum": SHARED},
            {"name": "again", "net": SHARED_CHOICE},
            {"name": "nothing"},
        ],
    ),
    "seed": hp.randint("seed", 5),
}
"""Branches within branches, a parameter and a branching one shared by two branches, an empty branch."""

FINITE_CHOICE = hp.choice("shared choice", [{"deep": hp.randint("deep", 2)}, {"no": 1}])
FINITE: dict[str, Any] = {
    "width": hp.quniform("width", 0.05, 0.31, 0.1),
    "model": hp.choice(
        "model",
        [
            {"C": hp.qloguniform("C", 0, 1, 0.5), "net": FINITE_CHOICE},
            {
                "depth": hp.uniformint("depth", 1, 4),
                "split": hp.pchoice("split", [(0.3, "gini"), (0.7, "entropy")]),
            },
            {"net": FINITE_CHOICE},
            {},
        ],
    ),
    "seed": hp.randint("seed", 5, 7),
}
"""Of finitely many configurations: 3 * 2 * (4 * 3 + 4 * 2 + 3 + 1) = 144."""
FINITE_SIZE = 144

FINITE_KINDS = (
    "quniform",
    "qloguniform",
    "randint",
    "randint of two",
    "uniformint",
    "choice",
    "choice of one",
    "pchoice",
)


def config_of(document: dict[str, Any]) -> dict[str, Any]:
    """Label -> value of the active labels."""
    return {label: values[0] for label, values in document["misc"]["vals"].items() if values}


def assert_point_fits(space: Any, config: dict[str, Any]) -> None:
    """The point has exactly the labels that it needs, and values that hyperopt's distributions can give."""
    expression = pyll.as_apply(space)
    assert SpaceView(expression).active_labels(config) == set(config)
    for node in pyll.dfs(expression):
        if node.name == "hyperopt_param" and node.arg["label"].obj in config:
            assert_value_fits(node.arg["obj"], config[node.arg["label"].obj])


def assert_value_fits(dist: Any, value: Any) -> None:
    """A value that one of hyperopt's distributions can give, as plain Python number."""
    args = {name: pyll.rec_eval(node) for name, node in dist.arg.items() if hasattr(node, "name")}
    name = dist.name
    if name == "randint":
        first, end = (0, args["low"]) if args.get("high") is None else (args["low"], args["high"])
        assert type(value) is int
        assert first <= value < end
        return
    if name == "categorical":
        assert type(value) is int
        assert args["p"][value] > 0
        return
    assert type(value) in (int, float)
    assert math.isfinite(value)
    slack = 0.0
    if name.startswith("q"):
        q = args["q"]
        assert value == np.round(value / q) * q
        slack = q / 2
    low, high = args.get("low", -math.inf), args.get("high", math.inf)
    if "log" in name:
        assert value >= 0
        low, high = math.exp(low), math.exp(high) if high < 700 else math.inf
    assert low - slack - 1e-9 * abs(low if low > -math.inf else 0) <= value
    assert value <= high + slack + 1e-9 * abs(high if high < math.inf else 0)


LEAVES = (
    lambda label, a, b: hp.uniform(label, a, a + b),
    lambda label, a, b: hp.quniform(label, a, a + b, b / 5),
    lambda label, a, b: hp.loguniform(label, a / 10, a / 10 + b / 10),
    lambda label, a, b: hp.qloguniform(label, a / 10, a / 10 + b / 10, b / 7),
    lambda label, a, b: hp.normal(label, a, b),
    lambda label, a, b: hp.qnormal(label, a, b, b / 3),
    lambda label, a, b: hp.lognormal(label, a / 10, b / 10),
    lambda label, a, b: hp.qlognormal(label, a / 10, b / 10, 0.1),
    lambda label, a, b: hp.randint(label, int(b) + 1),
    lambda label, a, b: hp.randint(label, int(a), int(a) + int(b) + 1),
    lambda label, a, b: hp.uniformint(label, int(a), int(a) + int(b) + 1),
)
FINITE_LEAVES = (LEAVES[1], LEAVES[3], *LEAVES[8:])


@st.composite
def nested_spaces(draw: st.DrawFn, finite: bool = False) -> Any:
    """Dicts of parameters, choices of such dicts, parameters shared between branches."""
    leaves = FINITE_LEAVES if finite else LEAVES
    n_labels = 0
    shared: list[Any] = []

    def label() -> str:
        nonlocal n_labels
        n_labels += 1
        return f"p{n_labels}"

    def leaf() -> Any:
        if shared and draw(st.booleans()):
            return draw(st.sampled_from(shared))
        low = draw(st.floats(-20, 20).map(lambda x: round(x, 2)))
        width = draw(st.floats(0.5, 9).map(lambda x: round(x, 2)))
        node = draw(st.sampled_from(leaves))(label(), low, width)
        if draw(st.booleans()):
            shared.append(node)
        return node

    def branch(depth: int) -> dict[str, Any]:
        return {f"k{i}": part(depth) for i in range(draw(st.integers(0, 2 if depth else 3)))}

    def part(depth: int) -> Any:
        kind = draw(st.sampled_from(["leaf", "choice", "pchoice"] if depth < 2 else ["leaf"]))
        if kind == "leaf":
            return leaf()
        name = label()
        options = [
            branch(depth + 1) if draw(st.booleans()) else f"option {i}"
            for i in range(draw(st.integers(1, 3)))
        ]
        node = (
            hp.choice(name, options)
            if kind == "choice"
            else hp.pchoice(name, [(1 / len(options), option) for option in options])
        )
        if draw(st.booleans()):
            shared.append(node)
        return node

    return {"constant": 1, **branch(0)}
