"""``compare``: arguments, one repetition on its virtual clock, and the whole on Spark."""

from __future__ import annotations

import functools
import logging
import math
import os
import sys
import threading
from typing import Any

import cloudpickle
import hyperopt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sparktune import SparkTrials, compare, hp, rand, tpe
from sparktune.comparison.repetition import Repetition
from sparktune.errors import AllTrialsFailed, InvalidSpace, ObjectiveNotPicklable

cloudpickle.register_pickle_by_value(sys.modules[__name__])

SPACE = {"x": hp.uniform("x", -5, 5), "c": hp.choice("c", [0, {"y": hp.uniform("y", 0, 1)}])}


def bowl(point: Any) -> float:
    inner = point["c"] if point["c"] == 0 else point["c"]["y"]
    return float(point["x"] ** 2 + inner)


def sometimes(point: Any) -> Any:
    if point["x"] > 2:
        raise ValueError(f"x is {point['x']:.1f}, above 2")
    if point["x"] < -4:
        return math.nan
    return {"status": "fail"} if point["x"] < -2 else {"status": "ok", "loss": point["x"] ** 2}


def bowl_of_two(point: dict[str, float]) -> float:
    return point["x"] ** 2 + point["y"]


def seconds(config: Any, result: Any) -> float:
    return 1.0 + abs(config["x"])


def repetition(fn: Any = bowl, algo: Any = rand.suggest, **options: Any) -> Repetition:
    defaults: dict[str, Any] = {"max_evals": 12, "parallelism": 1, "seed": 0, "duration_s": seconds}
    return Repetition(fn, SPACE, {"a": cloudpickle.dumps(algo)}, **{**defaults, **options})


# -- arguments ---------------------------------------------------------------------------------------------

