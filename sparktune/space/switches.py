"""Which branch of a ``switch`` is active: for ``hp.choice``, and where a space computes the index."""

from __future__ import annotations

from typing import Any

from hyperopt import pyll

_WHOLE = ("int", "float")
"""Functions that leave a whole number as it is."""


def choosing(switch: Any) -> Any | None:
    """The parameter that alone decides which branch is active; None where all of them count as active.

    That is so where the index depends on several parameters, or on a number that is not whole: there the
        search does not know what each value chooses.
    """
    index = switch.pos_args[0]
    inside = [node for node in pyll.dfs(index) if node.name == "hyperopt_param"]
    if len(inside) != 1:
        return None
    dist = inside[0].arg["obj"]
    if dist.name in ("randint", "categorical"):
        return inside[0]
    if dist.name not in ("quniform", "qloguniform"):
        return None
    while index.name in _WHOLE:
        index = index.pos_args[0]
    q = getattr(dist.arg["q"], "obj", None)
    return inside[0] if index is inside[0] and isinstance(q, int | float) and q == int(q) else None


def branch(switch: Any, value: Any) -> int:
    """The index of the branch that is active where ``choosing(switch)`` has this raw value."""
    index, parameter = switch.pos_args[0], choosing(switch)
    while index.name in _WHOLE:
        index = index.pos_args[0]
    return int(value if index is parameter else pyll.rec_eval(index, memo={parameter: value}))
