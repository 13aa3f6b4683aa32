"""Where Spark comes from, and what is said when it is not there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sparktune.backends import session

CATCH = "\nexcept SparkNotAvailable as error:\n    print(f'{type(error).__name__}: {error}')\n"
NEEDS_SPARK = "from sparktune import SparkTrials\nfrom sparktune.errors import SparkNotAvailable\n"

WITHOUT_PYSPARK = """
import importlib.abc, importlib.metadata, sys

missing = {"pyspark"}
if not importlib.metadata.version("hyperopt").startswith("0.2."):  # which itself imports py4j
    missing.add("py4j")

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Blocked())
import sparktune
from sparktune import SimulatedTrials, fmin, hp, rand
fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 3, trials=SimulatedTrials(), show_progressbar=False)
print("works")
from sparktune.errors import SparkNotAvailable
for use in (sparktune.SparkTrials, lambda: fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 3)):
    try:
        use()
    except SparkNotAvailable as error:
        print(isinstance(error, ImportError), error)
"""


def test_without_pyspark_the_import_works_and_the_first_use_says_what_to_install(run: Any) -> None:
    done = run([sys.executable, "-c", WITHOUT_PYSPARK])
    assert done.returncode == 0, done.stderr
    works, *said = done.stdout.splitlines()
    assert works == "works"
    assert len(said) == 2
    for line in said:
        assert line.startswith("True SparkTrials cannot import pyspark classes")
        assert "pip install 'sparktune[spark]'" in line


@pytest.mark.parametrize(
    ("java_home", "where"),
    [("", "JAVA_HOME is not set"), ("/nowhere", "JAVA_HOME is '/nowhere', which has no bin/java")],
)
def test_without_java(java_home: str, where: str, run: Any, tmp_path: Path) -> None:
    code = NEEDS_SPARK + "try:\n    SparkTrials()" + CATCH
    done = run([sys.executable, "-c", code], env={"PATH": str(tmp_path), "JAVA_HOME": java_home})
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("SparkNotAvailable: Spark needs Java, and none was found")
    assert where in line
    assert "Install Java 17" in line


def test_a_java_that_does_not_start(run: Any, tmp_path: Path) -> None:
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'UnsupportedClassVersionError' >&2\nexit 1\n")
    java.chmod(0o755)
    code = NEEDS_SPARK + "try:\n    SparkTrials()" + CATCH
    done = run([sys.executable, "-c", code], env={"JAVA_HOME": str(java.parent.parent)})
    assert done.returncode == 0, done.stderr
    assert "SparkNotAvailable: Spark's Java process did not start" in done.stdout
    assert "Spark 4 needs Java 17 or newer" in done.stdout


OWN_SESSION = """
from sparktune import SparkTrials
from sparktune.backends.session import SETTINGS
trials = SparkTrials()
context = trials._session().sparkContext
print(context.master, trials.parallelism == context.defaultParallelism)
print({key: value for key, value in SETTINGS.items() if context.getConf().get(key) != value})
"""


def test_a_session_of_ours(run: Any) -> None:
    done = run([sys.executable, "-c", OWN_SESSION])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{session.LOCAL_MASTER} True", "{}"]


MEANWHILE = """
import logging, sys, threading
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
logging.getLogger("py4j").setLevel(logging.WARNING)
from sparktune.backends import session

seen = []
def work():
    seen.append(threading.current_thread() is threading.main_thread())
    raise ValueError("dropped")

spark = session.get_or_create(work)
print(seen)
session.get_or_create(work)
print(seen)
for thread in threading.enumerate():
    if thread.name == "sparktune-workers":
        thread.join()
        print("joined")
[modules] = session.application(spark).ask_workers(lambda _: sorted(sys.modules), 1)
print("sparktune.worker.task" in modules, "hyperopt" in modules, "mlflow" in modules)
"""


def test_while_spark_starts_other_work_is_done_and_then_workers_start(run: Any) -> None:
    done = run([sys.executable, "-c", MEANWHILE])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[False]", "[False]", "joined", "True False False"]
    assert done.stderr.count("sparktune starting Spark") == 1
    assert "dropped" not in done.stderr


def test_what_spark_is_told_goes_before_our_settings(run: Any, tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.master local[1]\nspark.python.task.killTimeout 5s\nspark.app.name theirs\n"
    )
    done = run([sys.executable, "-c", OWN_SESSION], env={"SPARK_CONF_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "local[1] True",
        "{'spark.app.name': 'sparktune', 'spark.python.task.killTimeout': '10ms'}",
    ]


def test_the_active_session_is_used(spark: Any) -> None:
    assert session.get_or_create() is spark


ANOTHER_THREADS = """
import threading
from pyspark.sql import SparkSession
from sparktune import SparkTrials, fmin, hp, rand

