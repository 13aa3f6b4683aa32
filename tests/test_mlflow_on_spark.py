"""Every way in which an objective on Spark can use its trial's run, whose creation nobody waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import cloudpickle
import mlflow
import pytest
from hyperopt import hp

from sparktune import SparkTrials, fmin, rand

# Workers are not to import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def nothing(x: float) -> float:
    return x


def logs(x: float) -> float:
    mlflow.log_metric("seen", x)
    return x


def starts_a_run(x: float) -> float:
    with mlflow.start_run():
        mlflow.log_metric("seen", x)
    return x


def reads_the_variable(x: float) -> float:
    mlflow.MlflowClient().log_metric(os.environ["MLFLOW_RUN_ID"], "seen", x)
    return x


def runs_a_command(x: float) -> float:
    code = f"import mlflow; mlflow.log_metric('seen', {x!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    return x


@pytest.mark.parametrize(
    ("objective", "n_trials"),
    [(nothing, 30), (logs, 8), (starts_a_run, 8), (reads_the_variable, 8), (runs_a_command, 2)],
)
def test_what_an_objective_logs_is_on_its_trials_run(
    objective: Any, n_trials: int, spark: Any, mlflow_store: str
) -> None:
    trials = SparkTrials(spark_session=spark)
    space = hp.uniform("x", 0, 1)
    fmin(objective, space, algo=rand.suggest, max_evals=n_trials, trials=trials, show_progressbar=False)
    (experiment,) = {mlflow.get_run(trials.run_id).info.experiment_id}
    runs = mlflow.MlflowClient().search_runs([experiment])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == trials.run_id]
    assert len(runs) == len(children) + 1, "no run is an orphan"
    losses = dict(zip(trials.tids, trials.losses(), strict=True))
    found = {int(run.data.tags["sparktune.trial_id"]): run for run in children}
    assert found.keys() == losses.keys()
    for trial_id, run in found.items():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["loss"] == losses[trial_id]
        assert set(run.data.params) == {"x"}
        if objective is not nothing:
            assert run.data.metrics["seen"] == losses[trial_id]
