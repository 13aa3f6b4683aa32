"""Where MLflow's store is, and what a worker needs to reach it. Pure functions; MLflow is not imported."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode, urlsplit


def is_remote(uri: str) -> bool:
    """Whether the store is reached over HTTP, so that calls wait for a network more than for a processor."""
    return uri.startswith(("http://", "https://", "databricks"))


def is_local_store(uri: str) -> bool:
    """Whether only this machine can see the store: a file store or SQLite."""
    return uri.startswith(("sqlite:", "file:")) or ("://" not in uri and not uri.startswith("databricks"))


_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^/@:\s]*:)[^/@\s]+(?=@)", re.IGNORECASE)


def without_password(uri: str) -> str:
    """``uri``, or a text that holds some, for logs and files: ``http://me:***@host``."""
    return _PASSWORD.sub(r"\g<before>***", uri)


def absolute_uri(uri: str, cwd: str) -> str:
    """``uri`` so that it means the same from another working directory.

    ``sqlite:///mlflow.db`` becomes ``sqlite:////data/mlflow.db``; ``mlruns`` becomes ``file:///data/mlruns``.
    Everything else, and SQLite in memory, stays as it is.
    """
    if uri.startswith("sqlite:///"):
        path, question, query = uri.removeprefix("sqlite:///").partition("?")
        if not path or path.startswith((":memory:", "/", "file:")) or re.match(r"[A-Za-z]:[\\/]", path):
            return uri
        return f"sqlite:///{os.path.normpath(os.path.join(cwd, path))}{question}{query}"
    if not is_local_store(uri) or uri.startswith("sqlite:"):
        return uri
    path = unquote(urlsplit(uri).path) if uri.startswith("file:") else uri
    if uri.startswith("file:") and path.startswith("/"):
        return uri
    return "file://" + posixpath.normpath(posixpath.join(cwd, path or "mlruns"))


_DRIVER_ONLY = re.compile(
    r"MLFLOW_(RUN_ID|TRACKING_URI|REGISTRY_URI|EXPERIMENT_(ID|NAME)|TRACKING_DIR|REGISTRY_DIR)"
    r"|MLFLOW_.*(SERVER_SECRET|AUTH_ADMIN|AUTH_CONFIG|BACKEND_STORE|WEBHOOK|GATEWAY|CRYPTO).*"
    r"|DATABRICKS_RUNTIME_VERSION"
)
CLOUD_CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "aws": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
    ),
    "azure": (
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_TENANT_ID",
    ),
    "google": ("GOOGLE_APPLICATION_CREDENTIALS",),
}
"""Variables that artifact stores read. A worker takes a provider's only where it has none of them itself."""


def travelling_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the driver that MLflow needs in the workers.

    All of ``MLFLOW_*`` and ``DATABRICKS_*``, except those that describe the driver itself (its run, its
    experiment, its runtime) or belong to a tracking server that happens to run there; and the credentials of
    artifact stores (``CLOUD_CREDENTIALS``), because ``mlflow.log_artifact`` writes to them from the worker.
    """
    cloud = {name for names in CLOUD_CREDENTIALS.values() for name in names}
    return {
        name: value
        for name, value in environ.items()
        if name in cloud or (name.startswith(("MLFLOW_", "DATABRICKS_")) and not _DRIVER_ONLY.fullmatch(name))
    }


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
    if uri.startswith("databricks"):
        return f"the experiment {experiment_id} of your workspace (#mlflow/experiments/{experiment_id})"
    if is_remote(uri):
        return f"{uri.rstrip('/')}/{page}"
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
