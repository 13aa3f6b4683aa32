"""A batch job: tunes gradient boosting on the diabetes data, and writes the result as JSON.

    spark-submit examples/batch_job.py --max-evals 30 --output result.json --store sqlite:///mlflow.db

It runs wherever spark-submit sends it: the session is the one that spark-submit has configured. Exit code 0,
or 1 and one line with the cause when no trial completed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import mlflow
from pyspark.sql import SparkSession

from sparktune import STATUS_OK, SparkTrials, fmin, hp, tpe
from sparktune.errors import AllTrialsFailed

SPACE = {
    "loss": hp.choice("loss", ["squared_error", "absolute_error"]),
    "learning_rate": hp.loguniform("learning_rate", math.log(0.01), math.log(0.3)),
    "max_iter": hp.uniformint("max_iter", 20, 150),
    "max_leaf_nodes": hp.uniformint("max_leaf_nodes", 3, 31),
    "l2_regularization": hp.loguniform("l2_regularization", math.log(1e-3), math.log(100)),
}


def objective(params: dict[str, Any]) -> dict[str, Any]:
    """Cross-validated mean absolute error of one set of parameters; runs on a worker, on one thread."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import cross_val_score
    from threadpoolctl import threadpool_limits

    features, target = load_diabetes(return_X_y=True)
    model = HistGradientBoostingRegressor(**params, random_state=0)
    with threadpool_limits(limits=1):
        scores = cross_val_score(model, features, target, cv=3, scoring="neg_mean_absolute_error")
    return {"status": STATUS_OK, "loss": float(-scores.mean()), "error_std": float(scores.std())}


def report(trials: SparkTrials) -> dict[str, Any]:
    """What a job that comes after this one needs to know."""
    return {
        "best_point": trials.best_point,
        "best_loss": trials.best_trial["result"]["loss"],
        "mlflow_run_id": trials.run_id,
        "trials": {
            "total": trials.count_total_trials(),
            "succeeded": trials.count_successful_trials(),
            "failed": trials.count_failed_trials(),
            "cancelled": trials.count_cancelled_trials(),
        },
        "stopped_because": trials.fmin_cancelled_reason,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Tune gradient boosting on the diabetes data.")
    parser.add_argument("--max-evals", type=int, default=30, help="trials to run (default: 30)")
    parser.add_argument("--timeout", type=float, help="seconds for the whole study (default: no limit)")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--store", help="MLflow tracking URI (default: MLFLOW_TRACKING_URI)")
    parser.add_argument("--experiment", default="batch job", help="MLflow experiment (default: batch job)")
    args = parser.parse_args()

    spark = SparkSession.builder.appName("sparktune batch job").getOrCreate()
    if args.store:
        mlflow.set_tracking_uri(args.store)
    mlflow.set_experiment(args.experiment)
    trials = SparkTrials(timeout=args.timeout, spark_session=spark)
    try:
        fmin(objective, SPACE, algo=tpe.suggest, max_evals=args.max_evals, trials=trials)
    except AllTrialsFailed as error:
        print(f"batch_job: {error}", file=sys.stderr)
        return 1
    finally:
        spark.stop()
    args.output.write_text(json.dumps(report(trials), indent=2) + "\n", encoding="utf-8")
    print(f"batch_job: best loss {trials.best_trial['result']['loss']:.4g}, written to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
