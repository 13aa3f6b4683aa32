"""Imports MLflow before it is needed, while something else is waited for: seconds in a new process."""

from __future__ import annotations

import importlib
from typing import Any


def import_mlflow() -> None:
    """Import what a study needs of MLflow; of its stores the one for databases, where such a one is set.

    Nothing is opened or created: another address may be set before ``fmin``.
    """
    from sparktune.tracking.mlflow import tracking_uri

    databases: Any = importlib.import_module("mlflow.store.db.db_types")
    if tracking_uri().partition(":")[0].partition("+")[0] in databases.DATABASE_ENGINES:
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
