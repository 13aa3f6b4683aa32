"""Requests to a tracking server: one policy for all, and no retries by MLflow.

MLflow repeats a failing request for minutes; the writer does that better, because it continues with other
runs.

- A request has 30 seconds (``LIMIT_S``). Within them it is made again when no answer comes: after one second,
  two more, four more and so on. So one that a server has lost costs little, and a slow one still answers.
- A request that creates something is made once, with a limit in between. The writer looks for a run before it
  creates it again.
- A request that carries much has more time, by its size.

The time is that of the socket: until the connection is there, and between two parts of an answer.
"""

from __future__ import annotations

import copy
import importlib
import json
import mimetypes
from typing import Any

from sparktune.private import of_mlflow
from sparktune.tracking.location import is_http
from sparktune.tracking.records import StoreBusyError
from sparktune.tracking.refusals import STATUS

LIMIT_S = 30.0
"""How long a request may take with its repetitions, unless MLFLOW_HTTP_REQUEST_TIMEOUT asks for less."""
FIRST_S = 1.0
"""After this time it is made for the second time; the next ones have twice the time of the one before."""
CREATE_S = 10.0
"""How long one that creates something may take."""
USUAL_BYTES_PER_S, LEAST_BYTES_PER_S = 1e6, 5e4
"""How fast content is carried: usually, and at least."""

CREATES = ("CreateRun", "CreateExperiment")
REQUESTS = (
    *CREATES,
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


def request_once(credentials: Any, path: str, method: str, timeout_s: float, **payload: Any) -> Any:
    """The response to one request, whatever its status; MLflow repeats nothing.

    Args:
        credentials: ``MlflowHostCreds``.
        path: after the server's address.
        method: of HTTP.
        timeout_s: seconds.
        payload: options of ``mlflow.utils.rest_utils.http_request``.

    Raises:
        Exception: MLflow's, where there is none.
    """
    rest = importlib.import_module("mlflow.utils.rest_utils")
    once = {"max_retries": 0, "retry_codes": (), "raise_on_status": False, "timeout": timeout_s}
    return rest.http_request(credentials, path, method, **once, **payload)


class HttpStore:
    """An MLflow store behind HTTP, whose requests follow the rules of this module.

    Args:
        store: MLflow's ``RestStore``.
        routes: name of a request -> its path and its method of HTTP.

    Attributes:
        store: a copy of the store given; the original is not touched.
    """

    def __init__(self, store: Any, routes: dict[str, tuple[str, str]]) -> None:
        variables = importlib.import_module("mlflow.environment_variables")
        self.store: Any = copy.copy(store)
        self._routes = routes
        self._limit_s = min(LIMIT_S, float(variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get()))
        self._call_of_mlflow = of_mlflow.replace_call_endpoint(self.store, self._call)

    @classmethod
    def of(cls, store: Any) -> HttpStore | None:
        """For a store that asks a server in MLflow's way; None for all others, also plug-ins."""
        routes = of_mlflow.routes(store, REQUESTS)
        return None if routes is None else cls(store, routes)

    def _call(self, api: Any, json_body: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """What MLflow's store does for each request: the message that answers it."""
        kind = api.DESCRIPTOR.name
        credentials = self.store.get_host_creds()
        uses_sdk = getattr(credentials, "use_databricks_sdk", False)
        if kind not in self._routes or args or kwargs or uses_sdk:
            if uses_sdk:  # the SDK has its own way to retry, limited in time
                kwargs.setdefault("retry_timeout_seconds", LIMIT_S)
            return self._call_of_mlflow(api, json_body, *args, **kwargs)
        path, method = self._routes[kind]
        payload = {"params" if method == "GET" else "json": json.loads(json_body or "{}")}
        response = self._ask(kind, credentials, path, method, **payload)
        rest, proto_json = (
            importlib.import_module(f"mlflow.utils.{name}") for name in ("rest_utils", "proto_json_utils")
        )
        try:
            rest.verify_rest_response(response, path)
        except Exception as error:
            setattr(error, STATUS, response.status_code)
            raise
        message = api.Response()
        proto_json.parse_dict(json.loads(response.text), message)
        return message

    def _ask(self, kind: str, credentials: Any, path: str, method: str, **payload: Any) -> Any:
        """The response to a request; made again where nothing answers, unless it creates something.

        Raises:
            TimeoutError: there was none in time.
            StoreBusyError: the server asks to wait.
            Exception: MLflow's, where the server cannot be reached.
        """
        n_bytes = len(payload.get("data", b""))
        left_s = max(self._limit_s, n_bytes / LEAST_BYTES_PER_S)
        timeout_s = FIRST_S + n_bytes / USUAL_BYTES_PER_S
        if kind in CREATES:
            timeout_s = left_s = min(left_s, CREATE_S)
        while True:
            timeout_s = min(timeout_s, left_s)
            left_s -= timeout_s
            try:
                response = request_once(credentials, path, method, timeout_s, **payload)
                break
            except Exception as error:
                if not _is_silence(error):
                    raise
                if left_s <= 0:
                    raise TimeoutError(f"{kind} was not answered in time") from error
            timeout_s *= 2
        if response.status_code == 429:
            pause = response.headers.get("Retry-After", "")
            raise StoreBusyError("too many requests", float(pause) if pause.isdigit() else 1.0)
        return response

    def upload_url(self, tracking_uri: str, run_id: str) -> str | None:
        """Where the tracking server takes the run's artifacts; None where they are stored in other ways.

        Those are MLflow's own: S3 and the like, a shared folder.

        Args:
            tracking_uri: the server's address.
            run_id: the run.
        """
        if not is_http(tracking_uri):
            return None
        uri = str(self.store.get_run(run_id).info.artifact_uri)
        if not uri.startswith("mlflow-artifacts:"):
            return None
        proxy = importlib.import_module("mlflow.store.artifact.mlflow_artifacts_repo")
        return str(proxy.MlflowArtifactsRepository.resolve_uri(uri, tracking_uri))

    def upload(self, url: str, name: str, content: bytes) -> None:
        """Store an artifact through the tracking server.

        Args:
            url: of ``upload_url``.
            name: of the file.
            content: what is in it.
        """
        credentials, rest = (
            importlib.import_module(f"mlflow.utils.{name}") for name in ("credentials", "rest_utils")
        )
        response = self._ask(
            f"the upload of {name}",
            credentials.get_default_host_creds(url),
            f"/{name}",
            "PUT",
            data=content,
            extra_headers={"Content-Type": mimetypes.guess_type(name)[0] or "text/plain"},
        )
        rest.augmented_raise_for_status(response)


def _is_silence(error: BaseException | None) -> bool:
    """Whether a time limit of the socket is the cause; urllib3 has some causes only as arguments."""
    while error is not None:
        if any(isinstance(part, TimeoutError) for part in (error, *error.args)):
            return True
        error = error.__cause__ or error.__context__
    return False
