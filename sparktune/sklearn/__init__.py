"""The scikit-learn interface: ``SearchCV``, used as ``GridSearchCV`` is, every candidate a Spark task.

    from sparktune.sklearn import SearchCV

    search = SearchCV(SVC(), {"C": loguniform(1e-2, 1e3), "kernel": ["linear", "rbf"]}, n_iter=20)
    search.fit(X, y)
    search.best_params_, search.best_score_, search.predict(X)

The name is imported when it is first used: workers import other parts of this package, and may have no
hyperopt.
"""

from typing import TYPE_CHECKING, Any

from sparktune import _hyperopt_names

if TYPE_CHECKING:
    from sparktune.sklearn.search_cv import SearchCV

__all__ = ["SearchCV"]


_hyperopts = _hyperopt_names.missing_from(__name__, "hyperopt.sklearn")


def __getattr__(name: str) -> Any:
    if name != "SearchCV":
        return _hyperopts(name)
    from sparktune.errors import SklearnNotAvailable

    try:
        from sparktune.sklearn.search_cv import SearchCV
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise SklearnNotAvailable(
            "SearchCV needs scikit-learn, which is not installed: pip install 'sparktune[sklearn]'"
        ) from error
    return SearchCV
