"""The any-time curve of one study: every trial's value, and the best so far, by trials and by wall-clock."""

from __future__ import annotations

from sparktune.plots.style import (
    BEST,
    BLACK,
    LOOKS,
    MAX_POINTS,
    Spec,
    drawn_note,
    empty,
    hover,
    joined,
    label_of,
    layout,
    number,
    scatter,
    shortened,
    time_unit,
)
from sparktune.plots.table import Row, Table, thinned
from sparktune.plots.values import ValueAxis
from sparktune.study.trial import TrialState

TITLE = "Best value so far"


def draw(table: Table) -> Spec:
    """Two panels: over the number of trials that have ended, and over time where times are known."""
    rows = table.by_end
    if not rows:
        return empty(TITLE, "no trial has ended yet")
    places = {row.number: place for place, row in enumerate(rows, 1)}
    began_s = table.began_s
    seconds: dict[int, float] = {}
    if began_s is not None and all(row.ended_s is not None for row in rows):
        seconds = {row.number: (row.ended_s or 0.0) - began_s for row in rows}
    factor, unit = time_unit(max(seconds.values(), default=0.0))
    elapsed = {n: at / factor for n, at in seconds.items()}
    values = [value for row in rows if (value := table.value(row)) is not None]
    axis = ValueAxis.of(values, good_is_high=table.shows_metric)
    drawn = thinned(rows, MAX_POINTS, table.ranked)
    data = []
    panels = [("x", "y", places)] + ([("x2", "y2", elapsed)] if seconds else [])
    for n, (x_axis, y_axis, at) in enumerate(panels):
        data += _markers(table, drawn, at, axis, x_axis, y_axis, is_first=n == 0)
        data += _best_so_far(table, rows, at, x_axis, y_axis, is_first=n == 0)
    best, name = table.best, shortened(table.value_name)
    found = "" if best is None else f"best {name}: {number(table.value(best))} (trial {best.number})"
    n_others = sum(row.state.is_final for row in table.rows) - len(rows)
    others = f"{n_others:,} that never ran are left out" if n_others else ""
    figure_layout = layout(TITLE, joined(found, axis.outside, drawn_note(len(drawn), len(rows)), others))
    wide = 0.475 if seconds else 1.0
    figure_layout |= {
        "xaxis": {"domain": [0, wide], "title": {"text": "trials ended"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": label_of(table.value_name)}, **axis.spec},
    }
    if len(rows) <= 10:
        figure_layout["xaxis"]["dtick"] = 1
    if seconds:
        figure_layout |= {
            "xaxis2": {
                "domain": [0.525, 1],
                "anchor": "y2",
                "title": {"text": f"time since the first trial began ({unit})"},
                "rangemode": "tozero",
            },
            "yaxis2": {**axis.spec, "anchor": "x2", "matches": "y", "showticklabels": False},
        }
    return {"data": data, "layout": figure_layout}


def _markers(
    table: Table,
    rows: list[Row],
    at: dict[int, float] | dict[int, int],
    axis: ValueAxis,
    x_axis: str,
    y_axis: str,
    *,
    is_first: bool,
) -> list[Spec]:
    """A trace for each state; trials without a value are at the bad end of the axis."""
    data = []
    for state, look in LOOKS.items():
        of_state = [row for row in rows if row.state is state and row is not table.best]
        if not of_state:
            continue
        points = [(at[row.number], axis.edge if (v := table.value(row)) is None else v) for row in of_state]
        marker = {"size": 8 if len(rows) <= 400 else 5, "opacity": 0.7 if len(rows) <= 400 else 0.6}
        data.append(
            scatter(
                points,
                [hover(table, row) for row in of_state],
                look,
                xaxis=x_axis,
                yaxis=y_axis,
                legendgroup=str(state),
                showlegend=is_first,
                marker=marker,
            )
        )
    best = table.best
    if best is not None:
        data.append(
            scatter(
                [(at[best.number], table.value(best))],
                [hover(table, best)],
                LOOKS[best.state],
                xaxis=x_axis,
                yaxis=y_axis,
                legendgroup="best",
                showlegend=is_first,
                marker=BEST | {"opacity": 1},
            )
            | {"name": "best trial"}
        )
    return data


def _best_so_far(
    table: Table,
    rows: list[Row],
    at: dict[int, float] | dict[int, int],
    x_axis: str,
    y_axis: str,
    *,
    is_first: bool,
) -> list[Spec]:
    """The line; it has a point only where it falls, and at its end."""
    completed = [row for row in rows if row.has_loss and row.state is TrialState.COMPLETED]
    x: list[float] = []
    y: list[float] = []
    texts: list[str] = []
    best = float("inf")
    for row in completed or [row for row in rows if row.has_loss]:
        if row.loss is not None and row.loss < best:
            best = row.loss
            x.append(at[row.number])
            y.append(table.shown(best))
            texts.append(f"after trial {row.number}: {number(table.shown(best))}")
    if not x:
        return []
    x.append(at[rows[-1].number])
    y.append(y[-1])
    texts.append(f"at the end: {number(y[-1])}")
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "text": texts,
        "hovertemplate": "%{text}<extra>best so far</extra>",
        "name": "best so far",
        "legendgroup": "best so far",
        "showlegend": is_first,
        "line": {"shape": "hv", "color": BLACK, "width": 2.5},
        "xaxis": x_axis,
        "yaxis": y_axis,
    }
    return [line]
