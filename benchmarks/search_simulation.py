"""One search of search.py: a study on a simulated cluster, without waiting, and what came of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from search_algorithms import Suggest, suggest_function
from search_problems import Problem, problem

from sparktune import SimulatedTrials, fmin
from sparktune.space.search_space import SearchSpace

CUTS = (50, 100, 200)
"""The numbers of finished trials after which regret is taken."""
NEAR = 1e-3
"""Suggestions that lie so close in every parameter, as a share of its range, are near-duplicates."""
REFERENCE_SEARCHES = 400
"""Random searches whose median is 1."""

Row = dict[str, Any]
"""One line of the results: see ``search`` and ``reference``."""


class Timed:
    """A suggest function that adds up the processor time spent in it."""

    def __init__(self, suggest: Suggest) -> None:
        self._suggest = suggest
        self.spent_s = 0.0

    def __call__(self, *args: Any) -> Any:
        """See ``hyperopt.rand.suggest``."""
        began = time.process_time()
        try:
            return self._suggest(*args)
        finally:
            self.spent_s += time.process_time() - began


def search(algo: str, name: str, workers: int, seed: int, n_trials: int) -> Row:
    """Run one study with asynchronous workers.

    The seed fixes the noise and the duration of the n-th trial for all algorithms alike.

    Returns:
        Beside the arguments ``regret``: after as many finished trials, of the configuration with the lowest
        observed loss; ``curve``: the same after every trial, rounded; ``duplicates``: suggestions that equal
        an earlier one; ``near``: those that lie near one, None where the space is not continuous;
        ``suggest_s``: processor seconds in the algorithm.
    """
    task = problem(name)
    finished: list[tuple[float, float]] = []

    def objective(expr: Any, memo: Any, ctrl: Any) -> dict[str, Any]:  # noqa: ARG001
        document = ctrl.current_trial
        config = {label: values[0] for label, values in document["misc"]["vals"].items() if len(values)}
        rng = np.random.default_rng([seed, document["tid"]])
        return {
            "status": "ok",
            "seconds": task.seconds(config, rng),
            "loss": task.observe(config, rng),
            "regret": task.truth(config) - task.best,
        }

    def note(trials: Any) -> tuple[bool, list[Any]]:
        result = trials.trials[-1]["result"]
        finished.append((result["loss"], result["regret"]))
        return False, []

    suggest = Timed(suggest_function(algo))
    trials = SimulatedTrials(slots=workers, duration_s=lambda _config, result: float(result["seconds"]))
    fmin(
        objective,
        task.space,
        algo=suggest,
        max_evals=n_trials,
        trials=trials,
        rstate=np.random.default_rng([seed, workers]),
        pass_expr_memo_ctrl=True,
        early_stop_fn=note,
        verbose=False,
    )
    losses, regrets = np.array(finished).T
    best = [int(np.argmin(losses[: n + 1])) for n in range(len(losses))]
    curve = regrets[best]
    configs = [
        {label: values[0] for label, values in document["misc"]["vals"].items() if len(values)}
        for document in sorted(trials.trials, key=lambda document: document["tid"])
    ]
    return {
        "algo": algo,
        "problem": name,
        "workers": workers,
        "seed": seed,
        "trials": n_trials,
        "regret": {str(cut): float(curve[cut - 1]) for cut in CUTS if cut <= n_trials},
        "curve": [float(f"{value:.4g}") for value in curve],
        "duplicates": len(configs) - len({tuple(sorted(config.items())) for config in configs}),
        "near": _near(task, configs) if task.is_continuous else None,
        "suggest_s": suggest.spent_s,
    }


def _near(task: Problem, configs: list[dict[str, Any]]) -> int:
    """How many configurations lie within ``NEAR`` of an earlier one (in the largest difference)."""
    space = SearchSpace(task.space)
    unit = space.to_unit(np.array([space.row(config) for config in configs]))
    apart = np.abs(unit[:, None] - unit[None]).max(-1)
    return int((np.tril(apart <= NEAR, -1)).any(1).sum())


def reference(name: str, n_trials: int, searches: int = REFERENCE_SEARCHES) -> Row:
    """Many random searches.

    Returns:
        ``median``: the median search's regret after 1, 2, ..., ``n_trials`` trials.
    """
    task = problem(name)
    space = SearchSpace(task.space)
    rng = np.random.default_rng(0)
    curves = np.empty((searches, n_trials))
    for curve in curves:
        configs = [space.config(row) for row in space.sample(n_trials, rng)]
        observed = np.array([task.observe(config, rng) for config in configs])
        truth = np.array([task.truth(config) for config in configs]) - task.best
        curve[:] = truth[[int(np.argmin(observed[: n + 1])) for n in range(n_trials)]]
    return {"reference": name, "trials": n_trials, "median": np.median(curves, axis=0).tolist()}
