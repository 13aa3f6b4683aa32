"""Whether a search space gives parameters of the estimator, in all of its branches."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hyperopt import pyll

from sparktune.errors import InvalidSpace

N_DRAWS = 3
"""How often a computed part of a space is tried."""


def check_names(space: Any, names: frozenset[str], estimator: str) -> None:
    """Check every branch of a space, also one that is rarely drawn.

    What a function of the space computes is known from a few draws only.

    Args:
        space: in hyperopt's language.
        names: the parameters of the estimator.
        estimator: its name, for messages.

    Raises:
        InvalidSpace: a key is not a parameter of the estimator, or the space gives something else than a
            dict.
    """
    whole = pyll.as_apply(space)
    searched = frozenset(_keys(whole, names))
    for part in _outcomes(whole):
        if not isinstance(part, Mapping):
            raise InvalidSpace(
                f"space gives {_shown(part)}; it must give a dict of parameter -> value, as "
                "{'C': hp.loguniform('C', -3, 3)} does"
            )
        _check_branch(part, names, searched, estimator)


@dataclass(frozen=True)
class Computed:
    """A value that a node drew, or computed."""

    value: Any


def _outcomes(node: Any) -> Iterator[Any]:
    """What an expression may give: dicts, whose values may be expressions, and other values."""
    if not isinstance(node, pyll.Apply):
        yield node
    elif node.name == "literal":
        yield node.obj
    elif node.name == "switch":
        for option in node.pos_args[1:]:
            yield from _outcomes(option)
    elif node.name == "dict" and not node.pos_args:
        yield dict(node.named_args)
    else:
        for seed in range(N_DRAWS):
            try:
                value = pyll.stochastic.sample(node, np.random.default_rng(seed))
            except Exception:  # the candidate at that point will fail
                continue
            yield value if isinstance(value, Mapping) else Computed(value)


def _keys(node: Any, names: frozenset[str]) -> Iterator[str]:
    """The parameters of an expression, in all branches."""
    for part in _outcomes(node):
        for key, value in part.items() if isinstance(part, Mapping) else ():
            if key in names:
                yield key
            else:
                yield from _keys(value, names)


def _check_branch(
    branch: Mapping[Any, Any], names: frozenset[str], searched: frozenset[str], estimator: str
) -> None:
    for key, value in branch.items():
        # The parameters of an estimator that is itself searched are not known.
        if key in names or any(str(key).startswith(f"{other}__") for other in searched):
            continue
        for part in _outcomes(value):
            if not isinstance(part, Mapping):
                raise InvalidSpace(_unknown(key, names, estimator))
            _check_branch(part, names, searched, estimator)


def _unknown(key: Any, names: frozenset[str], estimator: str) -> str:
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(key).lower(), lowered, 1)
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else "."
    return (
        f"space has {key!r}, which is not a parameter of {estimator}{hint} "
        f"Its parameters: {', '.join(sorted(names))}"
    )


def _shown(part: Any) -> str:
    if isinstance(part, Computed):
        return f"a {type(part.value).__name__}"
    return f"{part!r} ({type(part).__name__})"
