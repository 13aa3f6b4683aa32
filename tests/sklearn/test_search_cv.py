"""``SearchCV`` beside scikit-learn's own searches; candidates run in this process."""

from __future__ import annotations

import inspect
import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, f1_score, get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from sparktune import (
    InvalidSpace,
    MedianStoppingPolicy,
    SimulatedTrials,
    Trials,
    TruncationSelectionPolicy,
    grid,
    hp,
)
from sparktune.early_termination.base import Decision
from sparktune.sklearn import SearchCV
from sparktune.sklearn.folds import RefitUnknown

X, Y = load_iris(return_X_y=True)
OURS = {"state", "run_id"}
VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
IS_TOO_OLD = VERSION < (1, 5)


def search(estimator: Any, space: Any, **options: Any) -> SearchCV:
    return SearchCV(estimator, space, **{"trials": SimulatedTrials(1), "random_state": 0, **options})


def rows(results: dict[str, Any]) -> list[int]:
    """The order of its candidates by their parameters."""
    return sorted(range(len(results["params"])), key=lambda n: repr(sorted(results["params"][n].items())))


def assert_same_table(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) - OURS == set(theirs)
    mine, other = rows(ours), rows(theirs)
    for key, values in theirs.items():
        if key == "params":
            assert [ours[key][n] for n in mine] == [values[n] for n in other]
        elif key.startswith("param_"):
            assert isinstance(ours[key], np.ma.MaskedArray)
            assert ours[key][mine].tolist() == values[other].tolist()
            if not IS_TOO_OLD:
                assert ours[key].dtype == values.dtype, key
        elif "time" not in key:
            assert ours[key].dtype == values.dtype, key
            np.testing.assert_allclose(ours[key][mine], values[other], err_msg=key)
        else:
            assert ours[key].shape == values.shape
            assert (ours[key] >= 0).all()


