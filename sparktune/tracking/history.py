"""A study as MLflow has it, for pictures: trials, what they reported, what the study is called."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparktune.study.snapshot import StudySnapshot
from sparktune.study.trial import Trial, TrialError, TrialState
from sparktune.tracking.mlflow import current_uri
from sparktune.tracking.places import absolute_uri, is_remote
from sparktune.tracking.recorded import Reader, RecordedStudy, RecordedTrial, own_entries
from sparktune.tracking.schema import FACTS

MOST_CURVES = 300
"""The reports of so many trials are read at most: each takes a request."""
THREADS = 8


def recorded_snapshot(run_id: str, tracking_uri: str | None = None) -> StudySnapshot:
    """The latest study that a run is the parent of, and the studies whose trials it went on with.

    Args:
        run_id: the parent run.
        tracking_uri: of the store; by default the one that is set in MLflow.

    Raises:
        NotRecordedError: there is no such run, it is no study's parent, or MLflow does not answer.
    """
    uri = current_uri() if tracking_uri is None else absolute_uri(tracking_uri, os.getcwd())
    reader = Reader(uri)
    return _snapshot(reader, reader.study(run_id), THREADS if is_remote(uri) else 1)


def _snapshot(reader: Reader, study: RecordedStudy, n_threads: int) -> StudySnapshot:
    counted = {run.trial_id: (part, run) for part, run in study.counted}
    trials = {number: _trial(run) for number, (_, run) in counted.items()}
    wanted = _worth_reading([trial for trial in trials.values() if trial.steps > 0])
    with ThreadPoolExecutor(n_threads) as pool:
        curves = pool.map(lambda number: reader.reports(*counted[number]), wanted)
        reports = dict(zip(wanted, curves, strict=True))
    record = study.record
    return StudySnapshot(
        list(trials.values()),
        reports,
        record.metric,
        record.goal,
        record.algo,
        record.parameters,
        reader.run_name(study.run_id),
        run_id=study.run_id,
        is_running=study.is_open and study.is_unfinished,
        reports_left_out=sum(trial.steps > 0 for trial in trials.values()) - len(wanted),
    )


def _worth_reading(trials: Sequence[Trial]) -> list[int]:
    """The trials whose reports are read: all, or the best tenth and an even sample of the others."""
    if len(trials) <= MOST_CURVES:
        return [trial.trial_id for trial in trials]
    completed = [trial for trial in trials if trial.loss is not None and trial.state is TrialState.COMPLETED]
    best = sorted(completed, key=lambda trial: trial.loss or 0.0)[: MOST_CURVES // 10]
    numbers = {trial.trial_id for trial in best}
    others = [trial.trial_id for trial in trials if trial.trial_id not in numbers]
    n = MOST_CURVES - len(numbers)
    return sorted(numbers | {others[i * len(others) // n] for i in range(n)})


def _trial(run: RecordedTrial) -> Trial:
    """A trial's record, as far as it is recorded."""
    document = run.document or {}
    own = own_entries(document)
    misc = document.get("misc") or {}
    config = {label: values[0] for label, values in (misc.get("vals") or {}).items() if values}
    params = config | dict(own.get("params") or {})
    if not run.has_ended:
        is_running = run.status == "RUNNING" and not run.is_interrupted
        state = TrialState.RUNNING if is_running else TrialState.CANCELLED
        return Trial(run.trial_id, config, params, state, run_id=run.run_id, **_facts(own))
    error = own.get("error")
    result: Any = document.get("result")
    return Trial(
        run.trial_id,
        config,
        params,
        TrialState(own["state"]),
        loss=own.get("loss"),
        result=result if isinstance(result, Mapping) else None,
        error=_error(error) if isinstance(error, Mapping) else None,
        run_id=run.run_id,
        **_facts(own),
    )


def _facts(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own[name] for name in FACTS if name in own}


def _error(known: Mapping[str, Any]) -> TrialError:
    message = str(known.get("message", ""))
    return TrialError(str(known.get("kind", "")), message, message)
