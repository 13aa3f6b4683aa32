"""What all pictures share: colours, markers, layout, hover text, and the conversion to plotly.

Figures are described as plain dicts, in the form of plotly.js, and become ``Figure`` objects at the end:
reports need only the dicts. Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people
with any of the common kinds of colour blindness can distinguish; each state also has its own marker.
"""

from __future__ import annotations

import html
import os.path
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sparktune.errors import PlotlyNotAvailable
from sparktune.plots.axes import value_text
from sparktune.study.trial import TrialState
from sparktune.study.words import WORDS, in_words

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sparktune.plots.table import Row, Table

NO_PLOTLY = (
    "pictures are drawn with plotly, which is not installed in this environment. Install it with: "
    "pip install 'sparktune[plots]'"
)
Spec = dict[str, Any]
"""A figure as plotly.js takes it: ``data`` and ``layout``."""

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#8A8A8A", "#1F2933"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SCALE = "Viridis"
"""Colours of numbers; perceptually uniform, and readable with every kind of colour blindness."""
MAX_POINTS = 2000
"""The most points of a picture: more would cover each other, and take seconds to draw."""
HOVER_PARAMS = 12
HOVER_CHARS = 80
LABEL_CHARS = 24


class Look(NamedTuple):
    """How a state is drawn: its text, colour, marker, and the pattern of its bars."""

    words: str
    colour: str
    symbol: str
    pattern: str


LOOKS = {
    state: Look(WORDS.get(state, state.value), *look)
    for state, look in {
        TrialState.COMPLETED: (BLUE, "circle", ""),
        TrialState.EARLY_TERMINATED: (ORANGE, "triangle-down", "/"),
        TrialState.FAILED: (VERMILION, "x", "x"),
        TrialState.TIMED_OUT: (PURPLE, "square", "-"),
        TrialState.CANCELLED: (GREY, "diamond", "."),
        TrialState.RUNNING: (SKY, "circle-open", "|"),
        TrialState.QUEUED: (BLACK, "diamond-open", "+"),
    }.items()
}
BEST = {"symbol": "star", "size": 16, "color": GREEN, "line": {"width": 1.5, "color": BLACK}}
"""The marker of the best trial, wherever there is one."""

_AXIS = {
    "gridcolor": "#E4E8ED",
    "linecolor": "#AAB4C0",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#AAB4C0",
    "automargin": True,
    "title": {"standoff": 12},
}
TEMPLATE = {
    "layout": {
        "font": {
            "family": "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
            "size": 13,
            "color": BLACK,
        },
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": list(COLOURS),
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"align": "left", "bgcolor": "white", "bordercolor": "#AAB4C0", "font": {"size": 12}},
        "hovermode": "closest",
    }
}


