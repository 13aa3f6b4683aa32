"""What is read of a Spark application; slots of real ones are counted in ``test_spark_classic``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sparktune.backends.spark_attempts import Losses
from sparktune.backends.spark_cluster import (
    Ending,
    attempts_of,
    copies,
    default_attempts,
    encrypts,
    ending_of,
    import_path,
    is_cancelled,
    lost,
    with_remedy,
)
from sparktune.study.trial import TrialError

pytestmark = pytest.mark.unit


def test_spark_copies_tasks_of_one_task_jobs_after_a_time_alone() -> None:
    after = {"spark.speculation.task.duration.threshold": "1min"}
    assert not copies({"spark.speculation": "true"})
    assert not copies(after)
    assert copies({"spark.speculation": "True", **after})


@pytest.mark.parametrize(
    "setting",
    [
        "spark.network.crypto.enabled",
        "spark.authenticate.enableSaslEncryption",
        "spark.ssl.enabled",
        "spark.ssl.rpc.enabled",
    ],
)
def test_who_has_spark_encrypt_does_not_expect_the_study_in_clear(setting: str) -> None:
    assert encrypts({setting: " True"})
    assert not encrypts({setting: "false"})
    assert not encrypts({})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ModuleNotFoundError: No module named 'sparktune'", "the Python workers cannot import 'sparktune'"),
        ("Total size of results is bigger than spark.driver.maxResultSize", "return less"),
        ("x\nPython worker exited unexpectedly (crashed)", r"the worker died .*exited unexpectedly"),
        ("", "the worker died"),
    ],
)
def test_lost(text: str, says: str) -> None:
    error = lost(Exception(text))
    assert error.type_name == "WorkerLost"
    with pytest.raises(RuntimeError, match=says):
        raise RuntimeError(error.message)


JOB = (
    "An error occurred while calling o42.collect.\n: org.apache.spark.SparkException: Job aborted due to "
    "stage failure: Task 0 in stage 3.0 failed 4 times, most recent failure: Lost task 0.3 in stage 3.0 "
    "(TID 3) (192.0.2.2 executor 0): "
)
STACK = (
    "\n\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.read(PythonRunner.scala:612)"
    "\nCaused by: java.io.EOFException\n\tat java.base/java.io.DataInputStream.readInt(Unknown Source)"
)
PYTHON = (
    "Traceback (most recent call last):\n"
    '  File "/opt/pyspark/worker.py", line 1247, in main\n    process()\n{}\n'
)
MESSAGES = [
    # Spark 3.5, 4.0 and 4.1, local, on executors and over Connect
    (
        JOB + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)" + STACK,
        "WORKER_LOST",
    ),
    (
        JOB
        + "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider setting "
        "'spark.sql.execution.pyspark.udf.faulthandler.enabled' or"
        "'spark.python.worker.faulthandler.enabled' configuration to 'true' for the better Python traceback."
        + STACK,
        "WORKER_LOST",
    ),
    (
        JOB.partition("SparkException: ")[2] + "org.apache.spark.SparkException: Python worker exited "
        "unexpectedly (crashed).\n\nJVM stacktrace:\norg.apache.spark.SparkException\n\tat org.apache.spark",
        "WORKER_LOST",
    ),
    (
        JOB + "ExecutorLostFailure (executor 0 exited caused by one of the running tasks) Reason: Command "
        "exited with code 137\nDriver stacktrace:" + STACK,
        "WORKER_LOST",
    ),
    (
        JOB + "java.io.IOException: org.apache.spark.SparkException: Failed to get broadcast_0_piece0 of "
        "broadcast_0" + STACK,
        "WORKER_LOST",
    ),
    (
        ": org.apache.spark.SparkException: [SPARK_JOB_CANCELLED] Job 5 cancelled as part of cancellation of "
        "all jobs SQLSTATE: XXKDA\n\tat org.apache.spark.errors",
        "CANCELLED",
    ),
    (
        ": org.apache.spark.SparkException: Job 5 cancelled as part of cancellation of all jobs\n\tat o",
        "CANCELLED",
    ),
    (": org.apache.spark.SparkException: Job 6 cancelled \n\tat org.apache.spark.scheduler", "CANCELLED"),
    (": org.apache.spark.SparkException: Job 9 cancelled because killed via the Web UI\n\tat o", "CANCELLED"),
    (
        ": org.apache.spark.SparkException: Job 10 cancelled part of cancelled job group g\n\tat o",
        "CANCELLED",
    ),
    (
        "(org.apache.spark.SparkSQLException) [OPERATION_CANCELED] Operation has been canceled. SQLSTATE: "
        "HY008\n\nJVM stacktrace:\norg.apache.spark.SparkSQLException",
        "CANCELLED",
    ),
    (
        JOB
        + "org.apache.spark.api.python.PythonException: "
        + PYTHON.format("ModuleNotFoundError: No module named 'sparktune'"),
        "NO_MODULE",
    ),
    (JOB + "org.apache.spark.api.python.PythonException: " + PYTHON.format("MemoryError"), "OTHER"),
    (
        "\n  An exception was thrown from the Python worker. Please see the stack trace below.\n"
        + PYTHON.format("ValueError: Python worker exited unexpectedly, Job 1 cancelled"),
        "OTHER",
    ),
    (
        "org.apache.spark.SparkException: Attempted to use Broadcast(12) after it was destroyed (destroy at "
        "NativeMethodAccessorImpl.java:0)",
        "DESTROYED",
    ),
    (
        ": org.apache.spark.SparkException: Job aborted due to stage failure: Total size of serialized "
        "results of 1 tasks (9.6 MiB) is bigger than spark.driver.maxResultSize (1024.0 KiB)",
        "TOO_LARGE",
    ),
    ("Answer from Java side is empty", "OTHER"),
]


@pytest.mark.parametrize(("text", "ending"), MESSAGES)
def test_why_a_job_ended(text: str, ending: str) -> None:
    assert ending_of(Exception(text)) is Ending[ending]


def test_how_often_spark_tried() -> None:
    assert attempts_of(Exception(MESSAGES[0][0])) == 4
    assert attempts_of(Exception("Job 6 cancelled")) == attempts_of(None) == 1


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        (
            Losses(2, 2, 0, True, "pid 7 on h"),
            r"died while it ran the objective \(pid 7 on h\), in attempt 2 of 2",
        ),
        (
            Losses(1, 2, 10, False),
            "died before the objective had begun; 10 were lost so, .* 1 of at most 2 times",
        ),
        (Losses(4, 4, 0, None), "died at a moment that is not known, perhaps in the objective"),
    ],
)
def test_what_is_said_of_losses(losses: Losses, says: str) -> None:
    error = lost(Exception(MESSAGES[0][0]), losses)
    with pytest.raises(RuntimeError, match=rf"{says}.*Look|{says}.*look"):
        raise RuntimeError(error.message)
    assert "Job aborted" in error.message


@pytest.mark.parametrize(
    ("master", "attempts"),
    [
        ("local", 2),
        ("local[8]", 2),
        ("local[*]", 2),
        ("local[*,1]", 2),
        ("local[*,4]", 4),
        ("local[2, 3]", 4),
        ("local-cluster[2,1,1024]", 4),
        ("spark://h:7077", 4),
        ("yarn", 4),
        ("spark connect", 4),
    ],
)
def test_default_attempts(master: str, attempts: int) -> None:
    assert default_attempts(master) == attempts


def advice(file: str) -> list[str]:
    return [f"addPyFile('{file}')"]


LOCAL = SimpleNamespace(is_near=True)
CLUSTER = SimpleNamespace(is_near=False, missing_module_advice=advice)


def test_the_import_path_is_one_for_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/first", "here", "/first"])
    assert import_path(True) == (os.getcwd(), "/first", os.path.abspath("here"))
    assert import_path(False) == ()


def test_a_module_that_a_cluster_does_not_have() -> None:
    error = TrialError.of(ModuleNotFoundError("No module named 'helper.part'"))
    for text in (with_remedy(error, CLUSTER).message, with_remedy(error, CLUSTER).traceback):
        assert "No module named 'helper.part'" in text
        assert "addPyFile('helper.py')" in text
        assert "register_pickle_by_value(helper)" in text
    assert with_remedy(error, LOCAL) == error
    assert "pip install" not in with_remedy(error, CLUSTER).message
    other = TrialError.of(ValueError("No module named 'helper'"))
    assert with_remedy(other, CLUSTER) == other


def test_how_a_package_gets_to_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed one by pip, a folder of the user's as a zip file."""
    text = with_remedy(TrialError.of(ModuleNotFoundError("No module named 'numpy'")), CLUSTER).message
    assert f"pip install numpy=={np.__version__} on every worker" in text
    assert "addPyFile" not in text
    assert "register_pickle_by_value" not in text
    (tmp_path / "of_mine").mkdir()
    (tmp_path / "of_mine" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    text = with_remedy(TrialError.of(ModuleNotFoundError("No module named 'of_mine.part'")), CLUSTER).message
    archive = f"shutil.make_archive('of_mine', 'zip', {str(tmp_path)!r}, 'of_mine')"
    assert f"{archive}, then addPyFile('of_mine.zip')" in text
    assert "of_mine.py" not in text


RAISED = "An error occurred while calling o42.collect.\n: org.apache.spark.SparkException: "


@pytest.mark.parametrize(
    ("text", "is_meant"),
    [
        (RAISED + "Job 3 cancelled part of cancelled job group cell 7", True),  # Spark 3.5
        (RAISED + "[SPARK_JOB_CANCELLED] Job 3 cancelled part of cancelled job group cell 7", True),
        ("[SPARK_JOB_CANCELLED] Job 3 cancelled part of cancelled job group cell 7 SQLSTATE: XXKDA", True),
        (RAISED + "Job 3 cancelled part of cancelled job group cell 77", False),
        (RAISED + "Job 3 cancelled part of cancelled job tag mine" + STACK, True),
        ("[SPARK_JOB_CANCELLED] Job 3 cancelled part of cancelled job tags mine SQLSTATE: XXKDA", True),
        ("[SPARK_JOB_CANCELLED] Job 3 cancelled part of cancelled job tags other SQLSTATE: XXKDA", False),
        ("[SPARK_JOB_CANCELLED] Job 3 cancelled as part of cancellation of all jobs SQLSTATE: XXKDA", True),
        ("[OPERATION_CANCELED] Operation has been canceled.", True),
        (RAISED + "[SPARK_JOB_CANCELLED] Job 3 cancelled  SQLSTATE: XXKDA", False),
        (RAISED + "Job 3 cancelled because killed via the Web UI", False),
        (RAISED + "Job 3 cancelled because Stage 5 was cancelled", False),
        (JOB + PYTHON.format("ValueError: Job 3 cancelled part of cancelled job group cell 7"), False),
        ("", False),
    ],
)
def test_a_job_that_was_cancelled_with_others_of_its_caller(text: str, is_meant: bool) -> None:
    names = {"cell 7", "mine"}
    assert is_cancelled(Exception(text), names) == is_meant
    wrapped = ValueError("the fit failed")
    wrapped.__cause__ = Exception(text)
    assert is_cancelled(wrapped, names) == is_meant


def test_names_that_a_gateway_does_not_tell() -> None:
    assert is_cancelled(Exception("Job 3 cancelled part of cancelled job group cell 7"), None)
    assert not is_cancelled(None, None)
