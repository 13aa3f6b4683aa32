"""What is hard for models, for search.py: strong noise, many dimensions of which few matter, deep trees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hyperopt import hp
from search_functions import Config, Problem

from sparktune.space.search_space import SearchSpace

# -- strong noise ------------------------------------------------------------------------------------------


def noisily(problem: Problem, share: float = 1.0) -> Problem:
    """With normal noise whose deviation is ``share`` of that of the losses of random configurations."""
    space = SearchSpace(problem.space)
    rows = space.sample(2000, np.random.default_rng(0))
    sigma = share * float(np.std([problem.truth(space.config(row)) for row in rows]))

    def noisy(config: Config, rng: np.random.Generator) -> float:
        return problem.truth(config) + float(rng.normal(0, sigma))

    return dataclasses.replace(problem, kind=problem.kind + ", noisy", noisy=noisy)


def bowl(n: int, seed: int, coupling: float = 0.6) -> Callable[[np.ndarray], float]:
    """A tilted bowl in the unit cube: 0 in its centre, some axes steeper than others."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.15, 0.85, n)
    mixing = np.eye(n) + coupling * rng.standard_normal((n, n)) / math.sqrt(n)
    weights = 0.7 ** np.arange(n)

    def loss(unit: np.ndarray) -> float:
        return float(weights @ (mixing @ (unit - centre)) ** 2)

    return loss


def noisy_bowl() -> Problem:
    """4 uniform, 2 logarithmic; an evaluation is half signal, half noise."""
    space = {f"x{i}": hp.uniform(f"x{i}", 0, 1) for i in range(4)}
    space |= {f"l{i}": hp.loguniform(f"l{i}", math.log(1e-4), 0) for i in range(2)}
    loss = bowl(6, 61)

    def truth(config: Config) -> float:
        at = [config[f"x{i}"] for i in range(4)]
        at += [1 + math.log(config[f"l{i}"]) / math.log(1e4) for i in range(2)]
        return loss(np.array(at))

    return noisily(Problem("mixed 6-d", space, truth, 0.0))


def noisy_mixed() -> Problem:
    """3 uniform, 2 logarithmic, 1 whole, 3 choices, one of which moves the optimum; half noise."""
    rng = np.random.default_rng(62)
    space: dict[str, Any] = {f"x{i}": hp.uniform(f"x{i}", 0, 1) for i in range(3)}
    space |= {f"l{i}": hp.loguniform(f"l{i}", math.log(1e-4), 0) for i in range(2)}
    space |= {"q": hp.quniform("q", 0, 10, 1)}
    sizes = (3, 4, 2)
    space |= {f"c{i}": hp.choice(f"c{i}", list(range(size))) for i, size in enumerate(sizes)}
    costs = [rng.permutation(size) * 0.25 / (size - 1) for size in sizes]
    shifts, target = np.array([0.0, 0.3, -0.2]), rng.uniform(0.3, 0.7, 6)
    target[5] = 0.4

    def truth(config: Config) -> float:
        at = [config[f"x{i}"] for i in range(3)]
        at += [1 + math.log(config[f"l{i}"]) / math.log(1e4) for i in range(2)]
        z = np.array([*at, config["q"] / 10]) - target
        z[0] -= shifts[int(config["c0"])]
        return float(z @ z + z[0] * z[1]) + sum(costs[i][int(config[f"c{i}"])] for i in range(3))

    return noisily(Problem("mixed 9-d", space, truth, 0.0))


# -- many dimensions ---------------------------------------------------------------------------------------


def few_of_25() -> Problem:
    """25 uniform, of which 4 matter: a narrow valley in those."""
    names = [f"x{i}" for i in range(25)]
    space = {name: hp.uniform(name, 0, 1) for name in names}
    which = np.random.default_rng(25).permutation(25)[:4]
    loss = bowl(4, 26)

    def truth(config: Config) -> float:
        return math.sqrt(loss(np.array([config[f"x{i}"] for i in which])))

    return Problem("continuous 25-d, 4 matter", space, truth, 0.0, is_continuous=True)


def few_of_30() -> Problem:
    """10 uniform, 8 logarithmic, 4 whole, 8 choices; of each kind one or two matter."""
    space: dict[str, Any] = {f"u{i}": hp.uniform(f"u{i}", -1, 1) for i in range(10)}
    space |= {f"l{i}": hp.loguniform(f"l{i}", math.log(1e-5), 0) for i in range(8)}
    space |= {f"q{i}": hp.quniform(f"q{i}", 0, 20, 1) for i in range(4)}
    space |= {f"c{i}": hp.choice(f"c{i}", list(range(2 + i % 4))) for i in range(8)}

    def truth(config: Config) -> float:
        z = (
            (config["u3"] - 0.35) / 0.5,
            (config["u7"] + 0.6) / 0.7,
            (math.log(config["l2"]) + 6) / 3 - (config["u3"] - 0.35),
            (config["q1"] - 13) / 8,
        )
        wrong = 0.3 * (config["c2"] != 1) + 0.2 * (config["c7"] not in (0, 3)) + 0.1 * (config["c3"] != 4)
        return wrong + 1 - math.exp(-0.5 * sum(value**2 for value in z))

    return Problem("mixed 30-d, 7 matter", space, truth, 0.0)


# -- deep trees --------------------------------------------------------------------------------------------


