"""The report of a study: all pictures and the table of trials in one HTML file that needs no network.

plotly.js and the data are compressed (gzip, base64), which browsers undo since 2023: 2 MB instead of 5. A
picture is drawn when it comes into view, so that a report of 5,000 trials opens immediately.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import gzip
import html
import importlib.resources
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparktune.errors import PlotlyNotAvailable
from sparktune.plots import figures
from sparktune.plots.drawings import bars, history, learning, parallel, slices, timeline
from sparktune.plots.sources import Source, table_of
from sparktune.plots.style import LOOKS, NO_PLOTLY, Spec, number
from sparktune.plots.table import Row, Table
from sparktune.study.columns import parameter_columns
from sparktune.study.trial import TrialState, format_value
from sparktune.study.words import in_words

LEVEL = 6
CELL_CHARS = 200
# plotly.js of 2026 has a button that sends the picture to a server of its makers.
REMOVED = ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d"]
CONFIG = {
    "responsive": True,
    "modeBarButtonsToRemove": REMOVED,
    "displaylogo": False,
    "toImageButtonOptions": {"scale": 2},
}


class Picture(NamedTuple):
    """A picture of the report: its anchor, its title in the menu, how to read it, its drawing function."""

    name: str
    title: str
    reading: str
    draw: Callable[[Table], Spec]


PICTURES = (
    Picture(
        "history",
        "Best value",
        "Each marker is a trial, at the edge one without a value; the line is the best until then.",
        history.draw,
    ),
    Picture(
        "importance",
        "Importance",
        "Parameters with long bars decide between good and bad; spend the next trials on them.",
        bars.draw,
    ),
    Picture(
        "parallel",
        "Parallel coordinates",
        "Each line is a trial. Where the dark lines meet on an axis, good values lie.",
        lambda table: parallel.draw(table, figures.ordered(table, parallel.MAX_AXES)),
    ),
    Picture(
        "slices",
        "By parameter",
        "Dark markers are late trials: where they gather, the search has found good values.",
        lambda table: slices.draw(table, table.most_important(slices.MAX_PANELS)),
    ),
    Picture(
        "scatter",
        "Two parameters",
        "The most important two that the best trial has.",
        lambda table: figures.joint_points(table, None, None),
    ),
    Picture(
        "scatter3d",
        "Three parameters",
        "Drag to turn, scroll to come closer. Needs WebGL.",
        lambda table: figures.joint_points(table, None, None, None),
    ),
    Picture(
        "learning",
        "Learning curves",
        "What trials reported while they ran; triangles mark where a policy ended one.",
        learning.draw,
    ),
    Picture(
        "timeline", "Timeline", "When trials ran. White stretches are slots without work.", timeline.draw
    ),
)


def report(source: Source, path: str | os.PathLike[str] | None = None, *, name: str = "") -> str:
    """A report of a study: summary, pictures and the table of all trials, in one HTML file.

    The file needs neither a network nor a server.

    Args:
        source: see ``figures``.
        path: where to write it; a missing folder is created. None: not written.
        name: of the study, for the heading.

    Returns:
        The HTML.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
        StudyNotFound: MLflow does not have the run, or does not answer.
        TypeError: the source does not hold trials.
        ValueError: a data frame lacks a column.
        OSError: the file cannot be written.
    """
    compressed_plotly()
    text = page(table_of(source), name)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, "utf-8", "replace")
    return text


@functools.cache
def compressed_plotly() -> str:
    """plotly.js as it is in a page; made once in a process.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise PlotlyNotAvailable(NO_PLOTLY) from error
    return _compressed(get_plotlyjs())


def self_contained(spec: Spec, title: str) -> str:
    """A page of one picture.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
    """
    pictures = [{"name": "picture", "title": title, "reading": "", "figure": spec}]
    return _filled(title, "", "", {"pictures": pictures, "table": None})


def page(table: Table, name: str = "") -> str:
    """The report of a table of trials.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
    """
    pictures = [
        {"name": p.name, "title": p.title, "reading": p.reading, "figure": p.draw(table)} for p in PICTURES
    ]
    title = name or table.name or "Study"
    payload = {"pictures": pictures, "table": _trials(table)}
    menu = "".join(f'<a href="#{p.name}">{html.escape(p.title)}</a>' for p in PICTURES)
    return _filled(title, _head(table), menu + '<a href="#trials">Trials</a>', payload)


def _filled(title: str, head: str, menu: str, payload: dict[str, Any]) -> str:
    text = _asset("report.html")
    for key, value in (
        ("TITLE", html.escape(title)),
        ("STYLE", _asset("report.css")),
        ("HEAD", head),
        ("MENU", menu),
        ("CONFIG", json.dumps(CONFIG)),
        ("SCRIPT", _asset("report.js")),
        ("DATA", _compressed(to_json(payload))),
        ("PLOTLY", compressed_plotly()),
    ):
        text = text.replace(f"<!--{key}-->", value)
    return text


