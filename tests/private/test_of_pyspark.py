"""Without one of PySpark's private names a study runs as well, and says once what is different."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sparktune import SparkTrials, fmin, hp, rand
from sparktune.backends import session
from sparktune.private import of_cloudpickle, of_pyspark, presence

pytestmark = pytest.mark.system

IN_SESSION = [
    name
    for name in of_pyspark.NAMES
    if name not in ("_path", "_ensure_initialized", "_jbroadcast", "client", "_builder", "_default_session")
]
"""Looked for on the driver, in any study."""


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "does not offer" in message]


def study(fn: Any, **options: Any) -> list[float]:
    trials = SparkTrials(mlflow=False, **options)
    fmin(fn, hp.uniform("x", 1, 2), rand.suggest, 4, trials=trials, rstate=1, show_progressbar=False)
    assert set(trials.to_dataframe()["state"]) == {"completed"}
    return [loss for loss in trials.losses() if loss is not None]


@pytest.mark.parametrize("name", IN_SESSION)
def test_a_study_runs_without(
    name: str, without: Any, spark: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    wanted = study(lambda x: x)
    without(name)
    found: list[float] = []

    def in_another_thread() -> None:  # where no session is active
        assert session.get_or_create() is spark
        found.extend(study(lambda x: x, fresh_worker=True))

    thread = threading.Thread(target=in_another_thread)
    thread.start()
    thread.join(120)
    assert sorted(found) == sorted(wanted)
    [message] = said(caplog)
    assert f" does not offer {of_pyspark.NAMES[name][0]}, which sparktune uses: " in message


def test_a_broadcast_of_the_objective_is_used_unchecked_without_its_java_object(
    without: Any, spark: Any, caplog: Any
) -> None:
    data = spark.sparkContext.broadcast([10.0])
    without("_jbroadcast")
    assert min(study(lambda x: x + data.value[0])) > 10
    [message] = said(caplog)
    assert "Broadcast._jbroadcast," in message
    data.destroy(blocking=True)


def test_slots_and_the_end_of_a_session_are_seen_without_its_java_object(without: Any, spark: Any) -> None:
    sc = spark.sparkContext
    wanted = of_pyspark.count_tasks(sc)
    without("_jsc")
    assert of_pyspark.count_tasks(sc) == wanted
    assert not of_pyspark.has_stopped(sc)
    assert of_pyspark.has_stopped(object())


REFUSED = {"isStopped", "resourceProfileManager", "maxNumConcurrentTasks", "statusTracker", "nanoTime"}


@pytest.fixture
def few_methods(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A gateway that refuses methods, as on clusters with access control; gives those it has refused."""
    from py4j.java_gateway import JavaMember
    from py4j.protocol import Py4JError

    call, refused = JavaMember.__call__, []

    def admit(member: Any, *arguments: Any) -> Any:
        if member.name not in REFUSED:
            return call(member, *arguments)
        refused.append(member.name)
        raise Py4JError(
            f"An error occurred while calling o42.{member.name}. Trace:\n"
            f"py4j.security.Py4JSecurityException: Method public {member.name}() is not whitelisted"
        )

    monkeypatch.setattr(JavaMember, "__call__", admit)
    return refused


def test_a_gateway_that_admits_few_methods_is_no_session_that_was_stopped(
    few_methods: list[str], spark: Any, tmp_path: Path
) -> None:
    folder = str(tmp_path)

    def dies_once(x: float) -> float:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(f"{folder}/died", os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    sc = spark.sparkContext
    gateway = sc._gateway
    assert session.get_or_create() is spark
    assert sc._gateway is gateway
    study(dies_once, max_attempts=3)
    assert not of_pyspark.has_stopped(sc)
    assert "isStopped" in few_methods
    assert "nanoTime" in few_methods
    assert of_pyspark.has_stopped(sc, Exception("Job 3 cancelled because SparkContext was shut down"))


def test_every_name_is_there_in_this_version(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_messages", {})
    data = spark.sparkContext.broadcast([10.0])
    assert min(study(lambda x: x + data.value[0], fresh_worker=True)) > 10
    assert presence.said() == []
    data.destroy(blocking=True)


REMOVE = """
import os
from sparktune.private import of_cloudpickle, of_pyspark, presence

def read(owner, name):
    if name == os.environ["WITHOUT"]:
        raise AttributeError(name, name=name, obj=owner)
    return presence.read(owner, name)

of_cloudpickle.read = of_pyspark.read = read
"""
"""Run by every interpreter at its start: also by those of the workers."""

STUDY = """
import numpy as np
from sparktune import SparkTrials, fmin, hp, rand

large = np.ones(100_000)

def objective(x):
    large[0] += 1
    return x + large[0]

trials = SparkTrials(parallelism=1, mlflow=False)
fmin(objective, hp.uniform("x", 1, 2), rand.suggest, 3, trials=trials, show_progressbar=False)
print(sorted(set(trials.to_dataframe()["state"])), all(3 <= loss <= 4 for loss in trials.losses()))
"""


@pytest.mark.parametrize("name", ["_path", "_DYNAMIC_CLASS_TRACKER_BY_ID", "_ensure_initialized"])
def test_a_new_session_and_its_workers_do_without(name: str, run: Any, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(REMOVE)
    path = f"{tmp_path}:{Path(__file__).parent.parent.parent}"
    done = run([sys.executable, "-c", STUDY], env={"WITHOUT": name, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['completed'] True"
    [message] = [line for line in done.stderr.splitlines() if "does not offer" in line]
    owner = {**of_pyspark.NAMES, **of_cloudpickle.NAMES}[name][0]
    assert f" does not offer {owner}, which sparktune uses: " in message
