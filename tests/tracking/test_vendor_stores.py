"""Stores of vendors: plug-ins of MLflow, whose addresses need not look like one.

Two real ones, found by MLflow through the entry points of a package: a client of a service that is found by
its ``arn:`` (as ``sagemaker-mlflow``), here an MLflow server; and a store of its own kind behind ``sds://``,
here a database.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest

from tests.conftest import needs_classic
from tests.tracking.conftest import Server

pytestmark = pytest.mark.system

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-app/app-X"
SDS = "sds://host/webapi/capacities/1"

PLUG_IN = """
import os


def service(store_uri, artifact_uri=None):
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    return RestStore(lambda: MlflowHostCreds(os.environ["VENDOR_SERVER"]))


def database(store_uri, artifact_uri=None):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(os.environ["VENDOR_DATABASE"], os.environ["VENDOR_ARTIFACTS"])
"""
ENTRY_POINTS = """
[mlflow.tracking_store]
arn = vendor_stores:service
sds = vendor_stores:database
"""

STUDY = """
import importlib, json, logging, os, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
import mlflow
from sparktune import SparkTrials, fmin, hp, rand

uri, artifacts, on_spark = sys.argv[1], sys.argv[2], sys.argv[3] == "spark"
mlflow.set_tracking_uri(uri)
mlflow.set_experiment(experiment_id=mlflow.create_experiment("vendor's", artifact_location=artifacts))


def objective(x):
    mlflow.log_metric("half", x / 2)
    mlflow.log_text("hello", "hello.txt")
    return {"loss": x, "status": "ok", "uri": os.environ["MLFLOW_TRACKING_URI"], "pid": os.getpid()}


def tune(n):
    if on_spark:
        trials = SparkTrials(2)
    else:
        from tests.recorded_trials import RecordedTrials
        trials = RecordedTrials(2)
    fn = objective if on_spark else lambda x: {"loss": x, "status": "ok", "uri": uri, "pid": 0}
    fmin(fn, hp.uniform("x", 0, 1), rand.suggest, n, trials=trials, show_progressbar=False)
    return trials


trials = tune(4)
run = mlflow.get_run(trials.run_id)
wanted = f"tags.mlflow.parentRunId = '{trials.run_id}'"
children = mlflow.search_runs(filter_string=wanted, output_format="list")
again = type(trials).from_mlflow(trials.run_id)
client = mlflow.MlflowClient()
print(json.dumps({
    "run_id": trials.run_id,
    "uris": sorted({result["uri"] for result in trials.results}),
    "elsewhere": all(result["pid"] != os.getpid() for result in trials.results),
    "halves": sum("half" in child.data.metrics for child in children),
    "finished": sum(child.info.status == "FINISHED" for child in children),
    "status": run.info.status,
    "note": run.data.tags["mlflow.note.content"],
    "artifacts": sorted(file.path for file in client.list_artifacts(trials.run_id)),
    "again": len(again),
    "doctor": str(importlib.import_module("sparktune.doctor")._mlflow(uri)),
}))
"""


@pytest.fixture
def vendor_env(tmp_path: Path, clean_env: dict[str, str], empty_database: bytes) -> Mapping[str, str]:
    """An environment in which the package is installed."""
    packages = tmp_path / "packages"
    information = packages / "vendor_stores-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-stores\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (packages / "vendor_stores.py").write_text(PLUG_IN)
    (tmp_path / "vendor.db").write_bytes(empty_database)
    return {
        **clean_env,
        "PYTHONPATH": f"{clean_env['PYTHONPATH']}:{packages}",
        "VENDOR_DATABASE": f"sqlite:///{tmp_path}/vendor.db",
        "VENDOR_ARTIFACTS": str(tmp_path / "artifacts"),
    }


@needs_classic
@pytest.mark.parametrize(("uri", "where"), [(ARN, "spark"), (SDS, "here")])
def test_a_study_in_a_vendors_store(
    uri: str, where: str, vendor_env: Mapping[str, str], server: Server, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STUDY, uri, str(tmp_path / "artifacts"), where]
    env = {**vendor_env, "VENDOR_SERVER": server.uri}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["uris"] == [uri]
    assert found["status"] == "FINISHED"
    assert found["finished"] == found["again"] == 4
    assert "trials.json" in found["artifacts"]
    assert found["doctor"] == f"ok     MLflow  records into {uri}"
    assert "#/experiments" not in found["note"]
    assert "mlflow ui" not in done.stderr
    assert f"the run {found['run_id']} in the experiment " in done.stderr
    assert "not fully written" not in done.stderr
    assert not (tmp_path / "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-app").exists()
    if where == "spark":
        assert found["elsewhere"]
        assert found["halves"] == 4
        assert mlflow.MlflowClient(server.uri).get_run(found["run_id"]).data.tags["best_x"]
