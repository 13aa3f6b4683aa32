"""Looking at a search space before tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperopt import pyll

from sparktune.space import compiling
from sparktune.space.distributions import as_space
from sparktune.space.search_space import SearchSpace
from sparktune.space.view import SpaceView

if TYPE_CHECKING:
    import pandas as pd


def sample(space: Any, n: int = 1000, rng: Any = None) -> pd.DataFrame:
    """Random points of a space, as random search would try them.

    ``plot_space`` draws their histograms.

    Args:
        space: what ``fmin`` takes.
        n: how many points.
        rng: a ``numpy.random.Generator`` or a seed; None for other points each time.

    Returns:
        ``n`` rows and a column per parameter by its label, holding the values that an objective receives (of
        an ``hp.choice`` the option or its branch's name), missing where the parameter is not active, or
        where the option is None.

    Raises:
        InvalidSpace: the space cannot be searched.
    """
    import pandas as pd

    points = draw(space, n, rng)
    return pd.DataFrame.from_records(points.params, columns=points.labels, index=range(n))


@dataclass(frozen=True)
class Points:
    """Random points of a space.

    Attributes:
        space: the space, compiled.
        labels: its parameters, in the order of the space.
        params: of each point label -> the value that an objective receives; active labels only.
    """

    space: SearchSpace
    labels: list[str]
    params: list[dict[str, Any]]


def draw(space: Any, n: int, rng: Any) -> Points:
    """As ``sample``, but an option that is None differs from a parameter that is not active."""
    expression = pyll.as_apply(as_space(space))
    compiling.check(expression, constants="pass")
    compiled, view = SearchSpace(expression), SpaceView(expression)
    rows = compiled.sample(n, np.random.default_rng(rng))
    return Points(compiled, view.labels, [view.params(compiled.config(row)) for row in rows])
