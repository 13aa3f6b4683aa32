"""The classic Spark backend: the shared suite, and what only Spark can show."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import psutil
import pyspark
import pytest
from py4j.java_collections import JavaIterator
from py4j.protocol import Py4JNetworkError

from sparktune import BanditPolicy, SparkTrials, fmin, hp, rand, report
from sparktune.backends.spark_classic import ClassicApplication
from sparktune.backends.spark_cluster import default_attempts
from sparktune.backends.spark_jobs import ABANDON_AFTER_S, SparkBackend
from sparktune.errors import ControlPortNotAvailable, ObjectiveNotPicklable, StudyCancelled
from sparktune.study.backend import Backend, Cancelled, Finished, Lost, Started, Task
from sparktune.study.tracker import RunContext
from sparktune.worker.channel import Arrived
from sparktune.worker.objective import Objective
from tests.backends import conformance
from tests.backends.conformance import (
    BackendConformance,
    KillsWhoReadsIt,
    Make,
    attempts_of,
    check_saving,
    ends_of,
    error_of,
    objective,
    result_of,
    started,
    task,
    wait_for,
    wait_for_ends,
)
from tests.backends.growing import GrowingBackend, GrowingConformance
from tests.conftest import ROOT, TEST_MASTER

# Workers are not to import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(conformance)


@pytest.fixture
def make(spark: Any) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def make(fn: Callable[..., Any]) -> Backend:
            backend = SparkBackend(ClassicApplication(spark), objective(fn))
            stack.callback(backend.close)
            return backend

        yield make


class TestConformance(BackendConformance):
    attempts = default_attempts(TEST_MASTER)

    @pytest.fixture
    def context(self, spark: Any) -> Any:
        return spark

    def create(self, objective: Objective, context: Any) -> SparkBackend:
        return SparkBackend(ClassicApplication(context), objective)

    def dying(self) -> Callable[[float], float]:
        def fn(x: float) -> float:
            if x < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        return fn

    def endless(self) -> Callable[[float], float]:
        def fn(x: float) -> float:
            if x < 0:
                time.sleep(3600)
            return x

        return fn


class TestConformanceGrowing(GrowingConformance, TestConformance):
    def create(self, objective: Objective, context: Any) -> SparkBackend:
        return GrowingBackend(ClassicApplication(context), objective, counted=1)


@pytest.mark.parametrize("master", ["local[2]", "local-cluster[2,1,1024]"])
def test_lost_workers_where_spark_does_not_try_again_and_on_executors(
    master: str, run: Any, spark_home: Path
) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-W", "default", f"{__file__}::TestConformance"]
    command += ["-k", "worker or success or stopping_one"]
    env = {"SPARKTUNE_TESTS_MASTER": master, "SPARK_HOME": str(spark_home)}
    done = run(command, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-10000:] + done.stderr[-2000:]


# -- lost workers ------------------------------------------------------------------------------------------


def dies(x: float) -> float:
    if x < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("most", [1, 2, 4, 6, 9])
def test_an_objective_begins_as_often_as_it_may_however_often_spark_tries(
    most: int, spark: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Spark tries a task four times in this session, and then the job fails."""
    backend = SparkBackend(ClassicApplication(spark), objective(dies), max_attempts=most)
    with contextlib.closing(backend):
        backend.launch(task(7, -1.0))
        events = wait_for_ends(backend, 7)
    assert attempts_of(events, 7) == list(range(1, most + 1))
    error = error_of(events[-1])
    assert f"in attempt {most} of {most}" in error.message
    assert f"pid {last_begun(events).worker_pid} on " in error.message
    said = [
        message for message in caplog.messages if message.startswith("trial 7: its worker was lost (pid ")
    ]
    again = ["running it again" if n % 4 == 0 else "Spark runs it again" for n in range(1, most)]
    assert [text.partition(") in ")[2] for text in said] == [
        f"attempt {n} of {most}; {what}" for n, what in enumerate(again, 1)
    ]


def last_begun(events: list[Any]) -> Started:
    return [event for event in events if isinstance(event, Started)][-1]


