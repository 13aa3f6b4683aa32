"""Small studies for the tests of this folder."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from sparktune.study.spec import StudySpec
from sparktune.study.tracker import StudyInfo
from sparktune.study.trial import Trial, TrialError, TrialState

SPEC = [field.name for field in dataclasses.fields(StudySpec)]


def info(**changes: Any) -> StudyInfo:
    """A study that begins; ``changes`` are fields of ``StudyInfo`` or of its spec."""
    of_spec = {name: changes.pop(name) for name in SPEC if name in changes}
    values: dict[str, Any] = {
        "study_id": uuid.uuid4().hex,
        "spec": StudySpec(**{"algo": "hyperopt.tpe.suggest", "max_evals": 10} | of_spec),
        "parallelism": 4,
        "space": "{'C': hp.uniform('C', 0, 1)}",
    }
    return StudyInfo(**values | changes)


def running(number: int, **params: Any) -> Trial:
    values = params or {"C": number / 10}
    return Trial(number, values, values, TrialState.RUNNING, attempts=1)


def completed(trial: Trial, loss: float, **result: Any) -> Trial:
    entries = {"loss": loss, "status": "ok"} | result
    return trial.to(
        TrialState.COMPLETED, loss=loss, result=entries, duration_s=0.5, host="node1", worker_pid=7
    )


def failed(trial: Trial) -> Trial:
    text = "Traceback (most recent call last):\n  ...\nValueError: C is\nodd"
    error = TrialError("<class 'ValueError'>", "C is\nodd", text)
    return trial.to(TrialState.FAILED, error=error, result={"status": "fail"})


def document(trial: Trial) -> dict[str, Any]:
    result = dict(trial.result or {})
    vals = {key: [value] for key, value in trial.config.items()}
    return {
        "tid": trial.trial_id,
        "state": 2,
        "result": result,
        "misc": {"tid": trial.trial_id, "vals": vals},
    }
