"""What is done with lale, whose search always has the same seed."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import ModuleType
from typing import Any

import lale.operators
from lale.lib.lale import AutoPipeline, Hyperopt, NoOp, OptimizeLast
from lale.lib.sklearn import (
    PCA,
    KNeighborsClassifier,
    LogisticRegression,
    MinMaxScaler,
    RandomForestRegressor,
    StandardScaler,
)
from outcomes import Cases, Outcome, in_mlflow_run, main, of_trials
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

CASES = Cases()
FLOWERS = train_test_split(*load_iris(return_X_y=True, as_frame=True), random_state=0)
PATIENTS = train_test_split(*load_diabetes(return_X_y=True, as_frame=True), random_state=0)


def classifiers() -> Any:
    return (NoOp | MinMaxScaler | PCA) >> (LogisticRegression | KNeighborsClassifier)


def regressors() -> Any:
    return (NoOp | StandardScaler) >> RandomForestRegressor


def fitted(planned: Any, data: Any = FLOWERS, **arguments: Any) -> Any:
    """The operator after a search of few trials."""
    arguments = {"cv": 3, "max_evals": 5, "show_progressbar": False, **arguments}
    return Hyperopt(estimator=planned, **arguments).fit(data[0], data[2])


def outcome(trained: Any, data: Any = FLOWERS, notes: str = "", **facts: Any) -> Outcome:
    """What the user sees of it: the predictions, the summary and the pipelines."""
    measure = accuracy_score if data is FLOWERS else r2_score
    score = measure(data[3], trained.predict(data[1]))
    trials, summary = trained._impl._trials, trained.summary()
    assert list(summary["status"]) == trials.statuses()
    best = trained.get_pipeline()
    assert isinstance(best, lale.operators.TrainedOperator)
    assert list(best.predict(data[1])) == list(trained.predict(data[1]))
    assert isinstance(trained.get_pipeline(astype="sklearn"), BaseEstimator)
    again = trained.get_pipeline(summary[summary.status == "ok"].index[-1])
    assert hasattr(again, "fit")
    steps = " >> ".join(step.name() for step in best.steps_list())
    return of_trials(trials, score, ", ".join(filter(None, [steps, notes])), **facts)


@CASES.add("Hyperopt: classifier, rand", "kind")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(fitted(classifiers(), algo="rand"))


@CASES.add("Hyperopt: classifier, tpe", "kind")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(fitted(classifiers(), algo="tpe", max_evals=25))


@CASES.add("Hyperopt: classifier, atpe (hyperopt's)", "points")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(fitted(classifiers(), algo="atpe"))


@CASES.add("Hyperopt: classifier, anneal", "kind")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(fitted(classifiers(), algo="anneal"))


@CASES.add("Hyperopt: regressor, default algo", "kind")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(fitted(regressors(), PATIENTS, max_evals=10), PATIENTS)


def with_defaults(tuner: ModuleType, algo: str) -> Outcome:
    """A search of which half is meant for the one configuration of defaults."""
    planned = StandardScaler() >> RandomForestRegressor()
    trained = fitted(planned, PATIENTS, algo=algo, max_evals=6, frac_evals_with_defaults=0.5)
    n_defaults = len(trained._impl._default_trials)
    # sparktune's algorithms try a configuration once, and hyperopt's repeat it.
    assert n_defaults == (1 if tuner.__name__ == "sparktune" else 3)
    return outcome(trained, PATIENTS, f"{n_defaults} with the defaults")


def searched(outcome: Outcome) -> Outcome:
    """The outcome without the trials of defaults, which are the last."""
    return replace(outcome, statuses=outcome.statuses[:3])


@CASES.add("Hyperopt: frac_evals_with_defaults, rand", "kind")
def _(tuner: ModuleType) -> Outcome:
    return searched(with_defaults(tuner, "rand"))


@CASES.add("Hyperopt: max_eval_time, atpe", "points")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(fitted(classifiers(), algo="atpe", max_evals=3, max_eval_time=60))


@CASES.add("Hyperopt: max_eval_time that no trial keeps", "kind")
def _(_tuner: ModuleType) -> Outcome:
    try:
        fitted(classifiers(), max_evals=2, max_eval_time=0.0001)
    except Exception as error:
        return Outcome(facts={"raises": type(error).__name__, "says": str(error)})
    raise AssertionError("there is a model")


def until_time_is_up() -> Outcome:
    """A search that `sys.exit` in its objective ends."""
    trained = fitted(classifiers(), algo="rand", max_evals=10_000, max_opt_time=4)
    statuses = list(trained.summary()["status"])
    assert 2 <= len(statuses) < 10_000
    assert len(trained.predict(FLOWERS[1])) == len(FLOWERS[3])
    return Outcome(statuses, notes=f"{len(statuses)} trials")


@CASES.add("Hyperopt: max_opt_time", "kind")
def _(_tuner: ModuleType) -> Outcome:
    outcome = until_time_is_up()
    return Outcome(facts={"last": outcome.statuses[-1]}, notes=outcome.notes)


@CASES.add("OptimizeLast", "kind")
def _(_tuner: ModuleType) -> Outcome:
    first = (MinMaxScaler() >> LogisticRegression()).fit(FLOWERS[0], FLOWERS[2])
    trained = OptimizeLast(estimator=first, max_evals=5, cv=3).fit(FLOWERS[0], FLOWERS[2])
    return Outcome(score=float(accuracy_score(FLOWERS[3], trained.predict(FLOWERS[1]))))


@CASES.add("AutoPipeline", "kind")
def _(_tuner: ModuleType) -> Outcome:
    auto = AutoPipeline(max_evals=5, cv=2, max_eval_time=60).fit(FLOWERS[0], FLOWERS[2])
    summary = auto.summary()
    assert auto.get_pipeline() is not None
    score = accuracy_score(FLOWERS[3], auto.predict(FLOWERS[1]))
    return Outcome(score=float(score), facts={"pipelines": len(summary)}, notes=f"best {summary.index[0]}")


@CASES.add("Hyperopt: max_opt_time, in an MLflow run", "kind")
def _(tuner: ModuleType) -> Outcome:
    outcome = in_mlflow_run(tuner, until_time_is_up)
    return Outcome(facts={"last": outcome.statuses[-1]}, notes=outcome.notes)


@CASES.add("Hyperopt: frac_evals_with_defaults, tpe, in an MLflow run", "kind")
def _(tuner: ModuleType) -> Outcome:
    return searched(in_mlflow_run(tuner, lambda: with_defaults(tuner, "tpe")))


@CASES.add("Hyperopt: max_eval_time, atpe, in an MLflow run", "points")
def _(tuner: ModuleType) -> Outcome:
    return in_mlflow_run(
        tuner, lambda: outcome(fitted(classifiers(), algo="atpe", max_evals=3, max_eval_time=60))
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # lale warns of trials that are too slow
    main(CASES, lale.operators)
