"""Spaces written with ``scipy.stats``: a dict of frozen distributions is a search space, too.

{"lr": loguniform(1e-5, 1), "batch_size": randint(32, 257)}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import hyperopt
import numpy as np
from hyperopt import pyll

from sparktune.errors import InvalidSpace
from sparktune.space import hp

Path = tuple[str, ...]


def as_space(space: Any) -> Any:
    """A space in hyperopt's language; a space in it already is returned as it is.

    Frozen distributions of ``scipy.stats`` become ``hp`` nodes labelled by their key in the dict around them,
    and by the whole path to them ("model.0.C") where keys clash. ``uniform``, ``loguniform``
    (``reciprocal``), ``randint``, ``norm`` and ``lognorm`` are known. A distribution that is itself an option
    of ``hp.choice`` is left as it is: the objective receives it.

    Args:
        space: whatever ``hyperopt.fmin`` takes, with distributions in place of ``hp`` nodes; in the options
            of ``hp.choice``, too.

    Raises:
        InvalidSpace: a distribution that is not known, or does not have a label.
    """
    expression = pyll.as_apply(space)
    if _is_distribution(expression):
        raise InvalidSpace("a scipy.stats distribution needs a name: put it into a dict, {'x': ...}")
    found: dict[int, tuple[Any, Path, str]] = {}
    for node, path, key in _walk(expression, (), "", set()):
        found.setdefault(id(node), (node, path, key))
    if not found:
        return space
    nodes = pyll.dfs(expression)
    taken = Counter(str(node.arg["label"].obj) for node in nodes if node.name == "hyperopt_param")
    keys = taken + Counter(key for _, _, key in found.values())
    memo: dict[Any, Any] = {}
    for node, path, key in found.values():
        label = key if key and keys[key] == 1 else ".".join(path)
        if taken[label]:
            raise InvalidSpace(
                f"the label {label!r} of a scipy.stats distribution is used by another hyperparameter; "
                "rename the key, or use hp with another label"
            )
        taken[label] += 1
        memo[node] = _node(label, node.obj)
    return pyll.clone(expression, memo)


def space_eval(space: Any, hp_assignment: dict[str, Any]) -> Any:
    """The point of a space for an assignment of its labels, as the objective receives it.

    Args:
        space: what ``fmin`` takes.
        hp_assignment: label -> raw value, as ``fmin`` returns it.
    """
    return hyperopt.space_eval(as_space(space), hp_assignment)


def _is_distribution(node: Any) -> bool:
    """Whether a node is a constant that is a distribution with its parameters, in scipy's old or new form."""
    if node.name != "literal" or not type(node.obj).__module__.startswith("scipy.stats"):
        return False
    return hasattr(node.obj, "dist") or hasattr(node.obj, "icdf")


def _walk(node: Any, path: Path, key: str, seen: set[int]) -> Iterator[tuple[Any, Path, str]]:
    """The distributions below a node, with the path to each and the key of the dict that holds it, or ''."""
    if _is_distribution(node):
        yield node, path, key
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.name == "switch":
        index, *options = node.pos_args
        labels = [str(n.arg["label"].obj) for n in pyll.dfs(index) if n.name == "hyperopt_param"]
        # {"model": hp.choice("model", ...)} is one step of the path.
        here = path if path[-1:] == tuple(labels) else (*path, *labels)
        for i, option in enumerate(options):
            if not _is_distribution(option):
                yield from _walk(option, (*here, str(i)), "", seen)
        return
    for i, part in enumerate(node.pos_args):
        yield from _walk(part, (*path, str(i)), "", seen)
    for name, part in node.named_args:
        yield from _walk(part, (*path, str(name)), str(name) if node.name == "dict" else "", seen)


def _node(label: str, frozen: Any) -> Any:
    """The ``hp`` node of a frozen distribution."""
    name = getattr(getattr(frozen, "dist", None), "name", type(frozen).__name__)
    known = _KNOWN.get(name)
    if known is None:
        raise InvalidSpace(
            f"{label!r} is scipy.stats' {name}, which has no counterpart among hyperopt's distributions; use "
            f"one of {', '.join(sorted(_KNOWN))}, or a node of hp"
        )
    shapes, loc, scale = frozen.dist._parse_args(*frozen.args, **frozen.kwds)
    if any(np.ndim(value) for value in (*shapes, loc, scale)):
        raise InvalidSpace(f"{label!r} is scipy.stats' {name} of arrays; give each parameter its own label")
    return known(
        label, *(value.item() if hasattr(value, "item") else value for value in (*shapes, loc, scale))
    )


def _uniform(label: str, loc: float, scale: float) -> Any:
    return hp.uniform(label, loc, loc + scale)


def _loguniform(label: str, a: float, b: float, loc: float, scale: float) -> Any:
    _needs_no_loc(label, "loguniform", loc)
    if not 0 < a < b or scale <= 0:
        raise InvalidSpace(f"{label!r} is loguniform({a:g}, {b:g}, scale={scale:g}); it needs 0 < a < b")
    return hp.loguniform(label, math.log(a * scale), math.log(b * scale))


def _randint(label: str, low: int, high: int, loc: int, scale: int) -> Any:
    del scale  # 1
    return hp.randint(label, low + loc, high + loc)


def _norm(label: str, loc: float, scale: float) -> Any:
    return hp.normal(label, loc, scale)


def _lognorm(label: str, s: float, loc: float, scale: float) -> Any:
    _needs_no_loc(label, "lognorm", loc)
    if not scale > 0:
        raise InvalidSpace(f"{label!r} is lognorm({s:g}, scale={scale:g}); scale must be greater than 0")
    return hp.lognormal(label, math.log(scale), s)


def _needs_no_loc(label: str, name: str, loc: float) -> None:
    if loc:
        raise InvalidSpace(f"{label!r} is {name} with loc={loc:g}; only loc=0 has a counterpart in hyperopt")


_KNOWN: dict[str, Callable[..., Any]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "reciprocal": _loguniform,
    "randint": _randint,
    "norm": _norm,
    "lognorm": _lognorm,
}
