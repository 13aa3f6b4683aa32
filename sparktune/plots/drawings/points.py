"""Trials as points in two or three parameters, coloured by their value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparktune.plots.axes import MAX_CATEGORY_TICKS, SHORTEST, Axis, log_ticks, power, short
from sparktune.plots.style import (
    BEST,
    GREEN,
    LOOKS,
    MAX_POINTS,
    SCALE,
    Spec,
    drawn_note,
    empty,
    hover,
    joined,
    label_of,
    labels_of,
    layout,
    shortened,
)
from sparktune.plots.table import Row, Table, thinned
from sparktune.plots.values import ValueAxis

TITLE = "Parameters against each other"


def draw(table: Table, labels: Sequence[str]) -> Spec:
    """Two or three parameters.

    Args:
        table: the study.
        labels: of two or three of its parameters.
    """
    axes = [table.axes[label] for label in labels]
    active = [row for row in table.rows if all(label in row.params for label in labels)]
    if not active:
        return empty(TITLE, f"no trial has {', '.join(map(repr, labels))} together")
    drawn = thinned(active, MAX_POINTS, table.ranked)
    is_solid = len(axes) == 3
    data: list[Spec] = []
    with_value = [row for row in drawn if row.has_loss]
    values = [value for row in with_value if (value := table.value(row)) is not None]
    value_axis = ValueAxis.of(values, good_is_high=table.shows_metric)
    for state, look in LOOKS.items():
        for rows, is_coloured in (
            ([r for r in drawn if r.state is state and r.has_loss and r is not table.best], True),
            ([r for r in drawn if r.state is state and not r.has_loss], False),
        ):
            if not rows:
                continue
            size = 5 if is_solid else 9 if len(drawn) <= 400 else 6
            marker: Spec = {"symbol": _symbol(look.symbol, is_solid=is_solid), "size": size}
            if is_coloured:
                marker |= {
                    "color": [value_axis.coordinate(table.value(row) or 0.0) for row in rows],
                    "coloraxis": "coloraxis",
                    "opacity": 0.9,
                }
            else:
                marker |= {"color": look.colour, "opacity": 0.6}
            data.append(_trace(table, axes, rows, look.words, marker))
    best = table.best
    if best is not None and best in drawn:
        if is_solid:
            # 3-D plots have no star.
            marker = {
                "symbol": "diamond",
                "size": 9,
                "color": GREEN,
                "line": {"width": 2, "color": "#1F2933"},
            }
        else:
            marker = dict(BEST)
        data.append(_trace(table, axes, [best], "best trial", marker))
    names = " and ".join(shortened(label) for label in labels)
    note = f"colours end before {value_axis.n_hidden:,} worse values" if value_axis.n_hidden else ""
    missing = len(table.rows) - len(active)
    others = f"{missing:,} trials do not have them all" if missing else ""
    subtitle = joined(others, note, drawn_note(len(drawn), len(active)))
    figure_layout = layout(
        names, subtitle, height=620 if is_solid else 480, coloraxis=colour_scale(table, value_axis)
    )
    # Above the picture: colours have the place beside it.
    figure_layout["legend"] |= {"x": 0, "y": 1.01, "orientation": "h", "yanchor": "bottom"}
    figure_layout["margin"]["t"] += 34
    if is_solid:
        figure_layout["margin"] |= {"l": 10, "r": 10, "b": 10}
        figure_layout["scene"] = {
            **{f"{name}axis": _axis(axis) for name, axis in zip("xyz", axes, strict=True)},
            "camera": {"eye": {"x": 1.35, "y": 1.35, "z": 0.75}, "center": {"x": 0, "y": 0, "z": -0.12}},
        }
    else:
        figure_layout |= {"xaxis": _axis(axes[0]), "yaxis": _axis(axes[1])}
    return {"data": data, "layout": figure_layout}


def colour_scale(table: Table, axis: ValueAxis) -> Spec:
    """Colours of values, the dark end good."""
    low, high = sorted((axis.best, axis.worst))
    ticks = axis.ticks()
    bar = {"title": {"text": label_of(table.value_name, 16), "side": "right"}, "thickness": 14, "len": 0.9}
    marks = {
        "tickmode": "array",
        "tickvals": [at for at, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }
    scale = {"colorscale": SCALE, "reversescale": table.shows_metric, "colorbar": bar | marks}
    # All values are equal: colours would show nothing.
    return scale | (
        {"cmin": low, "cmax": high} if high > low else {"cmin": low - 1, "cmax": low, "showscale": False}
    )


def _trace(table: Table, axes: Sequence[Axis], rows: Sequence[Row], name: str, marker: Spec) -> Spec:
    trace: Spec = {
        "type": "scatter3d" if len(axes) == 3 else "scatter",
        "mode": "markers",
        "text": [hover(table, row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "name": name,
        "marker": marker,
    }
    for turn, (letter, axis) in enumerate(zip("xyz", axes, strict=False)):
        trace[letter] = [axis.drawn(row.params[axis.label], row.number, turn) for row in rows]
    return trace


def _axis(axis: Axis) -> Spec:
    return cartesian(axis) | {"title": {"text": label_of(axis.label)}}


def cartesian(axis: Axis) -> Spec:
    """A parameter's axis as plotly takes it."""
    if axis.kind == "category":
        n = len(axis.categories)
        every = max(1, math.ceil(n / MAX_CATEGORY_TICKS))
        places = list(range(0, n, every))
        names = labels_of([axis.categories[place] for place in places], 18)
        return {"tickmode": "array", "tickvals": places, "ticktext": names, "range": [-0.6, n - 0.4]}
    if axis.kind == "log" and axis.high > axis.low:
        exponents = log_ticks(*axis.bounds)
        return {
            "type": "log",
            "tickmode": "array",
            "tickvals": [power(at) for at in exponents],
            "ticktext": [short(power(at)) for at in exponents],
        }
    if 0 < axis.high - axis.low < SHORTEST:
        return {"type": "linear", "range": [axis.low - 1, axis.high + 1]}
    return {"type": "linear"}


def _symbol(symbol: str, *, is_solid: bool) -> str:
    """3-D plots have fewer symbols."""
    if not is_solid:
        return symbol
    # Its "x" is a character that many fonts lack.
    known = {"triangle-down": "diamond-open", "x": "cross", "diamond": "square-open"}
    return known.get(symbol, symbol)