def to_json(value: Any) -> str:
    """JSON as browsers read it: without NaN and infinities."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _compressed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), LEVEL, mtime=0)).decode("ascii")


@functools.cache
def _asset(name: str) -> str:
    return importlib.resources.files("sparktune.plots").joinpath("assets", name).read_text("utf-8")


# -- the head -----------------------------------------------------------------------------------------------


def _head(table: Table) -> str:
    best = table.best
    cards = [("trials", f"{len(table.rows):,}")]
    if best is not None:
        cards.insert(0, (f"best {table.value_name}", number(table.value(best))))
        if best.metric is not None:
            cards.insert(0, (f"its {table.metric}", number(best.metric)))
    cards += [(LOOKS[state].words, f"{count:,}") for state, count in table.counts.items()]
    plan = timeline.schedule(table)
    if plan.bars:
        cards += [
            ("wall-clock", in_words(plan.length_s)),
            ("slots", f"{plan.n_slots:,}"),
            ("utilised", f"{plan.utilisation:.0%}"),
        ]
    shown = "".join(f"<div><b>{_html(value)}</b><span>{_html(name)}</span></div>" for name, value in cards)
    facts = [
        ("algorithm", table.algo),
        ("goal", f"{table.goal} {table.metric}"),
        ("MLflow run", table.run_id),
    ]
    facts += [("began", _time(table.began_s)), ("ended", None if table.is_running else _time(table.last_s))]
    facts += [("stopped because", table.stop_reason), ("report made", _time(dt.datetime.now().timestamp()))]
    lines = "".join(f"<tr><th>{name}</th><td>{_html(value)}</td></tr>" for name, value in facts if value)
    running = (
        '<p class="running">The study was running when this report was made.</p>' if table.is_running else ""
    )
    details = f"{_best(table)}<table>{lines}</table>"
    return f'{running}<div class="cards">{shown}</div><div class="facts">{details}</div>'


def _best(table: Table) -> str:
    best = table.best
    if best is None:
        errors = [row.error for row in table.rows if row.error]
        cause = max(set(errors), key=errors.count) if errors else ""
        why = (
            f" The commonest cause ({errors.count(cause)} of {len(table.rows)}): <code>{_html(cause)}</code>"
            if cause
            else ""
        )
        return f"<p>No trial has a loss.{why}</p>"
    of = "" if best.state is TrialState.COMPLETED else f" ({LOOKS[best.state].words})"
    lines = "".join(
        f"<tr><th>{_html(label)}</th><td>{_html(_shown(value))}</td></tr>"
        for label, value in best.params.items()
    )
    none = "" if lines else "<tr><td>no parameters</td></tr>"
    return f"<table><caption>Best parameters: trial {best.number}{of}</caption>{lines}{none}</table>"


def _time(unix_s: float | None) -> str | None:
    # A simulated clock begins at 0.
    if unix_s is None or unix_s < 1e8:
        return None
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _html(value: Any) -> str:
    return html.escape(str(value))


def _shown(value: Any) -> str:
    """A parameter's value, exact where it is a number."""
    if isinstance(value, float):
        return repr(value)
    try:
        text = str(value)
    except Exception:  # raised by the user's class
        text = type(value).__name__
    return text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…"


# -- the table ----------------------------------------------------------------------------------------------


def _trials(table: Table) -> dict[str, Any]:
    """The table of trials: columns, and rows of plain values."""
    labels = list(table.axes)
    has_reports = any(row.reports for row in table.rows)
    values = [table.value_name, *([table.metric] if table.has_metric else [])]
    columns = ["trial", "state", *values, "seconds", *(["reports"] if has_reports else [])]
    has_notes = any(row.error or row.stop_reason for row in table.rows)
    notes = ["note"] if has_notes else []
    columns += [*parameter_columns(labels, [*columns, *notes]).values(), *notes]
    rows = [_cells(table, row, labels, has_reports=has_reports, has_notes=has_notes) for row in table.rows]
    best = table.best
    return {"columns": columns, "rows": rows, "best": None if best is None else best.number}


def _cells(table: Table, row: Row, labels: Sequence[str], *, has_reports: bool, has_notes: bool) -> list[Any]:
    loss = None if row.loss is None else _cell(table.shown(row.loss))
    seconds = None if row.duration_s is None else float(f"{row.duration_s:.4g}")
    metric = [_cell(row.metric)] if table.has_metric else []
    cells: list[Any] = [row.number, LOOKS[row.state].words, loss, *metric, seconds]
    cells += [len(row.reports)] if has_reports else []
    cells += [_cell(row.params.get(label)) for label in labels]
    note = row.error or row.stop_reason
    cells += [None if note is None else note[:CELL_CHARS]] if has_notes else []
    return cells


def _cell(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool | str):
        return str(value)[:CELL_CHARS]
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0 and hasattr(value, "item"):
        item = value.item()
        return _cell(item) if isinstance(item, bool | str | int | float) else format_value(item)
    return _shown(value)
