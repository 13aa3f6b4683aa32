"""``DriverTrials``: objectives that use Spark themselves, in threads of the driver."""

from __future__ import annotations

import json
import pickle
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest

from sparktune import BanditPolicy, DriverTrials, SimulatedTrials, Trials, fmin, hp, rand, report, tpe
from sparktune.errors import ObjectiveNotPicklable
from tests.conftest import needs_classic
from tests.standalone import Process

SPACE = {"reg": hp.loguniform("reg", -6, 0), "weak": hp.choice("weak", [False, True])}


def children(trials: Any) -> Any:
    return mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{trials.run_id}'")


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """Real data: breast cancer, of scikit-learn."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    rows = [(float(label), *map(float, row[:6])) for row, label in zip(data.data, data.target, strict=True)]
    found = spark.createDataFrame(rows, ["label", *"abcdef"]).repartition(2).cache()
    found.count()
    return found


@needs_classic
def test_models_of_mllib_train_at_once_each_on_its_own_run(frame: Any, mlflow_store: str) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.feature import StandardScaler, VectorAssembler

    seen: set[str] = set()
    both = threading.Barrier(2, timeout=120)

    def objective(point: Any) -> dict[str, Any]:
        seen.add(threading.current_thread().name)
        if len(seen) <= 2:
            both.wait()  # two train at the same time
        stages = [VectorAssembler(inputCols=list("abcdef"), outputCol="raw"), StandardScaler(inputCol="raw")]
        model = LogisticRegression(featuresCol=stages[1].getOutputCol(), regParam=point["reg"], maxIter=5)
        fitted = Pipeline(stages=[*stages, model]).fit(frame)
        area = BinaryClassificationEvaluator().evaluate(fitted.transform(frame))
        with mlflow.start_run(nested=True):
            mlflow.log_param("mine", point["reg"])
        mlflow.log_metric("area", area)
        active = mlflow.active_run()
        assert active is not None
        return {"status": "ok", "loss": 1 - area, "run": active.info.run_id, "model": fitted}

    trials = DriverTrials(2)
    fmin(objective, SPACE, tpe.suggest, 4, trials=trials, rstate=1, show_progressbar=False)
    found = trials.to_dataframe()
    assert found["state"].tolist() == ["completed"] * 4, found["error"].tolist()
    runs = children(trials).set_index("run_id")
    assert len(runs) == 4
    for document in trials.trials:
        run = runs.loc[document["result"]["run"]]
        assert run["metrics.area"] == pytest.approx(1 - document["result"]["loss"])
        assert float(run["params.mine"]) == pytest.approx(document["misc"]["vals"]["reg"][0])
        assert run["tags.mlflow.runName"].startswith("trial")
        assert document["misc"]["run_id"] == run.name
    assert set(runs["status"]) == {"FINISHED"}
    assert mlflow.active_run() is None
    assert trials.best_trial["result"]["model"].transform(frame).count() == frame.count()


def test_weak_trials_end_early_and_other_runs_below_are_the_users(mlflow_store: str) -> None:
    has_curve = threading.Event()

    def objective(point: Any) -> float:
        with mlflow.start_run():
            mlflow.set_tag("kind", "weak" if point["weak"] else "strong")
        if point["weak"]:
            has_curve.wait(60)
        for step in range(50):
            report(10.0 if point["weak"] else 1.0, step)
        has_curve.set()
        with mlflow.start_run(nested=True), mlflow.start_run(nested=True, run_name="a fold"):
            mlflow.log_metric("fold", 1.0)
        return 1.0

    points = [{"reg": 0.1, "weak": i % 2} for i in range(4)]
    trials = DriverTrials(2, early_termination=BanditPolicy(slack_amount=1, delay_evaluation=2))
    fmin(objective, SPACE, rand.suggest, 0, trials=trials, points_to_evaluate=points, show_progressbar=False)
    assert trials.to_dataframe()["state"].tolist() == ["completed", "early_terminated"] * 2
    runs = children(trials)
    assert sorted(runs["tags.kind"]) == ["strong", "strong", "weak", "weak"]
    assert sorted(runs["status"]) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    for run_id in runs[runs["tags.kind"] == "strong"]["run_id"]:
        folds = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'")
        assert folds["metrics.fold"].tolist() == [1.0]
        assert folds["status"].tolist() == ["FINISHED"]


def test_a_metric_that_is_only_logged_ends_trials(spark: Any, mlflow_store: str) -> None:
    has_curve = threading.Event()

    def objective(point: Any) -> float:
        if not point["weak"]:
            for step in range(100):
                mlflow.log_metric("loss", 1.0, step=step)
            has_curve.set()
            return 1.0
        has_curve.wait(60)
        for step in range(100_000):
            mlflow.log_metric("loss", 10.0, step=step)
            spark.range(10).count()  # the stop is felt here
        return 10.0

    points = [{"reg": 0.1, "weak": i} for i in (0, 1)]
    policy = BanditPolicy(slack_amount=1, delay_evaluation=2)
    trials = DriverTrials(2, spark_session=spark, early_termination=policy, watch_interval=0.2)
    fmin(objective, SPACE, rand.suggest, 0, trials=trials, points_to_evaluate=points, show_progressbar=False)
    assert trials.to_dataframe()["state"].tolist() == ["completed", "early_terminated"]


def test_a_time_limit_cancels_the_spark_jobs_of_its_trial_alone(spark: Any) -> None:
    from tests.backends.test_driver_threads import run_for_an_hour

    def objective(point: Any) -> float:
        if point["weak"]:
            run_for_an_hour(spark)
        return float(spark.range(100).count())

    points = [{"reg": 0.1, "weak": i} for i in (1, 0, 0, 1)]
    trials = DriverTrials(2, spark_session=spark, mlflow=False, trial_timeout=3.0)
    fmin(objective, SPACE, rand.suggest, 0, trials=trials, points_to_evaluate=points, show_progressbar=False)
    assert trials.to_dataframe()["state"].tolist() == ["timed_out", "completed", "completed", "timed_out"]
    if hasattr(type(spark), "sparkContext"):
        tracker = spark.sparkContext.statusTracker()
        assert list(tracker.getActiveJobsIds()) == []


def test_an_exception_is_its_trials_own_and_the_study_goes_on() -> None:
    def objective(point: Any) -> float:
        if point["weak"]:
            raise ArithmeticError("too weak")
        return point["reg"]  # type: ignore[no-any-return]

    trials = DriverTrials(mlflow=False)
    assert trials.parallelism == DriverTrials(None, mlflow=False).parallelism == 4
    fmin(objective, SPACE, rand.suggest, 12, trials=trials, rstate=0, show_progressbar=False)
    frame = trials.to_dataframe()
    assert set(frame["state"]) == {"completed", "failed"}
    assert frame[frame["state"] == "failed"]["error"].str.contains("ArithmeticError: too weak").all()
    further = 16 - len(trials)  # failed trials are not counted, as in hyperopt
    fmin(objective, SPACE, rand.suggest, 16, trials=trials, rstate=0, show_progressbar=False)
    assert len(trials.to_dataframe()) == 12 + further
    assert len(pickle.loads(pickle.dumps(trials))) == len(trials)


def test_what_cannot_be_pickled_is_kept_and_a_save_file_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locks = [threading.Lock(), threading.Lock()]
    left = iter(locks)

    def objective(point: Any) -> dict[str, Any]:
        return {"status": "ok", "loss": point["reg"], "lock": next(left)}

    trials = DriverTrials(1, mlflow=False)
    path = tmp_path / "trials.pkl"
    fmin(objective, SPACE, rand.suggest, 2, trials=trials, trials_save_file=path, show_progressbar=False)
    assert trials.to_dataframe()["state"].tolist() == ["completed"] * 2
    assert [document["result"]["lock"] for document in trials.trials] == locks
    said = [record.getMessage() for record in caplog.records if "trials_save_file" in record.getMessage()]
    assert len(said) == 1
    assert "the result['lock'] is a lock in trial 0, which cannot be pickled" in said[0]


class Together:
    """A transformer of scikit-learn whose fits wait for each other."""

    def __init__(self, both: threading.Barrier) -> None:
        self.both = both

    def fit(self, X: Any, y: Any = None) -> Together:  # noqa: N803
        self.both.wait()
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return X


def test_autologging_of_trials_at_the_same_time(mlflow_store: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    both = threading.Barrier(2, timeout=120)

    def objective(point: Any) -> float:
        model = make_pipeline(Together(both), LogisticRegression(C=point["reg"]))
        return float(1 - model.fit([[0.0], [1.0]], [0, 1]).score([[0.0], [1.0]], [0, 1]))

    trials = DriverTrials(2)
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    try:
        fmin(objective, SPACE, rand.suggest, 4, trials=trials, rstate=0, show_progressbar=False)
        with mlflow.start_run() as mine:
            LogisticRegression(C=0.5).fit([[0.0], [1.0]], [0, 1])
    finally:
        mlflow.sklearn.autolog(disable=True, silent=True)
    runs = children(trials)
    assert runs["metrics.training_score"].notna().all()
    assert runs["params.logisticregression__C"].tolist() == runs["params.reg"].tolist()
    assert mlflow.get_run(mine.info.run_id).data.params["C"] == "0.5"


def test_a_thread_of_somebody_else_that_outlives_the_trial(mlflow_store: str) -> None:
    """What a pool of the notebook does for a trial is the trial's; what it does later is not."""
    pool = ThreadPoolExecutor(1)

    def objective(point: Any) -> float:
        pool.submit(mlflow.log_metric, "in the pool", 1.0).result()
        return float(point["reg"])

    trials = DriverTrials(1)
    fmin(objective, SPACE, rand.suggest, 2, trials=trials, show_progressbar=False)
    assert children(trials)["metrics.in the pool"].tolist() == [1.0, 1.0]
    with pool:
        assert pool.submit(mlflow.active_run).result() is None
    assert not hasattr(threading.Thread.start, "__wrapped__")