CASES: list[tuple[Any, Any, dict[str, Any]]] = [
    (SVC(), {"C": [0.1, 1.0, 10.0], "kernel": ["linear", "rbf"]}, {}),
    (SVC(), [{"kernel": ["linear"], "C": [0.1, 1.0]}, {"kernel": ["rbf"], "gamma": [0.1, 1.0]}], {}),
    (SVC(), {"C": [0.1, 1.0]}, {"scoring": "f1_macro", "cv": 3, "return_train_score": True}),
    (SVC(), {"C": [0.1, 1.0]}, {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro"}),
    (SVC(), {"C": [0.1, 1.0]}, {"scoring": {"a": "accuracy", "f": "f1_macro"}, "refit": False}),
    (
        DecisionTreeClassifier(random_state=0),
        {"max_depth": [1, None, 3]},
        {"cv": ShuffleSplit(4, random_state=1)},
    ),
    (
        Pipeline([("scale", StandardScaler()), ("clf", SVC())]),
        {"clf": [SVC(C=0.1), DecisionTreeClassifier(random_state=0)], "scale": [StandardScaler(), PCA(2)]},
        {"scoring": make_scorer(accuracy_score)},
    ),
]


@pytest.mark.parametrize(("estimator", "space", "options"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_the_table_is_that_of_a_grid_search(estimator: Any, space: Any, options: dict[str, Any]) -> None:
    theirs = GridSearchCV(estimator, space, **options).fit(X, Y)
    ours = search(estimator, space, algo=grid.suggest, **options).fit(X, Y)
    assert str(ours.multimetric_) == str(theirs.multimetric_)
    assert ours.n_splits_ == theirs.n_splits_
    if "clf" not in space:
        assert_same_table(ours.cv_results_, theirs.cv_results_)
    if ours.refit:
        assert ours.best_score_ == pytest.approx(theirs.best_score_)
        assert ours.score(X, Y) > 0.8
        assert ours.refit_time_ >= 0
        assert ours.classes_.tolist() == [0, 1, 2]
        assert ours.n_features_in_ == 4
        assert (ours.predict(X) == ours.best_estimator_.predict(X)).all()
    else:
        assert not hasattr(ours, "best_index_")
        assert not hasattr(ours, "best_estimator_")
    assert set(ours.cv_results_["state"]) == {"completed"}


def test_searches_a_distribution() -> None:
    found = search(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, n_iter=15).fit(*load_diabetes(return_X_y=True))
    assert len(found.cv_results_["params"]) == 15
    assert found.best_score_ == found.cv_results_["mean_test_score"].max()
    assert found.cv_results_["rank_test_score"][found.best_index_] == 1
    assert found.best_params_ == found.cv_results_["params"][found.best_index_]
    assert found.best_estimator_.alpha == found.best_params_["alpha"]
    assert len(search(Ridge(), {"alpha": loguniform(1, 2)}).fit(X, Y).cv_results_["params"]) == 10


def test_what_the_estimator_cannot_do_neither_can_the_search() -> None:
    made = search(SVC(), {"C": [1.0]}, n_iter=1)
    assert not hasattr(made, "transform")
    assert hasattr(made, "decision_function")
    with pytest.raises(NotFittedError):
        made.predict(X)
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert made.fit(frame, Y).feature_names_in_.tolist() == list("abcd")
    reduced = search(PCA(), {"n_components": [1, 2]}, algo=grid.suggest).fit(X)
    assert reduced.transform(X).shape == (150, 2)
    assert search(KMeans(n_init=1), {"n_clusters": [2, 3]}, n_iter=2).fit(X).predict(X).shape == (150,)


class Weighted(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Says what it was given."""

    def __init__(self, flip: bool = False) -> None:
        self.flip = flip

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Weighted:  # noqa: N803
        assert len(sample_weight) == len(X)
        self.classes_ = np.unique(y)
        self.weight_ = float(np.sum(sample_weight))
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.full(len(X), self.classes_[int(self.flip)])


def test_sample_weights_are_split_with_the_rows_and_weigh_scores_as_in_scikit_learn() -> None:
    weights = np.arange(150.0)
    options: dict[str, Any] = {"scoring": "accuracy", "cv": KFold(3)}
    theirs = GridSearchCV(Weighted(), {"flip": [False, True]}, **options).fit(X, Y, sample_weight=weights)
    ours = search(Weighted(), {"flip": [False, True]}, algo=grid.suggest, **options)
    ours.fit(X, Y, sample_weight=weights)
    assert_same_table(ours.cv_results_, theirs.cv_results_)
    assert ours.best_estimator_.weight_ == weights.sum()


def test_groups_go_to_the_splitter() -> None:
    groups = np.arange(150) % 3
    made = search(SVC(), {"C": [1.0]}, n_iter=1, cv=GroupKFold(3)).fit(X, Y, groups=groups)
    assert made.n_splits_ == 3
    with pytest.raises(ValueError, match="groups"):
        search(SVC(), {"C": [1.0]}, n_iter=1, cv=GroupKFold(3)).fit(X, Y)


@pytest.mark.skipif(VERSION < (1, 4), reason="from scikit-learn 1.4 on")
def test_metadata_goes_where_it_is_asked_for() -> None:
    weights = np.arange(150.0)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = Weighted().set_fit_request(sample_weight="w")
        scorer = get_scorer("accuracy").set_score_request(sample_weight="w")
        options: dict[str, Any] = {"scoring": scorer, "cv": GroupKFold(3)}
        asked = {"w": weights, "groups": np.arange(150) % 3}
        theirs = GridSearchCV(estimator, {"flip": [False, True]}, **options).fit(X, Y, **asked)
        ours = search(estimator, {"flip": [False, True]}, algo=grid.suggest, **options).fit(X, Y, **asked)
        assert_same_table(ours.cv_results_, theirs.cv_results_)
        assert ours.score(X, Y, w=weights) == theirs.score(X, Y, w=weights)
        with pytest.raises(TypeError, match="unexpected"):
            ours.fit(X, Y, other=weights)


def test_kernels_are_split_on_both_sides() -> None:
    kernel = X @ X.T
    theirs = GridSearchCV(SVC(kernel="precomputed"), {"C": [0.1, 1.0]}).fit(kernel, Y)
    ours = search(SVC(kernel="precomputed"), {"C": [0.1, 1.0]}, algo=grid.suggest).fit(kernel, Y)
    assert_same_table(ours.cv_results_, theirs.cv_results_)


# -- several scores, refit -----------------------------------------------------------------------------


def both(estimator: Any, features: Any, labels: Any) -> dict[str, float]:
    guess = estimator.predict(features)
    return {"acc": accuracy_score(labels, guess), "f1": f1_score(labels, guess, average="macro")}


def test_a_function_may_give_several_scores() -> None:
    theirs = GridSearchCV(SVC(), {"C": [0.01, 1.0]}, scoring=both, refit="f1").fit(X, Y)
    ours = search(SVC(), {"C": [0.01, 1.0]}, algo=grid.suggest, scoring=both, refit="f1").fit(X, Y)
    assert ours.multimetric_
    assert_same_table(ours.cv_results_, theirs.cv_results_)
    assert ours.score(X, Y) == theirs.score(X, Y)
    with pytest.raises(ValueError, match=r"several scores \(acc, f1\), and refit is True: name the one"):
        search(SVC(), {"C": [1.0]}, n_iter=1, scoring=both).fit(X, Y)
    made = search(SVC(), {"C": [1.0, 2.0, 3.0, 4.0, 5.0]}, n_iter=5, scoring=both, refit="f2")
    with pytest.raises(RefitUnknown, match=r"refit is 'f2', and scoring gives \['acc', 'f1'\]: name one"):
        made.fit(X, Y)
    assert len(made.trials_.memory.records) == 1


def opposed(estimator: Any, features: Any, labels: Any) -> dict[str, float]:
    right = accuracy_score(labels, estimator.predict(features))
    return {"right": right, "wrong": 1 - right}


def test_of_the_scores_of_a_function_the_one_that_refit_names_is_searched_by() -> None:
    made = search(SVC(), {"C": [1e-4, 10.0]}, algo=grid.suggest, scoring=opposed, refit="wrong").fit(X, Y)
    assert made.best_params_ == made.trials_.best_params == {"C": 1e-4}
    assert search(SVC(), {"C": [1.0]}, n_iter=1, refit="any").fit(X, Y).best_score_ > 0.9


def test_reports_of_a_function_with_several_scores_are_of_the_one_that_refit_names() -> None:
    options: dict[str, Any] = {"algo": grid.suggest, "scoring": opposed, "refit": "wrong"}
    whole = search(SVC(), {"C": [1e-4, 10.0]}, **options).fit(X, Y)
    made = search(SVC(), {"C": [1e-4, 10.0]}, early_termination=AfterTheFirst(), **options).fit(X, Y)
    assert made.cv_results_["state"].tolist() == ["completed", "early_terminated"]
    ours, theirs = made.cv_results_, whole.cv_results_
    for column in ("split0_test_wrong", "split0_test_right"):
        assert ours[column][0] == theirs[column][0]
    assert ours["split0_test_wrong"][1] == pytest.approx(theirs["split0_test_wrong"][1])
    assert np.isnan(ours["split0_test_right"][1])


def test_refit_may_be_a_function() -> None:
    def fewest(results: dict[str, Any]) -> int:
        good = results["mean_test_score"] > results["mean_test_score"].max() - 0.05
        return int(np.where(good, results["param_max_depth"].astype(int), 99).argmin())

    space = {"max_depth": [2, 3, 4, 5]}
    made = search(DecisionTreeClassifier(random_state=0), space, algo=grid.suggest, refit=fewest).fit(X, Y)
    assert made.best_params_ == {"max_depth": 2}
    assert not hasattr(made, "best_score_")
    for wrong, kind in ((lambda _: 99, IndexError), (lambda _: "1", TypeError)):
        with pytest.raises(kind, match="the function refit gave"):
            search(SVC(), {"C": [1.0]}, n_iter=1, refit=wrong).fit(X, Y)


def test_without_refit_there_is_no_estimator() -> None:
    made = search(SVC(), {"C": [0.01, 1.0]}, n_iter=2, refit=False).fit(X, Y)
    assert made.best_params_["C"] in (0.01, 1.0)
    assert not hasattr(made, "best_estimator_")
    assert not hasattr(made, "predict")


# -- folds and early termination -----------------------------------------------------------------------


def test_weak_candidates_end_after_the_first_folds() -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    made = search(
        make_pipeline(StandardScaler(), SVC()),
        {"svc__C": [1.0, 1e-4, 2.0, 1e-3, 3.0]},
        algo=grid.suggest,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        early_termination=MedianStoppingPolicy(delay_evaluation=2),
        scoring=["accuracy", "f1"],
        refit="accuracy",
    ).fit(features, labels)
    results = made.cv_results_
    ended = results["state"] == "early_terminated"
    assert 0 < ended.sum() < 5
    whole = GridSearchCV(made.estimator, made.space, cv=made.cv, scoring="accuracy", refit=False)
    whole.fit(features, labels)
    known = dict(zip([p["svc__C"] for p in whole.cv_results_["params"]], range(5), strict=True))
    for row, params in enumerate(results["params"]):
        n = known[params["svc__C"]]
        for fold in range(5):
            told = results[f"split{fold}_test_accuracy"][row]
            if ended[row] and fold >= 2:
                assert np.isnan(told)
            else:
                assert told == pytest.approx(whole.cv_results_[f"split{fold}_test_score"][n])
    assert np.isnan(results["mean_test_accuracy"][ended]).all()
    assert np.isnan(results["split0_test_f1"][ended]).all()
    assert results["rank_test_accuracy"][~ended].max() < results["rank_test_accuracy"][ended].min()
    assert not ended[made.best_index_]
    assert made.best_score_ == np.nanmax(results["mean_test_accuracy"])


class FirstFold:
    """Ends every candidate after its first fold."""

    def decide(self, trial_id: int, curves: Any, goal: str) -> Decision | None:
        return Decision("first fold", 1, curves[trial_id].values[-1], 1.0)


class AfterTheFirst(FirstFold):
    """Ends every candidate but the first after its first fold."""

    def decide(self, trial_id: int, curves: Any, goal: str) -> Decision | None:
        return super().decide(trial_id, curves, goal) if trial_id else None


def test_where_nothing_completes_the_best_is_one_that_was_ended() -> None:
    for scoring, refit in ((None, True), (["accuracy", "f1_macro"], "accuracy")):
        made = search(SVC(), {"C": [1e-4, 1.0]}, algo=grid.suggest, early_termination=FirstFold())
        with pytest.warns(UserWarning, match="taken from those that are early terminated"):
            made.set_params(scoring=scoring, refit=refit).fit(X, Y)
        assert made.best_params_ == {"C": 1.0}
        assert np.isnan(made.best_score_)
        assert made.predict(X).shape == (150,)


def test_a_candidate_is_never_ended_after_its_last_fold() -> None:
    policy = TruncationSelectionPolicy(evaluation_interval=2, truncation_percentage=99)
    made = search(SVC(), {"C": loguniform(1e-3, 1)}, n_iter=6, cv=2, early_termination=policy).fit(X, Y)
    assert set(made.cv_results_["state"]) == {"completed"}


def test_one_fold_cannot_be_terminated_early(caplog: pytest.LogCaptureFixture) -> None:
    cv = ShuffleSplit(1, random_state=0)
    search(SVC(), {"C": [1.0]}, n_iter=1, cv=cv, early_termination=MedianStoppingPolicy()).fit(X, Y)
    assert "early_termination has no effect: cv gives 1 split" in caplog.text


# -- failures ------------------------------------------------------------------------------------------


FIRST_ROW = X[0].copy()


class Moody(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Refuses some parameters, or some rows."""

    def __init__(self, mood: str = "good") -> None:
        self.mood = mood

    def fit(self, X: Any, y: Any) -> Moody:  # noqa: N803
        is_first = not (X == FIRST_ROW).all(axis=1).any()  # its first row is scored in the first fold
        if {"bad": True, "mixed": X[0, 3] != 0.2, "late": is_first}.get(self.mood):
            raise ArithmeticError(f"in a {self.mood} mood")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return np.zeros(len(X), dtype=int)


class Picky(Moody):
    """Refuses some parameters as they are set."""

    def __init__(self, kind: str = "good", mood: str = "good") -> None:
        super().__init__(mood)
        self.kind = kind

    def set_params(self, **params: Any) -> Picky:
        if params.get("kind") == "refused":
            raise ValueError("refused")
        super().set_params(**params)
        return self


def test_candidates_that_fail_come_last() -> None:
    moods = {"mood": ["bad", "good", "mixed"]}
    with pytest.warns(FitFailedWarning, match=r"of 9 fits failed; their score is nan.*in a bad mood"):
        made = search(Moody(), moods, algo=grid.suggest, cv=StratifiedKFold(3)).fit(X, Y)
    by_mood = {p["mood"]: n for n, p in enumerate(made.cv_results_["params"])}
    assert made.best_params_ == {"mood": "good"}
    assert made.cv_results_["state"][by_mood["bad"]] == "failed"
    ranks = made.cv_results_["rank_test_score"]
    assert (ranks[by_mood["good"]], ranks[by_mood["bad"]], ranks[by_mood["mixed"]]) == (1, 2, 2)
    splits = [made.cv_results_[f"split{n}_test_score"][by_mood["mixed"]] for n in range(3)]
    assert np.isnan(splits).sum() in (1, 2)


def test_a_score_in_place_of_one_that_failed() -> None:
    moods = {"mood": ["bad", "good", "mixed"]}
    with pytest.warns(FitFailedWarning):
        theirs = GridSearchCV(Moody(), moods, cv=3, error_score=-1.0).fit(X, Y)
    with pytest.warns(FitFailedWarning):
        ours = search(Moody(), moods, algo=grid.suggest, cv=3, error_score=-1.0).fit(X, Y)
    assert_same_table(ours.cv_results_, theirs.cv_results_)
    several = search(Moody(), moods, algo=grid.suggest, cv=3, error_score=-1.0, scoring=both, refit="acc")
    with pytest.warns(FitFailedWarning):
        several.fit(X, Y)
    assert several.cv_results_["mean_test_f1"].min() == -1


@pytest.mark.parametrize("error_score", [np.nan, -1.0])
def test_early_termination_hides_no_fit_that_failed(error_score: float) -> None:
    made = search(Moody(), {"mood": ["good", "late"]}, algo=grid.suggest, cv=3, error_score=error_score)
    made.set_params(early_termination=AfterTheFirst(), cv=StratifiedKFold(3))
    with pytest.warns(FitFailedWarning, match=r"1 of 6 fits failed.*in a late mood"):
        made.fit(X, Y)
    assert made.cv_results_["state"].tolist() == ["completed", "completed" if error_score == -1 else "failed"]
    np.testing.assert_equal(made.cv_results_["split0_test_score"][1], error_score)
    assert made.cv_results_["split2_test_score"][1] > 0.3


def undefined_once(estimator: Any, features: Any, labels: Any) -> float:
    """NaN in one fold for one candidate, as a metric that is not defined there."""
    is_first = (features[0] == X[0]).all()
    return np.nan if estimator.C == 1.0 and is_first else float(estimator.score(features, labels))


def test_a_score_that_is_nan_is_no_error_to_raise() -> None:
    options: dict[str, Any] = {"scoring": undefined_once, "cv": StratifiedKFold(3), "error_score": "raise"}
    space = {"C": [0.1, 1.0, 10.0]}
    with pytest.warns(UserWarning, match="non-finite"):
        theirs = GridSearchCV(SVC(), space, **options).fit(X, Y)
    ours = search(SVC(), space, algo=grid.suggest, **options).fit(X, Y)
    assert np.isnan(theirs.cv_results_["mean_test_score"]).tolist() == [False, True, False]
    assert_same_table(ours.cv_results_, theirs.cv_results_)
    assert ours.best_params_ == theirs.best_params_


def test_max_failures_of_the_trials_holds_where_errors_are_raised() -> None:
    trials = SimulatedTrials(1, max_failures=3)
    made = search(SVC(), {"C": loguniform(1, 2)}, trials=trials, scoring=never_defined, error_score="raise")
    with pytest.warns(UserWarning, match="no candidate has a score of every fold"):
        made.fit(X, Y)
    assert len(made.cv_results_["params"]) == 3


def never_defined(estimator: Any, features: Any, labels: Any) -> float:
    return np.nan


def test_candidates_that_cannot_be_set_have_no_score() -> None:
    made = search(Picky(), {"kind": ["good", "refused"]}, algo=grid.suggest, cv=3, error_score=-1.0)
    with pytest.warns(FitFailedWarning) as warned:
        made.fit(X, Y)
    (text,) = [str(each.message) for each in warned if each.category is FitFailedWarning]
    assert "1 of 2 candidates could not be fitted, and have no score" in text
    assert "refused" in text
    assert "error_score" not in text
    assert np.isnan(made.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_fits_that_failed_and_candidates_without_a_score_are_one_warning() -> None:
    space = hp.choice("which", [{"mood": hp.choice("mood", ["good", "late"])}, {"kind": "refused"}])
    with pytest.warns(FitFailedWarning, match=r"1 of 9 fits failed; their score is -1.0.*1 of 3 candidates"):
        search(Picky(), space, algo=grid.suggest, cv=StratifiedKFold(3), error_score=-1.0).fit(X, Y)


def test_a_score_that_is_nan_is_no_cause_of_a_fit_that_failed() -> None:
    def scorer(estimator: Any, features: Any, labels: Any) -> float:
        return np.nan if estimator.mood == "good" else 0.5

    options: dict[str, Any] = {"cv": StratifiedKFold(3), "scoring": scorer, "error_score": -1.0}
    with pytest.warns(FitFailedWarning, match=r"1 of 6 fits failed.*The first cause: ArithmeticError"):
        search(Moody(), {"mood": ["good", "late"]}, algo=grid.suggest, **options).fit(X, Y)


def test_candidates_that_take_too_long_are_told_apart() -> None:
    trials = SimulatedTrials(1, lambda config, _: 1.0 + 10 * config["C"], trial_timeout=5)
    made = search(SVC(), {"C": [0.5, 1.0]}, algo=grid.suggest, trials=trials, refit=False).fit(X, Y)
    states = dict(zip(made.cv_results_["param_C"], made.cv_results_["state"], strict=True))
    assert states == {0.5: "completed", 1.0: "timed_out"}
    assert made.best_params_ == {"C": 0.5}


@pytest.mark.parametrize("n_iter", [10, None])
def test_a_space_of_few_candidates_is_fitted_once_each(n_iter: int | None) -> None:
    made = search(SVC(), {"C": [0.1, 1.0], "kernel": ["rbf"]}, n_iter=n_iter, cv=2, refit=False)
    with pytest.warns(UserWarning, match="the space has 2 candidates, fewer than n_iter=10") as warned:
        made.fit(X, Y)
    assert sorted(params["C"] for params in made.cv_results_["params"]) == [0.1, 1.0]
    assert len(warned) == 1


def test_errors_of_a_fit_can_be_raised() -> None:
    made = search(Moody(), {"mood": 5 * ["bad"]}, n_iter=5, error_score="raise")
    with pytest.raises(ArithmeticError, match="in a bad mood") as raised:
        made.fit(X, Y)
    assert len(made.trials_.to_dataframe()) == 1
    assert "Traceback" in raised.value.__notes__[0]


def test_nothing_can_be_fitted() -> None:
    with pytest.raises(ValueError, match=r"no candidate could be scored: .*in a bad mood"):
        search(Moody(), {"mood": 3 * ["bad"]}, n_iter=3).fit(X, Y)
    with pytest.raises(ValueError, match=r"all 9 fits failed.*in a bad mood"):
        search(Moody(), {"mood": 3 * ["bad"]}, n_iter=3, cv=3, error_score=0.0).fit(X, Y)


def fails(estimator: Any, features: Any, labels: Any) -> float:
    raise OverflowError("no score")


def test_a_scorer_that_fails() -> None:
    made = search(SVC(), {"C": [1.0]}, n_iter=1, scoring={"a": "accuracy", "bad": fails}, refit="a")
    with pytest.warns(UserWarning, match="Scoring failed"):
        made.fit(X, Y)
    assert np.isnan(made.cv_results_["mean_test_bad"]).all()
    assert made.best_score_ > 0.9
    with pytest.warns(UserWarning, match=r"Scoring failed|no candidate has a score"):
        made = search(SVC(), {"C": [1.0]}, n_iter=1, scoring=fails).fit(X, Y)
    assert np.isnan(made.best_score_)


# -- as an estimator -----------------------------------------------------------------------------------


def test_fit_again_begins_anew() -> None:
    made = search(SVC(), {"C": loguniform(1e-2, 1e2)}, n_iter=4)
    first = made.fit(X, Y).cv_results_["params"]
    assert len(made.trials_.trials) == 4
    assert made.fit(X, Y).cv_results_["params"] == first
    assert len(made.trials.trials) == 0
    again = clone(made).set_params(n_iter=2).fit(X, Y)
    assert again.cv_results_["params"] == first[:2]


def test_a_fitted_search_can_be_pickled() -> None:
    made = search(SVC(), {"C": [0.1, 1.0]}, n_iter=2).fit(X, Y)
    read: SearchCV = pickle.loads(pickle.dumps(made))
    assert (read.predict(X) == made.predict(X)).all()
    assert read.trials_.best_params == made.trials_.best_params
    assert len(read.fit(X, Y).cv_results_["params"]) == 2


def test_it_is_shown_in_notebooks() -> None:
    made = search(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1]}, n_iter=1)
    for each in (made, made.fit(X, Y)):
        assert "SearchCV" in each._repr_html_()
        assert "StandardScaler" in each._repr_html_()
        assert repr(each).startswith("SearchCV(")


def test_searches_can_be_nested() -> None:
    inner = search(SVC(), {"C": [0.1, 1.0]}, n_iter=2, cv=2)
    outer = search(inner, {"n_iter": [1, 2]}, n_iter=2, cv=2).fit(X, Y)
    assert outer.score(X, Y) > 0.8


def test_arguments_are_those_of_scikit_learns_searches() -> None:
    theirs = set(inspect.signature(GridSearchCV).parameters) - {"param_grid", "pre_dispatch"}
    assert theirs <= set(inspect.signature(SearchCV).parameters)


@pytest.mark.parametrize("jobs", [{"n_jobs": 3}, {"parallelism": 3}], ids=str)
def test_how_many_at_once(jobs: dict[str, int]) -> None:
    made = search(SVC(), {"C": [1.0]}, n_iter=1, trials=SimulatedTrials(5), **jobs).fit(X, Y)
    assert made.trials_.parallelism == 3
    assert made.trials.parallelism == 5
    assert (
        search(SVC(), {"C": [1.0]}, n_iter=1, n_jobs=-1, trials=SimulatedTrials(5))
        .fit(X, Y)
        .trials_.parallelism
        == 5
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n_iter": 0}, ValueError, "n_iter is 0; it must be a whole number of at least 1"),
        ({"n_iter": 2.5}, ValueError, "n_iter is 2.5"),
        ({"n_jobs": "2"}, ValueError, "n_jobs is '2'; it must be a whole number"),
        ({"n_jobs": 2, "parallelism": 2}, ValueError, "which means the same, is 2: give one"),
        (
            {"error_score": "Raise"},
            ValueError,
            "error_score is 'Raise'; it must be a number, NaN, or 'raise'",
        ),
        ({"refit": 3}, ValueError, "refit is 3; it must be a bool"),
        ({"scoring": ["accuracy", "accuracy"], "refit": "accuracy"}, ValueError, "holds different names"),
        ({"scoring": []}, ValueError, r"scoring is \[\]; give at least one score"),
        ({"scoring": ["accuracy", "f1_macro"]}, ValueError, "refit is True: name the one"),
        ({"early_termination": MedianStoppingPolicy}, TypeError, "early_termination is .*must be a policy"),
        ({"trials": Trials()}, TypeError, r"trials is .*\(Trials\); it must be trials that sparktune runs"),
        ({"cv": []}, ValueError, r"cv is \[\], which gives no splits"),
        ({"timeout": -1}, Exception, "timeout"),
        ({"space": {"c": [1]}}, InvalidSpace, "did you mean"),
        ({"space": {"c": hp.loguniform("c", -3, 3)}}, InvalidSpace, "did you mean 'C'"),
        ({"space": hp.choice("which", [{"C": 1}, {"c": 1}])}, InvalidSpace, "did you mean 'C'"),
        ({"estimator": 3}, TypeError, "estimator is 3, which has no fit"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_told_before_anything_runs(options: Any, kind: Any, message: str) -> None:
    made = search(SVC(), {"C": [1.0]}, n_iter=1).set_params(**options)
    with pytest.raises(kind, match=message):
        made.fit(X, Y)
    assert not hasattr(made, "trials_") or len(made.trials_.memory.records) == 0


def test_a_random_forest_on_real_data() -> None:
    space = {"max_depth": range(1, 6), "max_features": [0.3, 0.6, 1.0]}
    made = search(RandomForestClassifier(5, random_state=0), space, n_iter=6, cv=3).fit(
        *load_breast_cancer(return_X_y=True)
    )
    assert made.best_score_ > 0.9
    assert made.predict_proba(load_breast_cancer().data[:2]).shape == (2, 2)


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import sparktune.sklearn
try:
    sparktune.sklearn.SearchCV
except sparktune.SklearnNotAvailable as error:
    print(error)
"""


def test_without_scikit_learn_it_says_what_to_install(run) -> None:
    done = run([sys.executable, "-c", BLOCKED])
    assert "pip install 'sparktune[sklearn]'" in done.stdout, done.stderr


def test_it_is_found_from_the_package_and_nothing_else_is() -> None:
    import sparktune

    assert sparktune.sklearn.SearchCV is SearchCV
    with pytest.raises(AttributeError, match=r"'sparktune.sklearn' has no attribute 'Search'"):
        _ = sparktune.sklearn.Search
