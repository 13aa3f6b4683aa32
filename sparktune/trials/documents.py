"""hyperopt's trial documents: the border between sparktune's records and hyperopt's dicts."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping
from typing import Any

from hyperopt.base import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
    STATUS_FAIL,
    STATUS_OK,
)
from hyperopt.utils import coarse_utcnow

from sparktune.search.history import config_of
from sparktune.space.view import SpaceView
from sparktune.study.outcome import error_of, loss_of, outcome_of, result_of, stop_reason_of, times_of
from sparktune.study.trial import Trial, TrialError, TrialState

Document = dict[str, Any]
_HYPEROPTS = (
    "state",
    "tid",
    "spec",
    "result",
    "misc",
    "exp_key",
    "owner",
    "version",
    "book_time",
    "refresh_time",
)
"""What hyperopt's documents hold."""


def queued_trial(document: Mapping[str, Any], space: SpaceView) -> Trial:
    """The record of a trial that has been suggested."""
    config = config_of(document)
    return Trial(trial_id=document["tid"], config=config, params=space.params(config))


def inserted_trial(document: Mapping[str, Any]) -> Trial:
    """The record of a trial whose space is not known; its parameters have their raw values."""
    config = config_of(document)
    trial = Trial(trial_id=document["tid"], config=config, params=config)
    return trial if outcome_of(document) is None else ended_trial(trial, document)


def renumber(document: Document, trial_id: int) -> None:
    """Give a document another id."""
    document["tid"] = document["misc"]["tid"] = trial_id
    idxs = document["misc"]["idxs"]
    document["misc"]["idxs"] = {label: [trial_id] * len(ids) for label, ids in idxs.items()}


def final_trial(document: Mapping[str, Any], space: SpaceView) -> Trial:
    """The record of a trial that ended in an earlier call and has only a document left."""
    return ended_trial(queued_trial(document, space), document)


def ended_trial(trial: Trial, document: Mapping[str, Any]) -> Trial:
    """The record of a trial with its end, read from its document."""
    trial = trial.to(TrialState.RUNNING, run_id=document["misc"].get("run_id"))
    started_s, ended_s = times_of(document)
    return trial.to(
        outcome_of(document) or TrialState.FAILED,
        result=result_of(document),
        loss=loss_of(document),
        error=error_of(document),
        stop_reason=stop_reason_of(document),
        started_s=started_s,
        ended_s=ended_s,
    )


def restored(recorded: Mapping[str, Any], trial: Trial) -> Document:
    """The document of a trial that MLflow has recorded; one that has not ended is to be run again.

    Args:
        recorded: its document as JSON, see ``tracking.schema.recorded_document``.
        trial: its record.
    """
    document: Document = copy.deepcopy({name: recorded.get(name) for name in _HYPEROPTS})
    misc = document["misc"] or {}
    vals = misc.get("vals", {})
    misc = {
        "cmd": ("domain_attachment", "FMinIter_Domain"),
        "workdir": None,
        **misc,
        "tid": trial.trial_id,
        "vals": vals,
        "idxs": {label: [trial.trial_id] * len(values) for label, values in vals.items()},
    }
    if isinstance(misc.get("error"), list):
        misc["error"] = tuple(misc["error"])
    document |= {"misc": misc, "tid": trial.trial_id, "exp_key": None, "version": document["version"] or 0}
    if not trial.state.is_final:
        document |= {"state": JOB_STATE_NEW, "result": {"status": "new"}, "owner": None}
        return document | {"book_time": None, "refresh_time": None}
    misc["run_id"] = trial.run_id
    for name in ("book_time", "refresh_time"):
        text = document[name]
        document[name] = dt.datetime.fromisoformat(text) if isinstance(text, str) else None
    return document


def requeue(document: Document, space: SpaceView) -> None:
    """Reset a document to that of a trial that is still to be run."""
    document["state"] = JOB_STATE_NEW
    document["owner"] = None
    for name in ("error", "run_id"):
        document["misc"].pop(name, None)
    for label in space.labels:  # a document read from a record has only the active ones
        for part in ("idxs", "vals"):
            document["misc"][part].setdefault(label, [])


def update(document: Document, trial: Trial) -> None:
    """Write a record's state into its document, as hyperopt's own workers would."""
    document["refresh_time"] = coarse_utcnow()
    match trial.state:
        case TrialState.QUEUED:
            document["state"] = JOB_STATE_NEW
        case TrialState.RUNNING:
            document["state"] = JOB_STATE_RUNNING
            began = _utc(trial.started_s) if trial.started_s is not None else None
            document["book_time"] = began or document["refresh_time"]
            document["owner"] = None if trial.host is None else f"{trial.host}:{trial.worker_pid}"
        case TrialState.COMPLETED | TrialState.EARLY_TERMINATED:
            # A trial that was terminated early is a finished one with its last value, to learn from.
            document["state"] = JOB_STATE_DONE
            document["result"] = dict(trial.result or {})
            if trial.state is TrialState.EARLY_TERMINATED:
                document["misc"]["early_terminated"] = trial.stop_reason
        case TrialState.FAILED:
            _fail(document, trial)
        case _:
            document["state"] = JOB_STATE_CANCEL
            document["misc"]["error"] = (trial.state.value, trial.stop_reason or trial.state.value)


def _fail(document: Document, trial: Trial) -> None:
    result = trial.result
    if result is not None and result["status"] != STATUS_OK:
        # To hyperopt, a failure that the objective returns is a finished evaluation.
        document["state"] = JOB_STATE_DONE
        document["result"] = dict(result)
        return
    document["state"] = JOB_STATE_ERROR
    if result is not None:
        document["result"] = {**result, "status": STATUS_FAIL}
    error = trial.error or TrialError("", "unknown", "unknown")
    document["misc"]["error"] = (error.kind, error.traceback)


def _utc(unix_s: float) -> dt.datetime:
    """A time as hyperopt writes it: UTC without a zone, in whole milliseconds."""
    time = dt.datetime.fromtimestamp(unix_s, dt.UTC).replace(tzinfo=None)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
