"""``SearchCV`` with candidates that are Spark tasks, recorded in MLflow."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import mlflow
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sparktune import DriverTrials, MedianStoppingPolicy, SparkTrials, grid
from sparktune.sklearn import SearchCV

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS, LABELS = DIGITS[:600], LABELS[:600]
PIPELINE = make_pipeline(StandardScaler(), SVC())


def test_a_search_is_a_study_in_mlflow(spark: Any, mlflow_store: str) -> None:
    search = SearchCV(PIPELINE, {"svc__C": loguniform(1e-2, 1e2)}, n_iter=3, cv=3, random_state=0)
    search.fit(DIGITS, LABELS)
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient()
    parent = client.get_run(search.trials_.run_id)
    assert parent.info.status == "FINISHED"
    for row, run_id in enumerate(search.cv_results_["run_id"]):
        run = client.get_run(run_id)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert float(run.data.params["svc__C"]) == search.cv_results_["param_svc__C"][row]
        for name in (
            "split0_test_score",
            "split2_test_score",
            "mean_test_score",
            "std_test_score",
            "mean_fit_time",
        ):
            assert run.data.metrics[name] == pytest.approx(search.cv_results_[name][row])
        history = client.get_metric_history(run_id, "mean_test_score")
        splits = [search.cv_results_[f"split{n}_test_score"][row] for n in range(3)]
        assert history[0].value == pytest.approx(splits[0])
        assert history[1].value == pytest.approx(np.mean(splits[:2]))
    assert len(client.search_runs([parent.info.experiment_id])) == 4
    assert search.score(DIGITS, LABELS) > 0.9
    kept = pickle.dumps(search)
    assert (pickle.loads(kept).predict(DIGITS) == search.predict(DIGITS)).all()


def test_the_scores_are_those_of_a_grid_search(spark: Any) -> None:
    space = {"svc__C": [0.01, 0.1, 1.0], "svc__kernel": ["linear", "rbf"]}
    trials = SparkTrials(mlflow=False, spark_session=spark)
    ours = SearchCV(PIPELINE, space, algo=grid.suggest, cv=3, trials=trials).fit(DIGITS, LABELS)
    theirs = GridSearchCV(PIPELINE, space, cv=3).fit(DIGITS, LABELS)
    assert ours.best_params_ == theirs.best_params_
    known = {repr(sorted(p.items())): n for n, p in enumerate(theirs.cv_results_["params"])}
    for row, params in enumerate(ours.cv_results_["params"]):
        n = known[repr(sorted(params.items()))]
        for key in ("split0_test_score", "split2_test_score", "mean_test_score", "rank_test_score"):
            assert ours.cv_results_[key][row] == pytest.approx(theirs.cv_results_[key][n])
    assert ours.trials_._application() is not None
    assert ours.fit(DIGITS, LABELS).best_params_ == theirs.best_params_


def test_weak_candidates_are_terminated_early(spark: Any, mlflow_store: str) -> None:
    search = SearchCV(
        PIPELINE,
        {"svc__C": [1.0, 1e-5, 3.0, 1e-4]},
        algo=grid.suggest,
        parallelism=1,
        cv=5,
        early_termination=MedianStoppingPolicy(delay_evaluation=2),
    ).fit(DIGITS, LABELS)
    ended = search.cv_results_["state"] == "early_terminated"
    assert 0 < ended.sum() < 4
    assert max(np.array(search.cv_results_["param_svc__C"][ended], dtype=float)) < 1
    assert not np.isnan(search.cv_results_["split1_test_score"]).any()
    assert np.isnan(search.cv_results_["split4_test_score"][ended]).all()
    run = mlflow.get_run(search.cv_results_["run_id"][ended][0])
    assert run.info.status == "KILLED"


class Unkind(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, kind: str = "none") -> None:
        self.kind = kind

    def fit(self, X: Any, y: Any) -> Unkind:  # noqa: N803
        X[:] = 0
        if self.kind == "raises":
            raise FloatingPointError("unkind")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.full(len(X), int(X.sum()) % 7)


def test_an_error_is_raised_here_as_what_it_was(spark: Any) -> None:
    trials = SparkTrials(mlflow=False)
    search = SearchCV(Unkind(), {"kind": ["raises"]}, n_iter=1, error_score="raise", trials=trials)
    with pytest.raises(FloatingPointError, match="unkind"):
        search.fit(DIGITS, LABELS)


class Deadly(Unkind):
    """Ends its worker."""

    def fit(self, X: Any, y: Any) -> Deadly:  # noqa: N803
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        self.classes_ = np.unique(y)
        return self


def test_a_candidate_whose_worker_dies_has_no_score(spark: Any) -> None:
    trials = SparkTrials(mlflow=False, max_attempts=1)
    search = SearchCV(
        Deadly(), {"kind": ["none", "dies"]}, algo=grid.suggest, cv=2, error_score=-1.0, trials=trials
    )
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates could not be fitted, and have no score"):
        search.fit(DIGITS, LABELS)
    assert search.cv_results_["state"].tolist() == ["completed", "failed"]
    assert search.cv_results_["rank_test_score"].tolist() == [1, 2]
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_a_clone_runs_where_the_search_does(spark: Any) -> None:
    for trials in (SparkTrials(spark_session=spark), DriverTrials(2, spark_session=spark)):
        made = clone(SearchCV(PIPELINE, {"svc__C": [1.0]}, trials=trials))
        assert made.trials is not trials
        assert made.trials._spark is spark


def test_candidates_in_threads_of_the_driver(spark: Any, mlflow_store: str) -> None:
    trials = DriverTrials(2)
    search = SearchCV(
        KNeighborsClassifier(), {"n_neighbors": [1, 3, 5]}, algo=grid.suggest, cv=3, trials=trials
    )
    search.fit(DIGITS, LABELS)
    assert search.best_score_ > 0.9
    assert set(search.cv_results_["state"]) == {"completed"}
    assert all(mlflow.get_run(run_id).info.status == "FINISHED" for run_id in search.cv_results_["run_id"])


def test_autologging_of_the_driver_is_no_concern_of_the_candidates(spark: Any, mlflow_store: str) -> None:
    mlflow.sklearn.autolog(silent=True)
    try:
        with mlflow.start_run() as parent:
            search = SearchCV(
                KNeighborsClassifier(), {"n_neighbors": [1, 3]}, n_iter=2, cv=2, trials=DriverTrials(2)
            )
            search.fit(DIGITS[:100], LABELS[:100])
    finally:
        mlflow.sklearn.autolog(disable=True)
    runs = mlflow.MlflowClient().search_runs([parent.info.experiment_id])
    assert {run.info.run_id for run in runs} == {parent.info.run_id, *search.cv_results_["run_id"]}
    for run_id in search.cv_results_["run_id"]:
        run = mlflow.get_run(run_id)
        assert set(run.data.params) == {"n_neighbors"}
        assert run.data.metrics["mean_test_score"] > 0.5
