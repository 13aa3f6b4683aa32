"""The table that pictures are drawn from, made from any form of a study."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

import hyperopt

from sparktune.errors import StudyNotFound
from sparktune.plots.table import Row, Table
from sparktune.private import of_hyperopt
from sparktune.study import outcome
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.trial import TrialState

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class HasSnapshot(Protocol):
    """An object with a study: ``SparkTrials`` and the like."""

    def snapshot(self) -> StudySnapshot:
        """The study at this moment."""


Source: TypeAlias = Union[HasSnapshot, str, "pd.DataFrame", "hyperopt.Trials", StudySnapshot, Table]
"""A trials object (its study may be running), the id of an MLflow parent run, or a data frame of trials."""


def table_of(source: Source) -> Table:
    """The table of a study.

    Raises:
        StudyNotFound: MLflow does not have the run, or does not answer.
        TypeError: it does not hold trials.
        ValueError: a data frame lacks a column that is needed.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, StudySnapshot):
        return Table.of(source)
    if isinstance(source, str):
        return of_run(source)
    if isinstance(source, HasSnapshot):
        return Table.of(source.snapshot())
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return Table.of_frame(source)
    if isinstance(source, hyperopt.Trials):
        return _of_hyperopt(source)
    raise TypeError(
        f"a picture needs trials, and the source is {type(source).__name__}: give a trials object such as "
        "SparkTrials, the id of an MLflow parent run, or a data frame as SparkTrials.to_dataframe() gives it"
    )


def of_run(run_id: str, tracking_uri: str | None = None) -> Table:
    """The table of a recorded study.

    Args:
        run_id: its parent run.
        tracking_uri: of the store; by default the one that is set in MLflow.

    Raises:
        StudyNotFound: there is no such run, or MLflow does not answer.
    """
    from sparktune.tracking.location import absolute_uri, current_uri
    from sparktune.tracking.reader import NotRecordedError, Reader

    try:
        reader = Reader(current_uri() if tracking_uri is None else absolute_uri(tracking_uri, os.getcwd()))
        return Table.of(reader.snapshot(reader.study(run_id)))
    except NotRecordedError as error:
        raise StudyNotFound(str(error)) from error


def _of_hyperopt(trials: hyperopt.Trials) -> Table:
    """The table of hyperopt's own ``Trials``; options are their indices, as its documents have them."""
    # Those that failed are not among ``trials.trials``; those of other experiments do not belong to this
    # study.
    keys = {document["exp_key"] for document in trials.trials}
    known = [d for d in list(of_hyperopt.documents(trials)) if not keys or d["exp_key"] in keys]
    return Table(sorted((_row(document) for document in known), key=lambda row: row.number))


def _row(document: Mapping[str, Any]) -> Row:
    state, error = outcome.outcome_of(document), outcome.error_of(document)
    began_s, ended_s = outcome.times_of(document)
    if state is None:
        is_queued, ended_s = document["state"] == hyperopt.JOB_STATE_NEW, None
        state = TrialState.QUEUED if is_queued else TrialState.RUNNING
    return Row(
        document["tid"],
        state,
        outcome.loss_of(document),
        {label: values[0] for label, values in document["misc"]["vals"].items() if len(values)},
        began_s,
        ended_s,
        ended_s - began_s if began_s is not None and ended_s is not None else None,
        error=None if error is None else error.summary,
        stop_reason=outcome.stop_reason_of(document),
    )