spark = SparkSession.builder.master("local[2]").appName("mine").getOrCreate()
spark.conf.set("spark.sql.shuffle.partitions", "7")
before = dict(spark.sparkContext.getConf().getAll())
names = []

def study():
    trials = SparkTrials(mlflow=False)
    fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 3, trials=trials, show_progressbar=False)
    names.append(trials._session().sparkContext.appName)

thread = threading.Thread(target=study)
thread.start()
thread.join()
print(names, dict(spark.sparkContext.getConf().getAll()) == before)
"""


def test_a_session_of_another_thread_is_taken_as_it_is(run: Any) -> None:
    done = run([sys.executable, "-c", ANOTHER_THREADS])
    assert done.stdout.split("\n")[0] == "['mine'] True", done.stderr


JAVA_DIES = """
import os, signal, sys
from sparktune import SparkTrials, fmin, hp, rand
from sparktune.errors import SparkNotAvailable

trials = SparkTrials(parallelism=1, mlflow=False)
java = trials._session().sparkContext._gateway.proc.pid
options = {"algo": rand.suggest, "max_evals": 4, "trials": trials, "show_progressbar": False}

folder = sys.argv[1]

def fn(x):
    if len(os.listdir(folder)) == 2:
        os.mkdir(os.path.join(folder, "third"))
        os.kill(java, signal.SIGKILL)
        signal.pause()
    open(os.path.join(folder, repr(x)), "x").close()
    return x

try:
    fmin(fn, hp.uniform("x", 0, 1), **options)
except SparkNotAvailable as error:
    print(error)
print(len(trials))
fmin(fn, hp.uniform("x", 0, 1), **options)
print(trials.count_successful_trials())
"""


def test_going_on_after_sparks_java_process_was_killed(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    done = run([sys.executable, "-c", JAVA_DIES, str(folder)])
    said, *counts = done.stdout.splitlines()
    assert "call fmin again with the same trials object" in said, done.stderr
    assert counts == ["2", "4"], done.stderr


FORKED = """
import os
import sparktune
from sparktune import SimulatedTrials, SparkTrials, fmin, hp, rand


def tune(trials):
    fmin(abs, hp.uniform("x", 0, 1), rand.suggest, 2, trials=trials, show_progressbar=False)
    return trials.count_successful_trials()


assert tune(SparkTrials(1, mlflow=False)) == 2
child = os.fork()
if child == 0:
    try:
        assert tune(SimulatedTrials()) == 2
        tune(SparkTrials(1, mlflow=False))
    except sparktune.SparkNotAvailable as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), tune(SparkTrials(1, mlflow=False)))
"""


def test_a_process_that_was_forked_while_spark_runs_is_refused(run: Any) -> None:
    done = run([sys.executable, "-c", FORKED])
    refusal, ended = done.stdout.splitlines()
    assert "was forked from process" in refusal, done.stderr
    assert "get_context('spawn')" in refusal
    assert ended == "7 2", done.stderr


CONNECTED_WITHOUT_ENVIRONMENT = """
import os, threading
from pyspark.sql.connect.session import SparkSession
from sparktune.backends import session


class VendorsSession(SparkSession):  # as of dataproc-spark-connect
    pass


for kind in (VendorsSession, SparkSession):
    assert session.active_connect() is None
    assert not session.wants_connect()
    spark = kind(connection="sc://127.0.0.1:1")  # asks the server nothing yet
    spark.release_session_on_close = False
    kind._set_default_and_active_session(spark)
    assert not {"SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED"} & set(os.environ)
    assert session.wants_connect()
    found = []
    thread = threading.Thread(target=lambda: found.append(session.get_or_create()))
    thread.start()
    thread.join()
    found.append(session.get_or_create())
    print([one is spark for one in found])
    spark.stop()
"""


def test_a_connect_session_that_sets_no_environment_variables_is_found(run: Any) -> None:
    pytest.importorskip("grpc")
    done = run([sys.executable, "-W", "ignore", "-c", CONNECTED_WITHOUT_ENVIRONMENT])
    assert done.stdout.splitlines() == ["[True, True]"] * 2, done.stderr
