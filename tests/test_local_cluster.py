"""On real executors: what dies in the middle of a study is made good; a user's error is not tried again."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.java import QUICK_JAVA

pytestmark = pytest.mark.system

SCRIPT = """
import dataclasses, json, os, pathlib, signal, sys, threading, time
import psutil
from pyspark.sql import SparkSession
import sparktune.backends.spark_jobs
from sparktune import SparkTrials, fmin, hp
from sparktune.backends import control_port
from sparktune.backends.channel_server import ControlServer
from tests.relay import Relay


class Overheard(ControlServer):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.relay = Relay(("127.0.0.1", self.endpoint.port))
        servers.append(self.endpoint)
        self.endpoint = dataclasses.replace(self.endpoint, port=self.relay.port)
        relays.append(self.relay)


servers, relays = [], []
sparktune.backends.spark_jobs.ControlServer = Overheard

folder = pathlib.Path(sys.argv[1])
builder = SparkSession.builder.master("local-cluster[2,1,1024]")
for key in ("spark.authenticate", "spark.network.crypto.enabled"):
    builder = builder.config(key, "true")
builder = builder.config("spark.authenticate.secret", "of a test")
builder = builder.config(control_port.SETTING, sys.argv[3])
spark = builder.config("spark.executor.extraJavaOptions", sys.argv[2]).getOrCreate()


def first_time(kind):
    try:
        (folder / f"{kind} was here").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def fn(kind):
    if kind.startswith("kill") and first_time(kind):
        (folder / kind).write_text(str(os.getpid()))
        time.sleep(3600)
    if kind == "endless":
        (folder / kind).write_text(str(os.getpid()))
        time.sleep(3600)
    if kind == "raises":
        raise ValueError("no good")
    if kind == "lock":
        return {"status": "ok", "loss": 0.0, "lock": threading.Lock()}
    if kind == "good":
        return {"status": "ok", "loss": 0.0, "pid": int((folder / "endless").read_text())}
    return {"status": "ok", "loss": 1.0, "note": "anybody could read this"}


def kill(kind):
    worker = psutil.Process(int((folder / kind).read_text()))
    if kind == "kill executor":
        worker = next(parent for parent in worker.parents() if parent.name() == "java")
        assert any("CoarseGrainedExecutorBackend" in part for part in worker.cmdline())
    worker.kill()


def study(kinds, **options):
    trials = SparkTrials(parallelism=2, mlflow=False)
    fmin(fn, hp.choice("kind", kinds), lambda *_: [], len(kinds), trials=trials, show_progressbar=False,
         points_to_evaluate=[{"kind": i} for i in range(len(kinds))], **options)
    frame = trials.to_dataframe().set_index("kind")
    columns = {name: frame[name].to_dict() for name in ("state", "attempts", "error")}
    print(json.dumps({"reason": trials.fmin_cancelled_reason, **columns}), flush=True)
    return trials


kills = ["kill worker", "kill executor"]
threads = [threading.Thread(target=kill, args=(kind,)) for kind in kills]
for thread in threads:
    thread.start()
study([*kills, "raises", "lock", *(f"fine {i}" for i in range(6))])
for thread in threads:
    thread.join()

pid = study(["endless", "good"], loss_threshold=0.5).best_trial["result"]["pid"]
print(psutil.pid_exists(pid), flush=True)
passed = relays[0].passed
told = {"ports": [server.port for server in servers], "encrypted": [bool(s.certificate) for s in servers]}
print(json.dumps(told | {"bytes": len(passed), "readable": b"anybody could read" in passed}), flush=True)
"""


def test_what_dies_is_made_good(run: Any, spark_home: Path, tmp_path: Path) -> None:
    for name in ("kill worker", "kill executor", "endless"):
        os.mkfifo(tmp_path / name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", SCRIPT, tmp_path, QUICK_JAVA, f"{port}-{port + 9}"]
        done = run(command, env={"SPARK_HOME": str(spark_home)})
    assert done.returncode == 0, done.stderr[-5000:]
    *told, endless_lives_on, channel = done.stdout.splitlines()
    first, second = map(json.loads, told)

    failed = {kind: error for kind, error in first["error"].items() if isinstance(error, str)}
    assert failed == {"raises": "ValueError: no good"}
    assert "the result['lock'] is a lock, which cannot be sent to the driver" in done.stderr
    again = {kind: attempts for kind, attempts in first["attempts"].items() if attempts > 1}
    assert again == {"kill worker": 2, "kill executor": 2}
    assert {state for kind, state in first["state"].items() if kind not in failed} == {"completed"}

    # An executor was lost, and stopping works on the new one.
    assert second["state"] == {"endless": "cancelled", "good": "completed"}
    assert second["reason"] == "loss threshold reached"
    assert endless_lives_on == "False"

    # Spark encrypts here: so does the study, on the ports that Spark's setting names.
    overheard = json.loads(channel)
    assert overheard.pop("bytes") > 1000
    assert all(port < number <= port + 9 for number in overheard.pop("ports"))
    assert overheard == {"encrypted": [True, True], "readable": False}
