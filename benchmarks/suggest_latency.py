"""What a suggestion costs: processor time after many trials, in many dimensions, beside the peers'.

    python benchmarks/suggest_latency.py                     # some minutes, mostly the peers'
    python benchmarks/suggest_latency.py --dims 20 --finished 1000
    python benchmarks/suggest_latency.py --algos sparktune.tpe:suggest --json figures.json
    python benchmarks/suggest_latency.py --algos sparktune.search.gp:suggest --dims 5,20 --many 0

Before each measured call one more trial finishes, as in a study. See README.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _first  # noqa: F401
import hyperopt
import numpy as np
from hyperopt import JOB_STATE_DONE, JOB_STATE_RUNNING, STATUS_OK, hp
from search_algorithms import Suggest, suggest_function

from sparktune.space.search_space import SearchSpace

ALGOS = "sparktune.tpe:suggest,hyperopt.tpe:suggest,optuna"
BASE = "hyperopt.tpe:suggest"
"""The algorithm that the ratios are of."""
PENDING = 31

Figure = dict[str, Any]
"""A cell: see ``measured``."""


def space(dims: int) -> dict[str, Any]:
    """As many parameters, in turn: uniform, logarithmic, whole, normal, a choice of four."""
    kinds = (
        lambda label: hp.uniform(label, 0, 1),
        lambda label: hp.loguniform(label, -10, 0),
        lambda label: hp.quniform(label, 0, 50, 1),
        lambda label: hp.normal(label, 0, 1),
        lambda label: hp.choice(label, [0, 1, 2, 3]),
    )
    return {f"x{i}": kinds[i % 5](f"x{i}") for i in range(dims)}


class Study:
    """A trials object with random trials: finished ones, and some that run.

    The loss is the distance from a point of the unit cube, with noise: there is something to learn.
    """

    def __init__(self, dims: int, finished: int, running: int) -> None:
        self.domain = hyperopt.Domain(lambda _point: 0.0, space(dims))
        self.trials = hyperopt.Trials()
        self._space = SearchSpace(self.domain.expr)
        self._rng = np.random.default_rng(0)
        self._centre = self._rng.random(dims)
        self._add(finished, JOB_STATE_DONE)
        self._add(running, JOB_STATE_RUNNING)

    def _add(self, n: int, state: int) -> None:
        rows = self._space.sample(n, self._rng)
        losses = ((self._space.to_unit(rows) - self._centre) ** 2).sum(1) + 0.01 * self._rng.random(n)
        documents = []
        for tid, row, loss in zip(self.trials.new_trial_ids(n), rows, losses, strict=True):
            config = self._space.config(row)
            misc = {
                "tid": tid,
                "cmd": self.domain.cmd,
                "workdir": None,
                "idxs": {label: [tid] for label in config},
                "vals": {label: [value] for label, value in config.items()},
            }
            documents += self.trials.new_trial_docs([tid], [None], [self.domain.new_result()], [misc])
            documents[-1]["state"] = state
            if state == JOB_STATE_DONE:
                documents[-1]["result"] = {"status": STATUS_OK, "loss": float(loss)}
        self.trials.insert_trial_docs(documents)
        self.trials.refresh()

    def step(self) -> None:
        """One more trial has finished."""
        self._add(1, JOB_STATE_DONE)

    def ask(self, suggest: Suggest, n: int, seed: int) -> tuple[float, int]:
        """Ask for ``n`` suggestions, which are not kept; returns processor seconds, and how many came."""
        new_ids = self.trials.new_trial_ids(n)
        began = time.process_time()
        suggested = suggest(new_ids, self.domain, self.trials, seed)
        return time.process_time() - began, len(suggested)


def measured(algo: str, dims: int, finished: int, running: int, at_once: int, limit_s: float) -> Figure:
    """The median of up to five calls, after one that is not counted; less when ``limit_s`` is over.

    Returns:
        Beside the arguments ``ms`` for the whole call; ``one_by_one``: the algorithm gives one suggestion a
        call, and ``at_once`` such calls would take as long.
    """
    study = Study(dims, finished, running)
    suggest = suggest_function(algo)
    until = time.process_time() + limit_s
    one_by_one = study.ask(suggest, min(at_once, 2), 0)[1] < min(at_once, 2)
    spent: list[float] = []
    for seed in range(1, 6):
        study.step()
        spent_s, came = study.ask(suggest, at_once, seed)
        spent.append(spent_s * at_once / came)
        if time.process_time() > until:
            break
    return {
        "algo": algo,
        "dims": dims,
        "finished": finished,
        "running": running,
        "at_once": at_once,
        "ms": 1e3 * statistics.median(spent),
        "one_by_one": one_by_one,
    }


def table(figures: Sequence[Figure], algos: Sequence[str]) -> list[str]:
    """Lines in Markdown: a row for each setting, milliseconds, and in brackets the ratio to hyperopt's."""
    settings = dict.fromkeys((f["dims"], f["finished"], f["running"], f["at_once"]) for f in figures)
    by = {(f["dims"], f["finished"], f["running"], f["at_once"], f["algo"]): f for f in figures}
    lines = [
        "| dims | finished | running | asked for | " + " | ".join(f"{algo}, ms" for algo in algos) + " |"
    ]
    lines.append("|---" * (4 + len(algos)) + "|")
    for setting in settings:
        cells = []
        base = by.get((*setting, BASE))
        for algo in algos:
            figure = by[(*setting, algo)]
            ratio = f" (1/{base['ms'] / figure['ms']:.1f})" if base is not None and algo != BASE else ""
            cells.append(f"{figure['ms']:.2f}{ratio}{' one by one' if figure['one_by_one'] else ''}")
        lines.append("| " + " | ".join([*map(str, setting), *cells]) + " |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algos", default=ALGOS, help="as for search.py: %(default)s")
    parser.add_argument("--dims", default="5,20,50", help="%(default)s")
    parser.add_argument("--finished", default="100,1000,5000", help="trials to learn from: %(default)s")
    parser.add_argument("--many", type=int, default=128, help="asked for in one call, 0: not: %(default)s")
    parser.add_argument("--limit", type=float, default=20, help="seconds for a cell, roughly: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args(arguments)
    logging.getLogger("hyperopt").setLevel(logging.WARNING)
    algos = options.algos.split(",")
    sizes = [
        (dims, finished)
        for dims in map(int, options.dims.split(","))
        for finished in map(int, options.finished.split(","))
    ]
    figures: list[Figure] = []
    for running, at_once in [(0, 1), (PENDING, 1)] + [(0, options.many)] * (options.many > 0):
        for dims, finished in sizes:
            for algo in algos:
                figures.append(measured(algo, dims, finished, running, at_once, options.limit))
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print("\n".join(table(figures, algos)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
