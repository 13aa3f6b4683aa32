"""The one table that every picture is drawn from: the trials of a study, and its parameters."""

from __future__ import annotations

import functools
import math
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparktune.plots import importance
from sparktune.plots.axes import Axis
from sparktune.study.columns import label_of
from sparktune.study.ranking import CAN_BE_BEST, Ranked, first, ranked
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.trial import Trial, TrialState, reported_metric

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("trial", "state", "loss")
KNOWN = (
    *REQUIRED,
    "started_s",
    "ended_s",
    "duration_s",
    "attempts",
    "steps",
    "error",
    "run_id",
    "stop_reason",
    "reports",
)
"""The columns of a data frame that are not parameters."""


@dataclass(frozen=True, slots=True)
class Row:
    """A trial.

    Attributes:
        number: hyperopt's ``tid``.
        state: see ``TrialState``.
        loss: finite or infinite; None where there is none.
        params: label -> value as the objective received it; active ones only.
        started_s, ended_s: Unix time (or the simulated clock's), or None.
        duration_s: seconds in the objective, or None.
        reports: of the primary metric, in their order.
        attempts: how often its objective was begun.
        error: why it failed, one line.
        stop_reason: why it was stopped.
        run_id: its MLflow run.
        metric: the primary metric, where its loss is another value; or None.
    """

    number: int
    state: TrialState
    loss: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    started_s: float | None = None
    ended_s: float | None = None
    duration_s: float | None = None
    reports: Sequence[float] = ()
    attempts: int = 1
    error: str | None = None
    stop_reason: str | None = None
    run_id: str | None = None
    metric: float | None = None

    @property
    def has_loss(self) -> bool:
        """Whether it has a loss that can be drawn."""
        return self.loss is not None and math.isfinite(self.loss)


@dataclass(frozen=True)
class Table:
    """A study for drawing.

    Attributes:
        rows: its trials, by number.
        metric, goal: see ``StudySnapshot``.
        shows_metric: what is drawn is the metric (the loss's negative), because it is to be maximized.
        algo, name, run_id, stop_reason, is_running: see ``StudySnapshot``.
        texts: label -> the parameter's distribution as text, where it is known.
        reports_left_out: how many trials have reports that were not read.
    """

    rows: Sequence[Row]
    metric: str = "loss"
    goal: str = "minimize"
    shows_metric: bool = False
    algo: str = ""
    name: str = ""
    run_id: str | None = None
    stop_reason: str | None = None
    is_running: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    reports_left_out: int = 0

    @classmethod
    def of(cls, snapshot: StudySnapshot) -> Table:
        """The table of a study."""
        trials = sorted(snapshot.trials, key=lambda trial: trial.trial_id)
        shows_metric = snapshot.goal == "maximize" and _is_negative_of_loss(trials, snapshot.metric)
        beside = "loss" if shows_metric else snapshot.metric
        return cls(
            [_row(trial, snapshot.reports.get(trial.trial_id, ()), beside) for trial in trials],
            snapshot.metric,
            snapshot.goal,
            shows_metric,
            snapshot.algo,
            snapshot.name,
            snapshot.run_id,
            snapshot.stop_reason,
            snapshot.is_running,
            dict(snapshot.parameters),
            snapshot.reports_left_out,
        )

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> Table:
        """The table of a data frame as ``SparkTrials.to_dataframe`` gives it.

        Columns ``trial``, ``state`` and ``loss`` are needed; ``started_s``, ``ended_s``, ``duration_s``
        (seconds), ``reports`` (lists of numbers), ``error``, ``attempts``, ``stop_reason`` and ``run_id`` are
        used where they exist; every other column is a parameter, missing where it was not active.

        Raises:
            ValueError: a column that is needed is missing, or a state is not known.
        """
        missing = [name for name in REQUIRED if name not in frame.columns]
        if missing:
            raise ValueError(
                f"the data frame has no column {missing[0]!r}: pictures need {', '.join(REQUIRED)}, as "
                "SparkTrials.to_dataframe() gives them"
            )
        columns: dict[str, list[Any]] = {}
        labels: dict[str, list[Any]] = {}
        for at, name in enumerate(map(str, frame.columns)):  # names may be there twice
            values = frame.iloc[:, at].tolist()
            if name in KNOWN and name not in columns:
                columns[name] = values
            elif name != "steps":
                labels[label_of(name, KNOWN)] = values
        rows = []
        for at in range(len(frame)):
            known = {name: values[at] for name, values in columns.items()}
            params = {name: values[at] for name, values in labels.items() if not _is_missing(values[at])}
            rows.append(_frame_row(known, params))
        return cls(sorted(rows, key=lambda row: row.number))

    # -- derived values ---------------------------------------------------------------------------------

    @property
    def value_name(self) -> str:
        """What is drawn, for axes: ``loss``, or the metric that is to be maximized."""
        return self.metric if self.shows_metric else "loss"

    def shown(self, loss: float) -> float:
        """A loss as it is drawn."""
        return -loss + 0.0 if self.shows_metric else loss

    def value(self, row: Row) -> float | None:
        """What is drawn of a trial; None where its loss cannot be drawn."""
        return self.shown(row.loss) if row.loss is not None and row.has_loss else None

    @functools.cached_property
    def has_metric(self) -> bool:
        """Whether trials have a metric beside the loss that is drawn."""
        return any(row.metric is not None for row in self.rows)

    @functools.cached_property
    def counts(self) -> dict[TrialState, int]:
        """State -> trials, of the states that there are."""
        found = Counter(row.state for row in self.rows)
        return {state: found[state] for state in TrialState if found[state]}

    @functools.cached_property
    def with_loss(self) -> list[Row]:
        """Trials whose loss can be drawn."""
        return [row for row in self.rows if row.has_loss]

    @functools.cached_property
    def best(self) -> Row | None:
        """The best trial, see ``ranking``."""
        return first(self.with_loss, _decides)

    @functools.cached_property
    def ranked(self) -> list[Row]:
        """Trials whose loss can be drawn, the best first."""
        found = ranked(self.with_loss, _decides)
        others = [row for row in self.with_loss if row.state not in CAN_BE_BEST]
        return found + sorted(others, key=lambda row: (row.loss, row.number))

    @functools.cached_property
    def by_end(self) -> list[Row]:
        """Trials that have ended, in the order in which they ended.

        Those without a time and a loss never ran, as those that were cancelled in the queue: they are left
        out where others have times. By number where no times are known, or where a trial with a loss does not
        have one.
        """
        ended = [row for row in self.rows if row.state.is_final]
        timed = [row for row in ended if row.ended_s is not None]
        if not timed or any(row.ended_s is None and row.loss is not None for row in ended):
            return ended
        return sorted(timed, key=lambda row: (row.ended_s, row.number))

    @functools.cached_property
    def began_s(self) -> float | None:
        """When the first trial began."""
        return min((row.started_s for row in self.rows if row.started_s is not None), default=None)

    @functools.cached_property
    def last_s(self) -> float | None:
        """The latest time that is known."""
        times = [time for row in self.rows for time in (row.started_s, row.ended_s) if time is not None]
        return max(times, default=None)

    @functools.cached_property
    def axes(self) -> dict[str, Axis]:
        """Label -> its axis, in the order in which parameters appear; those of the space first."""
        labels = dict.fromkeys([*self.texts, *(label for row in self.rows for label in row.params)])
        found = {}
        for label in labels:
            values = [row.params[label] for row in self.rows if label in row.params]
            if values:
                found[label] = Axis.of(label, values, len(self.rows), self.texts.get(label, ""))
        return found

    @functools.cached_property
    def importances(self) -> dict[str, float]:
        """Label -> its share of the importance of all; see ``importance``."""
        by_loss = sorted(self.with_loss, key=lambda row: (row.loss, row.number))
        return importance.importances(by_loss, self.axes)

    def most_important(self, limit: int) -> list[str]:
        """At most ``limit`` labels, the most important first; in the order of the space where unknown."""
        return sorted(self.axes, key=lambda label: -self.importances.get(label, 0.0))[:limit]


