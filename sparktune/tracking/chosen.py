"""Where a study is recorded, for a while: another tracking address, another experiment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from sparktune.private import of_mlflow

_VARIABLES = ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI")


@contextlib.contextmanager
def chosen(tracking_uri: str | None, experiment: str | None) -> Iterator[None]:
    """While the block runs, MLflow records there; None leaves things as they are.

    The experiment is created when it is first needed, by whoever needs it: nothing is asked of a server here.
    """
    import mlflow

    uri: Any = of_mlflow.chosen_uri()
    experiment_id = of_mlflow.chosen_experiment()
    before = {name: os.environ.get(name) for name in _VARIABLES}
    try:
        if tracking_uri is not None:
            mlflow.set_tracking_uri(tracking_uri)
        if experiment is not None:
            of_mlflow.choose_experiment(None)
            os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
            os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
        yield
    finally:
        if tracking_uri is not None:
            mlflow.set_tracking_uri(uri)  # which sets or removes the variable, too
        if experiment is not None:
            of_mlflow.choose_experiment(experiment_id)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
