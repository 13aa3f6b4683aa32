"""What is done with databricks-automl-runtime: its rule to stop early, and its search for forecasts."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import databricks.automl_runtime
import hyperopt
import numpy as np
import pandas as pd
from databricks.automl_runtime.forecast.prophet.forecast import ProphetHyperoptEstimator
from databricks.automl_runtime.hyperopt.early_stop import get_early_stop_fn
from outcomes import Cases, Outcome, in_mlflow_run, main, of_trials

CASES = Cases()
N_DAYS = 200
N_TRIALS = 4


def history() -> pd.DataFrame:
    """A daily series with a trend and a weekly season."""
    day = np.arange(N_DAYS)
    noise = np.random.default_rng(0).normal(0, 0.5, N_DAYS)
    values = 50 + day / 10 + 5 * np.sin(day * 2 * np.pi / 7) + noise
    return pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=N_DAYS), "y": values})


def stopped(tuner: ModuleType, trials: Any, algo: Any) -> Any:
    """The trials of a study that the library's rule ends."""
    tuner.fmin(
        lambda x: {"status": "ok", "loss": abs(x - 3)},
        tuner.hp.uniform("x", -10, 10),
        algo=algo,
        max_evals=200,
        trials=trials,
        early_stop_fn=get_early_stop_fn(no_early_stop_threshold=12, no_progress_stop_threshold=6),
        rstate=np.random.default_rng(0),
        show_progressbar=False,
    )
    return trials


def stopped_early(trials: Any) -> Outcome:
    """The best loss, and after how many trials, which depends on the points."""
    assert 12 <= len(trials.trials) < 200
    best = min(loss for loss in trials.losses() if loss is not None)
    return Outcome(losses=[best], notes=f"{len(trials.trials)} trials")


@CASES.add("early_stop_fn, Trials, hyperopt's rand", "points")
def _(tuner: ModuleType) -> Outcome:
    return of_trials(stopped(tuner, tuner.Trials(), hyperopt.rand.suggest))


@CASES.add("early_stop_fn, Trials, tpe", "kind", margin=0.5)
def _(tuner: ModuleType) -> Outcome:
    trials = stopped(tuner, tuner.Trials(), tuner.tpe.suggest)
    return stopped_early(trials)


def forecast(tuner: ModuleType, algo: Any, **arguments: Any) -> Outcome:
    """A forecast's best parameters; the score is its error in days that no fold was fitted to."""
    estimator = ProphetHyperoptEstimator(
        horizon=14,
        frequency_unit="D",
        metric="mse",
        interval_width=0.8,
        country_holidays="US",
        search_space={
            "changepoint_prior_scale": tuner.hp.loguniform("changepoint_prior_scale", -6.9, -0.7),
            "seasonality_mode": tuner.hp.choice("seasonality_mode", ["additive", "multiplicative"]),
        },
        algo=algo,
        num_folds=2,
        max_eval=N_TRIALS,
        trial_timeout=300,
        random_state=0,
        **arguments,
    )
    results = estimator.fit(history())
    assert results["model_json"].iloc[0].startswith("{")
    assert "seasonality_mode" in results["prophet_params"].iloc[0]
    return Outcome(losses=[float(results["mse"].iloc[0])], score=-float(results["smape"].iloc[0]))


@CASES.add("ProphetHyperoptEstimator, is_parallel=False, hyperopt's rand", "points")
def _(tuner: ModuleType) -> Outcome:
    return forecast(tuner, hyperopt.rand.suggest, is_parallel=False)


@CASES.add("ProphetHyperoptEstimator, is_parallel=False, tpe", "kind")
def _(tuner: ModuleType) -> Outcome:
    return forecast(tuner, tuner.tpe.suggest, is_parallel=False)


@CASES.add("ProphetHyperoptEstimator, is_parallel=True (SparkTrials), tpe", "kind")
def _(tuner: ModuleType) -> Outcome:
    return forecast(tuner, tuner.tpe.suggest, is_parallel=True)


@CASES.add("early_stop_fn, SparkTrials, tpe", "kind", margin=0.5)
def _(tuner: ModuleType) -> Outcome:
    trials = stopped(tuner, tuner.SparkTrials(parallelism=2), tuner.tpe.suggest)
    return stopped_early(trials)


@CASES.add("ProphetHyperoptEstimator, is_parallel=False, in an MLflow run", "points")
def _(tuner: ModuleType) -> Outcome:
    return in_mlflow_run(tuner, lambda: forecast(tuner, hyperopt.rand.suggest, is_parallel=False), N_TRIALS)


if __name__ == "__main__":
    for name in ("cmdstanpy", "prophet", "hyperopt-spark"):
        logging.getLogger(name).setLevel(logging.ERROR)
    main(CASES, databricks.automl_runtime)
