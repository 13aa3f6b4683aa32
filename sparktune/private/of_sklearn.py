"""What sparktune uses of scikit-learn (1.3 to 1.9) that begins with an underscore.

Its searches fit and score a fold with ``_fit_and_score``; nothing public passes the sample weights to the
scorers as they do, and distinguishes a failed fit from a failed score. Imported where scikit-learn is in use.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from sklearn.model_selection import cross_validate

from sparktune.private import presence
from sparktune.private.presence import read

NAMES = {
    "_fit_and_score": (
        "model_selection._validation._fit_and_score",
        "SearchCV gives no sample weights to scorers, and a scorer that fails fails its whole fold",
    ),
    "_get_scorers": ("BaseSearchCV._get_scorers", "a scorer that fails fails the fold's other scores, too"),
    "_get_routed_params_for_fit": (
        "BaseSearchCV._get_routed_params_for_fit",
        "SearchCV passes the arguments of fit to the estimator only, and groups to the splitter",
    ),
}
"""Name -> its full name, and what is different without it."""


class _Several:
    """Scorers by name, as one that gives a dict."""

    def __init__(self, scorers: Mapping[str, Callable[..., float]]) -> None:
        self._scorers = scorers

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return {name: scorer(*args, **kwargs) for name, scorer in self._scorers.items()}


def _has_score_params() -> bool:
    """Whether this is scikit-learn 1.4 or newer."""
    try:
        return "score_params" in inspect.signature(_fit_and_score()).parameters
    except (ImportError, AttributeError):
        return True


def _fit_and_score() -> Any:
    module = importlib.import_module("sklearn.model_selection._validation")
    return read(module, "_fit_and_score")


def _missing(name: str) -> None:
    presence.missing("scikit-learn", *NAMES[name])


def scorers_of(search: Any, otherwise: Callable[[], Any]) -> Any:
    """The scorer of a search, or the object with its several scorers, as ``fold`` takes it.

    Args:
        search: a ``BaseSearchCV``.
        otherwise: makes a scorer, or a dict of them by name, where scikit-learn (before 1.4) has no method.
    """
    method = getattr(search, "_get_scorers", None)
    if method is None:
        found = otherwise()
        if not isinstance(found, dict) or not _has_score_params():
            return found  # before 1.4
        _missing("_get_scorers")
        return _Several(found)
    if "convert_multimetric" in inspect.signature(method).parameters:
        return method(convert_multimetric=False)[0]
    return method()[0]


def routed(search: Any, params: Mapping[str, Any]) -> Any:
    """Where arguments of ``fit`` go: ``.estimator.fit``, ``.scorer.score`` and ``.splitter.split``."""
    method = getattr(search, "_get_routed_params_for_fit", None)
    if method is not None:
        return method(dict(params))
    if _has_score_params():
        _missing("_get_routed_params_for_fit")
    rest = dict(params)
    groups = rest.pop("groups", None)
    return SimpleNamespace(
        estimator=SimpleNamespace(fit=rest),
        splitter=SimpleNamespace(split={"groups": groups}),
        scorer=SimpleNamespace(score={}),
    )


def fold(
    estimator: Any,
    X: Any,  # noqa: N803
    y: Any,
    *,
    scorer: Any,
    train: Any,
    test: Any,
    fit_params: Mapping[str, Any],
    score_params: Mapping[str, Any],
    return_train_score: bool,
    error_score: Any,
) -> dict[str, Any]:
    """Fit and score on one split, as scikit-learn's own searches do.

    Returns:
        ``test_scores`` and, where asked for, ``train_scores``: a number, or a dict of them by name;
        ``fit_time`` and ``score_time`` in seconds; ``fit_error``: a traceback, or None.
    """
    try:
        fit_and_score = _fit_and_score()
    except (ImportError, AttributeError):
        _missing("_fit_and_score")
        return _by_cross_validate(
            estimator, X, y, scorer, (train, test), dict(fit_params), return_train_score, error_score
        )
    options: dict[str, Any] = {"score_params": dict(score_params)} if _has_score_params() else {}
    found: dict[str, Any] = fit_and_score(
        estimator,
        X,
        y,
        scorer=scorer,
        train=train,
        test=test,
        verbose=0,
        parameters=None,
        fit_params=dict(fit_params),
        return_train_score=return_train_score,
        return_times=True,
        error_score=error_score,
        **options,
    )
    return found


def _by_cross_validate(
    estimator: Any,
    X: Any,  # noqa: N803
    y: Any,
    scorer: Any,
    split: tuple[Any, Any],
    fit_params: dict[str, Any],
    return_train_score: bool,
    error_score: Any,
) -> dict[str, Any]:
    name = "params" if "params" in inspect.signature(cross_validate).parameters else "fit_params"
    found: dict[str, Any] = {"fit_error": None}
    try:
        results = cross_validate(
            estimator,
            X,
            y,
            cv=[split],
            scoring=scorer,
            error_score="raise",
            return_train_score=return_train_score,
            **({name: fit_params} if fit_params else {}),
        )
    except Exception as error:
        if error_score == "raise":
            raise
        found |= {"test_scores": error_score, "train_scores": error_score, "fit_error": str(error)}
        return found | {"fit_time": math.nan, "score_time": 0.0}
    for part in ("test", "train"):
        scores = {
            k.removeprefix(f"{part}_"): float(v[0]) for k, v in results.items() if k.startswith(f"{part}_")
        }
        found[f"{part}_scores"] = scores["score"] if list(scores) == ["score"] else scores
    return found | {"fit_time": float(results["fit_time"][0]), "score_time": float(results["score_time"][0])}
