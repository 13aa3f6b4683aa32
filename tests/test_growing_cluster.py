"""Clusters whose size follows the load: machines are added while tasks are pending, idle ones removed."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.connect_server import connect_server
from tests.java import QUICK_JAVA
from tests.standalone import Cluster, Process, cluster_in

pytestmark = pytest.mark.system

BEGIN = f"""
import json, logging, os, pathlib, sys, threading, time
import psutil
logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
logging.getLogger("sparktune").setLevel(logging.INFO)
from pyspark.sql import SparkSession
from sparktune import SparkTrials, fmin, hp, rand, tpe

builder = SparkSession.builder.master(sys.argv[1]).config("spark.executor.memory", "480m")
builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
builder = builder.config("spark.log.level", "OFF").config("spark.executor.extraJavaOptions", "{QUICK_JAVA}")
"""

AUTOSCALING = """
folder = pathlib.Path(sys.argv[2])
tags = "spark.databricks.clusterUsageTags.cluster"
builder = builder.config(tags + "ScalingType", "autoscaling")
spark = builder.config(tags + "MinWorkers", "1").config(tags + "MaxWorkers", "8").getOrCreate()
sc = spark.sparkContext
store, status = sc._jsc.sc().statusStore(), sc.statusTracker()


def cluster():
    stages = filter(None, map(status.getStageInfo, status.getActiveStageIds()))
    pending = sum(not stage.numActiveTasks for stage in stages)
    listed = store.executorList(True)
    executors = [listed.apply(i) for i in range(listed.size())]
    return {"pending": pending, "busy": {e.id(): e.activeTasks() for e in executors if e.id() != "driver"}}


def watch():
    while True:
        print("CLUSTER " + json.dumps(cluster()), flush=True)
        time.sleep(0.2)


def fn(i):
    machines = [process.pid for process in psutil.Process().parents()]
    with open(folder / f"began {i} {os.getpid()}", "w") as file:
        json.dump(machines, file)

    def wait_for(pattern, n=1):
        while len({path.name.split()[1] for path in folder.glob(pattern)}) < n:
            time.sleep(0.05)

    if i < 6:
        wait_for("began *", 6)
    if i == 3:
        wait_for("machine killed")
    if i == 11:
        wait_for("machine alone")
    return float(i)


pending = []


def points(new_ids, domain, trials, seed):
    under_way = 1 + sum(loss is None for loss in trials.losses())
    pending.append(under_way - sc.defaultParallelism)  # the cores that there are, at least 2
    [document] = rand.suggest(new_ids, domain, trials, seed)
    document["misc"]["vals"]["i"] = [new_ids[0]]
    return [document]


threading.Thread(target=watch, daemon=True).start()
while not cluster()["busy"]:  # how large it may get is known when its first machine is
    time.sleep(0.05)
trials = SparkTrials(6, mlflow=False)
fmin(fn, hp.randint("i", 12), points, 12, trials=trials, show_progressbar=False)
left = status.getActiveJobsIds()
frame = trials.to_dataframe().set_index("trial")
jobs = store.jobsList(None)
told = {name: frame[name].to_dict() for name in ("state", "attempts")}
told |= {"left": list(left), "pending": pending}
told["jobs"] = sorted({str(jobs.apply(i).description()) for i in range(jobs.size())})
print("TOLD " + json.dumps(told), flush=True)
"""

UNBOUNDED = """
for setting in "enabled", "shuffleTracking.enabled":
    builder = builder.config("spark.dynamicAllocation." + setting, "true")
builder = builder.config("spark.dynamicAllocation.minExecutors", "0")
spark = builder.config("spark.executor.cores", "2").getOrCreate()
finished, under_way = [], []


def algo(new_ids, domain, trials, seed):
    finished.append(sum(loss is not None for loss in trials.losses()))
    under_way.append(len(trials.trials) + 1 - finished[-1])
    return tpe.suggest(new_ids, domain, trials, seed)


trials = SparkTrials(mlflow=False)
fmin(lambda x: x, hp.uniform("x", 0, 1), algo, 40, trials=trials, show_progressbar=False)
told = {"finished": finished, "under way": max(under_way), "parallelism": trials.parallelism}
print("TOLD " + json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, clean_env: Mapping[str, str]) -> Iterator[Cluster]:
    """A master; its workers come and go with the tests."""
    with cluster_in(tmp_path_factory.mktemp("growing"), clean_env) as cluster:
        yield cluster


class Autoscaler:
    """Adds machines of one core for tasks that are pending for a second, and removes what idles for long."""

    PENDING_S, IDLE_S, MOST = 1.0, 8.0, 8

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.machines: dict[Path, Process] = {}
        self.sizes: list[int] = []
        self._pending_since: float | None = None
        self._idle_since: dict[str, float] = {}
        self.add()

    def add(self) -> None:
        machine = self._cluster.add_worker(cores=1, wait=not self.machines)
        self.machines[self._cluster.work_dir_of(machine)] = machine
        self.sizes.append(len(self.machines))

    def remove(self, work: Path) -> None:
        self.machines.pop(work).kill()
        self.sizes.append(len(self.machines))

    def machine_of(self, executor: str) -> Path | None:
        return next((work for work in self.machines if list(work.glob(f"app-*/{executor}"))), None)

    def look(self, pending: int, busy: Mapping[str, int]) -> None:
        now = time.monotonic()
        self._pending_since = (self._pending_since or now) if pending else None
        is_late = self._pending_since is not None and now - self._pending_since >= self.PENDING_S
        n_coming = len(self.machines) - sum(n > 0 for n in busy.values())  # or there, and free
        if is_late:
            for _ in range(min(pending - n_coming, self.MOST - len(self.machines))):
                self.add()
            self._pending_since = None
        idle = set() if pending else {executor for executor, n in busy.items() if not n}
        self._idle_since = {executor: self._idle_since.get(executor, now) for executor in idle}
        for executor, since in self._idle_since.items():
            work = self.machine_of(executor)
            if work is not None and now - since >= self.IDLE_S and len(self.machines) > 1:
                self.remove(work)


