"""Python workers, and their daemon, are killed at random moments: every trial ends, once, as it should."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs_classic

pytestmark = pytest.mark.system

SCRIPT = """
import json, logging, os, pathlib, random, sys, threading, time
import psutil
from pyspark.sql import SparkSession
from sparktune import SparkTrials, fmin, hp, rand

logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
begun = pathlib.Path(sys.argv[1])
N, KILLS = 40, 10
spark = SparkSession.builder.master("local[4]").config("spark.log.level", "OFF").getOrCreate()
enough = threading.Event()
killed = []


def fn(x):
    with begun.open("a") as file:
        file.write(f"{x}\\n")
    time.sleep(0.3)
    return x


def pythons():
    found = [p for p in psutil.Process().children(recursive=True) if p.name() != "java"]
    workers = [p for p in found if p.parent() and p.parent().name() != "java"]
    daemons = [p for p in found if p not in workers]
    return workers, daemons


def kill():
    chance, n_begun = random.Random(7), 0
    while len(killed) < KILLS and not enough.wait(chance.uniform(0.05, 0.5)):
        try:
            if not begun.exists() or begun.stat().st_size == n_begun:
                continue
            n_begun = begun.stat().st_size
            workers, daemons = pythons()
            doomed = [chance.choice(workers)] if workers else []
            if len(killed) == KILLS // 2:
                doomed = [*daemons, *workers]
            for process in doomed:
                process.kill()
            if doomed:
                killed.append(len(doomed))
        except psutil.NoSuchProcess:
            pass


killer = threading.Thread(target=kill)
trials = SparkTrials(4, mlflow=False)
killer.start()
fmin(fn, hp.uniform("x", 0, 1), rand.suggest, N, trials=trials, show_progressbar=False, rstate=3)
enough.set()
killer.join()
frame = trials.to_dataframe()
columns = ["trial", "x", "state", "loss", "attempts", "error"]
rows = [dict(zip(columns, row)) for row in frame[columns].itertuples(index=False)]
print(json.dumps({"killed": killed, "trials": rows}))
"""


@needs_classic
def test_workers_that_are_killed_at_random_moments(run: Any, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    done = run([sys.executable, "-c", SCRIPT, begun])
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["killed"]) >= 5
    trials = told["trials"]
    assert [trial["trial"] for trial in trials] == list(range(40))
    seen = Counter(begun.read_text().split())
    for trial in trials:
        begins = seen[str(trial["x"])]
        assert begins <= trial["attempts"] <= 2, trial
        if trial["state"] == "failed":
            assert trial["attempts"] == 2, trial
            assert trial["error"].startswith("WorkerLost: the worker died while it ran the objective (pid ")
        else:
            assert (trial["state"], trial["loss"]) == ("completed", trial["x"])
            assert begins >= 1
    said = [line for line in done.stderr.splitlines() if "in attempt 1 of 2; running it again" in line]
    assert len(said) == sum(trial["attempts"] == 2 for trial in trials) > 0
