"""The demo: a newcomer's first minute."""

from __future__ import annotations

import os
import pty
import re
import shlex
import socket
import subprocess
import sys
import termios
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from sparktune import demo
from tests.tracking.conftest import WITHOUT_JOBS

pytestmark = pytest.mark.system

DEMO = [sys.executable, "-m", "sparktune", "demo", "--seed", "1"]

POINTS = [
    {"name": "svm", "kernel": "rbf", "C": 10.0, "gamma": 0.001},
    {"name": "forest", "n_estimators": 20, "max_features": 0.1, "min_samples_leaf": 1},
    {"name": "boosting", "learning_rate": 0.3, "max_iter": 10, "max_leaf_nodes": 8},
]


@pytest.mark.parametrize("model", POINTS, ids=lambda model: model["name"])
def test_the_objective_tells_a_model_from_guessing(model) -> None:
    result = demo.cross_validated_error({"scale": "none", "model": model})
    assert 0 < result["loss"] < 0.15
    assert result["accuracy"] == pytest.approx(1 - result["loss"])


def test_scaling_is_part_of_the_pipeline() -> None:
    steps = demo.estimator({"scale": "standard", "model": POINTS[0]}).named_steps
    assert list(steps) == ["standardscaler", "svc"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "databricks", "sqlite:///x.db"])
def test_a_tracking_uri_is_taken_as_it_is(uri: str) -> None:
    assert demo.Store.of(uri) == demo.Store(uri, None)


def test_it_records_every_trial_and_prints_the_result(
    spark, mlflow_store, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    trials = demo.run(4, parallelism=1, seed=3)

    runs = mlflow.search_runs(experiment_names=[demo.EXPERIMENT], output_format="list")
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 4
    assert [run.info.run_id for run in runs if run not in children] == [trials.run_id]
    assert all((tmp_path / "sparktune-demo" / "artifacts").as_uri() in run.info.artifact_uri for run in runs)
    models = {run.data.params["model"] for run in children}
    assert models <= {"svm", "forest", "boosting"}

    out = capsys.readouterr().out
    loss = trials.best_trial["result"]["loss"]
    assert re.search(rf"^best loss +{loss:.4f} ", out, re.M)
    assert re.search(r"^trials +4 done, 0 failed, 0 cancelled$", out, re.M)
    assert re.search(r"^slots used +1 of 2$", out, re.M)
    for label in trials.best_params:
        assert re.search(rf"^  {label} ", out, re.M)


def test_two_runs_in_a_terminal_and_in_a_log_file(run, subprocess_env, tmp_path: Path) -> None:
    """One store takes both; the bar is for people, and nobody else's lines come between ours."""
    work = tmp_path / "work"
    seen, printed = in_a_terminal([*DEMO, "--max-evals", "3"], subprocess_env, work)
    assert re.search(r"3/3 .*best loss: 0\.\d+", seen)
    assert "WARN" not in seen + printed

    done = run([*DEMO, "--max-evals", "3"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\r" not in done.stdout
    assert done.stdout.startswith("Tuning ")

    command = re.search(r"^  (.* -m mlflow ui .*)$", done.stdout, re.M)
    address = re.search(r"then open http://127\.0\.0\.1:5000/#/experiments/(\d+)", done.stdout, re.M)
    assert command
    assert address
    opens(command[1], address[1], subprocess_env, work)


def in_a_terminal(command: list[str], env: dict[str, str], cwd: Path) -> tuple[str, str]:
    """Run with a terminal as standard error; what the terminal showed, and what was printed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    shown = bytearray()

    def watch() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.extend(data)
        except OSError:  # the other end is closed
            pass

    with subprocess.Popen(
        command, env=env, cwd=cwd, stderr=theirs, stdout=subprocess.PIPE, text=True
    ) as child:
        os.close(theirs)
        watcher = threading.Thread(target=watch)
        watcher.start()
        printed, _ = child.communicate(timeout=300)
    watcher.join()
    os.close(ours)
    assert child.returncode == 0, shown.decode()
    return shown.decode(), printed


def opens(command: str, experiment_id: str, env: dict[str, str], cwd: Path) -> None:
    """The printed command serves the demo's experiment (on a free port, with a single worker)."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shlex.split(command)
    words[words.index("--port") + 1] = str(port)
    with subprocess.Popen(
        [*words, "--workers", "1"],
        env=env | WITHOUT_JOBS,
        cwd=cwd,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stderr
            log = []
            awaited = {
                "Application startup complete",
                "Uvicorn running on",
            }  # the port is open at the later one
            for line in server.stderr:
                log.append(line)
                awaited = {text for text in awaited if text not in line}
                if not awaited:
                    break
            else:
                raise AssertionError("".join(log))
            url = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/get?experiment_id={experiment_id}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert demo.EXPERIMENT in answer.read().decode()
        finally:
            server.terminate()
            server.communicate()
