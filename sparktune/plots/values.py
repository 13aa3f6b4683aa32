"""The axis of losses and metrics: good values can be distinguished, whatever the bad ones are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparktune.plots.axes import SHORTEST, log_ticks, nice_ticks, power, share_of, short
from sparktune.plots.style import Spec

HIDDEN_SHARE = 0.1
"""Up to so many of the worst values may lie outside an axis, where they would flatten all others."""
WIDE = 4.0
"""... if with them it would be more than so many times as long."""
LOG_RATIO = 20.0
LOG_MIDDLE = 0.2
"""Positive values have a logarithmic axis where the largest is so many times the smallest, and half of them
lie in so small a part of a plain one at its good end."""
ROOM = 0.06


@dataclass(frozen=True)
class ValueAxis:
    """An axis of values.

    Attributes:
        is_log: it is logarithmic.
        low, high: its ends as coordinates: values, or their logarithms to base 10.
        best, worst: the coordinates of the best value, and of the worst that it shows.
        n_hidden: how many worse values lie outside.
    """

    is_log: bool
    low: float
    high: float
    best: float
    worst: float
    n_hidden: int

    @classmethod
    def of(cls, values: Sequence[float], *, good_is_high: bool = False) -> ValueAxis:
        """The axis of finite values; of none, from 0 to 1."""
        if not values:
            return cls(False, 0.0, 1.0, 0.0, 1.0, 0)
        is_log = not good_is_high and _is_log(values)
        sign = -1.0 if good_is_high else 1.0
        ordered = sorted(math.log10(value) if is_log else sign * value for value in values)
        low, high = ordered[0], ordered[-1]
        # Of few trials each counts; of more, those that are far beyond the bulk may be left out.
        most = ordered[max(0, math.ceil((1 - HIDDEN_SHARE) * len(ordered)) - 1)]
        if most > low and high - low > WIDE * (most - low):
            high = max(at for at in ordered if at - low <= WIDE * (most - low))
        room = ROOM * (high - low) if high > low else abs(high) * 0.1
        if room < SHORTEST:
            room = 1.0
        if not (math.isfinite(low - room) and math.isfinite(high + room)):
            room = 0.0
        n_hidden = sum(at > high + room for at in ordered)
        ends = sorted((sign * (low - room), sign * (high + room)))
        return cls(is_log, ends[0], ends[1], sign * low, sign * high, n_hidden)

    @property
    def edge(self) -> float:
        """A value at the bad end, just inside."""
        inside = 0.02 * self.high - 0.02 * self.low
        at = self.high - inside if self.worst >= self.best else self.low + inside
        return power(at) if self.is_log else at

    def coordinate(self, value: float) -> float:
        """The coordinate of a value."""
        return math.log10(value) if self.is_log else value

    def share(self, value: float) -> float:
        """The position of a value between the lower and the upper of ``best`` and ``worst``: 0 to 1."""
        low, high = sorted((self.best, self.worst))
        if high <= low:
            return 0.5
        return min(1.0, max(0.0, share_of(self.coordinate(value), low, high)))

    def ticks(self) -> list[tuple[float, str]]:
        """(coordinate, text) of round values between ``best`` and ``worst``."""
        low, high = sorted((self.best, self.worst))
        if high <= low:
            return [(low, f"{power(low) if self.is_log else low:.4g}")]
        places = log_ticks(low, high) if self.is_log else nice_ticks(low, high)
        return [(at, short(power(at) if self.is_log else at)) for at in places]

    @property
    def spec(self) -> Spec:
        """The axis as plotly takes it."""
        if not self.is_log:
            return {"range": [self.low, self.high]}
        ticks = log_ticks(self.low, self.high)
        marks = {
            "tickmode": "array",
            "tickvals": [power(at) for at in ticks],
            "ticktext": [short(power(at)) for at in ticks],
        }
        return {"type": "log", "range": [self.low, self.high], **marks}

    @property
    def outside(self) -> str:
        """The subtitle's part about values that are not shown."""
        return f"{self.n_hidden:,} worse values lie outside" if self.n_hidden else ""


def _is_log(values: Sequence[float]) -> bool:
    """Whether to draw losses by their logarithm; judged without the few worst, which may be anything."""
    ordered = sorted(values)[: max(5, math.ceil((1 - HIDDEN_SHARE) * len(values)))]
    low, high, middle = ordered[0], ordered[-1], ordered[len(ordered) // 2]
    if low <= 0 or high / low < LOG_RATIO or len(values) < 5:
        return False
    return (middle - low) / (high - low) < LOG_MIDDLE