@pytest.mark.parametrize("parallelism", [1, 3])
def test_keyboard_interrupt_in_an_objective_ends_the_study(parallelism: int) -> None:
    """As with hyperopt's ``Trials``, whose objective runs in this process too."""
    began: list[float] = []

    def fn(x: float) -> float:
        began.append(x)
        if len(began) == 3:
            raise KeyboardInterrupt
        return x

    trials = DriverTrials(parallelism, mlflow=False)
    with pytest.raises(KeyboardInterrupt):
        fmin(fn, hp.uniform("x", 0, 1), rand.suggest, 50, trials=trials, rstate=0, show_progressbar=False)
    assert 3 <= len(began) <= 3 + parallelism
    assert trials.count_failed_trials() == 0
    assert trials.count_cancelled_trials() >= 1
    assert trials.count_successful_trials() >= 2
    assert trials.fmin_cancelled_reason == "fmin run cancelled by user"


def test_spark_trials_name_this_way(spark: Any) -> None:
    from sparktune import SparkTrials

    with pytest.raises(ObjectiveNotPicklable, match=r"trials=DriverTrials\(\)"):
        fmin(
            lambda point: spark.range(3).count(), SPACE, rand.suggest, 1, show_progressbar=False,
            trials=SparkTrials(spark_session=spark, mlflow=False),
        )  # fmt: skip


