"""Tables of made-up trials for the tests of pictures: every state, conditional parameters, odd losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparktune.plots.table import Row, Table
from sparktune.study.trial import TrialState

TEXTS = {
    "model": "hp.randint(0, 3) of 'svm', 'forest', 'boosting'",
    "C": "hp.loguniform(-5, 5), where model=0",
    "gamma": "hp.loguniform(-11, 0), where model=0",
    "depth": "hp.quniform(2, 20, 1), where model=1",
    "learning_rate": "hp.loguniform(-4, 0), where model=2",
    "momentum": "hp.uniform(0, 1)",
}


def table(n: int, seed: int = 0, slots: int = 4, **changes: Any) -> Table:
    """A study of ``n`` trials: three models, learning curves, some that fail, a policy."""
    rng = np.random.default_rng(seed)
    free = np.zeros(slots)
    rows = []
    for number in range(n):
        params, loss = _point(rng, number / max(n, 1))
        slot = int(free.argmin())
        began, took = float(free[slot]), float(rng.gamma(3, 0.4 + 0.6 * (params["model"] == "forest")))
        free[slot] = began + took + 0.02
        curve = [loss + 0.8 * math.exp(-step / 6) + 0.01 * rng.standard_normal() for step in range(1, 21)]
        state, error, reason = TrialState.COMPLETED, None, None
        dice = rng.random()
        if number > 0 and dice < 0.05:
            state, error, curve = TrialState.FAILED, "ValueError: the matrix is singular", curve[:3]
        elif number > 0 and dice < 0.07:
            state, reason, curve = TrialState.TIMED_OUT, "trial_timeout", curve[:12]
        elif number > 4 and loss > 0.5 and dice < 0.6:
            state, reason, curve = (
                TrialState.EARLY_TERMINATED,
                "MedianStoppingPolicy() at interval 6",
                curve[:6],
            )
        has_loss = state in (TrialState.COMPLETED, TrialState.EARLY_TERMINATED)
        rows.append(
            Row(
                number,
                state,
                curve[-1] if has_loss else None,
                params,
                1.7e9 + began,
                1.7e9 + began + took,
                took,
                curve,
                error=error,
                stop_reason=reason,
            )
        )
    return Table(rows, **{"texts": TEXTS, "algo": "sparktune.search.tpe.suggest", **changes})


def _point(rng: np.random.Generator, progress: float) -> tuple[dict[str, Any], float]:
    """A point, and its loss; later ones are better, as a search finds them."""
    model = str(
        rng.choice(
            ["svm", "forest", "boosting"],
            p=[0.33 + 0.5 * progress, 0.33 - 0.2 * progress, 0.34 - 0.3 * progress],
        )
    )
    spread = 1.0 - 0.7 * progress
    params: dict[str, Any] = {"model": model, "momentum": float(rng.random())}
    if model == "svm":
        c, gamma = spread * rng.normal(0, 2), -5 + spread * rng.normal(0, 3)
        params |= {"C": float(np.exp(1 + c)), "gamma": float(np.exp(np.clip(gamma, -11, 0)))}
        loss = 0.05 + 0.02 * c**2 + 0.015 * (gamma + 5) ** 2
    elif model == "forest":
        params["depth"] = int(rng.integers(2, 21))
        loss = 0.25 + 0.4 / params["depth"]
    else:
        rate = float(np.exp(rng.uniform(-4, 0)))
        params["learning_rate"] = rate
        loss = 0.2 + 0.1 * abs(math.log(rate) + 2)
    return params, float(loss + 0.03 * params["momentum"] + 0.02 * rng.standard_normal() ** 2)
