"""A server that is away when the study begins: its process is killed, and the same call goes on with it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest

from sparktune.trials import savefile
from tests.conftest import needs_classic
from tests.gate import gate_to
from tests.recorded_trials import PARENT, N, facts, tune
from tests.tracking.conftest import Server

DRIVER = """
import sys, time
import numpy as np
from sparktune import fmin, tpe
from tests.recorded_trials import RecordedTrials, SPACE, objective

def slow(point):
    print("TRIAL", flush=True)
    sys.stdin.readline()
    return objective(point)

fmin(slow, SPACE, tpe.suggest, 14, trials=RecordedTrials(1), rstate=np.random.default_rng(5),
     trials_save_file=sys.argv[1], show_progressbar=False)
"""


@needs_classic
@pytest.mark.parametrize("moment", ["never created", "created", "in the file"])
def test_one_parent(moment: str, server: Server, clean_env: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "study.pkl"
    client = mlflow.MlflowClient(server.uri)
    name = f"known late: {moment}"
    experiment_id = client.create_experiment(name)
    with gate_to(server.port) as gate:
        gate.trouble = lambda _number: "500"
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(path)],
            env={**clean_env, "MLFLOW_TRACKING_URI": gate.uri, "MLFLOW_EXPERIMENT_NAME": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert driver.stdin is not None
        assert driver.stdout is not None
        with driver, driver.stdin, driver.stdout:
            for n in range(N):
                assert driver.stdout.readline() == "TRIAL\n"
                if n == 2:
                    if moment == "never created":
                        break
                    gate.quiet()
                    wait_for(lambda: client.search_runs([experiment_id]))
                    if moment == "created":  # it is noted after the trial that runs
                        break
                elif n > 2 and getattr(savefile.read(path, quietly=True), "run_id", None):
                    break
                driver.stdin.write("\n")
                driver.stdin.flush()
            driver.kill()
    parents = [run for run in client.search_runs([experiment_id]) if PARENT not in run.data.tags]
    mlflow.set_tracking_uri(server.uri)
    mlflow.set_experiment(name)
    assert (getattr(savefile.read(path), "run_id", "") is not None) == (moment == "in the file")
    trials = tune(trials_save_file=path)
    if moment != "never created":
        assert [trials.run_id] == [run.info.run_id for run in parents]
    runs = client.search_runs([experiment_id])
    ended = [run.data.tags for run in runs if "sparktune.interrupted" not in run.data.tags]
    ids = sorted(int(tags["sparktune.trial_id"]) for tags in ended if PARENT in tags)
    assert ids == list(range(N))
    assert [run.info.run_id for run in runs if PARENT not in run.data.tags] == [trials.run_id]
    assert all(run.info.status != "RUNNING" for run in runs)
    assert len(facts(trials)) == N


def wait_for(found: object) -> None:
    """Until it is there."""
    assert callable(found)
    give_up = time.monotonic() + 60
    while not found():
        assert time.monotonic() < give_up
        threading.Event().wait(0.02)