def deep_models() -> Problem:
    """A family, in it a model, in it a variant: 3 by 3 by 2 leaves, numbers at every level.

    What a leaf can reach and what it gives at first do not agree.
    """
    rng = np.random.default_rng(33)
    floors = np.sort(rng.uniform(0, 0.3, 17))
    floors = np.concatenate([[0.0], floors])[rng.permutation(18)].reshape(3, 3, 2)
    widths = rng.uniform(0.15, 0.5, (3, 3, 2))
    at = rng.uniform(0.1, 0.9, (3, 3, 2, 5))

    def variant(f: int, m: int, v: int) -> dict[str, Any]:
        label = f"{f}{m}{v}"
        return {name + label: hp.uniform(name + label, 0, 1) for name in ("a", "b")}

    def model(f: int, m: int) -> dict[str, Any]:
        variants = hp.choice(f"variant{f}{m}", [variant(f, m, v) for v in range(2)])
        return {"rate": hp.loguniform(f"rate{f}{m}", math.log(1e-4), 0), "variant": variants}

    def family(f: int) -> dict[str, Any]:
        models = hp.choice(f"model{f}", [model(f, m) for m in range(3)])
        return {"scale": hp.uniform(f"scale{f}", 0, 1), "model": models}

    space = {"share": hp.uniform("share", 0, 1), "family": hp.choice("family", [family(f) for f in range(3)])}

    def truth(config: Config) -> float:
        f = int(config["family"])
        m = int(config[f"model{f}"])
        v = int(config[f"variant{f}{m}"])
        z = np.array(
            [
                config["share"],
                config[f"scale{f}"],
                1 + math.log(config[f"rate{f}{m}"]) / math.log(1e4),
                config[f"a{f}{m}{v}"],
                config[f"b{f}{m}{v}"],
            ]
        )
        leaf = f, m, v
        away = ((z - at[leaf]) / widths[leaf]) ** 2 @ np.array([0.2, 0.3, 1.0, 0.7, 0.3])
        return float(floors[leaf] + 0.5 * (1 - math.exp(-0.3 * away)))

    return Problem("conditional, 18 leaves", space, truth, 0.0)


def deep_pipeline() -> Problem:
    """Two trees of three levels side by side: what prepares and what predicts suit each other or do not."""
    space = {
        "prepare": hp.choice(
            "prepare",
            [
                "nothing",
                {
                    "reduce": hp.choice(
                        "reduce",
                        [
                            {"parts": hp.quniform("parts", 2, 60, 1)},
                            {"tree": hp.choice("tree", ["one", {"n": hp.qloguniform("tree_n", 1, 6, 1)}])},
                        ],
                    )
                },
            ],
        ),
        "predict": hp.choice(
            "predict",
            [
                {
                    "linear": hp.choice(
                        "linear",
                        [
                            {"C": hp.loguniform("C", -8, 4)},
                            {
                                "rate": hp.loguniform("rate", -9, 0),
                                "penalty": hp.choice("penalty", ["l2", {"mix": hp.uniform("mix", 0, 1)}]),
                            },
                        ],
                    )
                },
                {
                    "boost": hp.choice(
                        "boost",
                        [
                            {"depth": hp.uniformint("depth", 1, 12)},
                            {
                                "leaves": hp.qloguniform("leaves", 1, 6, 1),
                                "drop": hp.choice("drop", ["no", {"share": hp.uniform("share", 0, 0.6)}]),
                            },
                        ],
                    ),
                    "eta": hp.loguniform("eta", -7, 0),
                },
            ],
        ),
    }

    def near(*offsets: float) -> float:
        return 1 - math.exp(-sum(offset**2 for offset in offsets))

    def prepared(config: Config) -> tuple[int, float]:
        if config["prepare"] == 0:
            return 0, 0.0
        if config["reduce"] == 0:
            return 1, 0.12 * near((config["parts"] - 24) / 15)
        if config["tree"] == 0:
            return 2, 0.05
        return 2, 0.15 * near((math.log(max(config["tree_n"], 1)) - 4) / 1.2)

    def predicted(config: Config) -> tuple[int, float]:
        if config["predict"] == 0:
            if config["linear"] == 0:
                return 0, 0.08 + 0.1 * near((math.log(config["C"]) + 2) / 3)
            strength = (math.log(config["rate"]) + 5) / 2
            if config["penalty"] == 0:
                return 0, 0.06 + 0.2 * near(strength)
            return 0, 0.02 + 0.3 * near(strength, (config["mix"] - 0.2) / 0.3)
        eta = math.log(config["eta"])
        if config["boost"] == 0:
            return 1, 0.04 + 0.25 * near((config["depth"] - 5) / 4, (eta + 2.5) / 1.5)
        size = (math.log(max(config["leaves"], 1)) - 3.5) / 1.3
        if config["drop"] == 0:
            return 1, 0.03 + 0.25 * near(size, (eta + 3) / 1.5)
        return 1, 0.35 * near(size, (eta + 2) / 1.3, (config["share"] - 0.15) / 0.2)

    suits = ((0.06, 0.04), (0.0, 0.08), (0.03, 0.0))

    def truth(config: Config) -> float:
        (before, cost), (after, error) = prepared(config), predicted(config)
        return suits[before][after] + cost + error

    # The best: trees of exp(4) (55, rounded) before boosting with dropout, whose leaves are rounded as well.
    rounded = 0.15 * near((math.log(55) - 4) / 1.2) + 0.35 * near((math.log(33) - 3.5) / 1.3)
    return Problem("conditional, 2 deep trees", space, truth, rounded)
