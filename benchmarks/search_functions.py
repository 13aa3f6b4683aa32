"""What search.py searches: test functions, continuous, mixed, in steps, and conditional.

A problem's functions take a flat configuration, ``{label: number}`` of the active labels, a choice by its
index: what hyperopt keeps in ``trial["misc"]["vals"]``. All are to be minimized and cost well below a
millisecond.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hyperopt import hp

Config = Mapping[str, float]


def lognormal_s(_config: Config, rng: np.random.Generator) -> float:
    """How long an evaluation takes where the configuration does not decide it."""
    return float(rng.lognormal(4.0, 0.6))


@dataclass(frozen=True)
class Problem:
    """What to search.

    Attributes:
        kind: for the tables, "continuous 2-d".
        space: an ``hp`` space.
        truth: configuration -> loss without noise, by which regret is judged.
        best: the lowest ``truth`` there is.
        seconds: (configuration, random generator) -> virtual seconds of an evaluation.
        noisy: (configuration, random generator) -> what an evaluation observes, or None: the truth.
        is_continuous: no two suggestions need ever be close, so that near-duplicates are counted.
    """

    kind: str
    space: Any
    truth: Callable[[Config], float]
    best: float
    seconds: Callable[[Config, np.random.Generator], float] = lognormal_s
    noisy: Callable[[Config, np.random.Generator], float] | None = None
    is_continuous: bool = False

    def observe(self, config: Config, rng: np.random.Generator) -> float:
        """The loss that an evaluation returns."""
        return self.truth(config) if self.noisy is None else self.noisy(config, rng)


def _cube(n: int, low: float, high: float) -> tuple[list[str], dict[str, Any]]:
    names = [f"x{i}" for i in range(n)]
    return names, {name: hp.uniform(name, low, high) for name in names}


# -- continuous --------------------------------------------------------------------------------------------


def camel() -> Problem:
    """The six-hump camel function (Dixon and Szego 1978): six minima, two of them global."""

    def truth(config: Config) -> float:
        x, y = config["x"], config["y"]
        return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2

    space = {"x": hp.uniform("x", -3, 3), "y": hp.uniform("y", -2, 2)}
    return Problem("continuous 2-d", space, truth, -1.031628453489877, is_continuous=True)


def levy() -> Problem:
    """Levy's function (Laguna and Marti 2005): a bowl with waves along each axis, 0 at (1, ..., 1)."""
    names, space = _cube(6, -10, 10)

    def truth(config: Config) -> float:
        w = 1 + (np.array([config[name] for name in names]) - 1) / 4
        waves = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
        last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
        return float(np.sin(np.pi * w[0]) ** 2 + waves.sum() + last)

    return Problem("continuous 6-d", space, truth, 0.0, is_continuous=True)


def rastrigin() -> Problem:
    """Rastrigin's function, rotated and off the middle: a bowl full of small holes, 0 at its centre."""
    rng = np.random.default_rng(10)
    names, space = _cube(10, -5.12, 5.12)
    centre = rng.uniform(-2.5, 2.5, 10)
    rotation = np.linalg.qr(rng.standard_normal((10, 10)))[0]

    def truth(config: Config) -> float:
        z = rotation @ (np.array([config[name] for name in names]) - centre)
        return float((z**2 + 10 * (1 - np.cos(2 * np.pi * z))).sum())

    return Problem("continuous 10-d", space, truth, 0.0, is_continuous=True)


# -- mixed, and steps --------------------------------------------------------------------------------------


