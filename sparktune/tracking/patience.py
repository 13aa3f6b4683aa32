"""Requests to a tracking server that are made once, and do not take long.

MLflow repeats a failing request for minutes; the writer does that better, because it goes on with other work.
"""

from __future__ import annotations

import copy
import importlib
import json
from typing import Any

from sparktune.tracking.records import StoreBusyError

REQUEST_TIMEOUT_S = 30
"""The longest that one request may take, unless MLFLOW_HTTP_REQUEST_TIMEOUT asks for less."""

REQUESTS = (
    "CreateExperiment",
    "CreateRun",
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

    if not isinstance(store, RestStore):
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
    requests = [getattr(service, name) for name in REQUESTS]
    routes = {request: store._METHOD_TO_INFO[request] for request in requests}
    timeout_s = min(REQUEST_TIMEOUT_S, variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get())

    limited: Any = copy.copy(store)
    patient: Any = limited._call_endpoint

    def call(api: Any, json_body: str | None = None, *args: Any, **kwargs: Any) -> Any:
        credentials = store.get_host_creds()
        if api not in routes or args or kwargs or credentials.use_databricks_sdk:
            if credentials.use_databricks_sdk:  # the SDK has its own way to retry, limited in time
                kwargs.setdefault("retry_timeout_seconds", REQUEST_TIMEOUT_S)
            return patient(api, json_body, *args, **kwargs)
        path, method = routes[api]
        body = json.loads(json_body or "{}")
        payload = {"params": body} if method == "GET" else {"json": body}
        response = rest.http_request(
            credentials,
            path,
            method,
            max_retries=0,
            retry_codes=(),
            raise_on_status=False,
            timeout=timeout_s,
            **payload,
        )
        if response.status_code == 429:
            pause = response.headers.get("Retry-After", "")
            raise StoreBusyError("too many requests", float(pause) if pause.isdigit() else 1.0)
        rest.verify_rest_response(response, path)
        message = api.Response()
        proto_json.parse_dict(json.loads(response.text), message)
        return message

    limited._call_endpoint = call
    return limited
