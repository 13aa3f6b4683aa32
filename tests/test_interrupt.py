"""Ctrl-C: at any moment of a simulated study, and for real on Spark."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
from hyperopt import hp, rand
from hyperopt.base import JOB_STATE_RUNNING
from hypothesis import given, settings, strategies as st

from sparktune import DriverTrials, SimulatedTrials, SparkTrials, fmin
from sparktune.tracking.tracker import MlflowTracker
from tests.conftest import needs_classic

pytestmark = pytest.mark.system


@contextlib.contextmanager
def interrupted_after(moments: Iterable[int], modules: tuple[str, ...]) -> Iterator[None]:
    """Ctrl-C after so many lines within these modules; again after so many more."""
    waits = iter(moments)
    left = next(waits)

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_globals.get("__name__") not in modules:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                left = next(waits, 0)
                signal.raise_signal(signal.SIGINT)
        return trace

    before, handler = sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        signal.signal(signal.SIGINT, handler)


MODULES = (
    "sparktune.trials.run",
    "sparktune.trials.base",
    "sparktune.study.driver",
    "sparktune.study.study",
    "sparktune.backends.simulated",
)


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 1500)) | st.tuples(st.integers(1, 1500), st.integers(1, 100)))
def test_at_any_moment_of_a_study(moments: tuple[int, ...]) -> None:
    trials = SimulatedTrials(slots=3)
    options: Any = {"trials": trials, "rstate": 1, "show_progressbar": False}
    interrupted = False
    with interrupted_after(moments, MODULES):
        try:
            fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 20, **options)
        except KeyboardInterrupt:
            interrupted = True
    states = [document["state"] for document in trials._dynamic_trials]
    assert JOB_STATE_RUNNING not in states
    # One that was only suggested runs in the next call.
    assert interrupted or len(trials) == 20
    fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 20, **options)
    assert trials.count_successful_trials() == 20


class Pressed:
    """A reporter of the progress, during whose work Ctrl-C comes, once."""

    def __init__(self, at: int) -> None:
        self.n, self.at = 0, at

    @contextlib.contextmanager
    def __call__(self, initial: int, total: int) -> Iterator[Pressed]:
        yield self

    def update(self, n: int) -> None:
        self.n += n
        if self.n == self.at:
            signal.raise_signal(signal.SIGINT)


def test_a_study_that_goes_on_has_all_its_trials(mlflow_store: str) -> None:
    """Ctrl-C that waited for the loop comes before a seed is drawn, which would count as a trial."""
    trials = DriverTrials(1)
    options: Any = {"trials": trials, "rstate": 1, "show_progressbar": Pressed(4)}
    with pytest.raises(KeyboardInterrupt):
        fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 10, **options)
    assert trials.count_successful_trials() == 4
    run_id = trials.run_id
    fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 10, **options)
    assert trials.run_id == run_id
    assert trials.count_successful_trials() == 10


class RecordedTrials(SimulatedTrials):
    """Simulated trials that are recorded in MLflow."""

    def _tracker(self) -> MlflowTracker:
        return MlflowTracker()


@pytest.mark.parametrize("moment", [1, 2, 5, 10, 20])
@pytest.mark.usefixtures("mlflow_store")
def test_while_mlflow_is_told_of_the_study(moment: int) -> None:
    """The run that has been begun is ended."""
    threads = set(threading.enumerate())
    with interrupted_after([moment], ("sparktune.tracking.tracker",)), pytest.raises(KeyboardInterrupt):
        fmin(
            abs,
            hp.uniform("x", -1, 1),
            rand.suggest,
            20,
            trials=RecordedTrials(),
            rstate=1,
            show_progressbar=False,
        )
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "KILLED"
    assert {thread for thread in threading.enumerate() if thread.name.startswith("sparktune")} <= threads


SCRIPT = """
import atexit, json, os, pathlib, sys, threading, time
from pyspark.sql import SparkSession
from sparktune import SparkTrials, fmin, hp, rand

folder = pathlib.Path(sys.argv[1])
spark = SparkSession.builder.master("local[3]").config("spark.ui.enabled", "false").getOrCreate()

def theirs(n):
    (folder / "job begun").write_text("x")
    (folder / "go on").read_text()
    return n

answers = []
job = threading.Thread(
    target=lambda: answers.append(spark.sparkContext.parallelize([42], 1).map(theirs).collect())
)
job.start()
(folder / "job begun").read_text()

