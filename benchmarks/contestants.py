"""What the benchmarks compare: sparktune, its peers, and the floor under them all.

A contestant is a function ``(load, n_trials, parallelism) -> None`` that runs ``n_trials`` trials of a load
to their end on the active Spark session. A load is one of the objectives below, which every contestant calls
in the same way.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hyperopt
from connect_server import connect_server
from hyperopt import hp

Load = Callable[[], float]
Contestant = Callable[[Load, int, int], None]

SPACE = {"x": hp.uniform("x", -5, 5), "y": hp.uniform("y", -5, 5)}
_numbers = itertools.count()


# -- loads ---------------------------------------------------------------------------------------------


def noop() -> float:
    """No work at all."""
    return 0.0


def sleeper(seconds: float, folder: str) -> Load:
    """Sleep, and leave a note of when: see ``spans``."""

    def sleep() -> float:
        began = time.time()
        time.sleep(seconds)
        with open(os.path.join(folder, str(os.getpid())), "a", encoding="utf-8") as notes:
            notes.write(f"{began} {time.time()}\n")
        return 0.0

    return sleep


def spans(folder: str) -> list[tuple[float, float]]:
    """When each sleep in this folder began and ended, Unix seconds; forgets them."""
    found: list[tuple[float, float]] = []
    for notes in list(Path(folder).iterdir()):
        for line in notes.read_text(encoding="utf-8").splitlines():
            began, ended = line.split()
            found.append((float(began), float(ended)))
        notes.unlink()
    return found


def utilisation(found: list[tuple[float, float]], slots: int) -> float:
    """The share of the slots' time, from the first start to the last end, that objectives used."""
    whole = max(ended for _, ended in found) - min(began for began, _ in found)
    return sum(ended - began for began, ended in found) / (slots * whole)


def burden(megabytes: int) -> Load:
    """No work, but a function that holds an array of random bytes."""
    import numpy as np

    data = np.frombuffer(np.random.default_rng(0).bytes(megabytes * 10**6), dtype=np.uint8)

    def touch() -> float:
        return float(data[-1])

    return touch


# -- the floor -----------------------------------------------------------------------------------------


def _drain(load: Load, rows: Iterable[Any]) -> list[float]:
    for _ in rows:  # a task that leaves its input unread loses its Python worker
        pass
    if not getattr(gc, "frozen_for_benchmark", False):  # once per worker process
        gc.collect()
        gc.freeze()
        gc.frozen_for_benchmark = True  # type: ignore[attr-defined]
    return [load()]


def _drain_in_arrow(load: Load, batches: Iterator[Any]) -> Iterator[Any]:
    import pyarrow

    yield pyarrow.RecordBatch.from_pydict({"loss": _drain(load, batches)})


def _jobs(load: Load) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What makes a one-row input on the active session, and what runs a one-task job on it."""
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DoubleType, StructType

    from sparktune.backends.session import is_connect

    spark = SparkSession.active()
    if is_connect(spark):
        body = functools.partial(_drain_in_arrow, load)
        # A schema as text, the columns of a new input and ``collect`` would each ask the server once more.
        schema = StructType().add("loss", DoubleType())
        return lambda: spark.range(0, 1, 1, 1), lambda rows: rows.mapInArrow(body, schema).toArrow()
    context, task = spark.sparkContext, functools.partial(_drain, load)
    return lambda: context.parallelize([0], 1), lambda rows: rows.mapPartitions(task).collect()


def floor(load: Load, n_trials: int, parallelism: int, *, one_input: bool = True) -> None:
    """As many one-task Spark jobs, from as many threads, and nothing else.

    Every job reads the same one-row input, made once; without ``one_input`` each makes its own. On Spark
    Connect a job is a query, ``mapInArrow``.
    """
    from pyspark import InheritableThread
    from pyspark.sql import SparkSession

    from sparktune.backends.session import is_connect

    make, run = _jobs(load)
    shared = make()
    numbers = iter(range(n_trials))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if next(numbers, None) is None:
                    return
            run(shared if one_input else make())

    # On Connect a thread has nothing to inherit.
    kind = threading.Thread if is_connect(SparkSession.active()) else InheritableThread
    threads = [kind(target=work) for _ in range(parallelism)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def plain_floor(load: Load, n_trials: int, parallelism: int) -> None:
    """The floor as one writes it at first: ``parallelize([0], 1).mapPartitions(f).collect()`` every time."""
    floor(load, n_trials, parallelism, one_input=False)


# -- sparktune and its peers ---------------------------------------------------------------------------


def sparktune(load: Load, n_trials: int, parallelism: int, *, mlflow: bool, save_file: str = "") -> None:
    """``sparktune.fmin``, random search."""
    from sparktune import SparkTrials, fmin, rand

    trials = SparkTrials(parallelism=parallelism, mlflow=mlflow)
    fmin(
        lambda _point: load(),
        SPACE,
        algo=rand.suggest,
        max_evals=n_trials,
        trials=trials,
        trials_save_file=save_file,
        show_progressbar=False,
    )
    _expect(len(trials), n_trials)


def sparktune_off(load: Load, n_trials: int, parallelism: int) -> None:
    """Without MLflow."""
    sparktune(load, n_trials, parallelism, mlflow=False)


def sparktune_on(load: Load, n_trials: int, parallelism: int) -> None:
    """With MLflow: a parent run and a nested run for each trial, all written when it returns."""
    sparktune(load, n_trials, parallelism, mlflow=True)


def sparktune_saved(load: Load, n_trials: int, parallelism: int) -> None:
    """Without MLflow, with ``trials_save_file``: an end is on the disk before its slot is used again."""
    with tempfile.TemporaryDirectory() as folder:
        sparktune(load, n_trials, parallelism, mlflow=False, save_file=os.path.join(folder, "study.pkl"))


def hyperopt_spark(load: Load, n_trials: int, parallelism: int) -> None:
    """``hyperopt.SparkTrials`` in hyperopt's ``fmin``, random search; records nothing in MLflow."""
    trials = hyperopt.SparkTrials(parallelism=parallelism)
    hyperopt.fmin(
        lambda _point: load(),
        SPACE,
        algo=hyperopt.rand.suggest,
        max_evals=n_trials,
        trials=trials,
        show_progressbar=False,
    )
    _expect(len(trials), n_trials)


