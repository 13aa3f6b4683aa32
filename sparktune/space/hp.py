"""The space language: hyperopt's ``hp``, and two more scalings.

Everything of ``hyperopt.hp`` is here with its meaning; its errors also name the label. In addition,
``reverseloguniform`` and ``auto`` are expressions over hyperopt's own nodes, so that every algorithm of
hyperopt's form searches them.

The bounds of ``loguniform`` are exponents of e, as hyperopt has it: ``hp.loguniform("lr", log(1e-5), 0)``.
Those of ``reverseloguniform`` and ``auto`` are values.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any

import hyperopt.hp as _hyperopt
import numpy as np
from hyperopt import pyll

from sparktune.errors import InvalidSpace

CLEAR_RATIO = 100.0
"""``auto`` takes a logarithmic scale for ranges that span at least this factor."""


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function of ``hyperopt.hp``, with errors that name the label."""

    @functools.wraps(function)
    def node(label: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(label, str):
            given = ", ".join([repr(label), *map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            raise TypeError(
                f"hp.{name}({given}) has no label (require string label): the first argument is the "
                "parameter's name, as in "
                f"hp.{name}('x', {given})"
            )
        try:
            return function(label, *args, **kwargs)
        except ValueError as error:
            shown = ", ".join([repr(label), *map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            raise InvalidSpace(f"hp.{name}({shown}): {error}") from None

    node.__name__ = node.__qualname__ = name
    return node


choice = _named(_hyperopt.choice, "choice")
lognormal = _named(_hyperopt.lognormal, "lognormal")
loguniform = _named(_hyperopt.loguniform, "loguniform")
normal = _named(_hyperopt.normal, "normal")
pchoice = _named(_hyperopt.pchoice, "pchoice")
qlognormal = _named(_hyperopt.qlognormal, "qlognormal")
qloguniform = _named(_hyperopt.qloguniform, "qloguniform")
qnormal = _named(_hyperopt.qnormal, "qnormal")
quniform = _named(_hyperopt.quniform, "quniform")
randint = _named(_hyperopt.randint, "randint")
uniform = _named(_hyperopt.uniform, "uniform")
uniformint = _named(_hyperopt.uniformint, "uniformint")


def reverseloguniform(label: str, low: float, high: float) -> Any:
    """A number near 1, such as a momentum: ``log(1 - x)`` is uniform (SageMaker's ReverseLogarithmic).

    From 0.9 to 0.99 there are as many trials as from 0.99 to 0.999.

    The raw value in ``fmin``'s argmin and in ``misc["vals"]`` is ``log(1 - x)``, at most 0;
    ``space_eval``, ``best_params``, ``to_dataframe`` and MLflow have ``x``. In ``points_to_evaluate`` of
    ``sparktune.fmin`` both are accepted: a positive number is ``x``, another is raw.

    Args:
        label: the parameter's name.
        low: the smallest value; at least 0. A value, not an exponent.
        high: the largest value; below 1.

    Returns:
        The expression ``1 - exp(hp.uniform(label, log(1 - high), log(1 - low)))``.

    Raises:
        InvalidSpace: not ``0 <= low < high < 1``.
    """
    low, high = _bounds("reverseloguniform", label, low, high)
    if not 0 <= low < high < 1:
        raise InvalidSpace(
            f"hp.reverseloguniform({label!r}, {low:g}, {high:g}) searches log(1 - x): it needs "
            "0 <= low < high < 1" + ("; give a high like 0.999" if high == 1 else "")
        )
    raw = uniform(label, math.log1p(-high), math.log1p(-low) + 0.0)
    return pyll.scope.float(1.0 - pyll.scope.exp(raw))


def auto(label: str, low: float, high: float) -> Any:
    """A number on the scale that its range suggests (SageMaker's Auto).

    =====================  ===========================================================================
    reverse logarithmic    ``0 <= low``, ``high < 1`` and ``(1 - low) / (1 - high)`` is at least 100
    logarithmic            ``low > 0`` and ``high / low`` is at least 100; never when ``low`` is 0
    linear                 otherwise, and where both would apply
    =====================  ===========================================================================

    Args:
        label: the parameter's name.
        low: the smallest value. A value, not an exponent, whatever the scale.
        high: the largest value.

    Returns:
        ``reverseloguniform``, ``loguniform`` or ``uniform``.

    Raises:
        InvalidSpace: not ``low < high``, or not finite.
    """
    low, high = _bounds("auto", label, low, high)
    if not low < high:
        raise InvalidSpace(f"hp.auto({label!r}, {low:g}, {high:g}): low must be less than high")
    is_log = low > 0 and high / low >= CLEAR_RATIO
    # Not quite 100, so that 0.9 to 0.999 is 100 in spite of rounding.
    is_reverse = low >= 0 and high < 1 and (1 - low) / (1 - high) >= CLEAR_RATIO * (1 - 1e-9)
    if is_log and not is_reverse:
        return loguniform(label, math.log(low), math.log(high))
    return reverseloguniform(label, low, high) if is_reverse and not is_log else uniform(label, low, high)


def _bounds(name: str, label: str, low: Any, high: Any) -> tuple[float, float]:
    for what, value in (("low", low), ("high", high)):
        is_number = isinstance(value, numbers.Real | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise InvalidSpace(f"{what} of hp.{name}({label!r}) is {value!r}; it must be a finite number")
    return float(low), float(high)
