"""Several Python processes, with several versions of sparktune, on one Spark application.

As the notebooks of a Databricks cluster, the interpreters of Zeppelin, and Spark Connect sessions that are
attached to again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import sparktune
from sparktune import SparkTrials, fmin, hp, rand
from tests.conftest import ON_CONNECT, ROOT, needs_classic
from tests.connect_server import connect_server
from tests.java import QUICK_JAVA
from tests.standalone import Process

pytestmark = pytest.mark.system

needs_connect = pytest.mark.skipif(
    importlib.util.find_spec("grpc") is None, reason="no client of Spark Connect is installed"
)

CLASSIC = """
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

gateway = launch_gateway()  # the one that PYSPARK_GATEWAY_PORT names
java = gateway.jvm.JavaSparkContext.fromSparkContext(gateway.jvm.org.apache.spark.SparkContext.getOrCreate())
conf = SparkConf(_jvm=gateway.jvm, _jconf=java.getConf())
spark = SparkSession(SparkContext(gateway=gateway, jsc=java, conf=conf))
"""
"""How a process gets the session of another one's Java process."""

CONNECT = """
import os
from pyspark.sql import SparkSession

spark = SparkSession.builder.remote(os.environ["ADDRESS"]).getOrCreate()
"""

STUDY = """
import json
import sparktune
from sparktune import SparkTrials, fmin, hp, rand


def objective(x):
    import os
    import sparktune
    from sparktune import report

    report(x, 0)
    return {"status": "ok", "loss": x, "pid": os.getpid(), "version": getattr(sparktune, "EDITION", 1)}


trials = SparkTrials(2, spark_session=spark, mlflow=False)
fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 6, trials=trials, rstate=1, show_progressbar=False)
frame = trials.to_dataframe()
print("TOLD " + json.dumps({
    "states": frame["state"].tolist(), "errors": frame["error"].tolist(), "steps": frame["steps"].tolist(),
    "mine": getattr(sparktune, "EDITION", 1), "rows": spark.range(10).count(),
    "versions": [result["version"] for result in trials.results if "version" in result],
    "pids": [result["pid"] for result in trials.results if "pid" in result],
}), flush=True)
"""

HOLDER = """
import os, sys
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local-cluster[2,1,512]").config("spark.executor.memory", "512m")
builder = builder.config("spark.executor.extraJavaOptions", sys.argv[1]).config("spark.ui.enabled", "false")
sc = builder.getOrCreate().sparkContext
parameters = sc._gateway.gateway_parameters
print(f"GATEWAY {parameters.port} {parameters.auth_token}", flush=True)
sys.stdin = os.fdopen(os.open(sys.argv[2], os.O_RDONLY))
sys.stdin.readline()
print("FILES", [name for name in sc.listFiles if "sparktune" in name], flush=True)
"""
"""Has the application, and no study: Databricks' own process."""


