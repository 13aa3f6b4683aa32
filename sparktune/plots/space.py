"""A picture of a search space: a histogram for each parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sparktune.errors import PlotlyNotAvailable
from sparktune.plots.style import COLOURS, NO_PLOTLY, TEMPLATE
from sparktune.space.sampling import draw

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_BARS = 30
N_COLUMNS = 3


def plot_space(space: Any, n: int = 1000, rng: Any = None) -> go.Figure:
    """Histograms of random points: what random search would try, before anything is tuned.

    Parameters with a logarithmic distribution have a logarithmic axis; options have a bar each. The title
    shows in how many of the points a parameter is active.

    Args:
        space: what ``fmin`` takes.
        n: how many points.
        rng: a ``numpy.random.Generator`` or a seed.

    Returns:
        A plotly figure, a panel for each parameter.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
        InvalidSpace: the space cannot be searched.
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise PlotlyNotAvailable(NO_PLOTLY) from error

    points = draw(space, n, rng)
    columns = {label: [p[label] for p in points.params if label in p] for label in points.labels}
    n_columns = max(1, min(N_COLUMNS, len(columns)))
    n_rows = max(1, math.ceil(len(columns) / n_columns))
    titles = [
        label if len(values) == n else f"{label} (active: {len(values) / n:.0%})"
        for label, values in columns.items()
    ]
    figure = make_subplots(n_rows, n_columns, subplot_titles=titles or None)
    for i, (label, values) in enumerate(columns.items()):
        at = {"row": i // n_columns + 1, "col": i % n_columns + 1}
        parameter = points.space.parameters[points.space.column[label]]
        is_log = parameter.is_log and all(value > 0 for value in values)
        x, counts, widths = bars(values, is_log=is_log)
        figure.add_bar(
            x=x, y=counts, width=widths, name=label, showlegend=False, marker_color=COLOURS[0], **at
        )
        if is_log:
            figure.update_xaxes(type="log", **at)
    figure.update_layout(
        template=TEMPLATE, height=120 + 230 * n_rows, bargap=0.05, title=f"{n:,} random points"
    )
    return figure


def bars(values: list[Any], *, is_log: bool = False) -> tuple[list[Any], list[int], list[float] | None]:
    """The positions of a histogram's bars, their heights, and their widths (None where each is a value).

    Args:
        values: what was drawn.
        is_log: bins of equal width in the logarithm.
    """
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = [value if is_number else str(value) for value in values]
    distinct = sorted(set(names)) if is_number else list(dict.fromkeys(sorted(names)))
    if len(distinct) <= MAX_BARS or not is_number:
        return (
            ([str(v) for v in distinct] if not is_log else distinct),
            [names.count(v) for v in distinct],
            None,
        )
    numbers = np.array(values, float)
    edges = np.histogram_bin_edges(np.log(numbers) if is_log else numbers, MAX_BARS)
    edges = np.exp(edges) if is_log else edges
    edges[0], edges[-1] = numbers.min(), numbers.max()
    counts, _ = np.histogram(numbers, edges)
    return ((edges[1:] + edges[:-1]) / 2).tolist(), counts.tolist(), np.diff(edges).tolist()
