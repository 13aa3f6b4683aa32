"""The name and the description (Markdown) of a study's run, which MLflow's UI shows first.

Pure functions. The description is the tag ``mlflow.note.content``; its links are places in MLflow's UI,
written without a host, so that they hold wherever the UI is served.
"""

from __future__ import annotations

import datetime
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparktune.study.ranking import of_trial, ranked
from sparktune.study.tracker import StudyInfo, StudySummary
from sparktune.study.trial import Trial, TrialState, format_value, metric_value, reported_metric
from sparktune.study.words import ended, in_words, n_trials
from sparktune.tracking import schema
from sparktune.tracking.location import trials_page

BEST_TRIALS = 5
"""How many of the best trials a description lists."""
MAX_PARAMETERS = 30
"""How many parameters of the best trial a description lists."""
MAX_VALUE = 80
"""How many characters of a value it shows."""

NO_BREAK = "\u00a0"

_SPECIAL = re.compile(r"([\\`*_{}\[\]()|#~$])")
_OPTIONS = re.compile(r"\(.*", re.DOTALL)


# Names -----------------------------------------------------------------------------------------------------


def short_algorithm(name: str) -> str:
    """``sparktune.search.tpe.suggest(gamma=0.2)`` -> ``tpe``; hyperopt's own -> ``hyperopt.tpe``."""
    parts = _OPTIONS.sub("", name).split(".")
    meant = [part for part in parts if part not in ("suggest", "<locals>", "__main__")] or parts
    short = "lambda" if meant[-1] == "<lambda>" else meant[-1]
    return f"hyperopt.{short}" if parts[0] == "hyperopt" else short


def study_name(info: StudyInfo) -> str:
    """What a study's run is called: objective, algorithm and size, ``train tpe 128 trials``; or its name."""
    if info.is_named:
        return schema.cut(info.spec.name, schema.MAX_KEY)
    parts = [info.spec.objective or "study", short_algorithm(info.spec.algo)]
    if info.spec.max_evals is not None:
        parts.append(n_trials(info.spec.max_evals))
    elif info.spec.timeout_s is not None:
        parts.append(in_words(info.spec.timeout_s))
    return schema.cut(" ".join(parts), schema.MAX_KEY)


def comparison_name(objective: str, algos: Iterable[str], max_evals: int | None, repeats: int | None) -> str:
    """What a comparison's run is called: ``compare train: tpe, rand, 40 trials x 20``."""
    text = f"compare {objective}: {', '.join(algos)}"
    if max_evals is not None:
        text += f", {n_trials(max_evals)}" + ("" if repeats is None else f" x {repeats}")
    return schema.cut(text, schema.MAX_KEY)


# Descriptions ----------------------------------------------------------------------------------------------


def note_tags(text: str, study_id: str) -> dict[str, str]:
    """The tags that hold the description of a study or a comparison."""
    text = schema.cut(text, schema.MAX_TAG_VALUE)
    return {schema.NOTE_TAG: text, schema.NOTE_DIGEST_TAG: _digest(text, study_id)}


def may_be_replaced(tags: Mapping[str, str], study_id: str) -> bool:
    """Whether a run with these tags has no description, or an unedited one of this study."""
    known = tags.get(schema.NOTE_TAG, "")
    return not known.strip() or _digest(known, study_id) == tags.get(schema.NOTE_DIGEST_TAG)


