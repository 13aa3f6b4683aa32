"""Early termination and trial timeouts on a real Spark session: both roads, and workers that stay or go."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import cloudpickle
import mlflow
import numpy as np
import pytest

from sparktune import BanditPolicy, SparkTrials, fmin, hp, rand, report
from sparktune.early_termination import Curve, Decision
from tests.processes import is_over

# Workers are not to import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class StopWeak:
    """Ends trials below a half at their third report."""

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> Decision | None:
        values = curves[trial_id].values
        return Decision("StopWeak", 3, values[-1], 0.5) if len(values) >= 3 and values[-1] < 0.5 else None


def states(trials: Any) -> dict[int, str]:
    frame = trials.to_dataframe()
    return dict(zip(frame.trial, frame.state, strict=True))


def test_reports_end_trials_and_their_workers_stay(spark: Any, mlflow_store: str) -> None:
    def objective(x: float) -> dict[str, Any]:
        for _ in range(5):
            report(x)
        return {"status": "ok", "accuracy": x}

    trials = SparkTrials(
        spark_session=spark, metric="accuracy", goal="maximize", early_termination=StopWeak()
    )
    fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 12, trials=trials, rstate=0, verbose=False)
    frame = trials.to_dataframe()
    assert set(frame.state) == {"completed", "early_terminated"}
    assert ((frame.x < 0.5) == (frame.state == "early_terminated")).all()
    assert set(frame[frame.state == "early_terminated"].steps) == {3}
    assert len({record.worker_pid for record in trials.memory.records.values()}) <= 2
    assert set(frame.attempts) == {1}

    children = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{trials.run_id}'")
    cut = children[children["tags.trial_status"] == "early_terminated"]
    assert set(cut.status) == {"KILLED"}
    assert set(cut["tags.sparktune.early_termination.policy"]) == {"StopWeak"}
    assert set(cut["tags.sparktune.early_termination.interval"]) == {"3"}
    history = mlflow.MlflowClient().get_metric_history(cut.run_id.iloc[0], "accuracy")
    assert sorted({point.step for point in history}) == [1, 2, 3]
    parent = mlflow.get_run(trials.run_id).data.metrics
    assert parent["early_terminated_trials_count"] == len(cut)
    assert 0 < parent["compute_saved_share"] < 1


def test_a_metric_that_is_only_logged_ends_trials_too(spark: Any, mlflow_store: str) -> None:
    def objective(x: float) -> dict[str, Any]:
        for step in range(4 if x >= 0.5 else 10_000):
            mlflow.log_metric("accuracy", x, step=step)
            time.sleep(0.05)
        return {"status": "ok", "accuracy": x}

    trials = SparkTrials(
        spark_session=spark,
        metric="accuracy",
        goal="maximize",
        early_termination=StopWeak(),
        watch_interval=0.2,
    )
    points = [{"x": 0.1}, {"x": 0.9}, {"x": 0.2}, {"x": 0.8}]
    fmin(
        objective,
        hp.uniform("x", 0, 1),
        rand.suggest,
        0,
        trials=trials,
        points_to_evaluate=points,
        timeout=90,
        verbose=False,
    )
    assert states(trials) == {0: "early_terminated", 1: "completed", 2: "early_terminated", 3: "completed"}
    run = mlflow.search_runs(filter_string="attributes.run_name = 'trial 0'").iloc[0]
    assert run.status == "KILLED"


def test_a_quick_good_trial_leaves_the_curve_that_a_slow_weak_one_is_judged_by(
    spark: Any, mlflow_store: str
) -> None:
    def objective(x: float) -> dict[str, Any]:
        for step in range(5 if x > 0.5 else 10_000):
            mlflow.log_metric("accuracy", x, step=step)
            if x < 0.5:
                time.sleep(0.05)
        return {"status": "ok", "loss": 100 - x}

    trials = SparkTrials(
        1,
        spark_session=spark,
        metric="accuracy",
        goal="maximize",
        early_termination=BanditPolicy(slack_amount=0.1),
        watch_interval=1.0,
    )
    points = [{"x": 0.9}, {"x": 0.1}]  # the good one is over long before the first look at it
    arguments: dict[str, Any] = {"trials": trials, "points_to_evaluate": points, "timeout": 90}
    fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 0, verbose=False, **arguments)
    frame = trials.to_dataframe().set_index("trial")
    assert frame.state.to_dict() == {0: "completed", 1: "early_terminated"}
    assert frame.steps[0] == 5
    assert frame.loss.isna().to_dict() == {0: False, 1: True}, "an accuracy does not compare with 100 - x"
    assert frame.run_id.notna().all()
    run = mlflow.get_run(frame.run_id[1])
    assert "loss" not in run.data.metrics
    assert run.data.metrics["accuracy"] == 0.1
    assert trials.best_run_id == frame.run_id[0] == trials.best_trial["misc"]["run_id"]
    metrics = mlflow.get_run(trials.run_id).data.metrics
    names = ("successful", "failed", "cancelled", "early_terminated", "total")
    assert [metrics[f"{name}_trials_count"] for name in names] == [1, 0, 0, 1, 2]


def spins(_x: float) -> float:
    matrix = np.ones((800, 800))
    while True:
        matrix @ matrix


def sleeps(_x: float) -> float:
    time.sleep(3600)
    return 0.0


def ignores(_x: float) -> float:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            continue


@pytest.mark.parametrize("objective", [spins, sleeps, ignores])
def test_a_trial_whose_time_is_up_is_over(spark: Any, objective: Any) -> None:
    def hangs_once(x: float) -> float:
        return objective(x) if x > 0.5 else x

    trials = SparkTrials(spark_session=spark, mlflow=False, trial_timeout=0.5)
    points = [{"x": 0.9}, {"x": 0.1}]
    space = hp.uniform("x", 0, 1)
    fmin(hangs_once, space, rand.suggest, 0, trials=trials, points_to_evaluate=points, verbose=False)
    assert states(trials) == {0: "timed_out", 1: "completed"}
    pid = trials.memory.records[0].worker_pid
    assert pid is not None
    assert is_over(pid)


def test_an_objective_that_goes_on_after_its_end_is_stopped(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparktune.backends import spark_jobs

    monkeypatch.setattr(spark_jobs, "TERMINATE_S", 0.5)

    def objective(x: float) -> float:
        if x > 0:  # keeps the driver busy for longer than the other is waited for
            end = time.monotonic() + 5
            while time.monotonic() < end:
                report(1.0)
            return x
        while True:
            try:
                report(0.0)
            except BaseException:
                time.sleep(3600)

    class StopThatOne(StopWeak):
        def decide(self, trial_id: int, curves: Any, goal: Any) -> Any:
            return super().decide(trial_id, curves, goal) if trial_id == 0 else None

    trials = SparkTrials(spark_session=spark, mlflow=False, early_termination=StopThatOne())
    points = [{"x": 0.0}, {"x": 1.0}]
    space = hp.uniform("x", 0, 1)
    fmin(objective, space, rand.suggest, 0, trials=trials, points_to_evaluate=points, verbose=False)
    assert states(trials) == {0: "early_terminated", 1: "completed"}
    stuck, busy = (trials.memory.records[i].ended_s or 0.0 for i in (0, 1))
    assert stuck < busy
