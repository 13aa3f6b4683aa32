"""Learning curves: the primary metric as each trial reported it while it ran."""

from __future__ import annotations

import math

from sparktune.plots.style import (
    BEST,
    GREEN,
    LOOKS,
    Spec,
    drawn_note,
    empty,
    hover,
    joined,
    label_of,
    layout,
    number,
)
from sparktune.plots.table import Row, Table, thinned
from sparktune.plots.values import ValueAxis
from sparktune.study.trial import TrialState
from sparktune.study.words import n_trials

TITLE = "Learning curves"
MAX_CURVES = 200
MAX_VALUES = 40_000
"""Values drawn of all curves together; longer ones are thinned."""


def draw(table: Table) -> Spec:
    """A line for each trial that reported, by state; how it ended is marked where it ended."""
    reporting = [row for row in table.rows if any(math.isfinite(value) for value in row.reports)]
    if not reporting:
        why = "no trial reported its metric while it ran: call sparktune.report(value) in the objective"
        return empty(TITLE, why)
    drawn = thinned(reporting, MAX_CURVES, table.ranked)
    every = max(1, math.ceil(sum(len(row.reports) for row in drawn) / MAX_VALUES))
    data: list[Spec] = []
    faint = 0.75 if len(drawn) <= 20 else 0.45 if len(drawn) <= 80 else 0.22
    width = 1.5 if len(drawn) <= 80 else 0.8
    for state, look in LOOKS.items():
        of_state = [row for row in drawn if row.state is state and row is not table.best]
        if of_state:
            data.append(_lines(of_state, every, look.words, look.colour, faint, str(state), width))
            data.append(_ends(table, of_state, state))
    best = table.best
    if best is not None and best in drawn:
        data.append(_lines([best], 1, "best trial", GREEN, 1.0, "best", 3.5))
        ends = _ends(table, [best], best.state)
        data.append(ends | {"marker": BEST, "legendgroup": "best", "name": "best trial"})
    good_is_high = table.goal == "maximize"
    values = [value for row in drawn for value in row.reports if math.isfinite(value)]
    axis = ValueAxis.of(values, good_is_high=good_is_high)
    n_stopped = table.counts.get(TrialState.EARLY_TERMINATED, 0)
    total = len(reporting) + table.reports_left_out
    what = (
        f"{n_stopped:,} of {len(table.rows):,} trials were terminated early"
        if n_stopped
        else f"{n_trials(total)} reported"
    )
    thin = f"one in {every} values of each" if every > 1 else ""
    subtitle = joined(what, drawn_note(len(drawn), total, "curves"), axis.outside, thin)
    x_axis: Spec = {"title": {"text": "report (1, 2, …)"}, "rangemode": "tozero"}
    if max(len(row.reports) for row in drawn) <= 12:
        x_axis["dtick"] = 1
    y_axis: Spec = {"title": {"text": label_of(table.metric)}, **axis.spec}
    return {"data": data, "layout": layout(TITLE, subtitle, xaxis=x_axis, yaxis=y_axis)}


def _lines(
    rows: list[Row], every: int, name: str, colour: str, opacity: float, group: str, width: float
) -> Spec:
    """The curves of several trials as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for row in rows:
        n = len(row.reports)
        for step, value in enumerate(row.reports, 1):
            if step % every and step not in (1, n):
                continue
            x.append(step)
            y.append(value if math.isfinite(value) else None)
            texts.append(f"trial {row.number}: {number(value)}")
        x.append(None)
        y.append(None)
        texts.append("")
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "name": name,
        "legendgroup": group,
        "showlegend": False,
        "opacity": opacity,
        "line": {"color": colour, "width": width},
    }


def _ends(table: Table, rows: list[Row], state: TrialState) -> Spec:
    """A marker where each curve ends."""
    look = LOOKS[state]
    last = [(len(row.reports), next(v for v in reversed(row.reports) if math.isfinite(v))) for row in rows]
    is_plain = state is TrialState.COMPLETED
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [step for step, _ in last],
        "y": [value for _, value in last],
        "text": [hover(table, row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "name": look.words,
        "legendgroup": str(state),
        "marker": {"symbol": look.symbol, "color": look.colour, "size": 5 if is_plain else 9},
    }
