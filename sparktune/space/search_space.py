"""A search space as the search algorithms see it: tables of configurations, and which parameters are active.

hyperopt's expressions are compiled once. A configuration is a row of values, one column per parameter, NaN
where the parameter is inactive; a table of ``n`` configurations is an ``(n, n_params)`` array.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from hyperopt import pyll
from numpy.typing import NDArray

from sparktune.space.compiling import compiled
from sparktune.space.parameters import Array, Parameter


class SearchSpace:
    """The parameters of a space, parents before the parameters that depend on them.

    Args:
        expression: a pyll expression, or whatever ``pyll.as_apply`` takes.

    Raises:
        InvalidSpace: a parameter that cannot be sampled; the message names the label and the value.
    """

    def __init__(self, expression: Any) -> None:
        self.parameters: tuple[Parameter, ...] = tuple(compiled(pyll.as_apply(expression)))
        self.column: dict[str, int] = {p.label: i for i, p in enumerate(self.parameters)}

    def __len__(self) -> int:
        return len(self.parameters)

    def with_inactive(self, values: Array) -> Array:
        """A copy of ``(n, n_params)`` values with NaN where a parameter is inactive."""
        values = np.array(values, float)
        for i in range(len(self)):
            values[~self.is_active(values, i), i] = np.nan
        return values

    def is_active(self, values: Array, column: int) -> NDArray[np.bool_]:
        """Which rows have the parameter, given the columns before it; shape ``(n,)``."""
        conditions = self.parameters[column].conditions
        if not conditions:
            return np.ones(len(values), bool)
        active = np.zeros(len(values), bool)
        for parent, option in conditions:
            active |= values[:, parent] == option + self.parameters[parent].first
        return active

    def from_unit(self, unit: Array) -> Array:
        """``(n, n_params)`` numbers in ``[0, 1)`` to configurations, by the prior's inverse distribution."""
        columns = [p.value(p.quantile(unit[:, i])) for i, p in enumerate(self.parameters)]
        return self.with_inactive(np.column_stack(columns) if columns else np.empty((len(unit), 0)))

    def to_unit(self, values: Array) -> Array:
        """The inverse of ``from_unit``, up to rounding; NaN stays NaN."""
        unit = np.full(np.shape(values), np.nan)
        for i, parameter in enumerate(self.parameters):
            known = ~np.isnan(values[:, i])
            unit[known, i] = parameter.cdf(parameter.coordinate(values[known, i]))
        return unit

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """``n`` configurations from the prior."""
        return self.from_unit(rng.random((n, len(self))))

    def config(self, row: Array) -> dict[str, int | float]:
        """Label -> value of one configuration, active labels only."""
        return {
            p.label: p.plain(value)
            for p, value in zip(self.parameters, row.tolist(), strict=True)
            if not math.isnan(value)
        }

    def row(self, config: Mapping[str, Any]) -> Array:
        """The inverse of ``config``; shape ``(n_params,)``. Unknown labels are left out."""
        row = np.full(len(self), np.nan)
        for label, value in config.items():
            column = self.column.get(label)
            if column is not None:
                row[column] = value
        return row


_KNOWN: weakref.WeakKeyDictionary[Any, tuple[Any, SearchSpace]] = weakref.WeakKeyDictionary()


def space_of(domain: Any) -> SearchSpace:
    """The compiled space of a ``hyperopt.Domain``; compiled once per domain.

    Raises:
        InvalidSpace: see ``SearchSpace``.
    """
    known = _KNOWN.get(domain)
    if known is None or known[0] is not domain.expr:
        known = _KNOWN[domain] = (domain.expr, SearchSpace(domain.expr))
    return known[1]