def fn(x):
    if x != 1 and x != 2:
        (folder / "begun").write_text(f"{os.getpid()}\\n")
        time.sleep(3600)
    return x

trials = SparkTrials(parallelism=2, mlflow=False)
points = [{"x": 1.0}, {"x": 2.0}]
try:
    fmin(fn, hp.uniform("x", 3, 4), rand.suggest, 9, trials=trials, points_to_evaluate=points,
         show_progressbar=False)
    raised = None
except BaseException as error:
    raised = type(error).__name__
print(json.dumps({
    "raised": raised,
    "losses": [loss for loss in trials.losses() if loss is not None],
    "states": trials.to_dataframe()["state"].tolist(),
    "reason": trials.fmin_cancelled_reason,
}), flush=True)
(folder / "go on").write_text("x")
job.join()
print(json.dumps(answers), flush=True)
fmin(lambda x: x, hp.uniform("x", 3, 4), rand.suggest, 4, trials=trials, show_progressbar=False)
print(len(trials), flush=True)
atexit.register(print, "tidied up")
fmin(fn, hp.uniform("x", 3, 4), rand.suggest, 9, trials=SparkTrials(parallelism=2), show_progressbar=False)
"""


def begun(pipe: Path) -> list[psutil.Process]:
    """The workers of two trials, when they have begun."""
    pids: set[int] = set()
    while len(pids) < 2:
        pids |= {int(line) for line in pipe.read_text().split()}
    return [psutil.Process(pid) for pid in pids]


def test_on_spark(tmp_path: Path, subprocess_env: Any, mlflow_store: str) -> None:
    for name in ("job begun", "go on", "begun"):
        os.mkfifo(tmp_path / name)
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**subprocess_env, "MLFLOW_TRACKING_URI": mlflow_store},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what readline reads ahead is lost to communicate
        start_new_session=True,
    ) as process:
        try:
            workers = begun(tmp_path / "begun")
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout is not None
            first = process.stdout.readline()
            # fmin is over: nothing of it runs any more, and the user's job still does.
            _, alive = psutil.wait_procs(workers, timeout=0.5)
            workers = begun(tmp_path / "begun")
            os.kill(process.pid, signal.SIGTERM)
            out, err = process.communicate(timeout=120)
            assert process.returncode == 143, err.decode()
            assert psutil.wait_procs(workers, timeout=0.5)[1] == []
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert alive == []
    told = json.loads(first)
    assert told["raised"] == "KeyboardInterrupt"
    assert told["losses"] == [1.0, 2.0]
    assert told["states"] == ["completed", "completed", "cancelled", "cancelled"]
    assert told["reason"] == "fmin run cancelled by user"
    assert out.decode().splitlines() == ["[[42]]", "4", "tidied up"]
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert [run.info.status for run in runs] == ["KILLED"] * 3
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.tags["sparktune.stop_reason"] == "fmin run ended by SIGTERM"
    assert parent.data.metrics["cancelled_trials_count"] == 2


REAL = (
    "sparktune.study.driver",
    "sparktune.study.study",
    "sparktune.study.interrupts",
    "sparktune.backends.driver_threads",
    "sparktune.backends.spark_jobs",
    "sparktune.backends.spark_attempts",
    "sparktune.backends.spark_lanes",
)


@needs_classic
@pytest.mark.parametrize("kind", [SparkTrials, DriverTrials])
def test_at_any_moment_of_a_real_study(spark: Any, kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that has arrived is lost: whoever waited for it would wait for a minute."""
    options: Any = {"show_progressbar": False, "rstate": 1}
    n_interrupted = 0
    for moment in range(1, 2000, 50):
        trials = kind(2, mlflow=False)
        began = time.monotonic()
        with interrupted_after([moment], REAL):
            try:
                fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 8, trials=trials, **options)
            except KeyboardInterrupt:
                n_interrupted += 1
        assert time.monotonic() - began < 30, f"a guard against waiting for ever; line {moment}"
        assert JOB_STATE_RUNNING not in [document["state"] for document in trials._dynamic_trials]
        fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 8, trials=trials, **options)
        assert trials.count_successful_trials() == 8
    assert n_interrupted >= 10
    assert "may still" not in caplog.text
    assert "still runs" not in caplog.text


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_the_users_own_handler_stays(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 2, trials=SimulatedTrials(), show_progressbar=False)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
