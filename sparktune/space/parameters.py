"""One hyperparameter as the search algorithms see it: its values, and their coordinates.

Every number has a *coordinate*: its logarithm where the distribution is logarithmic, itself elsewhere. A
uniform distribution is uniform in its coordinate, a normal one is normal in it. Options are represented by
their index.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
Kind = Literal["uniform", "normal", "options"]

LARGEST_EXPONENT = 700.0
"""Values of logarithmic parameters are at most e to this power; the largest number is e ** 709.78."""


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter.

    Attributes:
        label: its name in the space.
        kind: the form of its distribution in the coordinate; ``options`` has none.
        low, high: bounds of the coordinate before rounding; infinite for ``normal``.
        mu, sigma: of ``normal``, in the coordinate.
        is_log: the coordinate is the natural logarithm of the value.
        q: values are rounded to multiples of it, or None.
        probabilities: of the options; empty for other kinds.
        first: the value of option 0 (``hp.randint(label, low, high)`` begins at low).
        is_integer: values are whole numbers and kept as ``int``.
        conditions: active when any of these (column, option) pairs is chosen; empty: always.
        is_branching: other parameters depend on it.
        text: how the user wrote it, for messages: ``hp.uniform(0, 1)``.
    """

    label: str
    kind: Kind
    low: float = -math.inf
    high: float = math.inf
    mu: float = 0.0
    sigma: float = 1.0
    is_log: bool = False
    q: float | None = None
    probabilities: tuple[float, ...] = ()
    first: int = 0
    is_integer: bool = False
    conditions: tuple[tuple[int, int], ...] = ()
    is_branching: bool = False
    text: str = ""

    @property
    def n_options(self) -> int:
        """The number of options; 0 for numbers."""
        return len(self.probabilities)

    @functools.cached_property
    def possible(self) -> NDArray[np.bool_]:
        """Which options may be chosen: those whose probability is above 0; shape ``(n_options,)``."""
        return np.asarray(self.probabilities) > 0

    @functools.cached_property
    def cumulative(self) -> Array:
        """``P(option <= i)``, shape ``(n_options,)``."""
        return np.cumsum(self.probabilities)

    def coordinate(self, values: Any) -> Array:
        """Values to coordinates; option values to indices, other values to the nearest one."""
        numbers: Array = np.asarray(values, float)
        if self.kind == "options":
            # Points of the user, or of a study with other options, may be outside the range.
            return np.asarray(np.clip(numbers - self.first, 0, self.n_options - 1))
        if not self.is_log:
            return numbers
        # Rounding may give 0, which has no logarithm: q/4 stands for the bin [0, q/2).
        lowest = np.finfo(float).tiny if self.q is None else self.q / 4
        return np.asarray(np.log(np.maximum(numbers, lowest)))

    def value(self, coordinates: Any) -> Array:
        """Coordinates to values: exponentiated and rounded as hyperopt does (``round(x / q) * q``)."""
        at: Array = np.asarray(coordinates, float)
        if self.kind == "options":
            return at + self.first
        values: Array = np.exp(np.minimum(at, LARGEST_EXPONENT)) if self.is_log else at
        # Adding 0 turns -0.0, which people do not expect to read, into 0.0.
        return values if self.q is None else np.round(values / self.q) * self.q + 0.0

    def quantile(self, u: Any) -> Array:
        """The prior's inverse distribution function: ``u`` in ``[0, 1)`` to coordinates."""
        share: Array = np.asarray(u, float)
        if self.kind == "options":
            found = np.searchsorted(self.cumulative, share * self.cumulative[-1], side="right")
            return np.asarray(np.minimum(found, self.n_options - 1), float)
        if self.kind == "uniform":
            return np.asarray(np.minimum(self.low + share * (self.high - self.low), self.high))
        return np.asarray(self.mu + self.sigma * ndtri(np.clip(share, 1e-12, 1 - 1e-12)))

    def cdf(self, coordinates: Any) -> Array:
        """The prior's distribution function at coordinates; for options the middle of their share."""
        at: Array = np.asarray(coordinates, float)
        if self.kind == "options":
            middle = (self.cumulative - np.asarray(self.probabilities) / 2) / self.cumulative[-1]
            return np.asarray(middle[at.astype(int)])
        if self.kind == "uniform":
            return np.asarray(np.clip((at - self.low) / (self.high - self.low), 0.0, 1.0))
        return np.asarray(ndtr((at - self.mu) / self.sigma))

    def plain(self, value: float) -> int | float:
        """A value as it is in a trial document."""
        return int(value) if self.is_integer else float(value)
