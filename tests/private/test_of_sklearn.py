"""Without scikit-learn's private names a search runs as well, and says once what is different."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from sparktune import SimulatedTrials, grid
from sparktune.private import of_sklearn, presence
from sparktune.sklearn import SearchCV

pytestmark = pytest.mark.unit

X, Y = load_iris(return_X_y=True)
IS_NEW = hasattr(GridSearchCV, "_get_scorers")


def not_there(_owner: Any, name: str) -> Any:
    raise AttributeError(name)


def searched(**options: Any) -> dict[str, Any]:
    space = {"C": [0.01, 1.0]}
    search = SearchCV(SVC(), space, algo=grid.suggest, trials=SimulatedTrials(1), **options).fit(X, Y)
    assert search.predict(X).shape == (150,)
    results: dict[str, Any] = search.cv_results_
    return results


@pytest.mark.parametrize("name", list(of_sklearn.NAMES))
@pytest.mark.parametrize(
    "options",
    [{}, {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro", "return_train_score": True}],
    ids=["one", "several"],
)
def test_a_search_runs_without(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presence, "_messages", {})
    expected = searched(**options)
    assert presence.said() == []
    if name == "_fit_and_score":
        monkeypatch.setattr(of_sklearn, "read", not_there)
    else:
        owner = GridSearchCV.__bases__[0]
        monkeypatch.delattr(owner, name, raising=False)
    if name == "_get_scorers" and IS_NEW:
        # A method of scikit-learn's own that needs it.
        monkeypatch.setattr(owner, "_get_routed_params_for_fit", None, raising=False)
    found = searched(**options)
    for key, values in expected.items():
        if "test" in key or "train" in key:
            np.testing.assert_allclose(found[key], values, err_msg=key)
    if name == "_fit_and_score" or (IS_NEW and (name != "_get_scorers" or options)):
        assert of_sklearn.NAMES[name][1] in " ".join(presence.said())


def test_fits_that_fail_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_sklearn, "read", not_there)
    with pytest.raises(ValueError, match="'C' parameter of"):
        SearchCV(SVC(), {"C": [-1.0]}, n_iter=1, trials=SimulatedTrials(1)).fit(X, Y)
    search = SearchCV(SVC(), {"C": [-1.0]}, n_iter=1, trials=SimulatedTrials(1), error_score="raise")
    with pytest.raises(ValueError, match="'C' parameter of"):
        search.fit(X, Y)
