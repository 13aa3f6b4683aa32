"""Parallel coordinates: a line for each trial over the axes of its parameters and its value.

Drawn as plain lines: plotly's parallel coordinates leave out trials that lack a parameter, have no hover
text, and cannot show the best one. The legend's entries, from the best trials to the worst, can be switched
off and on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparktune.plots.axes import Axis, power
from sparktune.plots.style import (
    BLACK,
    GREEN,
    GREY,
    Spec,
    drawn_note,
    empty,
    hover,
    joined,
    label_of,
    labels_of,
    layout,
    text_of,
)
from sparktune.plots.table import Row, Table, thinned
from sparktune.plots.values import ValueAxis

TITLE = "Parallel coordinates"
MAX_LINES = 600
BEST_LINES = 30
"""With more than ``MAX_LINES`` trials, so many of the best are drawn, and an even sample of the others."""
MAX_AXES = 14
INACTIVE = -0.12
"""Where lines pass below an axis whose parameter is not active."""
VALUE = "\0value"
"""The key of the last axis."""
GROUPS = (
    # Ends at this share of the ranks; colour (of Viridis, the dark end good), width, opacity.
    (0.1, "best 10 %", "#440154", 1.8, 0.85),
    (0.25, "next 15 %", "#31688E", 1.4, 0.6),
    (0.5, "next 25 %", "#35B779", 1.2, 0.5),
    (1.0, "worse half", "#B9AE3C", 1.0, 0.4),
)


def draw(table: Table, labels: Sequence[str]) -> Spec:
    """Lines over the axes of ``labels``, and of the value."""
    if not table.axes:
        return empty(TITLE, "the trials have no parameters")
    ranked = table.ranked
    if not ranked:
        return empty(TITLE, "no trial has a loss yet")
    values = [table.shown(row.loss) for row in ranked if row.loss is not None]
    value_axis = ValueAxis.of(values, good_is_high=table.shows_metric)
    axes: dict[str, Axis | ValueAxis] = {label: table.axes[label] for label in labels}
    axes[VALUE] = value_axis
    drawn = thinned(ranked, MAX_LINES, ranked[:BEST_LINES])
    thin = 1.0 if len(drawn) <= 150 else 0.6
    rank = {row.number: place for place, row in enumerate(ranked)}
    data = [_axis_lines(axes)]
    first = 1  # the best trial has its own line
    traces: list[Spec] = []
    for end, name, colour, width, opacity in GROUPS:
        last = max(first, round(end * len(ranked)))
        rows = [row for row in drawn if first <= rank[row.number] < last]
        if rows:
            group = _lines(table, axes, rows, name, colour, width * thin, opacity)
            traces.append(group)
        first = last
    traces.reverse()  # the best are drawn last, above the others
    data += traces
    without = [row for row in table.rows if row.state.is_final and not row.has_loss and row.params]
    failed = thinned(without, MAX_LINES // 4)
    if failed:
        data.append(_lines(table, axes, failed, "no loss", GREY, 1.0, 0.5) | {"visible": "legendonly"})
    best = ranked[0]
    data.append(_lines(table, axes, [best], f"best (trial {best.number})", GREEN, 4.0, 1.0))
    left_out = len(table.axes) - len(labels)
    note = f"{len(labels)} of {len(table.axes)} parameters: the most important" if left_out else ""
    beyond = f"{value_axis.n_hidden:,} worse values are drawn at the axis' end" if value_axis.n_hidden else ""
    few = f"{len(failed):,} of {len(without):,} without a loss drawn" if len(failed) < len(without) else ""
    hint = "click the legend to hide groups"
    subtitle = joined(hint, note, beyond, drawn_note(len(drawn), len(ranked)), few)
    return {"data": data, "layout": _layout(table, axes, subtitle, shows_inactive=_has_inactive(axes))}


def _has_inactive(axes: Mapping[str, Axis | ValueAxis]) -> bool:
    return any(isinstance(axis, Axis) and axis.is_conditional for axis in axes.values())


def _lines(
    table: Table,
    axes: Mapping[str, Axis | ValueAxis],
    rows: Sequence[Row],
    name: str,
    colour: str,
    width: float,
    opacity: float,
) -> Spec:
    """Several trials as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for row in rows:
        text = hover(table, row)
        for place, (label, axis) in enumerate(axes.items()):
            x.append(place)
            y.append(_height(table, row, label, axis))
            texts.append(text)
        x.append(None)
        y.append(None)
        texts.append("")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": y,
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "name": name,
        "opacity": opacity,
        "line": {"color": colour, "width": width},
        "marker": {"size": 8 if width > 3 else 3, "color": colour},
    }


def _height(table: Table, row: Row, label: str, axis: Axis | ValueAxis) -> float | None:
    if isinstance(axis, ValueAxis):
        value = table.value(row)
        return None if value is None else axis.share(value)
    share = axis.share(row.params[label]) if label in row.params else None
    return INACTIVE if share is None else share


def _axis_lines(axes: Mapping[str, Axis | ValueAxis]) -> Spec:
    x: list[int | None] = []
    y: list[float | None] = []
    for place in range(len(axes)):
        x += [place, place, None]
        y += [0.0, 1.0, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "hoverinfo": "skip",
        "showlegend": False,
        "line": {"color": BLACK, "width": 1},
    }


def _layout(
    table: Table, axes: Mapping[str, Axis | ValueAxis], subtitle: str, *, shows_inactive: bool
) -> Spec:
    notes: list[Spec] = []
    crowded = len(axes) > 8
    for place, (label, axis) in enumerate(axes.items()):
        full = table.value_name if label == VALUE else label
        name = label_of(full, 22)
        notes.append(
            {
                "x": place,
                "y": 1.03,
                "text": f"<b>{name}</b>",
                "showarrow": False,
                "xanchor": "left" if crowded else "center",
                "yanchor": "bottom",
                "textangle": -30 if crowded else 0,
                "hovertext": text_of(full),
            }
        )
        shares, texts = zip(*_ticks(axis), strict=True)
        for share, text in zip(shares, labels_of(texts, 12 if crowded else 16), strict=True):
            notes.append(
                {
                    "x": place,
                    "y": share,
                    "text": text,
                    "showarrow": False,
                    "xanchor": "left",
                    "xshift": 4,
                    "font": {"size": 11, "color": "#3E4C59"},
                    "bgcolor": "rgba(255,255,255,0.75)",
                    "borderpad": 0,
                }
            )
    if shows_inactive:
        grey = {"size": 11, "color": "#52606D"}
        notes.append(
            {
                "x": -0.1,
                "y": INACTIVE,
                "text": "not active",
                "showarrow": False,
                "xanchor": "right",
                "font": grey,
            }
        )
    hidden = {"showgrid": False, "showticklabels": False, "ticks": "", "fixedrange": True}
    found = layout(TITLE, subtitle, height=540 if crowded else 480, annotations=notes)
    found |= {
        "xaxis": hidden | {"range": [-0.15, len(axes) - 0.55]},
        "yaxis": hidden
        | {"range": [INACTIVE - 0.06 if shows_inactive else -0.06, 1.36 if crowded else 1.14]},
    }
    found["margin"] |= {"l": 80 if shows_inactive else 30, "b": 20}
    found["legend"] |= {"traceorder": "reversed"}
    return found


def _ticks(axis: Axis | ValueAxis) -> list[tuple[float, str]]:
    if isinstance(axis, Axis):
        return axis.ticks()
    return [(axis.share(power(at) if axis.is_log else at), text) for at, text in axis.ticks()]
