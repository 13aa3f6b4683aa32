"""The search space of ``SearchCV``: hyperopt's language, or what ``RandomizedSearchCV`` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hyperopt import pyll

from sparktune.errors import InvalidSpace
from sparktune.sklearn.names import check_names
from sparktune.space import hp
from sparktune.space.distributions import as_space


def as_search_space(space: Any, names: frozenset[str], estimator: str) -> Any:
    """A space in hyperopt's language.

    Args:
        space: whatever ``fmin`` takes that gives dicts; lists in a dict are values to choose from, and a list
            of dicts gives the points of one of them.
        names: the parameters of the estimator.
        estimator: its name, for messages.

    Raises:
        InvalidSpace: a key is not a parameter of the estimator, or a value cannot be searched.
    """
    found: Any
    if isinstance(space, pyll.Apply):
        found = space
    elif isinstance(space, Mapping):
        found = _branch(space, "")
    elif isinstance(space, Sequence) and space and all(isinstance(part, Mapping) for part in space):
        parts = [_branch(part, f"{n}.") for n, part in enumerate(space)]
        found = hp.choice("space", parts) if len(parts) > 1 else parts[0]
    else:
        raise InvalidSpace(
            f"space is {space!r} ({type(space).__name__}); it must be a dict of parameter -> list of values, "
            "scipy.stats distribution or hp node, a list of such dicts, or an hp expression that gives a dict"
        )
    found = as_space(found)
    check_names(found, names, estimator)
    return found


def _branch(space: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    if not space:
        raise InvalidSpace("space is empty; give at least one parameter, such as {'C': [0.1, 1, 10]}")
    return {key: _node(f"{prefix}{key}", value) for key, value in space.items()}


def _node(label: str, value: Any) -> Any:
    if isinstance(value, list | tuple | range | np.ndarray) or type(value).__name__ in ("Series", "Index"):
        if len(value) == 0:
            raise InvalidSpace(f"hp.choice({label!r}) has no options")
        # As literals: an option that is a list, or an array, is passed on as it is.
        return hp.choice(label, [pyll.Literal(_plain(option)) for option in value])
    if hasattr(value, "rvs") and not type(value).__module__.startswith("scipy.stats"):
        raise InvalidSpace(
            f"{label!r} is {value!r}, which has rvs but is not a scipy.stats distribution; use one of these, "
            "a list of values, or a node of hp"
        )
    return value


def _plain(option: Any) -> Any:
    return option.item() if isinstance(option, np.generic) else option
