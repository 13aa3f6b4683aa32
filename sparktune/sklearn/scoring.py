"""What ``scoring`` and ``refit`` of a search mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.metrics import check_scoring


def scorers_of(estimator: Any, scoring: Any) -> Any:
    """The scorer; for several, a dict of them by name.

    Raises:
        ValueError: ``scoring`` is not a scorer, or is empty, or holds one twice.
    """
    if callable(scoring):
        return scoring
    if scoring is None or isinstance(scoring, str):
        return check_scoring(estimator, scoring)
    named = dict(scoring) if isinstance(scoring, dict) else {name: name for name in scoring}
    if len(named) != len(list(scoring)) or not all(isinstance(name, str) for name in named):
        raise ValueError(
            f"scoring is {scoring!r}; a list of scores holds different names, such as "
            "['accuracy', 'f1_macro']; for functions give a dict of name -> scorer"
        )
    if not named:
        raise ValueError(f"scoring is {scoring!r}; give at least one score")
    return {name: check_scoring(estimator, scorer) for name, scorer in named.items()}


def check_refit(refit: Any, names: Sequence[str]) -> None:
    """Check that ``refit`` names the score that selects the best candidate, where there are several.

    Raises:
        ValueError: it does not.
    """
    if refit is False or callable(refit) or refit in names:
        return
    raise ValueError(
        f"scoring has several scores ({', '.join(names)}), and refit is {refit!r}: name the one that selects "
        f"the best candidate, refit={names[0]!r}, or give a function, or refit=False"
    )
