"""Any-time curves of several searchers: mean and deviation over repetitions, as in "Dive into Deep Learning".

https://d2l.ai/chapter_hyperparameter-optimization/ plots the best error so far over wall-clock time, averaged
over repetitions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparktune.plots.sources import Source, table_of
from sparktune.plots.statistics import by_time, by_trials, curve
from sparktune.plots.style import (
    COLOURS,
    DASHES,
    Spec,
    empty,
    figure,
    joined,
    label_of,
    layout,
    number,
    time_unit,
)
from sparktune.plots.table import Table
from sparktune.study.trial import TrialState

if TYPE_CHECKING:
    import pandas as pd

TITLE = "Best value so far"


def any_time(by_trials: pd.DataFrame, by_time: pd.DataFrame) -> Any:
    """Any-time curves of several algorithms: the mean, and a band of a standard deviation either side.

    Args:
        by_trials: columns ``algo``, ``trial``, ``mean``, ``std``, and ``n`` (repetitions) where it is known.
        by_time: columns ``algo``, ``time_s``, ``mean``, ``std``, ``n``.

    Returns:
        A ``plotly.graph_objects.Figure`` with two panels.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
    """
    return figure(draw(by_trials, by_time))


def several(sources: Mapping[str, Source | Sequence[Source]]) -> Spec:
    """Any-time curves of searchers by name, each with one study or several repetitions.

    Raises:
        ValueError: there is none, or one of them wants to maximize and another to minimize.
    """
    import pandas as pd

    tables = {
        name: [table_of(each) for each in (given if isinstance(given, list | tuple) else [given])]
        for name, given in sources.items()
    }
    every = [table for repetitions in tables.values() for table in repetitions]
    if not every or not all(tables.values()):
        raise ValueError("there is nothing to compare: give name -> trials, or name -> list of repetitions")
    shown = {(table.value_name, table.shows_metric) for table in every}
    if len(shown) > 1:
        names = ", ".join(sorted(f"{name} ({'max' if is_max else 'min'})" for name, is_max in shown))
        raise ValueError(f"studies of different metrics cannot be compared: {names}")
    parts = [
        _curve(name, repeat, table)
        for name, repetitions in tables.items()
        for repeat, table in enumerate(repetitions)
        if table.by_end
    ]
    if not parts:
        return empty(TITLE, "no trial has ended yet")
    curves = pd.concat(parts, ignore_index=True)
    has_times = bool(curves["time_s"].notna().all())
    return draw(by_trials(curves), by_time(curves) if has_times else None, every[0])


def _curve(name: str, repeat: int, table: Table) -> pd.DataFrame:
    """The losses of one study in the order in which its trials ended; only completed ones count."""
    rows, began_s = table.by_end, table.began_s
    times = [math.nan if row.ended_s is None or began_s is None else row.ended_s - began_s for row in rows]
    losses = [
        row.loss if row.loss is not None and row.state is TrialState.COMPLETED else math.nan for row in rows
    ]
    return curve(name, repeat, times, losses)


def draw(over_trials: pd.DataFrame, over_time: pd.DataFrame | None, table: Table | None = None) -> Spec:
    """The picture of such curves; ``table`` describes the values."""
    table = table or Table(())
    panels: list[tuple[pd.DataFrame, str, str, float]] = [(over_trials, "trial", "trials ended", 1.0)]
    if over_time is not None:
        longest_s = over_time["time_s"].max() if len(over_time) else 0.0
        factor, unit = time_unit(float(longest_s) if math.isfinite(longest_s) else 0.0)
        panels.append((over_time, "time_s", f"time ({unit})", factor))
    most = int(over_trials["n"].max()) if "n" in over_trials and len(over_trials) else 0
    data: list[Spec] = []
    for panel, (statistics, column, _, factor) in enumerate(panels):
        for place, (name, rows) in enumerate(statistics.groupby("algo", sort=False)):
            data += _traces(str(name), place, rows, column, factor, table, is_first=panel == 0)
    band = "mean, and a band of one standard deviation either side" if most != 1 else ""
    repetitions = f"{most} repetitions" if most > 1 else ""
    found = layout(TITLE, joined(repetitions, band), hovermode="x unified")
    wide = 0.475 if len(panels) > 1 else 1.0
    found["xaxis"] = {"domain": [0, wide], "title": {"text": panels[0][2]}}
    found["yaxis"] = {"title": {"text": label_of(table.value_name) if table.rows else "best loss so far"}}
    limits = _range(over_trials)
    if limits is not None:
        found["yaxis"]["range"] = sorted(table.shown(limit) for limit in limits)
    if len(panels) > 1:
        found["xaxis2"] = {"domain": [0.525, 1], "anchor": "y2", "title": {"text": panels[1][2]}}
        found["yaxis2"] = {"anchor": "x2", "matches": "y", "showticklabels": False}
    return {"data": data, "layout": found}


def _traces(
    name: str, place: int, rows: pd.DataFrame, column: str, factor: float, table: Table, *, is_first: bool
) -> list[Spec]:
    colour = COLOURS[place % len(COLOURS)]
    known = rows[rows["mean"].notna()]
    x = (known[column] / factor).tolist()
    mean, std = known["mean"], known["std"].fillna(0.0)
    axes = {"xaxis": "x", "yaxis": "y"} if is_first else {"xaxis": "x2", "yaxis": "y2"}
    # Each value holds from its point on, until the next.
    common: Spec = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "legendgroup": name,
        "name": label_of(name, 40),
        **axes,
    }
    traces: list[Spec] = []
    if (std > 0).any():
        for edge, fill in ((mean + std, "none"), (mean - std, "tonexty")):
            finite = edge.clip(-sys.float_info.max, sys.float_info.max)
            band = {"y": [table.shown(y) for y in finite], "fill": fill, "fillcolor": _transparent(colour)}
            still = {"hoverinfo": "skip", "showlegend": False, "line": {"shape": "hv", "width": 0}}
            traces.append(common | band | still)
    # Colour and dash differ.
    line = {"shape": "hv", "color": colour, "width": 2.5, "dash": DASHES[place % len(DASHES)]}
    texts = [
        f"{number(table.shown(m))} ± {number(s)}" if s else number(table.shown(m))
        for m, s in zip(mean, std, strict=True)
    ]
    shown = {"y": [table.shown(y) for y in mean], "text": texts, "hovertemplate": "%{text}", "line": line}
    return [*traces, common | shown | {"showlegend": is_first}]


def _range(data: pd.DataFrame) -> tuple[float, float] | None:
    """From the lowest band to the highest mean: the first trials' bands would flatten the rest."""
    low = float((data["mean"] - data["std"].fillna(0.0)).min())
    high = float(data["mean"].max())
    room = 0.05 * (high - low)
    ends = (low - room, high + room)
    return ends if low < high and all(map(math.isfinite, ends)) else None


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
