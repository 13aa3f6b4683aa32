"""A slice for each parameter: the value of every trial against that parameter alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparktune.plots.drawings.points import cartesian
from sparktune.plots.style import (
    BEST,
    LOOKS,
    MAX_POINTS,
    Spec,
    drawn_note,
    empty,
    hover,
    joined,
    label_of,
    layout,
)
from sparktune.plots.table import Row, Table, thinned
from sparktune.plots.values import ValueAxis

TITLE = "Value by parameter"
MAX_PANELS = 12
COLUMNS = 3


def draw(table: Table, labels: Sequence[str]) -> Spec:
    """A panel for each of ``labels``; the colour shows when in the study a trial was suggested."""
    if not table.axes:
        return empty(TITLE, "the trials have no parameters")
    if not table.with_loss:
        return empty(TITLE, "no trial has a loss yet")
    per_panel = max(200, MAX_POINTS * 2 // len(labels))
    n_columns = min(COLUMNS, len(labels))
    n_rows = math.ceil(len(labels) / n_columns)
    values = [value for row in table.with_loss if (value := table.value(row)) is not None]
    value_axis = ValueAxis.of(values, good_is_high=table.shows_metric)
    numbers = [row.number for row in table.with_loss]
    height = 110 + 260 * n_rows
    left_out = len(table.axes) - len(labels)
    note = f"{len(labels)} of {len(table.axes)} parameters: the most important" if left_out else ""
    thin = drawn_note(min(per_panel, len(table.with_loss)), len(table.with_loss), "trials a panel")
    found = layout(TITLE, joined(note, value_axis.outside, thin), height=height)
    found["coloraxis"] = {
        "colorscale": "Cividis",
        "reversescale": True,
        "cmin": min(numbers),
        "cmax": max(max(numbers), min(numbers) + 1),
        "colorbar": {
            "title": {"text": "trial number", "side": "right"},
            "thickness": 14,
            "len": min(1, 330 / height),
        },
    }
    found["legend"] |= {"orientation": "h", "x": 0, "y": 1 + 8 / height, "yanchor": "bottom"}
    found["margin"] |= {"t": found["margin"]["t"] + 30, "b": 16}
    data: list[Spec] = []
    in_legend: set[str] = set()
    width, tall = 1 / n_columns, 1 / n_rows
    for n, label in enumerate(labels):
        row, column = divmod(n, n_columns)
        key = "" if n == 0 else str(n + 1)
        axis = table.axes[label]
        top = 1 - row * tall
        left = column * width
        found[f"xaxis{key}"] = cartesian(axis) | {
            "domain": [left + 0.02 * (column > 0), left + width - 0.02],
            "anchor": f"y{key}",
            "title": {"text": f"<b>{label_of(label, 32)}</b>", "standoff": 4},
            "nticks": 6,
        }
        found[f"yaxis{key}"] = {
            "domain": [max(0.0, top - tall + min(0.45, 70 / height)), top],
            "anchor": f"x{key}",
            **value_axis.spec,
            "showticklabels": column == 0,
        }
        if n:
            found[f"yaxis{key}"]["matches"] = "y"
        if column == 0:
            found[f"yaxis{key}"]["title"] = {"text": label_of(table.value_name)}
        rows = [r for r in table.with_loss if label in r.params]
        drawn = thinned(rows, per_panel, [r for r in table.ranked if label in r.params])
        data += _panel(table, label, drawn, key, in_legend)
    return {"data": data, "layout": found}


def _panel(table: Table, label: str, rows: Sequence[Row], key: str, in_legend: set[str]) -> list[Spec]:
    data = []
    best = table.best
    for state, look in LOOKS.items():
        of_state = [row for row in rows if row.state is state and row is not best]
        if of_state:
            size = 7 if len(rows) <= 300 else 4
            marker: Spec = {"symbol": look.symbol, "size": size, "opacity": 0.85, "coloraxis": "coloraxis"}
            marker["color"] = [row.number for row in of_state]
            data.append(_trace(table, label, of_state, look.words, marker, key, in_legend))
    if best is not None and label in best.params:
        data.append(_trace(table, label, [best], "best trial", BEST, key, in_legend))
    return data


def _trace(
    table: Table, label: str, rows: Sequence[Row], name: str, marker: Spec, key: str, in_legend: set[str]
) -> Spec:
    is_new = name not in in_legend
    in_legend.add(name)
    axis = table.axes[label]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [axis.drawn(row.params[label], row.number) for row in rows],
        "y": [table.value(row) for row in rows],
        "text": [hover(table, row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "name": name,
        "legendgroup": name,
        "showlegend": is_new,
        "marker": marker,
        "xaxis": f"x{key}",
        "yaxis": f"y{key}",
    }
