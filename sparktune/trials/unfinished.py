"""The unfinished studies, as a table for people."""

from __future__ import annotations

import os
import time

from sparktune.errors import CannotResume

HEADER = ("run", "began", "trials", "algorithm", "driver")
DRIVER = {True: "runs it now", False: "is gone", None: "not known"}


def table(store: str | None = None, experiment: str | None = None) -> str:
    """The unfinished studies of an experiment, the latest first, and how to resume one.

    Args:
        store: tracking URI; None for the one that is set in MLflow.
        experiment: its name; None for the active one.

    Raises:
        CannotResume: MLflow does not answer, or does not have this experiment.
    """
    from sparktune.tracking.location import absolute_uri, current_uri, without_password
    from sparktune.tracking.reader import NotRecordedError, Reader

    uri = current_uri() if store is None else absolute_uri(store, os.getcwd())
    try:
        reader = Reader(uri)
        experiment_id = None if experiment is None else reader.experiment_id(experiment)
        studies = reader.unfinished(experiment_id)
        rows = [
            (
                study.run_id,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(study.record.began_s)),
                f"{reader.count_ended(study)} of {study.record.spec.max_evals or 'any number'}",
                study.record.spec.algo.removeprefix("sparktune.search."),
                DRIVER[study.is_driven],
            )
            for study in studies
        ]
    except NotRecordedError as error:
        raise CannotResume(str(error)) from error
    where = f"the experiment {experiment!r}" if experiment is not None else "the experiment"
    if not rows:
        return f"{where} in {without_password(uri)} has no unfinished study"
    widths = [max(len(row[n]) for row in (HEADER, *rows)) for n in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (HEADER, *rows)]  # fmt: skip
    return "\n".join(
        [*lines, "", f'Resume one: fmin(..., resume="{rows[0][0]}"), or with the latest: resume="last"']
    )