def test_a_study_grows_its_cluster_and_leaves_it_small(cluster: Cluster, tmp_path: Path) -> None:
    scaler = Autoscaler(cluster)
    driver = cluster.drive(BEGIN + AUTOSCALING, tmp_path)
    is_killed = False
    while True:
        found = driver.until("^(CLUSTER|TOLD) (.*)", 180.0)
        if found[1] == "TOLD":
            break
        scaler.look(**json.loads(found[2]))
        begun = {path.name.split()[1]: path for path in tmp_path.glob("began *")}
        if len(begun) >= 6 and begun["3"].stat().st_size and not is_killed:
            ancestors = json.loads(begun["3"].read_text())
            [work] = [work for work, one in scaler.machines.items() if one.pid in ancestors]
            scaler.remove(work)
            is_killed = True
            (tmp_path / "machine killed").touch()
        if "11" in begun and len(scaler.machines) == 1:
            (tmp_path / "machine alone").touch()
    told = json.loads(found[2])
    assert driver.wait() == 0

    # Each of the first six trials ends only where six have begun: there were six slots.
    assert set(told["state"].values()) == {"completed"}
    assert scaler.sizes[-1] == 1, scaler.sizes
    assert told["attempts"] == {str(i): 1 + (i == 3) for i in range(12)}
    # One more where a machine has just been lost, and that is not known yet.
    assert max(told["pending"]) <= 1, "a point is chosen when there is a slot for it"
    assert told["left"] == []
    assert all("sparktune" in job for job in told["jobs"]), told["jobs"]
    assert any("waits for a slot" in job for job in told["jobs"])
    assert [
        line
        for line in driver.lines
        if "up to 8): at most 6 trials at the same time, as parallelism=6" in line
    ]


ON_CONNECT = """
import json, pathlib, sys, time
from pyspark.sql import SparkSession
from sparktune import SparkTrials, fmin, hp, rand

spark = SparkSession.builder.remote(sys.argv[2]).getOrCreate()
folder = pathlib.Path(sys.argv[3])


def fn(x):
    import uuid

    (folder / f"began {uuid.uuid4()}").touch()
    while len(list(folder.glob("began *"))) < 6:
        time.sleep(0.05)
    return x


trials = SparkTrials(6, spark_session=spark, mlflow=False)
fmin(fn, hp.uniform("x", 0, 1), rand.suggest, 12, trials=trials, show_progressbar=False)
frame = trials.to_dataframe()
told = {name: frame[name].tolist() for name in ("state", "attempts")}
print("TOLD " + json.dumps(told), flush=True)
"""


class Application:
    """What Spark's UI answers about the one application of a driver.

    Source: https://spark.apache.org/docs/latest/monitoring.html#rest-api
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/applications"
        [application] = self._get("")
        self._url += "/" + application["id"]

    def _get(self, what: str) -> Any:
        with urllib.request.urlopen(self._url + what, timeout=30) as answer:
            return json.load(answer)

    def state(self) -> dict[str, Any]:
        """What ``Autoscaler.look`` takes."""
        pending = sum(not stage["numActiveTasks"] for stage in self._get("/stages?status=active"))
        executors = [one for one in self._get("/executors") if one["id"] != "driver"]
        return {"pending": pending, "busy": {one["id"]: one["activeTasks"] for one in executors}}


@pytest.mark.skipif(
    importlib.util.find_spec("grpc") is None, reason="no client of Spark Connect is installed"
)
def test_a_study_on_connect_grows_its_cluster(cluster: Cluster, tmp_path: Path) -> None:
    scaler = Autoscaler(cluster)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tags = "spark.databricks.clusterUsageTags.cluster"
    conf = [f"{tags}ScalingType=autoscaling", f"{tags}MinWorkers=1", f"{tags}MaxWorkers=8"]
    conf += ["spark.ui.enabled=true", f"spark.ui.port={port}", "spark.executor.memory=480m"]
    conf += [f"spark.executor.extraJavaOptions={QUICK_JAVA}"]
    study = tmp_path / "study"
    study.mkdir()
    with connect_server(
        tmp_path, master=cluster.url, conf=conf, env={"SPARK_LOCAL_IP": "127.0.0.1"}
    ) as address:
        application = Application(port)
        driver = cluster.drive(ON_CONNECT, address, study)
        end = time.monotonic() + 180
        while len(list(study.iterdir())) < 12 and time.monotonic() < end:
            scaler.look(**application.state())
            time.sleep(0.2)
        told = json.loads(driver.until("TOLD (.*)", 60.0)[1])
        assert driver.wait() == 0
        assert application.state()["pending"] == 0
    assert told == {"state": ["completed"] * 12, "attempts": [1] * 12}  # at least six slots, then
    for work in list(scaler.machines):
        scaler.remove(work)


def test_an_unbounded_cluster_is_used_up_to_what_lets_the_search_learn(cluster: Cluster) -> None:
    cluster.add_worker(cores=4)
    driver = cluster.drive(BEGIN + UNBOUNDED)
    told = json.loads(driver.until("TOLD (.*)", 180.0)[1])
    assert driver.wait() == 0
    assert told["under way"] <= 4
    assert told["finished"][10] >= 7, "results before the eleventh trial"
    assert told["parallelism"] == 4
    said = [line for line in driver.lines if "a tenth of max_evals=40, so that the search learns" in line]
    assert len(said) == 1