def figure(spec: Spec) -> go.Figure:
    """The figure of a description.

    Raises:
        PlotlyNotAvailable: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise PlotlyNotAvailable(NO_PLOTLY) from error
    return go.Figure(spec)


def layout(title: str, subtitle: str = "", *, height: int = 460, **more: Any) -> Spec:
    """A layout with the title at the left, and the legend at the right; both texts are escaped here."""
    text: Spec = {
        "text": f"<b>{text_of(title)}</b>",
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "font": {"size": 18},
    }
    if subtitle:
        text["subtitle"] = {"text": wrapped(subtitle, 130), "font": {"size": 13, "color": "#52606D"}}
    known: Spec = {
        "template": TEMPLATE,
        "title": text | {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 14}},
        "height": height,
        "margin": {"t": 84 + 16 * wrapped(subtitle, 130).count("<br>"), "l": 70, "r": 30, "b": 60},
        "legend": {"x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top", "itemsizing": "constant"},
    }
    return known | more


def empty(title: str, why: str) -> Spec:
    """A picture with the reason why there is nothing to draw."""
    note = {"text": text_of(why), "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    hidden = {"visible": False}
    note["font"] = {"size": 15, "color": "#52606D"}
    return {"data": [], "layout": layout(title, height=240, annotations=[note], xaxis=hidden, yaxis=hidden)}


def text_of(text: object) -> str:
    """A text from the user, escaped for plotly, which understands some HTML."""
    return html.escape(str(text), quote=False)


def shortened(text: str, chars: int = LABEL_CHARS) -> str:
    """A text from the user, its beginning and its end where it is long; for ``layout``, which escapes it."""
    half = (chars - 1) // 2
    return text if len(text) <= chars else f"{text[:half]}…{text[-half:]}"


def label_of(text: str, chars: int = LABEL_CHARS) -> str:
    """A label for an axis, short and escaped."""
    return text_of(shortened(text, chars))


def labels_of(texts: Sequence[str], chars: int = LABEL_CHARS) -> list[str]:
    """Labels of one axis, short and escaped: different ones for different texts.

    What all have in common at both ends is left out where they would be equal otherwise.
    """
    short = [shortened(text, chars) for text in texts]
    if len(set(short)) < len(set(texts)):
        start = len(os.path.commonprefix(texts))  # noqa: RUF071  of characters is what is meant
        end = len(os.path.commonprefix([text[start:][::-1] for text in texts]))  # noqa: RUF071
        short = [shortened(f"…{text[start : len(text) - end]}…", chars) for text in texts]
    if len(set(short)) < len(set(texts)):
        short = [f"{text} ({n})" for n, text in enumerate(short, 1)]
    return [text_of(text) for text in short]


def wrapped(text: str, width: int) -> str:
    """A text in lines of at most ``width`` characters, where it has spaces."""
    lines = [""]
    for word in text_of(text).split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def number(value: float | None) -> str:
    """A number for people, with six significant digits."""
    return "none" if value is None else f"{value:.6g}"


def hover(table: Table, row: Row) -> str:
    """What is shown of a trial where the mouse is."""
    lines = [f"<b>trial {row.number}</b>" + (" (best)" if row is table.best else "")]
    look = LOOKS[row.state].words
    lines.append(
        look if row.loss is None else f"{look}, {label_of(table.value_name)} {number(table.shown(row.loss))}"
    )
    if row.duration_s is not None:
        lines.append(in_words(row.duration_s) + (f", attempt {row.attempts}" if row.attempts > 1 else ""))
    for label, value in list(row.params.items())[:HOVER_PARAMS]:
        lines.append(f"{label_of(label, 40)}: {text_of(value_text(value))}")
    if len(row.params) > HOVER_PARAMS:
        lines.append(f"and {len(row.params) - HOVER_PARAMS} more")
    why = row.error or row.stop_reason
    if why:
        lines.append(f"<i>{text_of(why if len(why) <= HOVER_CHARS else why[:HOVER_CHARS] + '…')}</i>")
    return "<br>".join(lines)


def time_unit(longest_s: float) -> tuple[float, str]:
    """(seconds, name) of the unit in which a time is read best."""
    if longest_s < 180:
        return (1.0, "s") if longest_s >= 0.1 or longest_s == 0 else (1e-3, "ms")
    return (60.0, "min") if longest_s < 3 * 3600 else (3600.0, "h")


def scatter(rows: Sequence[tuple[Any, Any]], texts: Sequence[str], look: Look, **more: Any) -> Spec:
    """A trace of markers for trials of one state: ``rows`` are pairs of x and y."""
    marker = {"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.75, "line": {"width": 0}}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _ in rows],
        "y": [y for _, y in rows],
        "text": list(texts),
        "hovertemplate": "%{text}<extra></extra>",
        "name": look.words,
        "marker": marker | more.pop("marker", {}),
        **more,
    }


def drawn_note(n_drawn: int, n: int, what: str = "trials") -> str:
    """The subtitle's part about what is not drawn."""
    return f"{n_drawn:,} of {n:,} {what} drawn: the best, and an even sample" if n_drawn < n else ""


def joined(*parts: str) -> str:
    """Sentences of a subtitle."""
    return " · ".join(part for part in parts if part)
