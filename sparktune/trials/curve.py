"""A small any-time curve as SVG: the best so far, and the values of the trials behind it.

Drawn here, without a plotting library, so that a notebook shows it immediately and offline. Colours are of
the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind people can distinguish.
"""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Sequence

from sparktune.study.words import n_trials

BEST, ENDED, LOST = "#0072B2", "#999999", "#D55E00"
WIDTH, HEIGHT = 480, 180
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
"""Margins around the plot, in pixels."""
MAX_DOTS = 400
"""The most trials that are drawn, at equal distances; the curve has every improvement."""
SHARE_SHOWN = 0.9
"""The share of the losses, the lowest, that the axis is made for: one bad trial must not flatten the rest."""
FEW = 10
"""Up to so many losses are all in view."""


def best_so_far(losses: Sequence[float | None]) -> list[tuple[int, float]]:
    """The improvements: (how many trials had ended, best loss)."""
    found: list[tuple[int, float]] = []
    for n, loss in enumerate(losses, 1):
        if loss is not None and math.isfinite(loss) and (not found or loss < found[-1][1]):
            found.append((n, loss))
    return found


def bounds(losses: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest loss that the axis shows, of finite ones; never equal."""
    ranked = sorted(losses)
    low = ranked[0]
    high = ranked[-1] if len(ranked) <= FEW else ranked[math.ceil(SHARE_SHOWN * len(ranked)) - 1]
    if high - low <= max(1e-12 * max(abs(low), abs(high)), sys.float_info.min):
        pad = abs(low) * 0.1 if abs(low) > 1e-300 else 1.0
        return low - pad, low + pad
    pad = 0.05 * (high - low)
    return (low - pad, high + pad) if math.isfinite(pad) else (low, high)


def svg(
    losses: Sequence[float | None],
    *,
    label: str = "loss",
    values: Sequence[float | None] | None = None,
    goal: str = "minimize",
) -> str:
    """The curve as an ``<svg>`` element; empty without a trial.

    Args:
        losses: of the trials in the order in which they ended; None for one without a loss. What is not
            finite counts as that. The losses decide which trial is the best.
        label: of the vertical axis; see ``shown_value``.
        values: what is drawn of each trial; its loss by default.
        goal: what is good in the values; of those to be maximized, high ones are in view.
    """
    if not losses:
        return ""
    sign = -1.0 if goal == "maximize" else 1.0
    # Drawn as if they were minimized, and mirrored.
    drawn = [None if x is None else sign * x for x in (losses if values is None else values)]
    known = [(n, x) for n, x in enumerate(drawn, 1) if x is not None and math.isfinite(x)]
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    n_most = len(losses)
    low, high = bounds([x for _, x in known]) if known else (0.0, 1.0)

    def at_x(n: float) -> float:
        return width * (n - 0.5) / n_most

    def at_y(x: float) -> float:
        # Halves, so that a range of the largest floats does not overflow.
        share = (high / 2 - x / 2) / (high / 2 - low / 2)
        return min(max(share if sign > 0 else 1 - share, -1.0), 2.0) * height

    every = math.ceil(len(known) / MAX_DOTS)
    dots = "".join(
        f'<circle cx="{at_x(n):.1f}" cy="{at_y(x):.1f}" r="2"/>'
        for index, (n, x) in enumerate(known)
        if index % every == 0 and x <= high
    )
    has_loss = {n for n, _ in known}
    without = [n for n in range(1, n_most + 1) if n not in has_loss]
    every = math.ceil(len(without) / MAX_DOTS)
    crosses = "".join(f"M{at_x(n):.1f} {height}v-6" for n in without[::every]) if without else ""
    at = dict(known)
    steps = [(n, at[n]) for n, _ in best_so_far(losses) if n in at]
    path = ""
    for index, (n, x) in enumerate(steps):
        path += f"{'M' if index == 0 else 'H'}{at_x(n):.1f}{' ' if index == 0 else 'V'}{at_y(x):.1f}"
    path += f"H{at_x(n_most + 0.5):.1f}" if steps else ""
    title = "no trial has a loss"
    if steps:
        n, best = steps[-1]
        title = f"best {label} {sign * best + 0.0:.6g}, found after {n} of {n_trials(n_most)}"
    shown = (low, high) if sign > 0 else (-high + 0.0, -low + 0.0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" fill="currentColor">'
        f"<title>{html.escape(title)}</title>"
        f"{_axes(n_most, shown if known else None, label, bool(without))}"
        # What lies outside of an inner <svg> is not drawn.
        f'<svg x="{LEFT}" y="{TOP}" width="{width}" height="{height}">'
        f'<g fill="{ENDED}" fill-opacity="0.7">{dots}</g>'
        f'<path d="{crosses}" stroke="{LOST}" stroke-width="1.5" fill="none"/>'
        f'<path d="{path}" stroke="{BEST}" stroke-width="2" fill="none"/>'
        "</svg></svg>"
    )


def _axes(n_most: int, shown: tuple[float, float] | None, label: str, has_ticks: bool) -> str:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    below = "trials that have ended" + (" (ticks: without a loss)" if has_ticks else "")
    bottom = TOP + height
    parts = [
        f'<path d="M{LEFT} {TOP}V{bottom}H{LEFT + width}" stroke="currentColor" stroke-opacity="0.5" '
        'fill="none"/>',
        f'<text x="{LEFT + width / 2}" y="{HEIGHT - 4}" text-anchor="middle">{below}</text>',
        f'<text x="{LEFT + width}" y="{bottom + 14}" text-anchor="end">{n_most}</text>',
        f'<text x="12" y="{TOP + height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {TOP + height / 2})">{html.escape(label)}</text>',
    ]
    if shown is not None:
        low, high = shown
        digits = 4 if high - low < 0.01 * max(abs(low), abs(high)) else 3
        for value, y in ((high, TOP + 8), (low / 2 + high / 2, TOP + height / 2 + 4), (low, bottom)):
            text = f"{value:.{digits}g}"
            parts.append(f'<text x="{LEFT - 4}" y="{y:.0f}" text-anchor="end">{text}</text>')
    return "".join(parts)
