"""No trial sees what another one did, although worker processes are kept. On real Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
import pytest

from sparktune import SparkTrials, fmin, hp, rand
from tests.backends.conformance import wait_until

SPACE = hp.uniform("x", 0, 1)


def results(spark: Any, objective: Any, n: int = 3, seed: int = 3, **arguments: Any) -> list[dict[str, Any]]:
    """What the trials returned, in their order; one at a time, so that they use one process in turn."""
    trials = SparkTrials(1, spark_session=spark, **{"mlflow": False, **arguments})
    fmin(objective, SPACE, rand.suggest, n, trials=trials, rstate=seed, show_progressbar=False)
    frame = trials.to_dataframe()
    assert set(frame.state) == {"completed"}, frame.error.tolist()
    return [document["result"] for document in sorted(trials.trials, key=lambda d: d["tid"])]


def test_data_that_an_objective_changes_is_new_for_the_next_trial(spark: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(100_000.0)})  # large enough to travel beside the pickle
    small = pd.DataFrame({"x": [1.0]})
    cache: dict[str, int] = {}

    def objective(_x: float) -> dict[str, Any]:
        import os

        seen = {
            "columns": list(frame),
            "small": list(small),
            "cache": dict(cache),
            "first": float(frame.x[0]),
        }
        frame["label"] = 1
        small["label"] = 1
        cache["n"] = cache.get("n", 0) + 1
        frame.loc[0, "x"] = 99.0
        return {"status": "ok", "loss": 0.0, "seen": seen, "pid": os.getpid()}

    found = results(spark, objective, 4)
    assert len({result["pid"] for result in found}) < 4, "no process was used twice"
    expected = {"columns": ["x"], "small": ["x"], "cache": {}, "first": 0.0}
    assert [result["seen"] for result in found] == [expected] * 4


def test_the_process_is_as_it_was(spark: Any) -> None:
    def objective(_x: float) -> dict[str, Any]:
        import logging
        import os
        import sys
        import warnings

        mask = os.umask(0)
        os.umask(mask)
        seen = {
            "folder": os.getcwd(),
            "variables": sorted(name for name in os.environ if name != "MLFLOW_RUN_ID"),
            "path": list(sys.path),
            "argv": list(sys.argv),
            "filters": len(warnings.filters),
            "level": logging.getLogger().level,
            "umask": mask,
            "digits": np.get_printoptions()["precision"],
            "division": np.geterr()["divide"],
        }
        os.chdir("/")
        os.environ["SPARKTUNE_LEAK"] = "1"
        sys.path.insert(0, "/leak")
        sys.argv.append("leak")
        warnings.simplefilter("error")
        logging.getLogger().setLevel(logging.DEBUG)
        os.umask(0o077 if mask != 0o077 else 0o022)
        np.set_printoptions(precision=2)
        np.seterr(divide="raise")
        return {"status": "ok", "loss": 0.0, "seen": seen, "pid": os.getpid()}

    found = results(spark, objective, 4)
    assert len({result["pid"] for result in found}) < 4, "no process was used twice"
    # What a process had before its first trial, other studies of the session may have left.
    first: dict[int, Any] = {}
    for result in found:
        assert result["seen"] == first.setdefault(result["pid"], result["seen"])


def test_each_trial_has_random_numbers_of_its_own_from_the_studys_seed(spark: Any) -> None:
    def objective(_x: float) -> dict[str, Any]:
        import random

        return {"status": "ok", "loss": 0.0, "drawn": (random.random(), float(np.random.random()))}

    first, again, other = (
        [result["drawn"] for result in results(spark, objective, 3, seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert len(set(first) | set(other)) == 6


def test_autologging_of_one_study_does_not_log_the_models_of_the_next(spark: Any, mlflow_store: str) -> None:
    import mlflow

    def fit() -> None:
        from sklearn.linear_model import LinearRegression

        LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])

    def logs(_x: float) -> float:
        import mlflow.sklearn

        mlflow.sklearn.autolog(log_models=False)
        fit()
        return 0.0

    def does_not(_x: float) -> float:
        import mlflow  # noqa: F401

        fit()
        return 0.0

    results(spark, logs, 2, mlflow=True)
    results(spark, does_not, 2, mlflow=True)
    runs = mlflow.search_runs(output_format="list")
    fits = [run for run in runs if "fit_intercept" in run.data.params]
    assert len(fits) == 2, [run.data.params for run in runs]


def test_processes_of_joblib_end_with_their_trial_and_its_worker_is_kept(
    spark: Any, mlflow_store: str
) -> None:
    pytest.importorskip("joblib")

    def objective(_x: float) -> dict[str, Any]:
        import os

        import joblib

        jobs = [joblib.delayed(os.getenv)("MLFLOW_RUN_ID")] * 2
        seen = set(joblib.Parallel(n_jobs=2)(jobs))
        return {
            "status": "ok",
            "loss": 0.0,
            "is_own": seen == {os.environ["MLFLOW_RUN_ID"]},
            "pid": os.getpid(),
        }

    found = results(spark, objective, 3, mlflow=True)
    assert [result["is_own"] for result in found] == [True] * 3
    assert len({result["pid"] for result in found}) < 3, "no process was used twice"


def runs(pid: int) -> bool:
    """Whether there is such a process, which has not ended."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def test_a_pool_that_a_module_keeps_ends_with_the_worker(
    spark: Any, mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    def objective(_x: float) -> dict[str, Any]:
        import multiprocessing
        import os
        import string  # a module that stays

        holder: Any = string
        if not hasattr(holder, "sparktune_pool"):
            holder.sparktune_pool = multiprocessing.get_context("fork").Pool(1)
        seen = holder.sparktune_pool.apply(os.getenv, ("MLFLOW_RUN_ID",))
        pool = holder.sparktune_pool.apply(os.getpid)
        return {"status": "ok", "loss": 0.0, "is_own": seen == os.environ["MLFLOW_RUN_ID"], "pool": pool}

    found = results(spark, objective, 3, mlflow=True)
    assert [result["is_own"] for result in found] == [True] * 3
    assert caplog.text.count("the objective leaves processes running") == 1
    wait_until(lambda: not any(runs(result["pool"]) for result in found))


def test_a_fresh_worker_gives_every_trial_a_new_process(spark: Any) -> None:
    def objective(_x: float) -> dict[str, Any]:
        import os
        import string

        seen = hasattr(string, "sparktune_leak")
        string.sparktune_leak = True  # type: ignore[attr-defined]
        return {"status": "ok", "loss": 0.0, "seen": seen, "pid": os.getpid()}

    results(spark, objective, 2)  # leaves worker processes that were used
    found = results(spark, objective, 3, fresh_worker=True)
    assert [result["seen"] for result in found] == [False] * 3
    assert len({result["pid"] for result in found}) == 3


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_fresh_worker_is_true_or_false(spark: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="fresh_worker"):
        SparkTrials(spark_session=spark, fresh_worker=value)
