"""From what people have of a study to the table that pictures are drawn from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

from sparktune.errors import StudyNotFound
from sparktune.plots.table import Row, Table
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.trial import TrialState

if TYPE_CHECKING:
    import hyperopt
    import pandas as pd


@runtime_checkable
class HasSnapshot(Protocol):
    """What knows a study: ``SparkTrials`` and its kin."""

    def snapshot(self) -> StudySnapshot:
        """The study at this moment."""


Source: TypeAlias = Union[HasSnapshot, str, "pd.DataFrame", "hyperopt.Trials", StudySnapshot, Table]
"""A trials object (its study may be running), the id of an MLflow parent run, or a data frame of trials."""


def table_of(source: Source) -> Table:
    """The table of a study.

    Raises:
        StudyNotFound: MLflow has no such run, or does not answer.
        TypeError: it is nothing that holds trials.
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
    if hasattr(source, "trials") and hasattr(source, "best_trial"):
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
    from sparktune.tracking.history import recorded_snapshot
    from sparktune.tracking.recorded import NotRecordedError

    try:
        return Table.of(recorded_snapshot(run_id, tracking_uri))
    except NotRecordedError as error:
        raise StudyNotFound(
            f"{error}. Give the id of a study's parent run: trials.run_id, or Run ID in MLflow's UI"
        ) from error


def _of_hyperopt(trials: Any) -> Table:
    """The table of hyperopt's own ``Trials``; options are their indices, as its documents have them."""
    rows = []
    for document in trials.trials:
        result: Mapping[str, Any] = document["result"]
        loss = result.get("loss")
        is_ok = result.get("status") == "ok" and loss is not None and loss == loss
        is_over = document["state"] == 2
        state = (TrialState.COMPLETED if is_ok else TrialState.FAILED) if is_over else TrialState.RUNNING
        began, ended = document["book_time"], document["refresh_time"] if is_over else None
        rows.append(
            Row(
                document["tid"],
                state,
                float(loss) if is_ok and loss is not None else None,
                {label: values[0] for label, values in document["misc"]["vals"].items() if len(values)},
                _unix(began),
                _unix(ended),
                (ended - began).total_seconds() if began is not None and ended is not None else None,
            )
        )
    return Table(sorted(rows, key=lambda row: row.number))


def _unix(time: dt.datetime | None) -> float | None:
    """Of hyperopt's times, which are in UTC without saying so."""
    return None if time is None else time.replace(tzinfo=dt.UTC).timestamp()
