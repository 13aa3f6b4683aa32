"""What is done with hyperopt-sklearn."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import hpsklearn
import hyperopt
from hpsklearn import HyperoptEstimator
from outcomes import Cases, Outcome, in_mlflow_run, main, of_trials
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

CASES = Cases()
FLOWERS = train_test_split(*load_iris(return_X_y=True), random_state=0)
PATIENTS = train_test_split(*load_diabetes(return_X_y=True), random_state=0)


def fitted(data: Any = FLOWERS, max_evals: int = 8, **arguments: Any) -> HyperoptEstimator:
    """An estimator fitted with one call of fmin, which hyperopt seeds by HYPEROPT_FMIN_SEED."""
    arguments = {"max_evals": max_evals, "fit_increment": max_evals, **arguments}
    estimator = HyperoptEstimator(**arguments)
    estimator.fit(data[0], data[2], random_state=None)
    return estimator


def outcome(estimator: HyperoptEstimator, data: Any = FLOWERS, **facts: Any) -> Outcome:
    """With the score of the model that was fitted again."""
    score = estimator.score(data[1], data[3])
    assert len(estimator.predict(data[1])) == len(data[3])
    return of_trials(estimator.trials, score, type(estimator.best_model()["learner"]).__name__, **facts)


def svc() -> Any:
    return hpsklearn.svc("svc", random_state=0)


def forest() -> Any:
    return hpsklearn.random_forest_regressor("forest", n_estimators=30, random_state=0)


@CASES.add("classifier, any_preprocessing, hyperopt's rand", "points")
def _(_tuner: ModuleType) -> Outcome:
    pre = hpsklearn.any_preprocessing("pre")
    return outcome(fitted(classifier=svc(), preprocessing=pre, algo=hyperopt.rand.suggest))


@CASES.add("classifier, any_preprocessing, rand", "kind")
def _(tuner: ModuleType) -> Outcome:
    pre = hpsklearn.any_preprocessing("pre")
    return outcome(fitted(classifier=svc(), preprocessing=pre, algo=tuner.rand.suggest))


@CASES.add("classifier, no algo, fmin for each trial, no seed", "kind", margin=1.0)
def _(_tuner: ModuleType) -> Outcome:
    seed = os.environ.pop("HYPEROPT_FMIN_SEED")  # every call of fmin would draw the same point
    try:
        estimator = fitted(classifier=svc(), preprocessing=[], fit_increment=1, max_evals=5)
    finally:
        os.environ["HYPEROPT_FMIN_SEED"] = seed
    assert len(estimator.predict(FLOWERS[1])) == len(FLOWERS[3])
    points = {str(trial["misc"]["vals"]) for trial in estimator.trials.trials}
    return of_trials(estimator.trials, points=len(points))


@CASES.add("classifier, tpe, 3 folds", "kind")
def _(tuner: ModuleType) -> Outcome:
    estimator = HyperoptEstimator(
        classifier=svc(), preprocessing=[], algo=tuner.tpe.suggest, max_evals=25, fit_increment=25
    )
    estimator.fit(FLOWERS[0], FLOWERS[2], n_folds=3, cv_shuffle=True, random_state=0)
    return outcome(estimator)


@CASES.add("regressor, hyperopt's tpe", "points")
def _(_tuner: ModuleType) -> Outcome:
    return outcome(
        fitted(PATIENTS, regressor=forest(), preprocessing=[], algo=hyperopt.tpe.suggest), PATIENTS
    )


@CASES.add("regressor, tpe", "kind")
def _(tuner: ModuleType) -> Outcome:
    return outcome(fitted(PATIENTS, regressor=forest(), preprocessing=[], algo=tuner.tpe.suggest), PATIENTS)


@CASES.add("hp.choice of classifiers, hyperopt's rand", "points")
def _(tuner: ModuleType) -> Outcome:
    either = tuner.hp.choice("model", [svc(), hpsklearn.gaussian_nb("nb")])
    return outcome(
        fitted(classifier=either, preprocessing=[hpsklearn.pca("pca")], algo=hyperopt.rand.suggest)
    )


@CASES.add("space=, regressor, rand", "kind")
def _(tuner: ModuleType) -> Outcome:
    space = {
        "classifier": None,
        "regressor": tuner.hp.choice("model", [forest(), hpsklearn.ridge("ridge", random_state=0)]),
        "preprocessing": [hpsklearn.standard_scaler("scaler")],
    }
    return outcome(fitted(PATIENTS, space=space, algo=tuner.rand.suggest), PATIENTS)


class Sleeper(DecisionTreeClassifier):
    """A tree that takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(random_state=0)
        self.seconds = seconds

    def fit(self, *args: Any, **kwargs: Any) -> Sleeper:
        time.sleep(self.seconds)
        super().fit(*args, **kwargs)
        return self


def sleeper(seconds: float) -> Sleeper:
    return Sleeper(seconds)


def sleepers(tuner: ModuleType) -> Any:
    """Trees, of which some take a minute."""
    tuner.pyll.scope.define_if_new(sleeper)
    return tuner.pyll.scope.sleeper(tuner.hp.choice("seconds", [0, 60]))


@CASES.add("trial_timeout, hyperopt's rand", "points")
def _(tuner: ModuleType) -> Outcome:
    trees = {"classifier": sleepers(tuner), "preprocessing": [], "algo": hyperopt.rand.suggest}
    return outcome(fitted(**trees, trial_timeout=3, max_evals=4))


@CASES.add("trial_timeout that no trial keeps", "kind")
def _(tuner: ModuleType) -> Outcome:
    tuner.pyll.scope.define_if_new(sleeper)
    estimator = HyperoptEstimator(
        classifier=tuner.pyll.scope.sleeper(60), preprocessing=[], trial_timeout=0.3, max_evals=2
    )
    try:
        estimator.fit(FLOWERS[0], FLOWERS[2])
    except Exception as error:
        return of_trials(estimator.trials, raises=type(error).__name__)
    raise AssertionError("there is a model")


@CASES.add("warm_start, trials dumped to a file", "kind")
def _(tuner: ModuleType) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trials.pickle"
        estimator = fitted(
            classifier=svc(),
            preprocessing=[],
            algo=tuner.tpe.suggest,
            max_evals=4,
            fit_increment=2,
            fit_increment_dump_filename=file,
        )
        estimator.fit(FLOWERS[0], FLOWERS[2], warm_start=True)
        dumped = pickle.loads(file.read_bytes())
    return outcome(estimator, dumped=len(dumped.trials))


@CASES.add("use_partial_fit, refit=False, rand", "kind")
def _(tuner: ModuleType) -> Outcome:
    estimator = fitted(
        classifier=hpsklearn.sgd_classifier("sgd", loss="log_loss", random_state=0),
        preprocessing=[hpsklearn.standard_scaler("scaler")],
        algo=tuner.rand.suggest,
        use_partial_fit=True,
        refit=False,
    )
    return of_trials(estimator.trials, notes=type(estimator.best_model()["learner"]).__name__)


@CASES.add("classifier, hyperopt's rand, in an MLflow run", "points")
def _(tuner: ModuleType) -> Outcome:
    svcs = {"classifier": svc(), "preprocessing": [], "algo": hyperopt.rand.suggest, "fit_increment": 2}
    return in_mlflow_run(tuner, lambda: outcome(fitted(**svcs)))


if __name__ == "__main__":
    main(CASES, hpsklearn)