def mixed() -> Problem:
    """6 uniform, 5 logarithmic, 4 whole numbers, 5 choices, of falling weight, neighbours coupled.

    Where the optimum of the first number lies depends on the first choice.
    """
    rng = np.random.default_rng(20)
    space: dict[str, Any] = {f"u{i}": hp.uniform(f"u{i}", 0, 1) for i in range(6)}
    space |= {f"l{i}": hp.loguniform(f"l{i}", math.log(1e-4), 0) for i in range(5)}
    space |= {f"q{i}": hp.quniform(f"q{i}", 0, 16, 1) for i in range(4)}
    sizes = (3, 4, 2, 5, 3)
    space |= {f"c{i}": hp.choice(f"c{i}", list(range(size))) for i, size in enumerate(sizes)}
    target = rng.uniform(0.15, 0.85, 15)
    target[11:] = np.round(target[11:] * 16) / 16
    order = np.concatenate([[0], 1 + rng.permutation(14)])
    weight = 0.8 ** np.arange(15)
    coupling = np.diag(np.ones(15)) + 0.4 * (np.eye(15, k=1) + np.eye(15, k=-1))
    form = coupling * np.sqrt(np.outer(weight, weight))
    costs = [
        rng.permutation(size) * height / (size - 1)
        for size, height in zip(sizes, (0.2, 0.15, 0.1, 0.05, 0.02), strict=True)
    ]
    shift = rng.permutation(3) * 0.25 - 0.25

    def truth(config: Config) -> float:
        at = [config[f"u{i}"] for i in range(6)]
        at += [1 + math.log(config[f"l{i}"]) / math.log(1e4) for i in range(5)]
        at += [config[f"q{i}"] / 16 for i in range(4)]
        z = np.array(at) - target
        z[0] -= shift[int(config["c0"])]
        z = z[order]
        ripples = float((0.02 * weight * (1 - np.cos(6 * np.pi * z))).sum())
        return float(z @ form @ z) + ripples + sum(costs[i][int(config[f"c{i}"])] for i in range(5))

    return Problem("mixed 20-d", space, truth, 0.0)


def steps() -> Problem:
    """Constant in each cell of an uneven grid, as the response of a tree is: 8 cells along 5 axes."""
    rng = np.random.default_rng(5)
    names, space = _cube(5, 0, 1)
    cuts = np.sort(rng.uniform(0.03, 0.97, (5, 7)), axis=1)
    edges = np.concatenate([np.zeros((5, 1)), cuts, np.ones((5, 1))], axis=1)
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    centre, weight = rng.uniform(0.2, 0.8, 5), np.array([4.0, 2.0, 1.0, 0.5, 0.25])

    def of_cells(cells: Any) -> Any:
        z = (middles[np.arange(5), cells] - centre) @ rotation.T
        return (weight * z**2).sum(axis=-1)

    def truth(config: Config) -> float:
        return float(of_cells([np.searchsorted(cuts[i], config[name]) for i, name in enumerate(names)]))

    best = of_cells(np.array(list(itertools.product(range(8), repeat=5)))).min()
    return Problem("steps 5-d", space, truth, float(best))


# -- conditional -------------------------------------------------------------------------------------------


def _basin(*offsets: float) -> float:
    """From 0 in the middle to 1 far away; an offset of 1 in one parameter is at two thirds."""
    return 1 - math.exp(-sum(offset**2 for offset in offsets))


def models() -> Problem:
    """Which of four models, and its parameters: the best one is the hardest to set, and mostly bad."""
    space = hp.choice(
        "model",
        [
            {"C": hp.loguniform("linear_C", -9, 5), "l1": hp.uniform("l1", 0, 1)},
            {"k": hp.quniform("k", 1, 50, 1), "metric": hp.choice("metric", ["l1", "l2", "max"])},
            {
                "depth": hp.quniform("depth", 2, 20, 1),
                "leaf": hp.qloguniform("leaf", 0, 4, 1),
                "features": hp.uniform("features", 0.1, 1),
            },
            {
                "rate": hp.loguniform("rate", -10, 0),
                "width": hp.qloguniform("width", 2, 7, 1),
                "dropout": hp.uniform("dropout", 0, 0.7),
                "optimizer": hp.choice(
                    "optimizer",
                    [
                        {"momentum": hp.uniform("momentum", 0, 1), "nesterov": hp.choice("nesterov", [0, 1])},
                        {"beta": hp.loguniform("one_minus_beta", -7, -1)},
                        {"decay": hp.loguniform("decay", -10, -2)},
                    ],
                ),
            },
        ],
    )

    def truth(config: Config) -> float:
        match int(config["model"]):
            case 0:
                return 0.11 + 0.10 * _basin(
                    (math.log(config["linear_C"]) + 1) / 4, (config["l1"] - 0.3) / 0.8
                )
            case 1:
                return 0.16 + 0.20 * _basin((config["k"] - 7) / 15) + 0.02 * config["metric"]
            case 2:
                offsets = (
                    (config["depth"] - 13) / 7,
                    math.log(config["leaf"] or 1) / 2,
                    (config["features"] - 0.4) / 0.4,
                )
                return 0.04 + 0.12 * _basin(*offsets)
        offsets = (
            (math.log(config["rate"]) + 6) / 3,
            (math.log(config["width"]) - 6) / 4,
            (config["dropout"] - 0.25) / 0.6,
        )
        match int(config["optimizer"]):
            case 0:
                inner = ((config["momentum"] - 0.9) / 0.5,)
                return 0.01 * (1 - config["nesterov"]) + 0.5 * _basin(*offsets, *inner)
            case 1:
                return 0.02 + 0.45 * _basin(*offsets, (math.log(config["one_minus_beta"]) + 2.3) / 4)
        return 0.05 + 0.45 * _basin(*offsets, (math.log(config["decay"]) + 6) / 4)

    def seconds(config: Config, rng: np.random.Generator) -> float:
        return float((5, 8, 40, 120)[int(config["model"])] * rng.lognormal(0, 0.4))

    return Problem("conditional, 4 models", space, truth, 0.0, seconds)


