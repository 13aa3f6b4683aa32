"""Axes of parameters: numbers, logarithms, categories; the position of a value, and the ticks."""

from __future__ import annotations

import math
import numbers
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sparktune.study.trial import format_value

Kind = Literal["number", "log", "category"]

LOG_RATIO = 100.0
"""Positive numbers whose distribution is not known have a logarithmic axis where the largest is so many times
the smallest, and their logarithms are spread more evenly."""
_LOGARITHMIC = re.compile(r"hp\.q?log")
_PLAIN = re.compile(r"hp\.q?(uniform|normal)")
SPREAD = (0.618034, 0.414214, 0.732051)
"""Multiples of such numbers (of the golden ratio, of roots) are spread evenly between whole numbers."""
N_TICKS = 5
SHORTEST = 1e-300
"""plotly.js fails to draw an axis that is shorter."""
MAX_CATEGORY_TICKS = 12


@dataclass(frozen=True)
class Axis:
    """A parameter's axis.

    Attributes:
        label: of the parameter.
        kind: ``log`` where the parameter is positive and its distribution logarithmic.
        low, high: the smallest and largest value; of categories 0 and their number less 1.
        categories: the texts of the values, in their order; empty for numbers.
        is_conditional: not active in every trial.
        n: in how many trials it is active.
    """

    label: str
    kind: Kind
    low: float
    high: float
    categories: tuple[str, ...] = ()
    is_conditional: bool = False
    n: int = 0
    _places: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, label: str, values: Sequence[Any], n_trials: int, text: str = "") -> Axis:
        """The axis of a parameter.

        Args:
            label: of the parameter.
            values: of the trials in which it was active; at least one.
            n_trials: how many trials there are.
            text: its distribution, ``hp.loguniform(-3, 2)``, where it is known.
        """
        n, is_conditional = len(values), len(values) < n_trials
        numeric = [number for value in values if (number := as_number(value)) is not None]
        if len(numeric) < len(values):
            names = category_order(values)
            places = {name: place for place, name in enumerate(names)}
            return cls(label, "category", 0.0, len(names) - 1.0, tuple(names), is_conditional, n, places)
        low, high = min(numeric), max(numeric)
        is_known = _LOGARITHMIC.match(text) or _PLAIN.match(text)
        is_log = bool(_LOGARITHMIC.match(text)) if is_known else looks_logarithmic(numeric)
        kind: Kind = "log" if is_log and low > 0 else "number"
        return cls(label, kind, low, high, (), is_conditional, n)

    def coordinate(self, value: Any) -> float | None:
        """A value as a number whose distances are meaningful: its logarithm, its place; None: no value."""
        if self.kind == "category":
            return self._places.get(category_name(value))
        number = as_number(value)
        if number is None or (self.kind == "log" and number <= 0):
            return None
        return math.log10(number) if self.kind == "log" else number

    @property
    def bounds(self) -> tuple[float, float]:
        """The coordinates of ``low`` and ``high``."""
        return (math.log10(self.low), math.log10(self.high)) if self.kind == "log" else (self.low, self.high)

    def share(self, value: Any) -> float | None:
        """The position of a value between the axis' ends: 0 to 1; in the middle where there is one value."""
        at = self.coordinate(value)
        if at is None:
            return None
        low, high = self.bounds
        return share_of(at, low, high) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """(share, text) of values worth a tick."""
        if self.kind == "category":
            every = max(1, math.ceil(len(self.categories) / MAX_CATEGORY_TICKS))
            at = range(0, len(self.categories), every)
            top = max(1, len(self.categories) - 1)
            return [(i / top if len(self.categories) > 1 else 0.5, self.categories[i]) for i in at]
        low, high = self.bounds
        if high <= low:
            return [(0.5, short(self.low))]
        places = log_ticks(low, high) if self.kind == "log" else nice_ticks(low, high)
        return [(share_of(at, low, high), short(power(at) if self.kind == "log" else at)) for at in places]

    def drawn(self, value: Any, number: int, turn: int = 0) -> float | None:
        """A value on a cartesian axis: itself, or a category's place, moved a little by the trial's number.

        Without that the trials of one category would cover each other. ``turn`` gives another move, where two
        axes have categories.
        """
        if self.kind != "category":
            return as_number(value)
        place = self.coordinate(value)
        return None if place is None else place + 0.5 * ((number * SPREAD[turn]) % 1.0 - 0.5)


def as_number(value: Any) -> float | None:
    """A finite number as a float; None for anything else, True and False too."""
    if (
        isinstance(value, bool)
        or type(value).__name__ in ("bool_", "bool")
        or not isinstance(value, numbers.Real)
    ):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def category_name(value: Any) -> str:
    """A value as the name of a category: its whole text, since shortened texts may be equal.

    A text that looks like a value (``"1"``, ``"None"``), or is empty, gets quotes.
    """
    try:
        if isinstance(value, str):
            return repr(str(value)) if not value or _reads_as_value(value) else str(value)
        return repr(float(value)) if isinstance(value, float) else str(value)
    except Exception as error:  # an option may be any object
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _reads_as_value(text: str) -> bool:
    if text in ("None", "True", "False") or text[0] in "[({<'\"":
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def value_text(value: Any) -> str:
    """A value as it is shown for one trial: short, and not unique."""
    return format_value(value) if isinstance(value, float) else format_value(category_name(value))


def category_order(values: Sequence[Any]) -> list[str]:
    """The names of different values: numbers in their order, then texts by the alphabet."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(category_name(value), value)

    def key(name: str) -> tuple[int, float, str]:
        number = as_number(found[name])
        return (1, 0.0, name) if number is None else (0, number, name)

    return sorted(found, key=key)


def looks_logarithmic(values: Sequence[float]) -> bool:
    """Whether numbers of unknown distribution are better read on a logarithmic axis."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < LOG_RATIO:
        return False
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    plain = (middle - low) / (high - low)
    log = math.log(middle / low) / math.log(high / low)
    return abs(log - 0.5) < abs(plain - 0.5)


def nice_ticks(low: float, high: float, n: int = N_TICKS) -> list[float]:
    """Round numbers between two others: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / n
    if not SHORTEST < raw < math.inf:  # at the edge of the range of floats
        return [low, high]
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor((high - low) / step + 1e-9) + 1
    places = [(first + i) * step for i in range(count)]
    return [at for at in places if at <= high + 1e-9 * step and math.isfinite(at)]


def share_of(at: float, low: float, high: float) -> float:
    """The position of a number between two others: 0 at the lower, 1 at the higher one."""
    if high - low == math.inf:
        at, low, high = at / 2, low / 2, high / 2
    return (at - low) / (high - low)


def power(exponent: float) -> float:
    """10 to the power of a number; the largest float where that is beyond it."""
    try:
        return float(10.0**exponent)
    except OverflowError:
        return sys.float_info.max


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two exponents; where there are fewer than three, 1, 2 and 5 times them."""
    exponents = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    every = max(1, math.ceil(len(exponents) / (N_TICKS + 1)))
    powers = [float(exponent) for exponent in exponents if exponent % every == 0]
    if len(powers) >= 3:
        return powers
    fine = [e + math.log10(f) for e in range(math.floor(low), math.ceil(high) + 1) for f in (1, 2, 5)]
    found = [at for at in fine if low - 1e-9 <= at <= high + 1e-9]
    return found if len(found) >= 2 else [low, high]


def short(value: float) -> str:
    """A number for a tick: ``0.01``, ``1e-5``, ``20,000``."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        return text
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"
