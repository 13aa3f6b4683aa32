"""Importance of parameters, as bars."""

from __future__ import annotations

from sparktune.plots import importance
from sparktune.plots.style import BLUE, SKY, Spec, empty, joined, label_of, layout, text_of
from sparktune.plots.table import Table

TITLE = "Importance of parameters"
MAX_BARS = 25


def draw(table: Table) -> Spec:
    """A bar for each parameter; see ``importance``."""
    if not table.axes:
        return empty(TITLE, "the trials have no parameters")
    shares = table.importances
    if not shares:
        return empty(
            TITLE,
            f"{importance.MIN_TRIALS} trials with a loss are needed, and there are {len(table.with_loss)}",
        )
    if not any(shares.values()):
        return empty(TITLE, "no parameter stands out from chance yet")
    labels = list(shares)[:MAX_BARS]
    labels.reverse()  # plotly draws from the bottom
    kinds = [table.axes[label] for label in labels]
    texts = []
    for label, axis in zip(labels, kinds, strict=True):
        active = f"<br>active in {axis.n:,} of {len(table.rows):,} trials" if axis.is_conditional else ""
        texts.append(f"<b>{text_of(label)}</b><br>{shares[label]:.1%} of the importance{active}")
    places = list(range(len(labels)))
    bars: Spec = {
        "type": "bar",
        "orientation": "h",
        "x": [shares[label] for label in labels],
        "y": places,
        "text": [f" {shares[label]:.0%}" if shares[label] >= 0.005 else " < 1%" for label in labels],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertext": texts,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "color": [SKY if axis.is_conditional else BLUE for axis in kinds],
            "pattern": {
                "shape": ["/" if axis.is_conditional else "" for axis in kinds],
                "size": 6,
                "solidity": 0.2,
                "fillmode": "overlay",
                "fgcolor": "white",
            },
        },
        "showlegend": False,
    }
    how = "how much the parameter's values in good trials differ from those in all (PED-ANOVA)"
    conditional = "hatched: active in some trials only" if any(axis.is_conditional for axis in kinds) else ""
    more = f"{len(labels)} of {len(shares)} parameters" if len(labels) < len(shares) else ""
    few = f"of {len(table.with_loss)} trials: an uncertain estimate" if len(table.with_loss) < 20 else ""
    found = layout(TITLE, joined(how, conditional, more, few), height=170 + 30 * max(len(labels), 3))
    found |= {
        "xaxis": {
            "title": {"text": "share of the importance of all parameters"},
            "tickformat": ".0%",
            "range": [0, 1.12 * max(shares.values())],
        },
        "yaxis": {
            "tickmode": "array",
            "tickvals": places,
            "ticktext": [label_of(label, 36) for label in labels],
            "range": [-0.6, len(labels) - 0.4],
            "showgrid": False,
        },
    }
    return {"data": [bars], "layout": found}
