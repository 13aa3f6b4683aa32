"""How a trial ended, read from hyperopt's trial document."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE, JOB_STATE_ERROR, STATUS_FAIL, STATUS_OK

from sparktune.study.trial import TrialError, TrialState


def outcome_of(document: Mapping[str, Any]) -> TrialState | None:
    """How the trial of a document ended, as sparktune counts; None while it has not."""
    misc, result = document["misc"], document["result"]
    if document["state"] == JOB_STATE_CANCEL:
        timed_out = misc.get("error") is not None and misc["error"][0] == TrialState.TIMED_OUT
        return TrialState.TIMED_OUT if timed_out else TrialState.CANCELLED
    if document["state"] == JOB_STATE_ERROR:
        return TrialState.FAILED
    if document["state"] != JOB_STATE_DONE:
        return None
    if result["status"] != STATUS_OK or (loss := result.get("loss")) is None or loss != loss:
        return TrialState.FAILED
    return TrialState.COMPLETED if misc.get("early_terminated") is None else TrialState.EARLY_TERMINATED


def loss_of(document: Mapping[str, Any]) -> float | None:
    """The loss of a trial that ended with one; None of others."""
    with_loss = (TrialState.COMPLETED, TrialState.EARLY_TERMINATED)
    return float(document["result"]["loss"]) if outcome_of(document) in with_loss else None


def result_of(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the objective of a document's trial returned; None where it did not return.

    A trial whose objective returned ``ok`` with a loss of NaN has failed: its document has the status
    ``fail`` (``trials.documents.update``).
    """
    state, result = document.get("state"), document.get("result")
    if not isinstance(result, Mapping):
        return None
    if state == JOB_STATE_ERROR and result.get("status") == STATUS_FAIL:
        return {**result, "status": STATUS_OK}
    return result if state == JOB_STATE_DONE else None


def error_of(document: Mapping[str, Any]) -> TrialError | None:
    """Why the trial of a document failed; None where it did not."""
    if outcome_of(document) is not TrialState.FAILED:
        return None
    if document["state"] == JOB_STATE_ERROR:
        kind, text = (str(part) for part in (document["misc"].get("error") or ("", "unknown")))
        message = text.strip().splitlines()[-1] if text.strip() else ""
        return TrialError(kind, message, text)
    reason = f"status {document['result']['status']!r}"
    return TrialError("ReportedFailure", reason, reason)


def stop_reason_of(document: Mapping[str, Any]) -> str | None:
    """Why the trial of a document was stopped; None where it was not, or the reason is not recorded."""
    misc = document["misc"]
    if document["state"] == JOB_STATE_CANCEL:
        return str(misc["error"][1]) if misc.get("error") else None
    reason: str | None = misc.get("early_terminated")
    return reason


def times_of(document: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """When the trial of a document began, and when it was last changed: Unix times, where they are known.

    Documents that people make themselves (``Trials.new_trial_docs``) have none.
    """
    return _unix_s(document.get("book_time")), _unix_s(document.get("refresh_time"))


def _unix_s(time: dt.datetime | None) -> float | None:
    """The Unix time of one of hyperopt's times, which are in UTC without a time zone."""
    return None if time is None else time.replace(tzinfo=dt.UTC).timestamp()
