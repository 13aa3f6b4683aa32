"""What MLflow has of a sweep, or of any other study: its trials as a table, and its best trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparktune.errors import AllTrialsFailed, CannotResume, SparktuneError
from sparktune.study.columns import parameter_columns
from sparktune.study.ranking import first
from sparktune.study.trial import TrialState, format_value, in_one_line, metric_value
from sparktune.sweeps.problems import printable
from sparktune.tracking import recorded
from sparktune.tracking.mlflow import current_uri
from sparktune.tracking.recorded import RecordedStudy, RecordedTrial, own_entries

ERROR_CHARS = 100
WAITING = "not finished"


@dataclass(frozen=True)
class Row:
    """A trial as it is recorded.

    Attributes:
        trial: its number.
        state: see ``TrialState``; ``not finished`` for one whose end is not recorded.
        metric: the primary metric, as the trial reported it.
        loss: what ``fmin`` minimized.
        seconds: in the objective.
        reports: how often it told the metric while it ran.
        params: label -> value, as the trial received it.
        error: why it failed.
        run_id: its run.
    """

    trial: int
    state: str
    metric: float | None
    loss: float | None
    seconds: float | None
    reports: int
    params: Mapping[str, Any]
    error: str | None
    run_id: str


@dataclass(frozen=True)
class Results:
    """A study as it is recorded."""

    study: RecordedStudy
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, run_id: str) -> Results:
        """Those of a parent run, in the store that is set in MLflow.

        Raises:
            SparktuneError: there is no such run, or MLflow does not answer.
        """
        from sparktune.trials import resume

        try:
            study = resume.find(run_id, "RUN")
        except CannotResume as error:
            raise SparktuneError(str(error)) from None
        if study is None:
            raise SparktuneError("RUN='last': the experiment has no unfinished sweep; give the id of a run")
        return cls(study, tuple(_row(study, trial) for _, trial in study.counted))

    @property
    def best(self) -> Row:
        """The best trial: of those that completed, or else of those that were ended early.

        Raises:
            AllTrialsFailed: there is none.
        """
        ended = (row for row in self.rows if row.state != WAITING)
        best = first(ended, lambda row: (TrialState(row.state), row.loss, row.trial))
        if best is not None:
            return best
        causes = Counter(row.error for row in self.rows if row.error).most_common(1)
        text = f"no trial of the run {self.study.run_id} has completed"
        raise AllTrialsFailed(f"{text}; the commonest cause: {causes[0][0]}" if causes else text)

    def best_as_dict(self) -> dict[str, Any]:
        """The best trial, for programs: ``point`` is what the objective received, once the study has ended.

        See ``best`` for what it raises.
        """
        best = self.best
        point = recorded.best_point(current_uri(), self.study, best.trial)
        return {
            "parameters": dict(best.params),
            **({} if point is None else {"point": point}),
            "metric": {"name": self.study.record.metric, "value": best.metric},
            "trial": best.trial,
            "run_id": best.run_id,
            "parent_run_id": self.study.run_id,
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, for programs."""
        rows = [
            {
                "trial": row.trial,
                "state": row.state,
                "metric": row.metric,
                "seconds": row.seconds,
                "reports": row.reports,
                "parameters": dict(row.params),
                "error": row.error,
                "run_id": row.run_id,
            }
            for row in self.rows
        ]
        return {
            "parent_run_id": self.study.run_id,
            "metric": self.study.record.metric,
            "goal": self.study.record.goal,
            "algorithm": self.study.record.algo,
            "states": dict(Counter(row.state for row in self.rows)),
            "trials": rows,
        }

    def table(self) -> str:
        """All of it, for people."""
        record = self.study.record
        labels = list(dict.fromkeys(label for row in self.rows for label in row.params))
        losses = [] if record.metric == "loss" else ["loss"]
        first = ["trial", "state", record.metric, *losses, "seconds", "reports"]
        last = ["run", "error"]
        header = [*first, *parameter_columns(labels, [*first, *last]).values(), *last]
        cells = [
            [
                str(row.trial),
                row.state.replace("_", " "),
                "" if row.metric is None else f"{row.metric:.6g}",
                *("" if row.loss is None else f"{row.loss:.6g}" for _ in losses),
                "" if row.seconds is None else f"{row.seconds:.1f}",
                str(row.reports or ""),
                *(format_value(row.params[label]) if label in row.params else "" for label in labels),
                row.run_id,
                (row.error or "")[:ERROR_CHARS],
            ]
            for row in self.rows
        ]
        lines = _aligned([header, *cells])
        counts = Counter(row.state.replace("_", " ") for row in self.rows)
        told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials"
        lines += ["", f"run {self.study.run_id}, {record.algo}, {record.goal} {record.metric}: {told}"]
        try:
            best = self.best
        except AllTrialsFailed as error:
            return "\n".join([*lines, printable(str(error))])
        params = " ".join(f"{label}={format_value(value)}" for label, value in best.params.items())
        told = f"best trial {best.trial}: {record.metric}={best.metric:.6g} {params}"
        return "\n".join([*lines, printable(told)])


def _row(study: RecordedStudy, trial: RecordedTrial) -> Row:
    own = own_entries(trial.document or {})
    misc = (trial.document or {}).get("misc") or {}
    config = {label: values[0] for label, values in (misc.get("vals") or {}).items() if values}
    loss, record = own.get("loss"), study.record
    error = own.get("error") or {}
    message = in_one_line(str(error.get("message", "")))
    kind = str(error.get("kind", "")).removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
    return Row(
        trial.trial_id,
        str(own.get("state")) if trial.has_ended else WAITING,
        metric_value((trial.document or {}).get("result"), loss, record.metric, record.goal),
        loss,
        own.get("duration_s"),
        int(own.get("steps") or 0),
        config | dict(own.get("params") or {}),
        f"{kind}: {message}" if error else None,
        trial.run_id,
    )


def _aligned(rows: list[list[str]]) -> list[str]:
    rows = [[printable(cell.replace("\n", " ")) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    kept = [n for n, width in enumerate(widths) if any(row[n] for row in rows[1:])]
    return ["  ".join(row[n].ljust(widths[n]) for n in kept).rstrip() for row in rows]