def test_losses_before_and_after_the_beginning(spark: Any, tmp_path: Path) -> None:
    """Spark's last try may not run the objective, which has begun less often than it may: a new job does."""
    backend = SparkBackend(ClassicApplication(spark), objective(dies), max_attempts=3)
    context = RunContext("run", "http://127.0.0.1:1", None, "0", KillsWhoReadsIt(5, tmp_path))
    with contextlib.closing(backend):
        backend.launch(task(0, -1.0, run_context=lambda: context))
        events = wait_for_ends(backend, 0)
    assert attempts_of(events, 0) == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 5
    assert "in attempt 3 of 3" in error_of(events[-1]).message


def test_a_stop_while_the_trial_waits_to_be_run_again(spark: Any) -> None:
    backend = SparkBackend(ClassicApplication(spark), objective(dies), max_attempts=9)
    with contextlib.closing(backend):
        for i in range(4):
            backend.launch(task(i, -1.0))
            events = wait_for(backend, lambda events: any(isinstance(event, Lost) for event in events))
            backend.stop(i)
            assert backend.under_way() == {i}
            events += wait_for_ends(backend, i)
            assert isinstance(events[-1], Cancelled)
            assert list(backend.wait(0)) == []


def test_a_close_while_the_trial_waits_to_be_run_again(spark: Any, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def fn(x: float) -> float:
        with begun.open("a") as file:
            file.write("x")
        return dies(x)

    backend = SparkBackend(ClassicApplication(spark), objective(fn), max_attempts=9)
    backend.launch(task(0, -1.0))
    wait_for(backend, lambda events: any(isinstance(event, Lost) for event in events))
    backend.close()
    n = len(begun.read_text())
    assert n in (4, 5)
    assert spark.sparkContext.parallelize(range(4), 4).sum() == 6
    assert len(begun.read_text()) == n


def test_a_job_that_somebody_cancels_is_not_run_again(make: Make, spark: Any) -> None:
    backend = make(time.sleep)
    backend.launch(task(0, 3600.0))
    worker = wait_for(backend, started(0))[-1]
    sc = spark.sparkContext
    sc._jsc.sc().cancelJob(max(sc.statusTracker().getActiveJobsIds()))
    events = wait_for_ends(backend, 0)
    error = error_of(events[-1])
    assert "cancelled from outside" in error.message
    assert isinstance(worker, Started)
    assert [event for event in events if not isinstance(event, Started)] == events[-1:]
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == worker.worker_pid], timeout=10)


@pytest.mark.parametrize("by", ["job group", "job tag", "all jobs", "job group, with a reason of its own"])
def test_who_cancels_the_jobs_of_the_caller_cancels_the_study(by: str, spark: Any) -> None:
    sc = spark.sparkContext
    if "reason" in by and pyspark.__version__.startswith("3."):
        pytest.skip("a group is cancelled without a reason")

    def caller() -> SparkBackend:
        sc.setJobGroup("statement 7", "")
        sc.addJobTag("mine")
        return SparkBackend(ClassicApplication(spark), objective(time.sleep))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        backend = pool.submit(caller).result()
        with contextlib.closing(backend):
            for i in range(2):
                pool.submit(backend.launch, task(i, 3600.0)).result()
            wait_for(backend, lambda events: sum(isinstance(event, Started) for event in events) == 2)
            match by:
                case "job group":
                    sc.cancelJobGroup("statement 7")
                case "job tag":
                    sc.cancelJobsWithTag("mine")
                case "all jobs":
                    sc.cancelAllJobs()
                case _:
                    sc._jsc.sc().cancelJobGroup("statement 7", "the notebook was detached")
            with pytest.raises(StudyCancelled, match=r"cancelled from outside \(Job \d+ cancelled .*\)"):
                wait_for_ends(backend, 0, 1)
            backend.stop(0)
            backend.stop(1)
            kinds = [
                type(end) for end in ends_of(wait_for(backend, lambda _: not backend.under_way())).values()
            ]
    # Where Spark does not say that others are meant, the second tells.
    assert kinds[-1] is Cancelled
    assert set(kinds) == {Cancelled} or "reason" in by