def _digest(text: str, study_id: str) -> str:
    return hashlib.sha256(f"{study_id} {text}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def escaped(value: Any, limit: int = MAX_VALUE) -> str:
    """The user's text on one line, escaped for Markdown."""
    text = " ".join(schema.param_value(value).split())
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return _SPECIAL.sub(r"\\\1", html.escape(text, quote=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; its cells must be Markdown already.

    MLflow's UI leaves no room between columns: no-break spaces end each cell but the last.
    """
    apart = f"{3 * NO_BREAK} | "
    lines = [f"| {apart.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, f"| {' | '.join(['---'] * len(head))} |")
    return "\n".join(lines)


def of_running_study(info: StudyInfo, began_s: float, foreword: str = "") -> str:
    """The description of a study that runs.

    Args:
        info: the study.
        began_s: Unix time.
        foreword: in Markdown, the user's own.
    """
    began = datetime.datetime.fromtimestamp(began_s, datetime.UTC)
    text = f"This study is running. It began at {began:%Y-%m-%d %H:%M} UTC."
    return _joined([foreword, text, _about(info)])


def of_study(
    info: StudyInfo,
    summary: StudySummary,
    trials: Sequence[Trial],
    run_ids: Mapping[int, str],
    *,
    elapsed_s: float,
    place: tuple[str, str] | None,
    table_name: str,
    foreword: str = "",
) -> str:
    """The description of a study that has ended.

    Args:
        info: the study.
        summary: how it ended.
        trials: its own, without those of earlier studies.
        run_ids: trial id -> run.
        elapsed_s: seconds that it took, earlier calls for it included.
        place: (experiment, parent run) for links into MLflow's UI; None for no links.
        table_name: of the artifact that has all trials.
        foreword: in Markdown, the user's own.
    """
    counts = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    by_state = ended(counts)
    count = f"{n_trials(len(trials))} in {in_words(elapsed_s)}" + (f": {by_state}" if by_state else "")
    parts = [foreword]
    if summary.best is None:
        parts.append(f"**No trial gave a loss**; {count}.")
    else:
        # MLflow's UI shows the first lines of a long description only.
        found = f"**Best: {_result(summary.best, info)}** ({_linked(summary.best, run_ids, place)})"
        params = _params(summary.best)
        parts.append(f"{found}: {params}" if params else f"{found}.")
        parts.append(f"{count[0].upper()}{count[1:]}.")
    if summary.share_saved is not None:
        parts.append(f"Early termination saved about {summary.share_saved:.0%} of the compute.")
    if summary.error:
        parts.append(f"fmin ended with an error: {escaped(summary.error)}")
    elif summary.stop_reason:
        parts.append(f"It stopped early: {escaped(summary.stop_reason)}.")
    if summary.best is not None:
        rows = list(summary.best.params.items())
        values = [(escaped(label), escaped(value)) for label, value in rows[:MAX_PARAMETERS]]
        if len(rows) > MAX_PARAMETERS:
            values.append(("…", f"{len(rows) - MAX_PARAMETERS} more"))
        if values:
            parts.append(table(["parameter", "best value"], values))
    leading = ranked((trial for trial in trials if trial.loss is not None), of_trial)[:BEST_TRIALS]
    if len(leading) > 1:
        metrics = [] if info.spec.metric == "loss" else [info.spec.metric]
        rows_of = [
            (
                _linked(trial, run_ids, place).replace("[trial ", f"[trial{NO_BREAK}"),
                *(_number(metric_value(trial.result, trial.loss, name, info.spec.goal)) for name in metrics),
                _number(trial.loss),
                _params(trial),
            )
            for trial in leading
        ]
        parts.append(f"The {len(leading)} best trials:")
        parts.append(table(["trial", *map(escaped, metrics), "loss", "parameters"], rows_of))
    parts += [_about(info), _where(place, table_name)]
    return _joined(parts)


def of_comparison(
    objective: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], error: str | None
) -> str:
    """The description of a comparison.

    Args:
        objective: what is compared on.
        rows: of the table of the comparison, with ``algo``.
        settings: of the comparison.
        error: why there is no result, or None.
    """
    parts = [f"Search algorithms compared on `{_code(objective)}`."]
    if error is not None:
        parts.append(f"compare ended with an error: {escaped(error)}")
    if rows:
        names = [name for name in rows[0] if name != "algo"]
        cells = [[escaped(row["algo"]), *(_cell(row[name]) for name in names)] for row in rows]
        parts.append(table(["algorithm", *(escaped(name.replace("_", " ")) for name in names)], cells))
    parts.append(", ".join(f"{escaped(name)} {escaped(value)}" for name, value in settings.items()) + ".")
    parts.append("Artifacts: the table, the curves and, where plotly is installed, their picture.")
    return _joined(parts)


# Parts -----------------------------------------------------------------------------------------------------


def _params(trial: Trial) -> str:
    text = ", ".join(f"{label}={format_value(value)}" for label, value in trial.params.items())
    return escaped(text, 2 * MAX_VALUE)


def _result(trial: Trial, info: StudyInfo) -> str:
    text = f"loss {_number(trial.loss)}"
    value = reported_metric(trial.result, info.spec.metric)
    return text if value is None else f"{escaped(info.spec.metric)} {_number(value)}, {text}"


def _linked(trial: Trial, run_ids: Mapping[int, str], place: tuple[str, str] | None) -> str:
    run_id = run_ids.get(trial.trial_id)
    name = f"trial {trial.trial_id}"
    return name if place is None or run_id is None else f"[{name}](#/experiments/{place[0]}/runs/{run_id})"


def _about(info: StudyInfo) -> str:
    text = f"Objective `{_code(info.spec.objective or 'unknown')}`, algorithm `{_code(info.spec.algo)}`, "
    text += f"parallelism {info.parallelism}"
    if info.spec.max_evals is not None:
        text += f", at most {n_trials(info.spec.max_evals)}"
    if info.spec.timeout_s is not None:
        text += f", at most {in_words(info.spec.timeout_s)}"
    return f"{text}." if info.policy is None else f"{text}, early termination `{_code(info.policy)}`."


def _where(place: tuple[str, str] | None, table_name: str) -> str:
    # The report is logged only where plotly is installed, and by the process that makes it: true without it,
    # too.
    text = f"Artifacts: `{table_name}` has all trials; `report.html` shows them, where plotly is installed."
    best = f"The run of the best trial has the tag `{schema.BEST_TAG} = true`."
    if place is None:
        return f"{best} {text}"
    return f"[All trials, the best first]({trials_page(*place)}). {best} {text}"


def _code(text: str) -> str:
    """Text that can be between backticks."""
    text = " ".join(schema.storable(text).split()).replace("`", "'")
    return text if len(text) <= 2 * MAX_VALUE else f"{text[: 2 * MAX_VALUE - 1]}…"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _cell(value: Any) -> str:
    number = schema.metric_value(value)
    return escaped(value) if number is None else _number(number)


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part)
