"""A hyperparameter as Optuna sees it, and its values both ways, exactly.

| hp | Optuna |
| --- | --- |
| ``choice``, ``pchoice`` | categorical over the indices of the options; Optuna has no weights |
| ``randint`` | whole numbers |
| ``quniform``, ``uniformint`` | whole numbers: multiples of q |
| ``qloguniform`` | the same, logarithmic; where 0 is among them, as ``loguniform`` |
| ``uniform`` | a float |
| ``loguniform`` | a float: the logarithm, in which the distribution is uniform |
| ``normal``, ``lognormal`` and their q-variants | a float between 0 and 1: the quantile |

Where a value is rounded after it was sampled, Optuna sees the rounded one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparktune.space.parameters import Parameter

MOST_MULTIPLES = 2**31
"""A range of more multiples of q is continuous, and rounded after sampling."""

Form = Literal["option", "integer", "multiple", "coordinate", "quantile"]


@dataclass(frozen=True)
class Dimension:
    """One parameter.

    Attributes:
        parameter: ours.
        form: what Optuna's number is.
        distribution: Optuna's.
    """

    parameter: Parameter
    form: Form
    distribution: Any

    def value(self, found: Any) -> int | float:
        """The value for a trial document, from what a sampler gave."""
        p = self.parameter
        if self.form == "option":
            return int(found) + p.first
        if self.form == "integer":
            return int(found)
        if self.form == "multiple":
            return p.plain(found * float(p.q or 1) + 0.0)
        at = p.quantile(found) if self.form == "quantile" else found
        return p.plain(float(p.value(at)))

    def for_optuna(self, value: Any) -> int | float:
        """The value for Optuna; the nearest inside for one outside the range."""
        p, into = self.parameter, self.distribution
        if self.form == "option":
            index = round(float(p.coordinate(value)))
            return min(map(int, into.choices), key=lambda choice: (abs(choice - index), choice))
        if self.form == "quantile":
            found = float(p.cdf(p.coordinate(value)))
        elif self.form == "coordinate":
            found = float(p.coordinate(value))
        else:
            found = round(float(value) / (1.0 if self.form == "integer" else float(p.q or 1)))
        low: int | float = into.low
        high: int | float = into.high
        return min(max(found, low), high)


def dimension(parameter: Parameter, *, is_choice: bool) -> Dimension:
    """A parameter in Optuna's terms.

    Args:
        parameter: of our space.
        is_choice: its integers are options without an order.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    p = parameter
    if p.kind == "options":
        if is_choice or len(set(p.probabilities)) > 1:
            return Dimension(p, "option", CategoricalDistribution(np.flatnonzero(p.possible).tolist()))
        return Dimension(p, "integer", IntDistribution(p.first, p.first + p.n_options - 1))
    if p.kind == "normal":
        return Dimension(p, "quantile", FloatDistribution(0.0, 1.0))
    multiples = _multiples(p)
    if multiples is not None:
        return Dimension(p, "multiple", IntDistribution(*multiples, log=p.is_log))
    return Dimension(p, "coordinate", FloatDistribution(p.low, p.high))


def _multiples(p: Parameter) -> tuple[int, int] | None:
    """The first and last multiple of q that is a value, where Optuna can take them as whole numbers."""
    if p.q is None:
        return None
    low, high = (math.exp(p.low), math.exp(p.high)) if p.is_log else (p.low, p.high)
    ends = low / p.q, high / p.q
    if not all(abs(end) < MOST_MULTIPLES for end in ends):
        return None
    first, last = round(ends[0]), round(ends[1])
    return None if p.is_log and first < 1 else (first, last)
