"""``sparktune doctor``: each fault is named, with a remedy. On real Spark."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import mlflow
import pytest

from sparktune import doctor
from sparktune.backends.spark_probe import Worker
from sparktune.doctor import Diagnosis, Finding, _fit


def finding(diagnosis: Diagnosis, what: str) -> Finding:
    found = [one for one in diagnosis.findings if one.what == what]
    assert found, str(diagnosis)
    return found[-1]


def test_a_place_where_studies_run(spark: Any, mlflow_store: str) -> None:
    diagnosis = doctor(lambda x: x, spark_session=spark)
    assert diagnosis.is_healthy, str(diagnosis)
    assert {one.state for one in diagnosis.findings} == {"ok"}
    assert finding(diagnosis, "slots").text.startswith("2:")
    assert "workers reach it" in finding(diagnosis, "driver's port").text
    assert "Python 3" in finding(diagnosis, "driver").text


def test_an_objective_that_holds_the_session_or_a_lock(spark: Any, mlflow_store: str) -> None:
    for held, name in ((spark, "SparkSession"), (threading.Lock(), "lock")):
        diagnosis = doctor(lambda x: (held, x), spark_session=spark)  # noqa: B023
        one = finding(diagnosis, "objective")
        assert not diagnosis.is_healthy
        assert name in one.text
        assert one.remedy


def test_a_tracking_server_that_workers_cannot_reach(spark: Any, mlflow_store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        mlflow.set_tracking_uri(uri)
        assert finding(doctor(spark_session=spark), "MLflow").state == "ok"
    diagnosis = doctor(spark_session=spark)
    one = finding(diagnosis, "MLflow")
    assert one.state == "FAILS"
    assert uri in one.text
    assert "set_tracking_uri" in one.remedy


def test_without_java(run: Any) -> None:
    tools = Path(sys.executable).parent
    done = run(
        [sys.executable, "-m", "sparktune", "doctor"], env={"PATH": str(tools), "JAVA_HOME": "/nowhere"}
    )
    assert done.returncode == 1, done.stderr
    assert "FAILS  Java: not found" in done.stdout
    assert "openjdk-17" in done.stdout


def another_python() -> str | None:
    """An interpreter of another version than ours."""
    for name in ("3.12", "3.13", "3.10", "3.11"):
        if name == f"{sys.version_info[0]}.{sys.version_info[1]}":
            continue
        for program in (
            shutil.which(f"python{name}"),
            *map(str, Path.home().glob(f".pyenv/versions/{name}*/bin/python")),
        ):
            if (
                program
                and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0
            ):
                return program
    return None


def test_workers_with_another_python(run: Any, tmp_path: Path) -> None:
    program = another_python()
    if program is None:
        program = str(tmp_path / "python")
        Path(program).write_text("#!/bin/sh\nexit 1\n")
        os.chmod(program, 0o755)
    env = {"PYSPARK_PYTHON": program, "PYSPARK_DRIVER_PYTHON": sys.executable}
    done = run([sys.executable, "-m", "sparktune", "doctor"], env=env)
    assert done.returncode == 1, done.stdout
    assert "FAILS  workers" in done.stdout
    assert "PYSPARK_PYTHON" in done.stdout


def test_an_objective_by_its_name(run: Any, tmp_path: Path) -> None:
    (tmp_path / "work" / "mine.py").write_text(
        "import threading\nlock = threading.Lock()\nbad = lambda x: lock\n"
    )
    done = run([sys.executable, "-m", "sparktune", "doctor", "--objective", "mine:nothing"])
    assert done.returncode == 2
    assert "mine" in done.stderr


def worker(**packages: str | None) -> Worker:
    from importlib.metadata import version

    mine = {name: version(name) for name in ("sparktune", "hyperopt", "cloudpickle", "numpy", "mlflow")}
    return Worker("node", "3.11.7", {**mine, **packages}, {})


@pytest.mark.parametrize(
    ("packages", "state"),
    [({}, None), ({"sparktune": None}, "FAILS"), ({"mlflow": None}, "note"), ({"numpy": "1.0"}, "note")],
)
def test_what_workers_lack(packages: dict[str, str | None], state: str | None) -> None:
    rest = list(_fit([worker(), worker(**packages)]))[1:]
    assert [one.state for one in rest] == ([] if state is None else [state])
    assert all("install" in one.remedy for one in rest)