ALGOS = {"tpe": tpe.suggest, "rand": rand.suggest}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_evals": 0}, ValueError, "max_evals is 0; it must be at least 1"),
        ({"max_evals": None}, TypeError, "max_evals is None; it must be a whole number"),
        ({"max_evals": 2.5}, TypeError, r"max_evals is 2\.5"),
        ({"repeats": 0}, ValueError, "repeats is 0"),
        ({"parallelism": True}, TypeError, "parallelism is True"),
        ({"seed": -1}, ValueError, "seed is -1; it must be at least 0"),
        ({"fn": 3}, TypeError, "fn is 3; it must be a function"),
        ({"duration_s": 3}, TypeError, r"duration_s is 3; it must be a function \(config, result\) -> sec"),
        ({"algos": {}}, ValueError, "algos is empty"),
        ({"algos": [tpe.suggest]}, TypeError, "dict of name -> suggest function"),
        ({"algos": {1: tpe.suggest}}, TypeError, "algos has the key 1; a name must be text"),
        (
            {"algos": {"tpe": hyperopt.tpe}},
            TypeError,
            r"is the module hyperopt\.tpe; give its function: tpe\.",
        ),
        ({"algos": {"tpe": "tpe"}}, TypeError, r"algos\['tpe'\] is 'tpe'; it must be a suggest function"),
        (
            {"algos": {"len": len}},
            ValueError,
            r"algos\['len'\] cannot suggest a point of this space \(TypeErr",
        ),
        ({"algos": {"none": lambda *_: []}}, ValueError, r"algos\['none'\] suggests no point"),
        ({"reference": "random"}, ValueError, "reference is 'random', which is none of the algorithms"),
        ({"space": {"x": 1}}, InvalidSpace, "has no hyperparameters"),
        ({"space": {"x": hp.quniform("x", 0, 1, 0)}}, InvalidSpace, "q of 'x'"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(options: Any, error: Any, message: str) -> None:
    arguments = {"fn": bowl, "space": SPACE, "algos": ALGOS, "max_evals": 3, "mlflow": False} | options
    with pytest.raises(error, match=message):
        compare(**arguments)


def test_algorithms_that_cannot_be_pickled_are_named() -> None:
    lock = threading.Lock()
    with pytest.raises(ObjectiveNotPicklable, match=r"algos\['mine'\].*the variable 'lock' is a lock"):
        compare(bowl, SPACE, {"mine": lambda *_: lock}, 3, mlflow=False)


# -- one repetition ----------------------------------------------------------------------------------------


def test_a_repetition_is_repeatable_and_its_number_matters() -> None:
    first, again, other = (repetition()({"algorithm": "a", "repeat": n}) for n in (0, 0, 1))
    assert first == again
    assert first["losses"] != other["losses"]
    assert first["loss"] == min(first["losses"])


def test_time_is_that_of_asynchronous_workers() -> None:
    one, four = (repetition(parallelism=n)({"algorithm": "a", "repeat": 0}) for n in (1, 4))
    assert one["times_s"] == sorted(one["times_s"])
    assert one["times_s"][-1] == pytest.approx(np.diff(one["times_s"], prepend=0).sum())
    # Random search draws the same points in the same order: four workers need less time for them, and the
    # results of the slow ones come late.
    assert sorted(four["losses"]) == sorted(one["losses"])
    assert four["losses"] != one["losses"]
    assert one["times_s"][-1] / 4 <= four["times_s"][-1] < one["times_s"][-1] / 2


def test_durations_are_measured_where_nobody_says_otherwise() -> None:
    result = repetition(duration_s=None)({"algorithm": "a", "repeat": 0})
    assert len(result["times_s"]) == 12
    assert all(np.diff(result["times_s"], prepend=0) > 0)


def test_failed_trials_are_counted_with_their_causes(caplog: pytest.LogCaptureFixture) -> None:
    result = repetition(sometimes, max_evals=40)({"algorithm": "a", "repeat": 0})
    n_failed = int(np.isnan(result["losses"]).sum())
    assert 0 < n_failed < 40
    assert sum(result["causes"].values()) == n_failed
    assert any("above 2" in cause for cause in result["causes"])
    assert not caplog.records  # not one line for each on the worker's standard error


def test_a_repetition_without_any_loss_ends_too() -> None:
    result = repetition(lambda point: 1 / 0)({"algorithm": "a", "repeat": 0})
    assert result["loss"] == math.inf
    assert result["causes"] == {"ZeroDivisionError: division by zero": 12}


@pytest.mark.parametrize("loss", [math.inf, -math.inf])
def test_an_infinite_loss_is_a_failure_with_a_cause(loss: float) -> None:
    result = repetition(lambda point: loss if point["x"] > 0 else 1.0)({"algorithm": "a", "repeat": 0})
    assert result["loss"] == 1.0
    assert result["causes"] == {f"the loss is {loss}": result["losses"].count(loss)}


class Stateful:
    """Counts its calls; each repetition must begin at 0."""

    calls = 0

    def __call__(self, new_ids: Any, domain: Any, trials: Any, seed: Any) -> Any:
        self.calls += 1
        assert new_ids[0] == self.calls - 1
        return rand.suggest(new_ids, domain, trials, seed)


def test_each_repetition_has_its_own_copy_of_the_algorithm() -> None:
    both = repetition(algo=Stateful())
    assert all(len(both({"algorithm": "a", "repeat": n})["losses"]) == 12 for n in (0, 1))


def test_what_an_objective_logs_is_temporary_store(mlflow_store: str) -> None:
    import mlflow

    def logging_bowl(point: Any) -> float:
        mlflow.log_param("x", point["x"])  # another value in each trial, which one run would refuse
        with mlflow.start_run(nested=True):
            mlflow.log_metric("loss", bowl(point))
        return bowl(point)

    result = repetition(logging_bowl, max_evals=3)({"algorithm": "a", "repeat": 0})
    assert result["causes"] == {}
    assert mlflow.get_tracking_uri() == mlflow_store
    assert mlflow.active_run() is None
    assert len(mlflow.search_runs()) == 0


# -- on Spark ----------------------------------------------------------------------------------------------


def svc_error(point: Any) -> float:
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    if point["gamma"] > 50:
        raise ValueError("gamma is too large")
    features, species = load_iris(return_X_y=True)
    return float(1 - cross_val_score(SVC(**point), features, species, cv=3).mean())


SVC_SPACE = {"C": hp.loguniform("C", -6, 6), "gamma": hp.loguniform("gamma", -8, 5)}


def by_c(config: Any, result: Any) -> float:
    return 1.0 + float(config["C"]) / 100


def test_a_comparison_on_spark_recorded_in_mlflow(
    spark: Any, mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    algos = {
        "tpe": functools.partial(tpe.suggest, n_startup_jobs=5),
        "hyperopt": hyperopt.tpe.suggest,
        "rand": rand.suggest,
    }
    arguments: dict[str, Any] = {"repeats": 2, "parallelism": 3, "seed": 4, "duration_s": by_c}
    result = compare(svc_error, SVC_SPACE, algos, 12, **arguments, show_progressbar=False)

    assert list(result.curves.columns) == ["algo", "repeat", "trial", "time_s", "loss", "best_loss"]
    assert len(result.curves) == 3 * 2 * 12
    assert set(result.table["algo"]) == set(algos)
    assert "trials_to_reference" in result.table
    assert result.lost == {}
    assert result.failures == {"ValueError: gamma is too large": int(result.curves["loss"].isna().sum())}
    assert "The commonest cause" in caplog.text
    assert (result.by_trials.groupby("algo")["trial"].max() == 12).all()

    run = mlflow.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["algos"] == "tpe, hyperopt, rand"
    assert run.data.params["algo.tpe"].endswith("tpe.suggest(n_startup_jobs=5)")
    assert run.data.params["algo.hyperopt"] == "hyperopt.tpe.suggest"
    assert run.data.params["max_evals"] == "12"
    assert "loguniform" in run.data.tags["space"]
    ranks = result.table.set_index("algo")["mean_rank"]
    assert run.data.metrics["mean_rank.rand"] == ranks["rand"]
    history = mlflow.MlflowClient().get_metric_history(result.run_id, "best_loss.hyperopt")
    means = result.by_trials.query("algo == 'hyperopt'").dropna(subset="mean")
    assert [(p.step, p.value) for p in history] == list(zip(means["trial"], means["mean"], strict=True))
    folder = mlflow.artifacts.download_artifacts(run_id=result.run_id)
    logged = pd.read_csv(f"{folder}/comparison_curves.csv")
    pd.testing.assert_frame_equal(logged, result.curves, check_dtype=False)
    assert sorted(os.listdir(folder)) == ["comparison.csv", "comparison.html", "comparison_curves.csv"]
    assert len(mlflow.search_runs()) == 1

    again = compare(svc_error, SVC_SPACE, algos, 12, **arguments, mlflow=False, show_progressbar=False)
    assert again.run_id is None
    pd.testing.assert_frame_equal(again.curves, result.curves)


def test_an_active_run_is_joined_and_not_ended(spark: Any, mlflow_store: str) -> None:
    import mlflow

    options: dict[str, Any] = {"repeats": 1, "show_progressbar": False}
    with mlflow.start_run() as parent:
        mlflow.log_param("max_evals", "mine")
        first = compare(bowl, SPACE, {"rand": rand.suggest}, 2, **options)
        second = compare(bowl, SPACE, {"rand": rand.suggest}, 3, **options)
        assert mlflow.active_run() is not None
    assert first.run_id == second.run_id == parent.info.run_id
    run = mlflow.get_run(parent.info.run_id)
    assert run.data.params["max_evals"] == "mine"
    assert (run.data.params["max_evals_1"], run.data.params["max_evals_2"]) == ("2", "3")
    assert "mean.rand" in run.data.metrics
    assert "mean.rand_1" in run.data.metrics
    names = [f.path for f in mlflow.MlflowClient().list_artifacts(parent.info.run_id)]
    assert {"comparison.csv", "comparison_1.csv", "comparison_1.html"} <= set(names)


def fragile(new_ids: Any, domain: Any, trials: Any, seed: Any) -> Any:
    """Breaks after two trials."""
    if len(trials.trials) >= 2:
        raise RuntimeError("out of ideas")
    return rand.suggest(new_ids, domain, trials, seed)


def test_a_repetition_that_died_is_named(spark: Any, caplog: pytest.LogCaptureFixture) -> None:
    algos = {"fragile": fragile, "rand": rand.suggest}
    result = compare(bowl, SPACE, algos, 4, 2, mlflow=False, show_progressbar=False)
    assert result.lost == {("fragile", n): "RuntimeError: out of ideas" for n in (0, 1)}
    assert set(result.curves["algo"]) == {"rand"}
    assert "lost: fragile 0, fragile 1" in repr(result)
    assert any("algorithm=fragile" in r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)


def test_when_nothing_ends_the_cause_is_told(spark: Any, mlflow_store: str) -> None:
    import mlflow

    with pytest.raises(AllTrialsFailed, match=r"no repetition of any algorithm ended.*out of ideas"):
        compare(bowl, SPACE, {"fragile": fragile}, 4, 2, show_progressbar=False)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FAILED"
    assert "out of ideas" in run.data.tags["sparktune.error"]


def test_distributions_of_scipy_are_a_space(spark: Any) -> None:
    space = {"x": stats.uniform(-1, 2), "y": stats.loguniform(1e-3, 1)}
    result = compare(bowl_of_two, space, {"tpe": tpe.suggest}, 8, 1, spark_session=spark, mlflow=False)
    assert len(result.curves) == 8


def test_when_no_trial_gives_a_loss_the_cause_is_told(spark: Any) -> None:
    with pytest.raises(AllTrialsFailed, match=r"6 of 6 trials failed.*\(6\): ZeroDivisionError"):
        compare(lambda _: 1 / 0, SPACE, {"rand": rand.suggest}, 3, 2, mlflow=False, show_progressbar=False)


def test_interrupts_end_the_run(monkeypatch: pytest.MonkeyPatch, spark: Any, mlflow_store: str) -> None:
    import mlflow

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SparkTrials, "fmin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(bowl, SPACE, {"rand": rand.suggest}, 2, 1, show_progressbar=False)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "KILLED"


def test_trouble_with_mlflow_warns_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, spark: Any, mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    from sparktune.comparison import record as tracked

    def refuse(self: Any, *args: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(tracked.MlflowStore, "write", refuse)
    monkeypatch.setattr(tracked, "PATIENCE_S", 0.0)
    result = compare(bowl, SPACE, {"rand": rand.suggest}, 2, 1, show_progressbar=False)
    assert len(result.curves) == 2
    assert "not fully written to MLflow (OSError: the disk is full)" in caplog.text


def test_progress_counts_repetitions(spark: Any) -> None:
    import contextlib

    seen: list[Any] = []

    @contextlib.contextmanager
    def reporter(initial: int, total: int) -> Any:
        seen.append((initial, total))

        class Bar:
            def update(self, n: int) -> None:
                seen.append(n)

        yield Bar()

    compare(bowl, SPACE, ALGOS, 2, 2, mlflow=False, show_progressbar=reporter)
    assert seen == [(0, 4), 1, 1, 1, 1]