@pytest.fixture(scope="module")
def second_edition(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of another version of sparktune."""
    folder = tmp_path_factory.mktemp("second")
    shutil.copytree(
        ROOT / "sparktune", folder / "sparktune", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    with (folder / "sparktune" / "__init__.py").open("a") as file:
        file.write("\nEDITION = 2\n")
    return str(folder)


PATIENCE_S = 300.0
"""Six processes begin at once."""


def check_told(process: Process, version: int) -> list[int]:
    """The study of a process was all right; gives the processes of its workers."""
    told = json.loads(process.until(r"^TOLD (.*)", PATIENCE_S)[1])
    assert told["states"] == ["completed"] * 6, told["errors"]
    assert told["steps"] == [1] * 6
    assert told["mine"] == version
    assert told["versions"] == [version] * 6
    assert told["rows"] == 10
    assert process.wait() == 0
    pids: list[int] = told["pids"]
    return pids


@contextlib.contextmanager
def ended(processes: list[Process]) -> Iterator[list[Process]]:
    """Processes that end with the block."""
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def kill_executors() -> int:
    """Of all applications that this process has started; gives how many there were."""

    def is_executor(process: psutil.Process) -> bool:
        try:
            return any("CoarseGrainedExecutorBackend" in part for part in process.cmdline())
        except psutil.NoSuchProcess:  # a Python worker that has just ended
            return False

    executors = [process for process in psutil.Process().children(recursive=True) if is_executor(process)]
    for process in executors:
        process.kill()
    return len(executors)


@needs_classic
def test_five_processes_and_executors_that_come_when_they_have_ended(
    bare: Path, clean_env: dict[str, str], spark_home: Path, second_edition: str, tmp_path: Path
) -> None:
    orders = tmp_path / "orders"
    os.mkfifo(orders)
    env = {**clean_env, "SPARK_HOME": str(spark_home), "PYSPARK_PYTHON": str(bare)}
    started: list[Process] = []

    def start(*command: Any, **more: str) -> Process:
        started.append(Process([sys.executable, "-c", *command], {**env, **more}, tmp_path))
        return started[-1]

    with ended(started):
        holder = start(HOLDER, QUICK_JAVA, orders)
        with orders.open("w") as order:
            port, secret = holder.until(r"GATEWAY (\d+) (\S+)").groups()
            env |= {"PYSPARK_GATEWAY_PORT": port, "PYSPARK_GATEWAY_SECRET": secret}
            versions = {1: str(ROOT), 2: second_edition}
            at_once = [(n, start(CLASSIC + STUDY, PYTHONPATH=versions[n])) for n in (1, 2, 1, 2, 1)]
            used = {n: set[int]() for n in versions}
            for n, process in at_once:
                used[n].update(check_told(process, n))
            assert not used[1] & used[2], "no worker process has had both versions"
            assert kill_executors() == 2
            check_told(start(CLASSIC + STUDY, PYTHONPATH=versions[2]), 2)
            order.write("tell\n")
            order.flush()
            holder.until(r"FILES \[\]")


@needs_classic
@pytest.mark.skipif(ON_CONNECT, reason="of classic Spark")
def test_another_version_beside_this_one_on_workers_that_see_the_files(
    spark: Any, clean_env: dict[str, str], second_edition: str, tmp_path: Path
) -> None:
    parameters = spark.sparkContext._gateway.gateway_parameters
    gateway = {
        "PYSPARK_GATEWAY_PORT": str(parameters.port),
        "PYSPARK_GATEWAY_SECRET": parameters.auth_token,
        "PYTHONPATH": second_edition,
    }

    def objective(x: float) -> dict[str, Any]:
        import os

        import sparktune

        return {"status": "ok", "loss": x, "pid": os.getpid(), "file": sparktune.__file__}

    def study() -> set[int]:
        trials = SparkTrials(2, mlflow=False)
        fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 4, trials=trials, show_progressbar=False)
        assert {result["file"] for result in trials.results} == {sparktune.__file__}
        return {result["pid"] for result in trials.results}

    mine = study()
    command = [sys.executable, "-c", CLASSIC + STUDY]
    with ended([Process(command, {**clean_env, **gateway}, tmp_path)]) as [other]:
        theirs = check_told(other, 2)
    assert not (mine | study()) & set(theirs)


@needs_connect
def test_five_processes_with_one_session_and_with_one_server(
    clean_env: dict[str, str], second_edition: str, tmp_path: Path
) -> None:
    started: list[Process] = []
    conf = ["spark.executor.memory=512m", f"spark.executor.extraJavaOptions={QUICK_JAVA}"]
    with connect_server(tmp_path, master="local-cluster[2,2,512]", conf=conf) as address, ended(started):
        shared, own = f"{address}/;session_id={uuid.uuid4()}", f"{address}/;session_id={uuid.uuid4()}"

        def start(address: str, version: int = 1) -> Process:
            env = {"ADDRESS": address, "PYTHONPATH": second_edition if version == 2 else str(ROOT)}
            command = [sys.executable, "-c", CONNECT + STUDY]
            started.append(Process(command, {**clean_env, **env}, tmp_path))
            return started[-1]

        at_once = [(1, start(shared)), (1, start(shared)), (2, start(own, 2)), (1, start(address))]
        at_once.append((2, start(address, 2)))
        for n, process in at_once:
            check_told(process, n)
        assert kill_executors() == 2
        check_told(start(shared, 2), 2)  # after the others: an update, and the session was attached to again
        both = [(1, start(shared)), (2, start(shared, 2))]
        for n, process in both:
            check_told(process, n)
