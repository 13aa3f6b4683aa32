"""One policy for requests to a tracking server: its times, what is made again, what is not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.entities import Metric
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds

from sparktune.tracking import http
from sparktune.tracking.http import HttpStore
from sparktune.tracking.records import StoreBusyError


def to_server(uri: str) -> HttpStore:
    found = HttpStore.of(RestStore(lambda: MlflowHostCreds(uri)))
    assert found is not None
    return found


@pytest.fixture
def store() -> HttpStore:
    return to_server("http://127.0.0.1:1")


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """It takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def limits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The limits of requests that nothing answers."""
    limits: list[float] = []

    def ask(_credentials: Any, _path: str, _method: str, timeout_s: float, **_payload: Any) -> None:
        limits.append(timeout_s)
        raise TimeoutError

    monkeypatch.setattr(http, "request_once", ask)
    return limits


def test_a_request_is_made_again_within_the_limit(store: HttpStore, limits_s: list[float]) -> None:
    with pytest.raises(TimeoutError, match="GetRun was not answered in time"):
        store.store.get_run("a")
    assert limits_s == [1, 2, 4, 8, 15]


def test_the_limit_of_the_environment(monkeypatch: pytest.MonkeyPatch, limits_s: list[float]) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    store = to_server("http://127.0.0.1:1").store
    with pytest.raises(TimeoutError):
        store.get_run("a")
    with pytest.raises(TimeoutError):
        store.create_run("0", "me", 0, [], "name")
    assert limits_s == [1, 2, 1, 4]


def test_what_creates_something_is_made_once(store: HttpStore, limits_s: list[float]) -> None:
    with pytest.raises(TimeoutError):
        store.store.create_run("0", "me", 0, [], "name")
    with pytest.raises(TimeoutError):
        store.store.create_experiment("name")
    assert limits_s == [http.CREATE_S, http.CREATE_S]


def test_what_carries_much_has_more_time(store: HttpStore, limits_s: list[float]) -> None:
    with pytest.raises(TimeoutError):
        store.upload("http://127.0.0.1:1/artifacts", "report.html", bytes(6_000_000))
    assert limits_s[:2] == [7, 14]
    assert sum(limits_s) == 120


@pytest.mark.parametrize("n_bytes", [10, 50_000_000])
def test_silence_is_known_from_other_trouble(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the answer does not come, or what is sent is not read."""
    monkeypatch.setattr(http, "FIRST_S", 0.1)
    monkeypatch.setattr(http, "USUAL_BYTES_PER_S", 1e12)
    monkeypatch.setattr(http, "LEAST_BYTES_PER_S", 1e12)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as uri:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="the upload of a was not answered in time"):
            to_server(uri).upload(f"{uri}/artifacts", "a", bytes(n_bytes))
        assert time.monotonic() - began > 0.9


def test_a_server_that_is_away_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = http.request_once
    monkeypatch.setattr(
        http, "request_once", lambda *args, **kwargs: (asked.append(1), real(*args, **kwargs))[1]
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(mlflow.exceptions.MlflowException):
        to_server(f"http://127.0.0.1:{port}").store.log_batch("a", [Metric("m", 1.0, 0, 0)], [], [])
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("after", "pause_s"), [("7", 7.0), ("", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)]
)
def test_a_server_that_asks_for_patience(
    after: str, pause_s: float, store: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(status_code=429, headers={"Retry-After": after})
    monkeypatch.setattr(http, "request_once", lambda *_args, **_payload: answer)
    with pytest.raises(StoreBusyError) as caught:
        store.store.get_run("a")
    assert caught.value.pause_s == pause_s


def test_ctrl_c_ends_a_request() -> None:
    known = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    try:
        with silent_server() as uri:
            store = to_server(uri).store
            timer.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                store.create_run("0", "me", 0, [], "name")
    finally:
        signal.signal(signal.SIGINT, known)
    assert time.monotonic() - began < 8


def test_other_stores_keep_their_way(sqlite_uri: str) -> None:
    class Vendor(RestStore):
        def _call_endpoint(self, api: Any, json_body: str | None = None) -> Any:
            """Asks its service in another way."""

    assert HttpStore.of(Vendor(lambda: MlflowHostCreds("http://127.0.0.1:1"))) is None
    assert HttpStore.of(mlflow.tracking._get_store(sqlite_uri)) is None


def test_the_sdk_of_databricks_repeats_itself_within_the_limit(limits_s: list[float]) -> None:
    asked = []

    class Workspace(RestStore):
        def _call_endpoint(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(kwargs)
            return args[0].Response()

    Workspace._call_endpoint.__module__ = "mlflow.store.tracking.databricks_rest_store"
    credentials = SimpleNamespace(host="https://workspace", use_databricks_sdk=True)
    found = HttpStore.of(Workspace(lambda: credentials))
    assert found is not None
    found.store.get_run("a")
    assert asked == [{"retry_timeout_seconds": http.LIMIT_S}]
    assert not limits_s
