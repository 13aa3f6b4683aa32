"""Trials of this process that are recorded in MLflow, and a study of them: quick, and with a real store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sparktune import fmin, hp, tpe
from sparktune.study.tracker import Tracker
from sparktune.tracking.tracker import MlflowTracker
from sparktune.trials.base import StudyTrials
from sparktune.trials.simulated import SimulatedTrials

SPACE = {
    "x": hp.uniform("x", -5, 5),
    "kind": hp.choice("kind", ["plain", {"degree": hp.randint("degree", 2, 6)}, "bad"]),
}
N = 14
PARENT = "mlflow.parentRunId"


class RecordedTrials(SimulatedTrials):
    """Trials of this process that are recorded in MLflow."""

    mlflow = True

    def _tracker(self) -> Tracker:
        return MlflowTracker()


def objective(point: Mapping[str, Any]) -> dict[str, Any]:
    if point["kind"] == "bad":
        raise ArithmeticError(f"bad at {point['x']:.2f}")
    return {
        "status": "ok",
        "loss": (point["x"] - 1) ** 2,
        "double": 2 * point["x"],
        "kind": str(point["kind"]),
    }


def tune(n: int = N, fn: Any = objective, space: Any = SPACE, **options: Any) -> Any:
    slots = options.pop("slots", 1)
    trials = options.pop("trials", None)
    trials = RecordedTrials(slots) if trials is None else trials
    if isinstance(trials, StudyTrials):  # whatever its objective is
        options.setdefault("study_name", "a study of the tests")
    options = {"algo": tpe.suggest, "rstate": np.random.default_rng(5), "show_progressbar": False} | options
    fmin(fn, space, max_evals=n, trials=trials, **options)
    return trials


def facts(trials: Any) -> list[Any]:
    frame = trials.to_dataframe().drop(columns=["run_id", "started_s", "ended_s", "duration_s"])
    return json.loads(frame.sort_values("trial").to_json(orient="records"))  # type: ignore[no-any-return]
