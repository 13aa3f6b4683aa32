"""On the worker: files of a trial, kept as artifacts of its run; and a metric of it, read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


class NoMlflowError(Exception):
    """MLflow is not installed where the worker runs."""


class OwnRun:
    """The run of the trial that this process runs, by the environment variables that the trial has.

    Args:
        run_id: of the run.
        tracking_uri: where it is.
    """

    def __init__(self, run_id: str, tracking_uri: str) -> None:
        self._run_id, self._tracking_uri = run_id, tracking_uri

    @classmethod
    def of_environment(cls) -> OwnRun | None:
        """The run; None where nothing is tracked. Waits for a run that does not exist yet."""
        run_id, uri = os.environ.get("MLFLOW_RUN_ID"), os.environ.get("MLFLOW_TRACKING_URI")
        return cls(run_id, uri) if run_id and uri else None

    @staticmethod
    def load() -> None:
        """Import MLflow, if it is there."""
        with contextlib.suppress(ImportError):
            import mlflow  # noqa: F401

    def _client(self) -> Any:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise NoMlflowError(str(error)) from None
        return MlflowClient(tracking_uri=self._tracking_uri)

    def keep(self, files: list[Path], folder: str) -> None:
        """Keep files as artifacts in a folder; those that are empty or missing are left out.

        Raises:
            NoMlflowError: it cannot be imported.
            Exception: MLflow's.
        """
        there = [file for file in files if file.is_file() and file.stat().st_size]
        client: Any = self._client() if there else None
        for file in there:
            client.log_artifact(self._run_id, str(file), folder)

    def keep_folder(self, source: Path, folder: str) -> None:
        """Keep all files below a folder; see ``keep``."""
        if source.is_dir() and any(source.iterdir()):
            self._client().log_artifacts(self._run_id, str(source), folder)

    def metric(self, name: str) -> float | None:
        """The latest value of a metric; None where there is none. See ``keep`` for what it raises."""
        found: dict[str, float] = self._client().get_run(self._run_id).data.metrics
        return found.get(name)
