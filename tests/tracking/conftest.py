"""A SQLite store per test, and one real MLflow server for all of them."""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparktune.private import of_mlflow

WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""MLflow 3 starts eight more processes for jobs that no test asks for; all of them compute without end."""


class Server:
    """An ``mlflow server`` on a free port of this machine; can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        env |= WITHOUT_JOBS
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        while not self._healthy():
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"mlflow server ended:\n{(self.folder / 'server.log').read_text()}")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """As a machine dies: at once, its workers with it."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def clean_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in its own folder, with its own MLflow state."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    logging.getLogger("sparktune").disabled = False  # see store.open
    configure = logging.config.fileConfig

    def configured(*args: Any, **options: Any) -> None:
        """Alembic's settings, which MLflow before 3.4 applies to the root logger, where pytest listens."""
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        configure(*args, **options)
        root.handlers[:] = handlers
        root.setLevel(level)

    monkeypatch.setattr(logging.config, "fileConfig", configured)
    yield
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None:
        while mlflow.active_run() is not None:
            of_mlflow.stack(mlflow.tracking.fluent).pop()
        mlflow.tracking.fluent._active_experiment_id = None
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            del os.environ[name]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A laid-out SQLite store, so that each test need not wait for the layout."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    from mlflow.tracking import _get_store

    _get_store(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def sqlite_uri(tmp_path: Path, empty_database: bytes) -> str:
    import mlflow

    (tmp_path / "mlflow.db").write_bytes(empty_database)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    return uri


@pytest.fixture
def server(server_process: Server) -> Server:
    import mlflow

    server_process.start()
    mlflow.set_tracking_uri(server_process.uri)
    return server_process
