"""The search space of a sweep file, in hyperopt's language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hyperopt import pyll

from sparktune.space import hp
from sparktune.sweeps.model import Distribution


def space_of(distributions: Mapping[str, Distribution]) -> dict[str, Any]:
    """Name -> ``hp`` node.

    Raises:
        InvalidSpace: see ``sparktune.space.hp``.
    """
    return {name: node(name, distribution) for name, distribution in distributions.items()}


def node(name: str, of: Any) -> Any:
    """The ``hp`` node of one distribution. Steps that are whole numbers give whole numbers."""
    made = _NODES[of.type](name, of)
    if _is_whole(of):
        return pyll.scope.int(made)
    return made


_NODES: Mapping[str, Callable[[str, Any], Any]] = {
    # A list or mapping among the values is one value: as a literal it is not read as a part of the space.
    "choice": lambda name, of: hp.choice(name, [pyll.Literal(value) for value in of.values]),
    "randint": lambda name, of: hp.randint(name, of.upper),
    "uniform": lambda name, of: hp.uniform(name, of.min_value, of.max_value),
    "loguniform": lambda name, of: hp.loguniform(name, of.min_value, of.max_value),
    "reverseloguniform": lambda name, of: hp.reverseloguniform(name, of.min_value, of.max_value),
    "auto": lambda name, of: hp.auto(name, of.min_value, of.max_value),
    "quniform": lambda name, of: hp.quniform(name, of.min_value, of.max_value, of.q),
    "qloguniform": lambda name, of: hp.qloguniform(name, of.min_value, of.max_value, of.q),
    "normal": lambda name, of: hp.normal(name, of.mu, of.sigma),
    "lognormal": lambda name, of: hp.lognormal(name, of.mu, of.sigma),
    "qnormal": lambda name, of: hp.qnormal(name, of.mu, of.sigma, of.q),
    "qlognormal": lambda name, of: hp.qlognormal(name, of.mu, of.sigma, of.q),
}


def _is_whole(of: Any) -> bool:
    """Whether every value of a distribution is a whole number: its step is one."""
    return hasattr(of, "q") and float(of.q).is_integer()
