"""Where MLflow's store is, and of which kind it is. MLflow is imported only to ask what is set in it.

The scheme of an address decides, as in MLflow's registry of stores, which plug-ins extend: ``arn:...``
(SageMaker), ``azureml://``, ``sds://`` (Fabric). Only what MLflow itself keeps in a folder or in SQLite is on
this machine; the databases that it opens itself are elsewhere, but are not asked over HTTP; all else is a
service behind a network.
"""

from __future__ import annotations

import importlib
import os
import posixpath
import re
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from sparktune.private import of_mlflow

_DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
"""``mlflow.store.db.db_types.DATABASE_ENGINES``; a driver may follow, as in ``mysql+pymysql``."""


def scheme_of(uri: str) -> str:
    """The scheme by which MLflow chooses the store (``mlflow.tracking.registry``); empty for a path."""
    if uri in ("databricks", "databricks-uc", "uc"):
        return uri
    scheme = urlsplit(uri).scheme
    return "" if len(scheme) == 1 else scheme  # a drive of Windows


def is_remote(uri: str) -> bool:
    """Whether the store is a service, so that calls wait for a network more than for a processor."""
    return not is_local_store(uri) and not scheme_of(uri).startswith(_DATABASES)


def is_local_store(uri: str) -> bool:
    """Whether only this machine can see the store: a folder or SQLite."""
    scheme = scheme_of(uri)
    return scheme in ("", "file") or scheme.startswith("sqlite")


def is_http(uri: str) -> bool:
    """Whether the address is that of an MLflow server."""
    return scheme_of(uri) in ("http", "https")


def is_databricks(uri: str) -> bool:
    """Whether it is a workspace of Databricks."""
    return scheme_of(uri) == "databricks"


def has_mlflows_pages(uri: str) -> bool:
    """Whether MLflow's own user interface shows the store, so that its links lead somewhere.

    Vendors' services have pages of their own.
    """
    return is_http(uri) or not is_remote(uri)


_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^/@:\s]*:)[^/@\s]+(?=@)", re.IGNORECASE)


def without_password(uri: str) -> str:
    """``uri``, or a text that holds some, for logs and files: ``http://me:***@host``."""
    return _PASSWORD.sub(r"\g<before>***", uri)


def absolute_uri(uri: str, cwd: str) -> str:
    """``uri`` so that it means the same from another working directory.

    ``sqlite:///mlflow.db`` becomes ``sqlite:////data/mlflow.db``; ``mlruns`` becomes ``file:///data/mlruns``.
    Everything else, and SQLite in memory, stays as it is.
    """
    scheme = scheme_of(uri)
    if scheme.startswith("sqlite"):
        start, slashes, rest = uri.partition(":///")
        path, question, query = rest.partition("?")
        if not path or path.startswith((":memory:", "/", "file:")) or re.match(r"[A-Za-z]:[\\/]", path):
            return uri
        return f"{start}{slashes}{os.path.normpath(os.path.join(cwd, path))}{question}{query}"
    if scheme not in ("", "file"):
        return uri
    path = unquote(urlsplit(uri).path) if scheme == "file" else uri
    if scheme == "file" and path.startswith("/"):
        return uri
    return "file://" + posixpath.normpath(posixpath.join(cwd, path or "mlruns"))


def warn_if_store_is_local(tracking_uri: str, spark_master: str) -> str | None:
    """The warning for a store that the cluster's workers cannot see; None where all is well.

    Args:
        tracking_uri: as ``mlflow.get_tracking_uri()`` gives it.
        spark_master: ``spark.master``; ``local[...]`` and ``local-cluster[...]`` run on this machine.
    """
    if spark_master.startswith("local") or not is_local_store(tracking_uri):
        return None
    return (
        f"MLflow records into {tracking_uri}, which only this machine can see, but the trials run on "
        f"{spark_master}. The study, its trials, params and losses are recorded as usual; mlflow calls in "
        "the objective (mlflow.log_metric, mlflow.log_artifact, autolog) are not: they go to a store of the "
        "worker's own, or fail. To have them, start a server that the workers can reach, "
        "`mlflow server --host 0.0.0.0 --port 5000`, and call "
        "mlflow.set_tracking_uri('http://<this host>:5000') before fmin."
    )


def where_to_look(uri: str, experiment_id: str, parent_run_id: str) -> str:
    """Where MLflow's UI shows a study's trials, the best first; for a local store the command that serves it.

    Args:
        uri: absolute tracking URI.
        experiment_id: of the study's runs.
        parent_run_id: the study's own run.
    """
    uri = without_password(uri)
    page = trials_page(experiment_id, parent_run_id)
    if is_databricks(uri):
        return f"the experiment {experiment_id} of your workspace (#mlflow/experiments/{experiment_id})"
    if is_http(uri):
        return f"{uri.rstrip('/')}/{page}"
    if is_remote(uri):
        return f"the run {parent_run_id} in the experiment {experiment_id} of {uri}"
    return f"mlflow ui --backend-store-uri {uri}, then http://127.0.0.1:5000/{page}"


def trials_page(experiment_id: str, parent_run_id: str) -> str:
    """The place in MLflow's UI that shows a study's trials, the best first."""
    query = urlencode(
        {
            "searchFilter": f"tags.mlflow.parentRunId = '{parent_run_id}'",
            "orderByKey": "metrics.`loss`",
            "orderByAsc": "true",
            "workflowType": "machine_learning",
        },
        quote_via=quote,
    )
    return f"#/experiments/{experiment_id}/runs?{query}"


def tracking_uri() -> str:
    """The tracking URI that is set in MLflow, or its default."""
    import mlflow

    return str(mlflow.get_tracking_uri())


def current_uri() -> str:
    """``tracking_uri``, so that it means the same from another working directory."""
    return absolute_uri(tracking_uri(), os.getcwd())


def is_active(run_id: str) -> bool:
    """Whether a run is the active one of this thread."""
    import mlflow

    active = mlflow.active_run()
    return active is not None and active.info.run_id == run_id


def is_set_up() -> bool:
    """Whether somebody has told MLflow where to record: an active run, an address, or an experiment."""
    import mlflow

    chosen = of_mlflow.chosen_uri() or of_mlflow.chosen_experiment()
    return chosen is not None or mlflow.active_run() is not None


def import_mlflow() -> None:
    """Import what a study needs of MLflow, before it is needed: it takes seconds in a new process.

    Of its stores the one for databases, where such a one is set. Nothing is opened or created: another
    address may be set before ``fmin``.
    """
    databases: Any = importlib.import_module("mlflow.store.db.db_types")
    if tracking_uri().partition(":")[0].partition("+")[0] in databases.DATABASE_ENGINES:
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