def mlflow_optuna(load: Load, n_trials: int, parallelism: int) -> None:
    """``MlflowSparkStudy``, random search: one Spark job, a partition for each slot, a run for each trial."""
    import mlflow
    import optuna
    from mlflow.optuna.storage import MlflowStorage
    from mlflow.pyspark.optuna.study import MlflowSparkStudy

    name = f"optuna {next(_numbers)}"
    storage = MlflowStorage(experiment_id=mlflow.create_experiment(name))
    study = MlflowSparkStudy(name, storage, sampler=optuna.samplers.RandomSampler())

    def objective(trial: Any) -> float:
        trial.suggest_float("x", -5, 5)
        trial.suggest_float("y", -5, 5)
        return load()

    study.optimize(objective, n_trials=n_trials, n_jobs=parallelism)
    _expect(study.completed_trials_count, n_trials)


def store_writes(_load: Load, n_trials: int, _parallelism: int) -> None:
    """The tracking store's own rate: a run, a batch, its end, one after another in one thread. No Spark."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    client = mlflow.MlflowClient()
    experiment = client.create_experiment(f"store {next(_numbers)}")
    parent = client.create_run(experiment)
    for number in range(n_trials):
        tags = {"mlflow.parentRunId": parent.info.run_id}
        run = client.create_run(experiment, tags=tags, run_name=f"trial {number}")
        now_ms = int(time.time() * 1000)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric("loss", 0.0, now_ms, 0)],
            params=[Param("x", "0.123"), Param("y", "0.456")],
            tags=[RunTag("trial_status", "completed"), RunTag("sparktune.trial", "{" + "." * 400 + "}")],
        )
        client.set_terminated(run.info.run_id)
    client.set_terminated(parent.info.run_id)


def floor_and_writes(load: Load, n_trials: int, parallelism: int) -> None:
    """The floor and the store's own writes at the same time in one process: the ceiling of MLflow on."""
    writes = threading.Thread(target=store_writes, args=(load, n_trials, parallelism))
    writes.start()
    floor(load, n_trials, parallelism)
    writes.join()


CONTESTANTS: dict[str, Contestant] = {
    "floor": floor,
    "plain floor": plain_floor,
    "sparktune": sparktune_off,
    "sparktune + save file": sparktune_saved,
    "sparktune + MLflow": sparktune_on,
    "hyperopt.SparkTrials": hyperopt_spark,
    "MlflowSparkStudy": mlflow_optuna,
    "store's own writes": store_writes,
    "floor beside writes": floor_and_writes,
}


def _expect(done: int, wanted: int) -> None:
    if done != wanted:
        raise RuntimeError(f"{done} trials ended well, not {wanted}: nothing to compare")


# -- where they meet -----------------------------------------------------------------------------------


@contextlib.contextmanager
def arena(master: str, driver_memory: str = "2g", *, connect: bool = False) -> Iterator[None]:
    """A Spark session with sparktune's settings for all contestants, and an empty MLflow store in sqlite.

    With ``connect`` the session is one of Spark Connect, and its server has these settings.
    """
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"
    folder = tempfile.mkdtemp(prefix="sparktune-benchmark-")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    for name in ("alembic", "mlflow", "hyperopt", "hyperopt-spark", "sparktune", "optuna", "py4j"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from pyspark.sql import SparkSession

    from sparktune.backends.session import SETTINGS

    settings = {**SETTINGS, "spark.ui.enabled": "false", "spark.driver.memory": driver_memory}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        builder: Any = SparkSession.builder
        if connect:
            builder = builder.remote(stack.enter_context(connect_server(master, settings, folder)))
        else:
            builder = builder.master(master)
            for key, value in settings.items():
                builder = builder.config(key, value)
        stack.callback(builder.getOrCreate().stop)
        yield
