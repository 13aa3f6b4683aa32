"""The artifacts of a run, brought to this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def text_of(tracking_uri: str, run_id: str, name: str) -> str:
    """A text artifact of a run.

    Raises:
        Exception: MLflow's, or that of its store of artifacts.
    """
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = MlflowClient(tracking_uri=tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_text("utf-8")


def download(tracking_uri: str, run_id: str, folder: Path) -> list[Path]:
    """Download all artifacts of a run into a folder; the files.

    Raises:
        OSError: of the folder, or of a store on a disk.
        Exception: MLflow's.
    """
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = MlflowClient(tracking_uri=tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    for artifact in client.list_artifacts(run_id):
        client.download_artifacts(run_id, artifact.path, str(folder))
    return sorted(path for path in folder.rglob("*") if path.is_file())