INTERRUPTED = """
import json, pathlib, sys, threading, time
from pyspark.sql import SparkSession
from sparktune import DriverTrials, fmin, hp, rand

folder = pathlib.Path(sys.argv[1])
spark = SparkSession.builder.master("local[4]").config("spark.ui.enabled", "false").getOrCreate()


def wait(rows):
    time.sleep(3600)
    return rows


def objective(x):
    spark.sparkContext.parallelize([0], 1).mapPartitions(wait).collect()


trials = DriverTrials(3, mlflow=False)
tracker = spark.sparkContext.statusTracker()


def tell():
    while len(tracker.getActiveJobsIds()) < 3:
        time.sleep(0.05)
    print("BUSY", flush=True)
threading.Thread(target=tell, daemon=True).start()
try:
    fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 10, trials=trials, show_progressbar=False)
except KeyboardInterrupt:
    end = time.monotonic() + 30
    while tracker.getActiveJobsIds() and time.monotonic() < end:
        time.sleep(0.05)
    states = trials.to_dataframe()["state"].tolist()
    print("TOLD " + json.dumps([states, list(tracker.getActiveJobsIds())]), flush=True)
"""


@needs_classic
def test_ctrl_c_leaves_no_spark_job_running(tmp_path: Path, clean_env: Mapping[str, str]) -> None:
    driver = Process([sys.executable, "-c", INTERRUPTED, tmp_path], clean_env, tmp_path)
    try:
        driver.until("BUSY")
        driver.interrupt()
        states, jobs = json.loads(driver.until("TOLD (.*)")[1])
    finally:
        driver.kill()
    assert states == ["cancelled"] * 3
    assert jobs == []


def inner_trials(kind: str) -> Any:
    kinds = {"SimulatedTrials": SimulatedTrials, "Trials": Trials}
    return kinds[kind]() if kind in kinds else DriverTrials(2, mlflow=False)


@pytest.mark.parametrize("kind", ["DriverTrials", "SimulatedTrials", "Trials"])
def test_a_study_inside_a_trial_ends_with_it(kind: str) -> None:
    """It runs until its trial is to end; then no trial of it is launched any more."""
    runs, is_over = threading.Event(), threading.Event()
    inner: list[Any] = []
    called: list[float] = []

    def once(y: float) -> float:
        called.append(y)
        if len(called) > 2:
            runs.set()
        return y

    def fn(point: dict[str, Any]) -> float:
        if point["kind"] == "short":
            assert runs.wait(60)
            return -1.0
        inner.append(inner_trials(kind))
        try:
            fmin(once, hp.uniform("y", 0, 1), rand.suggest, 10**6, trials=inner[0], show_progressbar=False)
        finally:
            is_over.set()
        return 0.0

    space = {"kind": hp.choice("kind", ["long", "short"])}
    outer = DriverTrials(2, mlflow=False, loss_threshold=-0.5)
    points = [{"kind": 0}, {"kind": 1}]
    fmin(fn, space, rand.suggest, 0, trials=outer, points_to_evaluate=points, show_progressbar=False)
    assert is_over.is_set()
    assert outer.to_dataframe()["state"].tolist() == ["cancelled", "completed"]
    n = len(called)
    assert n < 10**6
    if kind != "Trials":
        assert inner[0].fmin_cancelled_reason == "fmin run ended with the trial that runs it"
    assert len(called) == n
