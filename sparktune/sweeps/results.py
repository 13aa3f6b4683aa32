"""The record of a sweep, or of any other study, in MLflow: its trials as a table, and its best trial."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sparktune.errors import AllTrialsFailed, CannotResume, SparktuneError
from sparktune.study.columns import parameter_columns
from sparktune.study.ranking import best_of
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.trial import Trial, format_value, metric_value
from sparktune.sweeps.problems import printable
from sparktune.tracking.location import current_uri
from sparktune.tracking.reader import RecordedStudy, best_point
from sparktune.tracking.schema import point_as_json

ERROR_CHARS = 100
UNFINISHED = "not finished"
"""The state of every trial whose end is not recorded."""


@dataclass(frozen=True)
class Results:
    """A study as it is recorded."""

    recorded: RecordedStudy
    study: StudySnapshot

    @classmethod
    def of(cls, run_id: str) -> Results:
        """The results of a parent run, in the store that is set in MLflow.

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
        return cls(study, study.snapshot())

    @property
    def best(self) -> Trial:
        """The best trial: of those that completed, or else of those that were ended early.

        Raises:
            AllTrialsFailed: there is none.
        """
        best = best_of(self.study.trials)
        if best is not None:
            return best
        causes = Counter(_error(trial) for trial in self.study.trials if trial.error).most_common(1)
        text = f"no trial of the run {self.study.run_id} has completed"
        raise AllTrialsFailed(f"{text}; the commonest cause: {causes[0][0]}" if causes else text)

    def best_as_dict(self) -> dict[str, Any]:
        """The best trial, for programs: ``point`` is what the objective received, once the study has ended.

        Raises what ``best`` raises.
        """
        best = self.best
        point = best_point(current_uri(), self.recorded, best.trial_id)
        return {
            "parameters": point_as_json(best.params),
            **({} if point is None else {"point": point}),
            "metric": {"name": self.study.metric, "value": self._metric(best)},
            "trial": best.trial_id,
            "run_id": best.run_id,
            "parent_run_id": self.study.run_id,
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, for programs."""
        rows = [
            {
                "trial": trial.trial_id,
                "state": _state(trial),
                "metric": self._metric(trial),
                "seconds": trial.duration_s,
                "reports": trial.steps,
                "parameters": dict(trial.params),
                "error": _error(trial),
                "run_id": trial.run_id,
            }
            for trial in self.study.trials
        ]
        return {
            "parent_run_id": self.study.run_id,
            "metric": self.study.metric,
            "goal": self.study.goal,
            "algorithm": self.study.algo,
            "states": dict(Counter(map(_state, self.study.trials))),
            "trials": rows,
        }

    def table(self) -> str:
        """All of it, for people."""
        study = self.study
        labels = list(dict.fromkeys(label for trial in study.trials for label in trial.params))
        has_loss = study.metric != "loss"
        first = ["trial", "state", study.metric, *(["loss"] if has_loss else []), "seconds", "reports"]
        last = ["run", "error"]
        header = [*first, *parameter_columns(labels, [*first, *last]).values(), *last]
        cells = [
            [
                str(trial.trial_id),
                _state(trial).replace("_", " "),
                _number(self._metric(trial), ".6g"),
                *([_number(trial.loss, ".6g")] if has_loss else []),
                _number(trial.duration_s, ".1f"),
                str(trial.steps or ""),
                *(format_value(trial.params[name]) if name in trial.params else "" for name in labels),
                trial.run_id or "",
                (_error(trial) or "")[:ERROR_CHARS],
            ]
            for trial in study.trials
        ]
        lines = _aligned([header, *cells])
        counts = Counter(_state(trial).replace("_", " ") for trial in study.trials)
        counted = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials"
        lines += ["", f"run {study.run_id}, {study.algo}, {study.goal} {study.metric}: {counted}"]
        try:
            best = self.best
        except AllTrialsFailed as error:
            return "\n".join([*lines, printable(str(error))])
        params = " ".join(f"{label}={format_value(value)}" for label, value in best.params.items())
        text = f"best trial {best.trial_id}: {study.metric}={self._metric(best):.6g} {params}"
        return "\n".join([*lines, printable(text)])

    def _metric(self, trial: Trial) -> float | None:
        return metric_value(trial.result, trial.loss, self.study.metric, self.study.goal)


def _state(trial: Trial) -> str:
    return trial.state.value if trial.state.is_final else UNFINISHED


def _error(trial: Trial) -> str | None:
    return None if trial.error is None else trial.error.summary


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _aligned(rows: list[list[str]]) -> list[str]:
    rows = [[printable(cell.replace("\n", " ")) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    kept = [n for n, width in enumerate(widths) if any(row[n] for row in rows[1:])]
    return ["  ".join(row[n].ljust(widths[n]) for n in kept).rstrip() for row in rows]
