"""Requests to a tracking server that are made once, and do not take long.

MLflow repeats a failing request for minutes; the writer does that better, because it goes on with other work.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from sparktune.tracking.records import StoreBusyError

logger = logging.getLogger("sparktune")

REQUEST_TIMEOUT_S = 30
"""The longest that one request may take, unless MLFLOW_HTTP_REQUEST_TIMEOUT asks for less."""

LEAST_TIMEOUT_S, LEAST_TO_CREATE_S = 3.0, 10.0
TIMEOUT_FACTOR = 10.0
KNOWN_ANSWERS = 100
"""A request may take ``TIMEOUT_FACTOR`` times as long as the slowest of so many answers, and twice as long
after each that timed out since the last answer. All but one may be made twice. A run that was perhaps created
is looked for before it is created again; the server gets more time for that, so that it is there to be
found."""

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


class Timeouts:
    """How long the next request may take, by how long the former ones took.

    Args:
        longest_s: the limit, seconds; it holds until an answer has come.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = float(longest_s)
        self._took: deque[float] = deque(maxlen=KNOWN_ANSWERS)
        self._n_timed_out = 0

    def now_s(self, *, creates: bool = False) -> float:
        """The time-out for a request, seconds."""
        if not self._took:
            return self._longest_s
        least_s = LEAST_TO_CREATE_S if creates else LEAST_TIMEOUT_S
        usual_s = max(least_s, TIMEOUT_FACTOR * max(tuple(self._took)))
        return min(self._longest_s, usual_s * float(1 << min(self._n_timed_out, 10)))

    @contextlib.contextmanager
    def measured(self, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
        """Around one request: answered when the block ends, timed out when what it raises says so."""
        began = clock()
        try:
            yield
        except Exception as error:
            self._n_timed_out += "timed out" in str(error).lower()
            raise
        self._took.append(clock() - began)
        self._n_timed_out = 0


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
        with timeouts.measured():
            response = rest.http_request(
                credentials,
                path,
                method,
                max_retries=0,
                retry_codes=(),
                raise_on_status=False,
                timeout=timeouts.now_s(creates=api is service.CreateRun),
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


def _routes(store: Any) -> Any:
    """Request -> (path, method): an attribute of the store, or of its module (MLflow 2, and 3.0 to 3.3)."""
    module = importlib.import_module("mlflow.store.tracking.rest_store")
    return getattr(store, "_METHOD_TO_INFO", None) or getattr(module, "_METHOD_TO_INFO", {})
