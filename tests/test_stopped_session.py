"""``spark.stop()`` in the middle of a study."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sparktune.backends.spark_jobs import ABANDON_AFTER_S

pytestmark = pytest.mark.system

SCRIPT = """
import json, os, pathlib, sys, threading, time
import psutil
from pyspark.sql import SparkSession
from sparktune import SparkNotAvailable, SparkTrials, fmin, hp

folder = pathlib.Path(sys.argv[1])


def session():
    builder = SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false")
    return builder.getOrCreate()


def fn(x):
    if x > 1 and not (folder / f"{x} was here").exists():
        (folder / f"{x} was here").touch()
        (folder / "begun").write_text(f"{os.getpid()}\\n")
        time.sleep(3600)
    return x


pids, stopped = set(), []


def stop(spark):
    while len(pids) < 2:
        pids.update(int(line) for line in (folder / "begun").read_text().split())
    stopped.append(time.monotonic())
    spark.stop()


spark = session()
stopping = threading.Thread(target=stop, args=(spark,))
stopping.start()
trials = SparkTrials(parallelism=2, mlflow=False)
options = dict(trials=trials, show_progressbar=False, points_to_evaluate=[{"x": x} for x in (0, 1, 2, 3)])
said = None
try:
    fmin(fn, hp.randint("x", 5), lambda *_: [], 4, **options)
except SparkNotAvailable as error:
    said = str(error)
took = time.monotonic() - stopped[0]
alive = [pid for pid in pids if psutil.pid_exists(pid)]
states = trials.to_dataframe()["state"].tolist()
print(json.dumps({"said": said, "took": took, "alive": alive, "states": states}), flush=True)
stopping.join()
session()
fmin(abs, hp.randint("x", 5), max_evals=3, trials=trials, show_progressbar=False)
print(len(trials))
"""


def test_a_study_ends_with_its_session(run: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    done = run([sys.executable, "-c", SCRIPT, tmp_path])
    assert done.returncode == 0, done.stderr[-5000:]
    first, after = done.stdout.splitlines()
    told = json.loads(first)
    assert "the Spark session was stopped while the study ran" in told["said"]
    assert told["took"] < ABANDON_AFTER_S / 2
    assert told["alive"] == []
    assert told["states"] == ["completed", "completed", "cancelled", "cancelled"]
    assert after == "3"
