"""The spaces that ``SearchCV`` takes."""

from __future__ import annotations

from typing import Any

import hyperopt
import numpy as np
import pandas as pd
import pytest
from hyperopt import pyll
from hyperopt.pyll import scope
from scipy.stats import expon, loguniform
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sparktune import InvalidSpace, hp
from sparktune.sklearn.candidates import as_search_space
from sparktune.sklearn.folds import parameters
from sparktune.space.view import SpaceView

pytestmark = pytest.mark.unit

NAMES = frozenset(SVC().get_params())


def points(space: Any, names: frozenset[str] = NAMES, n: int = 20) -> list[dict[str, Any]]:
    made = as_search_space(space, names, "SVC")
    return [parameters(hyperopt.space_eval(made, each), names) for each in raw_points(made, n)]


def raw_points(space: Any, n: int) -> list[dict[str, Any]]:
    view = SpaceView(space)
    drawn = hyperopt.Trials()
    hyperopt.fmin(lambda _: 0.0, space, hyperopt.rand.suggest, n, trials=drawn, show_progressbar=False,
                  rstate=np.random.default_rng(0))  # fmt: skip
    return [{k: v[0] for k, v in t["misc"]["vals"].items() if v and k in view.labels} for t in drawn.trials]


def test_a_dict_of_lists_and_distributions() -> None:
    found = points({"C": loguniform(1e-2, 1e2), "kernel": ["linear", "rbf"], "gamma": hp.uniform("g", 0, 1)})
    assert {point["kernel"] for point in found} == {"linear", "rbf"}
    assert all(0.01 <= point["C"] <= 100 and 0 <= point["gamma"] <= 1 for point in found)


@pytest.mark.parametrize(
    "values",
    [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), pd.Series([1, 2])],
    ids=lambda v: type(v).__name__,
)
def test_whatever_is_a_list_is_chosen_from(values: Any) -> None:
    assert {point["C"] for point in points({"C": values})} == {1, 2}


def test_options_are_handed_on_as_they_are() -> None:
    options = [[50], [50, 20], (10,), {0: 2.0}, None, np.ones(2)]
    names = frozenset({"sizes"})
    found = points({"sizes": options}, names, 40)
    assert all(any(point["sizes"] is option for option in options) for point in found)


def test_a_list_of_dicts_gives_the_points_of_one_each() -> None:
    space = [{"kernel": ["linear"], "C": loguniform(1, 2)}, {"kernel": ["rbf"], "gamma": loguniform(1, 2)}]
    found = points(space)
    assert {tuple(sorted(point)) for point in found} == {("C", "kernel"), ("gamma", "kernel")}
    assert all(("gamma" in point) == (point["kernel"] == "rbf") for point in found)
    assert {tuple(point) for point in points([{"C": [1]}])} == {("C",)}


def test_branches_are_merged_and_mappings_that_are_parameters_are_not() -> None:
    pipeline = make_pipeline(StandardScaler(), SVC())
    names = frozenset(pipeline.get_params())
    models = [
        {"svc": SVC(), "svc__C": hp.loguniform("svm_C", -3, 3)},
        {"svc": LogisticRegression(), "svc__C": hp.loguniform("logistic_C", -3, 3)},
    ]
    found = points({"model": hp.choice("model", models), "svc__class_weight": [{0: 1, 1: 2}]}, names)
    assert {tuple(sorted(point)) for point in found} == {("svc", "svc__C", "svc__class_weight")}
    assert {type(point["svc"]) for point in found} == {SVC, LogisticRegression}
    assert found[0]["svc__class_weight"] == {0: 1, 1: 2}


def test_parameters_of_an_estimator_that_is_searched_itself() -> None:
    names = frozenset(make_pipeline(StandardScaler(), SVC()).get_params())
    space = {"svc": [LogisticRegression()], "svc__l1_ratio": [0.5]}
    assert points(space, names)[0]["svc__l1_ratio"] == 0.5


class HasRvs:
    def rvs(self, random_state: Any = None) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"CC": [1]},
            "space has 'CC', which is not a parameter of SVC; did you mean 'C'?.*Its parameters: C,",
        ),
        ({}, "space is empty; give at least one parameter"),
        ({"C": []}, r"hp.choice\('C'\) has no options"),
        ({"C": expon()}, "'C' is scipy.stats' expon, which has no counterpart"),
        ({"C": HasRvs()}, "'C' is .*HasRvs.*not a scipy.stats distribution"),
        (3, r"space is 3 \(int\); it must be a dict of parameter"),
        ([], r"space is \[\] \(list\); it must be"),
        ([{"C": [1]}, {"c": [1]}], "space has 'c'"),
        ({"c": hp.loguniform("c", -3, 3)}, "space has 'c'.*did you mean 'C'"),
        ({"c": scope.int(hp.quniform("c", 1, 3, 1))}, "space has 'c'"),
        ({"c": hp.choice("c", [1, 2])}, "space has 'c'"),
        ({"c": hp.choice("c", [{"C": 1}, 2])}, "space has 'c'"),
        ({"c": hp.pchoice("c", [(0.01, {"c": 1}), (0.99, {"C": 1})])}, "space has 'c'"),
        ({"branch": {"C": 1, "Gamma": hp.uniform("g", 0, 1)}}, "space has 'Gamma'.*did you mean 'gamma'"),
        (pyll.as_apply({"c": hp.uniform("c", 0, 1)}), "space has 'c'"),
        (pyll.Literal({"c": 1}), "space has 'c'"),
        (hp.choice("which", [{"C": 1}, {"deeper": hp.choice("deeper", [{}, {"c": 1}])}]), "space has 'c'"),
        (pyll.as_apply({1: 2}), "space has 1, which is not a parameter"),
        (hp.uniform("C", 0, 1), "space gives a float.*it must give a dict"),
        (hp.choice("which", [{"C": 1}, 3]), "space gives 3.*it must give a dict"),
    ],
)
def test_bad_spaces_are_refused(space: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        as_search_space(space, NAMES, "SVC")


@scope.define
def branch_of(value: float) -> dict[str, float]:
    return {"C": value}


def test_what_is_computed_is_checked_where_it_is_known() -> None:
    assert set(points({"branch": scope.branch_of(hp.uniform("x", 1, 2))}, n=1)[0]) == {"C"}
    assert set(points(scope.branch_of(hp.uniform("x", 1, 2)), n=1)[0]) == {"C"}
    assert points({"none": hp.choice("n", [{}, pyll.Literal({})]), "C": [1]}, n=1) == [{"C": 1}]


def test_parameters_of_an_estimator_that_another_branch_searches() -> None:
    names = frozenset(make_pipeline(StandardScaler(), SVC()).get_params())
    space = {"model": hp.choice("m", [{"svc": LogisticRegression()}]), "svc__l1_ratio": hp.uniform("r", 0, 1)}
    assert set(points(space, names, 1)[0]) == {"svc", "svc__l1_ratio"}


def test_a_point_must_be_a_dict() -> None:
    with pytest.raises(TypeError, match=r"the search space gives 1.0 \(float\); it must give a dict"):
        parameters(1.0, NAMES)