def test_the_names_of_the_caller_are_read_without_an_exception_of_javas(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PySpark asks Java about each exception 90 times: 0.2 s for every application that is looked at."""
    raised: list[str] = []
    read = JavaIterator.next

    def next_(self: Any) -> Any:
        try:
            return read(self)
        except StopIteration:
            raised.append("at the end")
            raise

    monkeypatch.setattr(JavaIterator, "next", next_)
    monkeypatch.setattr(JavaIterator, "__next__", next_)

    def caller(*tags: str) -> Any:
        for tag in tags:
            spark.sparkContext.addJobTag(tag)
        return ClassicApplication(spark)._names_of_caller()

    for tags in ((), ("mine", "another")):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(caller, *tags).result() == set(tags)
    assert raised == []


# -- the worker process ------------------------------------------------------------------------------------


def test_a_worker_process_serves_many_trials_and_gives_each_its_own_objective(
    make: Make, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"

    def loaded(data: bytes) -> Any:
        with loads.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return data

    class Data:
        def __reduce__(self) -> Any:
            return loaded, (b"data",)

    data = Data()

    def fn(x: float) -> Any:
        return {"status": "ok", "loss": x, "n": len(data)}  # type: ignore[arg-type]

    backend = make(fn)
    pids = []
    for i in range(8):
        backend.launch(task(i))
        first, end = wait_for_ends(backend, i)
        assert isinstance(first, Started)
        assert result_of(end)["n"] == 4
        pids.append(str(first.worker_pid))
    assert len(set(pids)) <= 2
    assert loads.read_text().split() == pids


def test_an_objective_that_raises_keeps_its_worker(make: Make) -> None:
    backend = make(lambda x: 1 / 0)
    pids = set()
    for i in range(6):
        backend.launch(task(i))
        first, end = wait_for_ends(backend, i)
        assert isinstance(first, Started)
        assert first.attempt == 1
        assert error_of(end).type_name == "ZeroDivisionError"
        pids.add(first.worker_pid)
    assert len(pids) <= 2


def test_the_end_of_a_job_does_not_overtake_the_outcome(make: Make) -> None:
    """The worker knows that the driver has it before the driver's thread does."""
    backend = make(lambda x: x)
    sink = backend._control._sink

    def late(signal: Any) -> None:
        if isinstance(signal, Arrived):
            time.sleep(0.5)
        sink(signal)

    backend._control._sink = late
    backend.launch(task(0))
    assert [type(event) for event in wait_for_ends(backend, 0)] == [Started, Finished]


def test_keyboard_interrupt_in_an_objective_is_its_own_failure(make: Make) -> None:
    def fn(x: float) -> float:
        raise KeyboardInterrupt

    backend = make(fn)
    backend.launch(task(0))
    assert error_of(wait_for_ends(backend, 0)[-1]).type_name == "KeyboardInterrupt"


def test_os_exit_without_a_word(make: Make) -> None:
    backend = make(lambda x: os._exit(0))
    backend.launch(task(0))
    error = error_of(wait_for_ends(backend, 0)[-1])
    assert error.type_name == "WorkerLost"
    assert "the worker died" in error.message


def test_a_worker_that_dies_for_good_fails_its_own_trial_only(make: Make, tmp_path: Path) -> None:
    """Spark aborts every job on the RDD whose stage it aborts (DAGScheduler.stageDependsOn)."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def fn(x: float) -> float:
        if x < 0:
            os._exit(1)
        return float(gate.read_text())  # waits until the test writes

    backend = make(fn)
    backend.launch(task(0, 1.0))
    wait_for(backend, started(0))
    backend.launch(task(1, -1.0))
    events = wait_for_ends(backend, 1)
    assert error_of(events[-1]).type_name == "WorkerLost"
    assert 0 not in ends_of(events)
    opened = os.open(gate, os.O_WRONLY)
    os.write(opened, b"7.5")
    os.close(opened)
    assert result_of(wait_for_ends(backend, 0)[-1])["loss"] == 7.5


def test_a_result_of_a_class_that_the_driver_cannot_import(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fn(x: float) -> Any:
        import types

        module = types.ModuleType("only_on_the_worker")
        exec("class Model: pass", module.__dict__)
        sys.modules["only_on_the_worker"] = module
        return {"status": "ok", "loss": x, "model": module.Model()}

    backend = make(fn)
    backend.launch(task(0, 1.5))
    assert result_of(wait_for_ends(backend, 0)[-1]) == {"status": "ok", "loss": 1.5}
    assert "the result['model'] cannot be read on the driver" in caplog.text
    assert "only_on_the_worker" in caplog.text


def test_a_users_own_broadcast(make: Make, spark: Any) -> None:
    table = spark.sparkContext.broadcast({"one": 1.0})
    backend = make(lambda x: table.value["one"] + x)
    for i in range(3):
        backend.launch(task(i, float(i)))
    ends = ends_of(wait_for_ends(backend, 0, 1, 2))
    assert [result_of(ends[i])["loss"] for i in range(3)] == [1.0, 2.0, 3.0]


def test_an_objective_that_cannot_be_pickled_fails_at_once(make: Make) -> None:
    guard = threading.Lock()
    with pytest.raises(ObjectiveNotPicklable, match="the variable 'guard' is a lock"):
        make(lambda x: guard)


def test_slots(make: Make) -> None:
    assert make(abs).slots() == 2


def test_a_large_result(make: Make) -> None:
    backend = make(lambda x: {"status": "ok", "loss": x, "blob": b"x" * 30_000_000})
    backend.launch(task(0))
    assert len(result_of(wait_for_ends(backend, 0)[-1])["blob"]) == 30_000_000


# -- in the user's session ---------------------------------------------------------------------------------


def test_jobs_carry_the_callers_group_and_a_description(make: Make, spark: Any) -> None:
    context = spark.sparkContext
    context.setJobGroup("users group", "users description")
    try:
        backend = make(time.sleep)
        backend.launch(task(17, 3600.0))
        wait_for(backend, started(17))
        (job,) = context.statusTracker().getJobIdsForGroup("users group")
        (job_data,) = (
            data for data in iterate(context._jsc.sc().statusStore().jobsList(None)) if data.jobId() == job
        )
        assert job_data.description().get() == "sparktune trial 17"
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
        context.setLocalProperty("spark.job.description", None)
    assert context.getLocalProperty("spark.job.description") is None


def iterate(scala: Any) -> Iterator[Any]:
    iterator = scala.iterator()
    while iterator.hasNext():
        yield iterator.next()


def test_stopping_spares_other_jobs_of_the_session(make: Make, spark: Any, tmp_path: Path) -> None:
    """The user's own job runs before, during and after the stop, in the caller's job group too."""
    context = spark.sparkContext
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    os.mkfifo(begun)
    os.mkfifo(go_on)

    def job(n: int) -> int:
        begun.write_text("x")
        go_on.read_text()
        return n

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        users = pool.submit(lambda: context.parallelize([42], 1).map(job).collect())
        begun.read_text()
        backend = make(time.sleep)
        backend.launch(task(0, 3600.0))
        wait_for(backend, started(0))
        backend.stop(0)
        assert isinstance(wait_for_ends(backend, 0)[-1], Cancelled)
        backend.close()
        go_on.write_text("x")
        assert users.result(60) == [42]


# -- stops that stop ---------------------------------------------------------------------------------------


def spins_in_numpy(_x: float) -> float:
    import numpy as np

    matrix = np.ones((1500, 1500))
    while True:
        matrix = matrix @ matrix


def sleeps(_x: float) -> float:
    time.sleep(3600)
    return 0.0


def ignores_signals(_x: float) -> float:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)


@pytest.mark.parametrize("fn", [spins_in_numpy, sleeps, ignores_signals])
@pytest.mark.parametrize("by", ["stop", "close"])
def test_no_objective_is_left(fn: Callable[[float], float], by: str, make: Make) -> None:
    backend = make(fn)
    backend.launch(task(0))
    first = wait_for(backend, started(0))[-1]
    assert isinstance(first, Started)
    worker = psutil.Process(first.worker_pid)
    began = time.monotonic()
    if by == "stop":
        backend.stop(0)
        assert isinstance(wait_for_ends(backend, 0)[-1], Cancelled)
    else:
        backend.close()
    took = time.monotonic() - began
    _, alive = psutil.wait_procs([worker], timeout=1)
    assert alive == []
    assert took < 10


def test_a_stop_ends_what_the_objective_has_started(make: Make, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)

    def fn(_x: float) -> float:
        pool = multiprocessing.get_context("fork").Pool(1)  # which replaces a process that dies
        pool.apply_async(time.sleep, (3600,))
        with subprocess.Popen(["sh", "-c", "sleep 3600 & wait"], stdout=subprocess.PIPE) as command:
            begun.write_text(str(command.pid))
            time.sleep(3600)
        return 0.0

    backend = make(fn)
    backend.launch(task(0))
    first = wait_for(backend, started(0))[-1]
    assert isinstance(first, Started)
    command = psutil.Process(int(begun.read_text()))
    family = [psutil.Process(first.worker_pid)]
    family += family[0].children(recursive=True)
    assert command in family
    assert len(family) >= 3
    began = time.monotonic()
    backend.stop(0)
    assert isinstance(wait_for_ends(backend, 0)[-1], Cancelled)
    took = time.monotonic() - began
    _, alive = psutil.wait_procs(family, timeout=1)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert took < ABANDON_AFTER_S / 2


@pytest.mark.parametrize(("by", "save_s"), [("stop", 2.5), ("close", 1.0), ("stop", 3600.0)])
def test_an_objective_that_saves_when_it_is_stopped(
    by: str, save_s: float, make: Make, tmp_path: Path
) -> None:
    """Spark, told at once, would kill it after 10 ms."""
    check_saving(make, tmp_path, by, save_s)


def test_a_fork_that_comes_back_from_the_objective_is_not_the_trial(make: Make) -> None:
    def fn(x: float) -> float:
        child = os.fork()
        if child == 0:
            sys.exit(3)
        os.waitpid(child, 0)
        return x

    backend = make(fn)
    for i in range(2):
        backend.launch(task(i, 2.5))
        assert result_of(wait_for_ends(backend, i)[-1])["loss"] == 2.5


def test_a_result_that_arrived_stays_a_result(make: Make) -> None:
    """Many trials end while they are being stopped: each as one or the other, and none is left."""
    backend = make(lambda x: x)
    n = 12
    events: list[Any] = []
    for i in range(n):
        backend.launch(task(i, float(i)))
        if i % 2:
            backend.stop(i - 1)
        events += backend.wait(0.05)
    ends = ends_of(events)
    ends |= ends_of(wait_for_ends(backend, *(i for i in range(n) if i not in ends)))
    assert all(isinstance(ends[i], Finished) for i in range(1, n, 2))
    assert all(isinstance(end, Finished | Cancelled) for end in ends.values())
    assert all(result_of(end)["loss"] == i for i, end in ends.items() if isinstance(end, Finished))


# -- the MLflow run of a trial -----------------------------------------------------------------------------


class Runs:
    """Stands for a tracker: notes who asks for a run, and answers when the objective waits for it."""

    def __init__(self, known: str | None = None) -> None:
        self.known = known
        self.asked: list[bool] = []
        self.at_once = False

    def run_context(self) -> RunContext:
        return RunContext(self.known, "http://127.0.0.1:1", None, "0", claim=None if self.known else "{}")

    def ask_run(self, trial_id: int, tell: Any, *, hurry: bool) -> None:
        self.asked.append(hurry)
        if hurry or self.at_once:
            tell(f"run of {trial_id}")

    def task(self, trial_id: int, x: float = 0.0) -> Task:
        return task(trial_id, x, run_context=self.run_context, ask_run=self.ask_run)


def reads_its_run(x: float) -> Any:
    if x < 0 and not Path(str(x)).exists():
        Path(str(x)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    run = os.getenv("MLFLOW_RUN_ID") if x else ""
    return {"status": "ok", "loss": x, "run": run}


def test_an_objective_that_needs_its_run_waits_for_it(make: Make) -> None:
    backend, runs = make(reads_its_run), Runs()
    for trial_id in (3, 4):
        backend.launch(runs.task(trial_id, 1.0))
        assert result_of(wait_for_ends(backend, trial_id)[-1])["run"] == f"run of {trial_id}"
    assert runs.asked == [False, True, False, True]


def test_an_objective_that_does_not_need_its_run_does_not_wait(make: Make) -> None:
    backend, runs = make(reads_its_run), Runs()
    backend.launch(runs.task(3))
    assert result_of(wait_for_ends(backend, 3)[-1])["run"] == ""
    assert runs.asked == [False]


def test_a_run_that_exists_travels_with_the_task(make: Make) -> None:
    backend, runs = make(reads_its_run), Runs("known")
    backend.launch(runs.task(3, 1.0))
    assert result_of(wait_for_ends(backend, 3)[-1])["run"] == "known"
    assert runs.asked == []


def test_a_run_that_exists_when_the_objective_begins_is_told_unasked(make: Make) -> None:
    def waits_for_it(x: float) -> Any:
        while (run := os.environb.get(b"MLFLOW_RUN_ID")) is None:
            time.sleep(0.001)
        return {"status": "ok", "loss": x, "run": run.decode()}

    backend, runs = make(waits_for_it), Runs()
    runs.at_once = True
    backend.launch(runs.task(3, 1.0))
    assert result_of(wait_for_ends(backend, 3)[-1])["run"] == "run of 3"
    assert runs.asked == [False]


def test_a_trial_that_is_begun_anew_finds_its_run(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path)

    def fn(x: float) -> Any:
        os.chdir(folder)
        return reads_its_run(x)

    backend, runs = make(fn), Runs()
    backend.launch(runs.task(3, -1.0))
    events = wait_for_ends(backend, 3)
    assert [event.attempt for event in events if isinstance(event, Started)] == [1, 2]
    assert result_of(events[-1])["run"] == "run of 3"


def test_a_run_is_waited_for_before_the_launch_until_a_worker_was_heard(make: Make) -> None:
    """Where no worker reaches the driver's port, nobody could tell it the run."""
    backend, runs = make(reads_its_run), Runs()
    backend._is_reached = False  # type: ignore[attr-defined]
    backend.launch(runs.task(3, 1.0))
    assert result_of(wait_for_ends(backend, 3)[-1])["run"] == "run of 3"
    backend.launch(runs.task(4, 1.0))
    assert result_of(wait_for_ends(backend, 4)[-1])["run"] == "run of 4"
    assert runs.asked == [True, False, False, True]


# -- what is said of a lost worker -------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["addJobTag", "setLocalProperty"])
def test_a_thread_that_cannot_reach_java_fails_its_trial(
    call: str, make: Make, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Spark's Java process goes away at that moment: the study must not wait for ever."""
    backend = make(lambda x: x)

    def broken(*_arguments: Any) -> None:
        raise Py4JNetworkError("Answer from Java side is empty")

    with monkeypatch.context() as patch:
        patch.setattr(spark.sparkContext, call, broken)
        backend.launch(task(0))
        assert error_of(wait_for_ends(backend, 0)[-1]).type_name == "WorkerLost"
    backend.launch(task(1, 2.0))
    assert result_of(wait_for_ends(backend, 1)[-1])["loss"] == 2.0


# -- the port for the workers ------------------------------------------------------------------------------


def test_a_port_that_is_taken_fails_before_anything_is_recorded(spark: Any, mlflow_store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        trials = SparkTrials(2, spark_session=spark, control_port=(port, port))
        with pytest.raises(ControlPortNotAvailable, match=f"port {port} .* is taken"):
            fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 2, trials=trials, show_progressbar=False)
    assert mlflow.search_runs(search_all_experiments=True).empty
    fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 2, trials=trials, show_progressbar=False)
    assert trials.to_dataframe()["state"].tolist() == ["completed"] * 2


def test_without_cryptography_results_come_by_spark_and_reports_by_mlflow(
    spark: Any, mlflow_store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ClassicApplication, "is_encrypted", lambda _: True)
    monkeypatch.setattr("sparktune.backends.encryption.is_possible", lambda: False)

    def fn(x: float) -> float:
        report(x, 1)
        report(x / 2, 2)
        return x

    policy = BanditPolicy(slack_factor=100.0)
    trials = SparkTrials(2, spark_session=spark, early_termination=policy, watch_interval=0.2)
    fmin(fn, hp.uniform("x", 0, 1), rand.suggest, 4, trials=trials, rstate=1, show_progressbar=False)
    frame = trials.to_dataframe()
    assert frame["state"].tolist() == ["completed"] * 4
    history = mlflow.MlflowClient().get_metric_history(frame["run_id"][0], "loss")
    assert {point.step for point in history} >= {1, 2}
    assert len([text for text in caplog.messages if "pip install cryptography" in text]) == 1
