"""What a notebook shows of a trials object: the best trial, a small any-time curve, a table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from sparktune.study.columns import parameter_columns
from sparktune.study.ranking import best_of, of_trial, ranked
from sparktune.study.trial import Trial, TrialState, format_value, shown_value
from sparktune.study.words import in_words
from sparktune.trials import curve

ROWS = 10
"""How many trials the table shows: the best, then the latest without a loss."""
COLUMNS = 8
"""How many parameters it shows."""
MAX_TEXT = 100

_CELL = "text-align: left; padding: 2px 8px;"


def of_trials(
    title: str, trials: Sequence[Trial], run_id: str | None, metric: str = "loss", goal: str = "minimize"
) -> str:
    """The trials as HTML. All text from the user is escaped.

    Args:
        title: one line that describes the trials.
        trials: in the order of their ids.
        run_id: the MLflow run of the study, or None.
        metric: of the study.
        goal: of the study.
    """
    parts = [f"<div><b>{_text(title, 500)}</b></div>"]
    best = best_of(trials)
    name, value = shown_value(best, metric, goal)
    if best is not None:
        shown = "" if value is None else f", {name} {value:.6g}"
        values = ", ".join(f"{label}={format_value(value)}" for label, value in best.params.items())
        parts.append(f"<div>best: trial {best.trial_id}{_text(shown)}: {_text(values, 500)}</div>")
    if run_id is not None:
        parts.append(f"<div>MLflow run: <code>{_text(run_id)}</code></div>")
    ended = sorted(
        (trial for trial in trials if trial.state.is_final),
        key=lambda trial: (trial.ended_s or 0.0, trial.trial_id),
    )
    counted = [trial if _counts(trial) else None for trial in ended]
    losses = [None if trial is None else trial.loss for trial in counted]
    drawn = [shown_value(trial, metric, goal)[1] for trial in counted]
    parts.append(curve.svg(losses, label=name, values=drawn, goal=goal))
    if trials:
        parts.append(_table(trials, metric, goal))
    return f"<div>{''.join(parts)}</div>"


def _counts(trial: Trial) -> bool:
    return trial.state is TrialState.COMPLETED


def leading(trials: Iterable[Trial], n: int = ROWS) -> list[Trial]:
    """The first rows of the table: the best trials, then those without a loss, the latest first."""
    everything = list(trials)
    best = ranked((trial for trial in everything if trial.loss is not None), of_trial)
    known = {trial.trial_id for trial in best}
    rest = [trial for trial in everything if trial.trial_id not in known]
    return [*best[:n], *reversed(rest[-max(0, n - len(best)) :] if len(best) < n else [])]


def _table(trials: Sequence[Trial], metric: str, goal: str) -> str:
    labels = list(dict.fromkeys(label for trial in trials for label in trial.params))
    rows = leading(trials)
    has_errors = any(trial.error is not None for trial in rows)
    name, _ = shown_value(None, metric, goal)
    head, errors = ["trial", "state", name, "time"], ["error"] if has_errors else []
    head += [*parameter_columns(labels[:COLUMNS], [*head, *errors]).values(), *errors]
    cells = [f"<tr>{_cells(head, 'th')}</tr>"]
    for trial in rows:
        _, value = shown_value(trial, metric, goal)
        values: list[Any] = [
            trial.trial_id,
            trial.state.value.replace("_", " "),
            "" if value is None else f"{value:.6g}",
            "" if trial.duration_s is None else in_words(trial.duration_s),
            *(format_value(trial.params[n]) if n in trial.params else "" for n in labels[:COLUMNS]),
        ]
        if has_errors:
            values.append("" if trial.error is None else trial.error.summary)
        cells.append(f"<tr>{_cells(values, 'td')}</tr>")
    notes = []
    if len(trials) > len(rows):
        notes.append(f"{len(rows)} of {len(trials)} trials, the best first")
    if len(labels) > COLUMNS:
        notes.append(f"{COLUMNS} of {len(labels)} parameters")
    note = f"<div>{'; '.join(notes)}: <code>to_dataframe()</code> has all</div>" if notes else ""
    return f"<table>{''.join(cells)}</table>{note}"


def _cells(values: Iterable[Any], tag: str) -> str:
    return "".join(f'<{tag} style="{_CELL}">{_text(value)}</{tag}>' for value in values)


def _text(value: Any, limit: int = MAX_TEXT) -> str:
    text = " ".join(str(value).encode("utf-8", "backslashreplace").decode("utf-8").split())
    return html.escape(text if len(text) <= limit else f"{text[: limit - 1]}…")