def _decides(row: Row) -> Ranked:
    return row.state, row.loss, row.number


def _row(trial: Trial, reports: Sequence[float], beside: str) -> Row:
    return Row(
        trial.trial_id,
        trial.state,
        _number(trial.loss),
        trial.params,
        trial.started_s if trial.started_s is not None else trial.submitted_s,
        trial.ended_s,
        trial.duration_s,
        reports,
        trial.attempts,
        None if trial.error is None else trial.error.summary,
        trial.stop_reason,
        trial.run_id,
        reported_metric(trial.result, beside),
    )


def _frame_row(known: Mapping[str, Any], params: Mapping[str, Any]) -> Row:
    try:
        state = TrialState(str(known["state"]))
    except ValueError:
        names = ", ".join(TrialState)
        raise ValueError(
            f"state is {known['state']!r} in the data frame; it must be one of {names}"
        ) from None
    reports = known.get("reports")
    attempts = _number(known.get("attempts"))
    return Row(
        int(known["trial"]),
        state,
        _number(known["loss"]),
        params,
        _number(known.get("started_s")),
        _number(known.get("ended_s")),
        _number(known.get("duration_s")),
        [float(value) for value in reports] if isinstance(reports, Iterable) else (),
        1 if attempts is None else int(attempts),
        _text(known.get("error")),
        _text(known.get("stop_reason")),
        _text(known.get("run_id")),
    )


def _text(value: Any) -> str | None:
    return None if _is_missing(value) else str(value)


def _number(value: Any) -> float | None:
    """A number, infinite ones too; None for all else, and for NaN."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    number = float(value)
    return None if math.isnan(number) else number


def _is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT; never a list or a text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")


def _is_negative_of_loss(trials: Sequence[Trial], metric: str) -> bool:
    """Whether the loss is the negative of the metric that is to be maximized, and not a separate value."""
    for trial in trials:
        value = reported_metric(trial.result, metric)
        if value is not None and trial.loss is not None and math.isfinite(trial.loss):
            return math.isclose(value, -trial.loss, rel_tol=1e-9, abs_tol=1e-12)
    return True


def thinned(rows: Sequence[Row], limit: int, first: Sequence[Row] = ()) -> list[Row]:
    """At most ``limit`` rows: those of ``first`` (up to half), and an even sample of the others."""
    if len(rows) <= limit:
        return list(rows)
    wanted = {row.number for row in first[: limit // 2]}
    kept = [row for row in rows if row.number in wanted]
    others = [row for row in rows if row.number not in wanted]
    n = limit - len(kept)
    sample = {others[round(i * (len(others) - 1) / max(1, n - 1))].number for i in range(n)}
    return [row for row in rows if row.number in wanted or row.number in sample]
