"""Imports MLflow before it is needed, while something else is waited for: seconds in a new process."""

from __future__ import annotations

import importlib

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def import_mlflow() -> None:
    """Import what a study needs of MLflow; of its stores the one for databases, where such a one is set.

    Nothing is opened or created: another address may be set before ``fmin``.
    """
    from sparktune.tracking.mlflow import tracking_uri

    if tracking_uri().partition(":")[0].partition("+")[0] in DATABASES:
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
