"""Requests to a tracking server that are made once, and do not take long.

MLflow repeats a failing request for minutes; the writer does that better, because it goes on with other work.
"""

from __future__ import annotations

import copy
import importlib
import json
import logging
from typing import Any

from sparktune.tracking.asking import ask
from sparktune.tracking.places import is_http
from sparktune.tracking.records import StoreBusyError
from sparktune.tracking.refusals import STATUS
from sparktune.tracking.timeouts import Timeouts

logger = logging.getLogger("sparktune")

REQUEST_TIMEOUT_S = 30
"""The longest that one request may take, unless MLFLOW_HTTP_REQUEST_TIMEOUT asks for less."""

REQUESTS = (
    "CreateExperiment",
    "CreateRun",
    "DeleteRun",
    "DeleteTag",
    "GetExperiment",
    "GetExperimentByName",
    "GetMetricHistory",
    "GetRun",
    "LogBatch",
    "SearchRuns",
    "UpdateRun",
)
"""What the writer and the watcher ask of a server."""


def with_short_patience(store: Any) -> Any:
    """The store, or for one behind HTTP a copy of it that makes each request once."""
    from mlflow.store.tracking.rest_store import RestStore

    # A plug-in that asks its service in another way than MLflow its server keeps to that way.
    if not isinstance(store, RestStore) or not type(store)._call_endpoint.__module__.startswith("mlflow."):
        return store
    service, rest, proto_json, variables = (
        importlib.import_module(f"mlflow.{name}")
        for name in (
            "protos.service_pb2",
            "utils.rest_utils",
            "utils.proto_json_utils",
            "environment_variables",
        )
    )
    table = _routes(store)
    requests = [getattr(service, name) for name in REQUESTS]
    if any(request not in table for request in requests):
        logger.warning(
            "sparktune does not know how this version of MLflow addresses its server (_METHOD_TO_INFO): it "
            "repeats failing requests for minutes, so that an outage is noticed late"
        )
        return store
    routes = {request: table[request] for request in requests}
    timeouts = Timeouts(min(REQUEST_TIMEOUT_S, variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get()))

    limited: Any = copy.copy(store)
    patient: Any = limited._call_endpoint

    def call(api: Any, json_body: str | None = None, *args: Any, **kwargs: Any) -> Any:
        credentials = store.get_host_creds()
        uses_sdk = getattr(credentials, "use_databricks_sdk", False)
        if api not in routes or args or kwargs or uses_sdk:
            if uses_sdk:  # the SDK has its own way to retry, limited in time
                kwargs.setdefault("retry_timeout_seconds", REQUEST_TIMEOUT_S)
            return patient(api, json_body, *args, **kwargs)
        path, method = routes[api]
        body = json.loads(json_body or "{}")
        payload = {"params": body} if method == "GET" else {"json": body}
        kind = api.DESCRIPTOR.name
        name = f"{kind} {body.get('run_id', json_body)}"
        response = _once(timeouts, kind, name, credentials, path, method, **payload)
        try:
            rest.verify_rest_response(response, path)
        except Exception as error:
            setattr(error, STATUS, response.status_code)
            raise
        message = api.Response()
        proto_json.parse_dict(json.loads(response.text), message)
        return message

    limited._call_endpoint = call
    limited.sparktune_timeouts = timeouts
    return limited


def _once(timeouts: Timeouts, kind: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """The answer to one request (``mlflow.utils.rest_utils.http_request``), whatever its status but 429."""
    rest = importlib.import_module("mlflow.utils.rest_utils")
    once = {"max_retries": 0, "retry_codes": (), "raise_on_status": False, **kwargs}
    response = ask(
        timeouts,
        kind,
        name,
        lambda limit_s: rest.http_request(*args, timeout=limit_s, **once),
        len(kwargs.get("data", b"")),
    )
    if response.status_code == 429:
        pause = response.headers.get("Retry-After", "")
        raise StoreBusyError("too many requests", float(pause) if pause.isdigit() else 1.0)
    return response


def upload_url(store: Any, tracking_uri: str, run_id: str) -> str | None:
    """Where the tracking server takes the run's artifacts; None where they are stored in other ways.

    Those are MLflow's own: S3 and the like, a shared folder.

    Args:
        store: of ``with_short_patience``.
        tracking_uri: its address.
        run_id: the run.
    """
    if getattr(store, "sparktune_timeouts", None) is None or not is_http(tracking_uri):
        return None
    uri = str(store.get_run(run_id).info.artifact_uri)
    if not uri.startswith("mlflow-artifacts:"):
        return None
    proxy = importlib.import_module("mlflow.store.artifact.mlflow_artifacts_repo")
    return str(proxy.MlflowArtifactsRepository.resolve_uri(uri, tracking_uri))


def upload(store: Any, url: str, name: str, content: bytes) -> None:
    """Store an artifact through the tracking server, in one request.

    Args:
        store: of ``with_short_patience``.
        url: of ``upload_url``.
        name: of the file.
        content: what is in it.
    """
    credentials, rest, types = (
        importlib.import_module(f"mlflow.utils.{module}")
        for module in ("credentials", "rest_utils", "mime_type_utils")
    )
    response = _once(
        store.sparktune_timeouts,
        f"artifact {name}",
        f"{url}/{name}",
        credentials.get_default_host_creds(url),
        f"/{name}",
        "PUT",
        data=content,
        extra_headers={"Content-Type": types._guess_mime_type(name)},
    )
    rest.augmented_raise_for_status(response)


def _routes(store: Any) -> Any:
    """Request -> (path, method): an attribute of the store, or of its module (MLflow 2, and 3.0 to 3.3)."""
    module = importlib.import_module("mlflow.store.tracking.rest_store")
    return getattr(store, "_METHOD_TO_INFO", None) or getattr(module, "_METHOD_TO_INFO", {})
