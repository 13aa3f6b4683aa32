"""When each trial ran, and in which slot."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from sparktune.plots.style import BEST, LOOKS, Spec, empty, hover, joined, layout, time_unit
from sparktune.plots.table import Row, Table
from sparktune.study.trial import TrialState
from sparktune.study.words import in_words, n_of, n_trials

TITLE = "Timeline"
MERGE_ABOVE = 1500
"""With more trials, those of one state that follow each other in a slot are drawn as one bar ..."""
PIXELS = 1500
"""... where the gap between them is less than this part of the whole time, which is not visible."""


@dataclass(frozen=True)
class Bar:
    """A stretch of time in a slot, in which one trial ran, or several of one state one after another."""

    slot: int
    begin_s: float
    end_s: float
    rows: tuple[Row, ...]

    @property
    def state(self) -> TrialState:
        """Of its trials."""
        return self.rows[0].state


@dataclass(frozen=True)
class Schedule:
    """Trials in slots.

    Attributes:
        bars: one for each trial, in the order in which they began.
        n_slots: the most that were in use at the same time.
        utilisation: the share of the slots' time in which trials ran; 0 to 1.
        length_s: from the first beginning to the last end.
    """

    bars: Sequence[Bar]
    n_slots: int
    utilisation: float
    length_s: float


def schedule(table: Table) -> Schedule:
    """Slots for trials: each takes the lowest one that is free when it begins.

    Which slot Spark really used is not known; their number is the most that ran at the same time.
    """
    spans = []
    last_s = table.last_s or 0.0
    for row in table.rows:
        begin_s, end_s = row.started_s, row.ended_s
        if begin_s is None and end_s is not None and row.duration_s is not None:
            begin_s = end_s - row.duration_s
        if end_s is None and begin_s is not None and row.duration_s is not None:
            end_s = begin_s + row.duration_s
        if end_s is None and row.state is TrialState.RUNNING:
            end_s = last_s
        if begin_s is not None and end_s is not None and row.state is not TrialState.QUEUED:
            spans.append((begin_s, max(begin_s, end_s), row))
    spans.sort(key=lambda one: (one[0], one[2].number))
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    bars = []
    n_slots = 0
    for begin_s, end_s, row in spans:
        while busy and busy[0][0] <= begin_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            slot = heapq.heappop(free)
        else:
            slot, n_slots = n_slots, n_slots + 1
        heapq.heappush(busy, (end_s, slot))
        bars.append(Bar(slot, begin_s, end_s, (row,)))
    if not bars:
        return Schedule((), 0, 0.0, 0.0)
    length_s = max(bar.end_s for bar in bars) - bars[0].begin_s
    used_s = sum(bar.end_s - bar.begin_s for bar in bars)
    share = used_s / (length_s * n_slots) if length_s > 0 else 1.0
    return Schedule(bars, n_slots, min(1.0, share), length_s)


def merged(bars: Sequence[Bar], gap_s: float) -> list[Bar]:
    """Bars of one state that follow each other in a slot within ``gap_s`` seconds, as one."""
    open_bars: dict[int, Bar] = {}
    found = []
    for bar in bars:
        before = open_bars.get(bar.slot)
        if before is not None and before.state is bar.state and bar.begin_s - before.end_s <= gap_s:
            open_bars[bar.slot] = Bar(bar.slot, before.begin_s, bar.end_s, before.rows + bar.rows)
            continue
        if before is not None:
            found.append(before)
        open_bars[bar.slot] = bar
    return found + list(open_bars.values())


def draw(table: Table) -> Spec:
    """A bar for each trial, a row for each slot; the title shows how well the slots were used."""
    plan = schedule(table)
    if not plan.bars:
        return empty(TITLE, "no times of trials are known")
    began_s = plan.bars[0].begin_s
    bars: Sequence[Bar] = plan.bars
    note = ""
    if len(bars) > MERGE_ABOVE:
        bars = merged(bars, plan.length_s / PIXELS)
        if len(bars) < len(plan.bars):
            note = "trials of one state that follow each other without a visible gap are one bar"
    factor, unit = time_unit(plan.length_s)
    # A trial of length 0 must be visible too.
    least = plan.length_s / factor / 1000 or 1e-9
    data = []
    for state, look in LOOKS.items():
        of_state = [bar for bar in bars if bar.state is state]
        if not of_state:
            continue
        trace: Spec = {
            "type": "bar",
            "orientation": "h",
            "base": [(bar.begin_s - began_s) / factor for bar in of_state],
            "x": [max(least, (bar.end_s - bar.begin_s) / factor) for bar in of_state],
            "y": [bar.slot for bar in of_state],
            "hovertext": [_text(table, bar, began_s) for bar in of_state],
            "hovertemplate": "%{hovertext}<extra></extra>",
            "name": look.words,
            "width": 0.82,
            "marker": {
                "color": look.colour,
                "line": {"width": 0.6 if len(bars) <= 600 else 0, "color": "white"},
            },
        }
        if look.pattern and len(of_state) <= 500:
            trace["marker"]["pattern"] = {
                "shape": look.pattern,
                "size": 5,
                "solidity": 0.35,
                "fillmode": "overlay",
            } | {"fgcolor": "white"}
        data.append(trace)
    best = next((bar for bar in plan.bars if bar.rows[0] is table.best), None)
    if best is not None:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [((best.begin_s + best.end_s) / 2 - began_s) / factor],
                "y": [best.slot],
                "text": [_text(table, best, began_s)],
                "hovertemplate": "%{text}<extra></extra>",
                "name": "best trial",
                "marker": BEST | {"size": 13, "color": "white"},
            }
        )
    slots = n_of(plan.n_slots, "slot")
    title = f"{TITLE}: {slots}, {plan.utilisation:.0%} utilised"
    found = layout(
        title,
        joined(f"{n_trials(len(plan.bars))} in {in_words(plan.length_s)}", note),
        height=min(760, 190 + 26 * max(plan.n_slots, 3)),
        barmode="overlay",
    )
    found |= {
        "xaxis": {"title": {"text": f"time since the first trial began ({unit})"}},
        "yaxis": {
            "title": {"text": "slot"},
            "range": [plan.n_slots - 0.4, -0.6],
            "tickmode": "array",
            "tickvals": _ticks(plan.n_slots),
            "showgrid": False,
        },
    }
    return {"data": data, "layout": found}


def _ticks(n_slots: int) -> list[int]:
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if n_slots / step <= 24)
    return list(range(0, n_slots, every))


def _text(table: Table, bar: Bar, began_s: float) -> str:
    when = f"from {in_words(bar.begin_s - began_s)} to {in_words(bar.end_s - began_s)}"
    if len(bar.rows) == 1:
        return f"{hover(table, bar.rows[0])}<br>{when}"
    numbers, words = [row.number for row in bar.rows], LOOKS[bar.state].words
    return f"<b>{n_trials(len(numbers))}</b>, {min(numbers)} to {max(numbers)}<br>{words}<br>{when}"
