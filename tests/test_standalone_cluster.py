"""On a standalone cluster: machines that come are used, what dies is made good, tasks take what they ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import pytest

from tests.java import QUICK_JAVA
from tests.standalone import Cluster, cluster_in

pytestmark = pytest.mark.system

BEGIN = f"""
import json, logging, pathlib, re, sys, time
import psutil
logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession
from sparktune import BanditPolicy, SparkTrials, fmin, hp, report

builder = SparkSession.builder.master(sys.argv[1]).config("spark.executor.memory", "480m")
builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
builder = builder.config("spark.log.level", "OFF").config("spark.executor.extraJavaOptions", "{QUICK_JAVA}")


def study(fn, values, trials, **options):
    fmin(fn, hp.choice("value", values), lambda *_: [], len(values), trials=trials, show_progressbar=False,
         points_to_evaluate=[{{"value": i}} for i in range(len(values))], **options)
    frame = trials.to_dataframe().set_index("value")
    told = {{name: frame[name].to_dict() for name in ("state", "attempts", "steps")}}
    spans = [d["result"]["span"] for d in trials.trials if "span" in d["result"]]
    at_once = max(sum(a <= began < b for a, b in spans) for began, _ in spans)
    executors = len({{d["result"]["executor"] for d in trials.trials if "executor" in d["result"]}})
    told |= {{"run": trials.run_id, "slots": trials.parallelism, "at once": at_once, "executors": executors}}
    print("TOLD " + json.dumps(told), flush=True)


def executor():
    return next(parent for parent in psutil.Process().parents() if parent.name() == "java")
"""

WHOLE_STUDIES = """
folder = pathlib.Path(sys.argv[2])
builder.getOrCreate()


def die(what):
    doomed = [executor()]
    if what == "machine":
        machine = executor().parent()
        assert "deploy.worker.Worker" in " ".join(machine.cmdline())
        doomed = [machine, *machine.children()]
    for process in doomed:
        process.kill()
    time.sleep(3600)


def fn(value):
    began = time.time()
    kind, _, name = value.partition(" ")
    mine = executor().pid
    if kind == "meet":  # two of these end only where two executors run them at the same time
        (folder / f"{name} met {mine}").touch()
        while len({path.name.rpartition(" ")[2] for path in folder.glob("* met *")}) < 2:
            time.sleep(0.05)
    for step in range(5):
        report(10.0 if kind == "weak" else 1.0, step)
        if kind == "kill" and step == 2 and not (folder / name).exists():
            (folder / name).touch()
            die(name)
    return {"loss": 1.0, "status": "ok", "executor": mine, "span": [began, time.time()]}


def trials(parallelism=None):
    return SparkTrials(parallelism, early_termination=BanditPolicy(slack_amount=1, delay_evaluation=3))


study(fn, ["meet 1", "meet 2", *(f"fine {i}" for i in range(4)), "weak"], trials(2))
study(fn, ["kill executor", *(f"fine {i}" for i in range(4))], trials())
study(fn, ["kill machine", *(f"fine {i}" for i in range(4))], trials())
"""

RESOURCES = """
spark = builder.config("spark.task.cpus", "2").getOrCreate()
while spark.sparkContext.defaultParallelism < 3:
    time.sleep(0.05)


def fn(value):
    began = time.time()
    time.sleep(0.5)
    return {"loss": 1.0, "status": "ok", "span": [began, time.time()]}


def taking(cpus):
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cpus)).build


study(fn, list("abc"), SparkTrials(mlflow=False))
study(fn, list("abcdef"), SparkTrials(mlflow=False, resource_profile=taking(1)))
own_executors = ResourceProfileBuilder().require(ExecutorResourceRequests().cores(1))
try:
    SparkTrials(resource_profile=own_executors.require(TaskResourceRequests().cpus(1)).build)
except ValueError as error:
    print(f"REFUSED {error}", flush=True)
study(fn, ["large"], SparkTrials(4, mlflow=False, resource_profile=taking(3)))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, clean_env: Mapping[str, str]) -> Iterator[Cluster]:
    """A master; its workers come and go with the tests."""
    with cluster_in(tmp_path_factory.mktemp("cluster"), clean_env) as cluster:
        yield cluster


def test_executors_that_come_are_used_and_what_dies_is_made_good(
    cluster: Cluster, tmp_path: Path, mlflow_store: str
) -> None:
    env = {"MLFLOW_TRACKING_URI": mlflow_store, "MLFLOW_EXPERIMENT_NAME": "tests"}
    driver = cluster.drive(BEGIN + WHOLE_STUDIES, tmp_path, env=env)

    driver.until("sparktune: no executor yet: waiting until one joins")
    cluster.add_worker(cores=1)
    driver.until("sparktune: executors have joined: trials can run on 1 slots")
    cluster.add_worker(cores=1)
    first, executor, machine = (json.loads(driver.until("TOLD (.*)")[1]) for _ in range(3))
    assert driver.wait() == 0

    fine = {f"fine {i}": "completed" for i in range(4)}
    assert first["state"] == fine | {"meet 1": "completed", "meet 2": "completed", "weak": "early_terminated"}
    assert (first["at once"], first["executors"]) == (2, 2)
    assert not [line for line in driver.lines if "parallelism is 2, but Spark has" in line]
    children = mlflow.MlflowClient().search_runs(
        [mlflow.get_run(first["run"]).info.experiment_id], f"tags.`mlflow.parentRunId` = '{first['run']}'"
    )
    assert sorted(run.info.status for run in children) == ["FINISHED"] * 6 + ["KILLED"]
    assert all(len(run.data.params) == 1 for run in children)

    for what, told in ("executor", executor), ("machine", machine):
        assert told["state"] == fine | {f"kill {what}": "completed"}
        assert told["attempts"] == dict.fromkeys(fine, 1) | {f"kill {what}": 2}
        assert set(told["steps"].values()) == {5}, "the reports of the lost attempt do not count"
    assert machine["slots"] == 1


def test_tasks_take_what_the_session_or_a_resource_profile_says(cluster: Cluster) -> None:
    cluster.add_worker(cores=2)
    driver = cluster.drive(BEGIN + RESOURCES)
    session, profile = (json.loads(driver.until("TOLD (.*)")[1]) for _ in range(2))
    assert session["slots"] == session["at once"] == 1, "spark.task.cpus of 2 on executors of 1 and 2 cores"
    assert profile["slots"] == profile["at once"] == 3
    driver.until("REFUSED Spark refuses the resource_profile .*only supported .*spark.executor.cores")

    driver.until("sparktune: no executor can take a trial: Spark has 2, and each is too small")
    cluster.add_worker(cores=3)
    driver.until("sparktune: executors have joined: trials can run on 1 slots")
    assert json.loads(driver.until("TOLD (.*)")[1])["state"] == {"large": "completed"}
    assert driver.wait() == 0
