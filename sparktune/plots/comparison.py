"""Pictures, drawn with plotly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sparktune.errors import PlotlyNotAvailable

if TYPE_CHECKING:
    import pandas as pd

NO_PLOTLY = (
    "pictures are drawn with plotly, which is not installed in this environment. Install it with: "
    "pip install 'sparktune[plots]'"
)
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")


def any_time(by_trials: pd.DataFrame, by_time: pd.DataFrame) -> Any:
    """Any-time curves of several algorithms: the mean, and a band of a standard deviation either side.

    Args:
        by_trials: columns ``algo``, ``trial``, ``mean``, ``std``.
        by_time: columns ``algo``, ``time_s``, ``mean``, ``std``.

    Returns:
        A ``plotly.graph_objects.Figure`` with two panels.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise PlotlyNotAvailable(NO_PLOTLY) from error
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    panels = ((by_trials, "trial", "trials ended"), (by_time, "time_s", "seconds"))
    for column, (data, axis, title) in enumerate(panels, 1):
        for number, (algo, rows) in enumerate(data.groupby("algo", sort=False)):
            colour = COLOURS[number % len(COLOURS)]
            known = rows[rows["mean"].notna()]
            x, mean = known[axis].tolist(), known["mean"]
            std = known["std"].fillna(0.0)
            common: dict[str, Any] = {"legendgroup": str(algo), "name": str(algo)}
            # Each value holds from its point on, until the next.
            line: dict[str, Any] = {"shape": "hv"}
            for edge, fill in ((mean + std, None), (mean - std, "tonexty")):
                figure.add_trace(
                    go.Scatter(
                        x=x,
                        y=edge.tolist(),
                        mode="lines",
                        line={**line, "width": 0},
                        fill=fill,
                        fillcolor=_transparent(colour),
                        hoverinfo="skip",
                        showlegend=False,
                        **common,
                    ),
                    row=1,
                    col=column,
                )
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=mean.tolist(),
                    mode="lines",
                    line={**line, "color": colour, "width": 2},
                    showlegend=column == 1,
                    **common,
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=title, row=1, col=column)
    figure.update_yaxes(title_text="best loss so far", row=1, col=1, range=_range(by_trials))
    figure.update_layout(template="plotly_white", hovermode="x unified", margin={"t": 30})
    return figure


def _range(data: pd.DataFrame) -> tuple[float, float] | None:
    """From the lowest band to the highest mean: the first trials' bands would flatten all that follows."""
    low = float((data["mean"] - data["std"].fillna(0.0)).min())
    high = float(data["mean"].max())
    room = 0.05 * (high - low)
    return (low - room, high + room) if math.isfinite(low) and low < high else None


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