def pipeline() -> Problem:
    """A preprocessor and a classifier, each chosen with its parameters; they suit each other or do not."""
    space = {
        "balance": hp.uniform("balance", 0, 1),
        "prepare": hp.choice(
            "prepare",
            [
                "nothing",
                {"components": hp.quniform("components", 2, 60, 1), "whiten": hp.choice("whiten", [0, 1])},
                {"share": hp.uniform("share", 0.05, 1), "score": hp.choice("score", ["f", "chi2", "mutual"])},
            ],
        ),
        "classify": hp.choice(
            "classify",
            [
                {
                    "C": hp.loguniform("svm_C", -6, 8),
                    "kernel": hp.choice(
                        "kernel",
                        [
                            "linear",
                            {"gamma": hp.loguniform("gamma", -10, 2)},
                            {"degree": hp.quniform("degree", 2, 5, 1), "coef0": hp.uniform("coef0", -1, 1)},
                        ],
                    ),
                },
                {
                    "shrinkage": hp.loguniform("shrinkage", -7, 0),
                    "trees": hp.qloguniform("trees", 3, 7, 1),
                    "leaves": hp.qloguniform("leaves", 1, 6, 1),
                },
                {"smoothing": hp.loguniform("smoothing", -20, 0)},
            ],
        ),
    }
    suits = ((0.10, 0.03, 0.16), (0.0, 0.09, 0.12), (0.06, 0.05, 0.09))

    def prepared(config: Config) -> float:
        match int(config["prepare"]):
            case 0:
                return 0.0
            case 1:
                return 0.10 * _basin((config["components"] - 22) / 14) + 0.015 * (1 - config["whiten"])
        return 0.10 * _basin((config["share"] - 0.45) / 0.3) + (0.0, 0.02, 0.01)[int(config["score"])]

    def classified(config: Config) -> float:
        match int(config["classify"]):
            case 0:
                strength = math.log(config["svm_C"])
                match int(config["kernel"]):
                    case 0:
                        return 0.07 + 0.10 * _basin((strength + 1) / 4)
                    case 1:  # a strong penalty asks for a small gamma: the two go together
                        width = math.log(config["gamma"])
                        return 0.25 * _basin((strength - 3) / 3, (width + 4 + 0.6 * (strength - 3)) / 1.5)
                return 0.05 + 0.2 * _basin((config["degree"] - 3) / 1.5, (config["coef0"] - 0.5) / 0.7)
            case 1:
                rate, trees = math.log(config["shrinkage"]), math.log(config["trees"])
                leaves = math.log(config["leaves"])
                return 0.02 + 0.2 * _basin((rate + trees - 2.5) / 1.2, (leaves - 3.4) / 1.5)
        return 0.08 + 0.1 * _basin((math.log(config["smoothing"]) + 12) / 5)

    def truth(config: Config) -> float:
        together = suits[int(config["prepare"])][int(config["classify"])]
        return 0.05 * (config["balance"] - 0.7) ** 2 + together + prepared(config) + classified(config)

    def seconds(config: Config, rng: np.random.Generator) -> float:
        return float((60, 30, 2)[int(config["classify"])] * rng.lognormal(0, 0.5))

    return Problem("conditional, 9 pipelines", space, truth, 0.0, seconds)
