"""A sweep file by spark-submit on a standalone cluster, from a folder that holds what has to travel alone."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest

from tests.conftest import ROOT, needs_classic
from tests.java import QUICK_JAVA
from tests.standalone import Process, cluster_in

pytestmark = [pytest.mark.system, needs_classic]

SETTINGS = {
    "spark.executor.memory": "480m",
    "spark.ui.enabled": "false",
    "spark.log.level": "OFF",
    "spark.executor.extraJavaOptions": QUICK_JAVA,
}


def test_the_example_on_a_cluster(tmp_path: Path, clean_env: Mapping[str, str], mlflow_store: str) -> None:
    folder = tmp_path / "driver"  # as the working folder of a driver in cluster deploy mode is
    shutil.copytree(ROOT / "examples" / "sweep", folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = shutil.copy(ROOT / "sparktune" / "submit" / "sweep.py", folder / "run.py")
    with cluster_in(tmp_path, clean_env) as cluster:
        cluster.add_worker(cores=2)
        command = [Path(sys.executable).parent / "spark-submit", "--master", cluster.url]
        for name, value in SETTINGS.items():
            command += ["--conf", f"{name}={value}"]
        command += [script, "sweep.yml", "--output", "result.json"]
        for setting in (
            "limits.max_total_trials=8",
            "sampling_algorithm={type: random, seed: 1}",
            "inputs.epochs=12",
        ):
            command += ["--set", setting]
        env = {**cluster.env, "MLFLOW_TRACKING_URI": mlflow_store, "OMP_NUM_THREADS": "1"}
        driver = Process(command, env, folder)
        try:
            run_id = driver.until("^run ([0-9a-f]{32})$")[1]
            assert driver.wait() == 0
        finally:
            driver.kill()
    result = json.loads((folder / "result.json").read_text())
    assert result["parent_run_id"] == run_id
    assert result["states"]["failed"] == 0
    assert result["states"]["early_terminated"] > 0
    assert result["states"]["early_terminated"] + result["states"]["completed"] == 8
    client = mlflow.MlflowClient()
    assert client.get_run(run_id).info.run_name == "digits by a small network"
    kept = Path(client.download_artifacts(result["run_id"], "", str(tmp_path)))
    assert (kept / "outputs" / "model.joblib").stat().st_size > 1000
    assert "accuracy=" in (kept / "logs" / "stdout.log").read_text()
