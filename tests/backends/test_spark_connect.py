"""Spark Connect, on a real server: the shared suite, and what only Connect can show."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import pytest

from sparktune import (
    ObjectiveNotPicklable,
    SparkNotAvailable,
    SparkTrials,
    compare,
    fmin,
    hp,
    rand,
    report,
    tpe,
)
from sparktune.backends import spark_connect
from sparktune.backends.spark_connect import ConnectApplication
from sparktune.backends.spark_jobs import SparkBackend
from sparktune.backends.spark_slots import Size, size_of_application
from sparktune.early_termination import Curve, Decision
from sparktune.study.backend import Cancelled
from sparktune.worker.objective import Objective
from tests.backends import conformance
from tests.backends.conformance import (
    BackendConformance,
    check_saving,
    ends_of,
    objective,
    result_of,
    started,
    task,
    wait_for,
    wait_for_ends,
)
from tests.backends.growing import GROWTH, GrowingBackend, GrowingConformance
from tests.connect_server import connect_server
from tests.java import QUICK_JAVA
from tests.standalone import cluster_in

pytest.importorskip("grpc", reason="Spark Connect's own packages are not installed")
pytest.importorskip("pyspark", minversion="4.0")

# Workers are not to import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(conformance)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session with a server of this module's."""
    from pyspark.sql.connect.session import SparkSession

    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        session = SparkSession.builder.remote(address).create()
        yield session
        session.stop()


class TestConformance(BackendConformance):
    attempts = 4  # the server's master is local[2,4]

    @pytest.fixture
    def context(self, remote: Any) -> Any:
        return remote

    def create(self, objective: Objective, context: Any) -> SparkBackend:
        return SparkBackend(ConnectApplication(context), objective)

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


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session with a server on which Spark runs a task once."""
    from pyspark.sql.connect.session import SparkSession

    with connect_server(tmp_path_factory.mktemp("once"), master="local[2]") as address:
        session = SparkSession.builder.remote(address).create()
        yield session
        session.stop()


class TestConformanceWithoutRetries(TestConformance):
    """Sparktune alone runs lost trials again."""

    attempts = 2

    @pytest.fixture
    def context(self, once: Any) -> Any:
        return once


@pytest.mark.parametrize(("by", "save_s"), [("stop", 2.5), ("close", 1.0), ("stop", 3600.0)])
def test_an_objective_that_saves_when_it_is_stopped(
    by: str, save_s: float, remote: Any, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:

        def make(fn: Any) -> SparkBackend:
            backend = SparkBackend(ConnectApplication(remote), objective(fn))
            stack.callback(backend.close)
            return backend

        check_saving(make, tmp_path, by, save_s)


class TestConformanceGrowing(GrowingConformance, TestConformance):
    def create(self, objective: Objective, context: Any) -> SparkBackend:
        return GrowingBackend(ConnectApplication(context), objective, counted=1)


class TestConformanceGrowingWithoutRetries(GrowingConformance, TestConformanceWithoutRetries):
    def create(self, objective: Objective, context: Any) -> SparkBackend:
        return GrowingBackend(ConnectApplication(context), objective, counted=1)


# -- queries that wait for a trial --------------------------------------------------------------------------


def test_trials_run_whose_query_is_told_of_none(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def give_none(backend: Any, number: int, *_: Any) -> None:
        told.append(number)
        backend._control.give(number, "")

    monkeypatch.setattr(SparkBackend, "_give", give_none)
    monkeypatch.setattr(ConnectApplication, "growth", GROWTH)
    xs = [i / 8 for i in range(8)]
    frame = study(lambda x: x, xs, SparkTrials(4, spark_session=remote, mlflow=False))
    assert frame["loss"].to_dict() == {x: x for x in xs}
    assert told


def test_workers_without_a_trial_leave_their_slots(remote: Any) -> None:
    backend = GrowingBackend(ConnectApplication(remote), objective(lambda x: x))
    try:
        assert backend.slots() == 2
        for trial_id in range(6):
            backend.launch(task(trial_id))
        wait_for_ends(backend, *range(6))
        give_up = time.monotonic() + 60
        while backend._pending.n_open:
            assert backend.wait(0.1) == []
            assert time.monotonic() < give_up
        assert remote.range(4).count() == 4
        backend.launch(task(6, 0.5))
        assert result_of(ends_of(wait_for_ends(backend, 6))[6])["loss"] == 0.5
    finally:
        backend.close()
    assert not backend._pending.n_open


@contextlib.contextmanager
def both_slots_busy(remote: Any, gate: Path) -> Iterator[SparkBackend]:
    """A backend whose trials 0 and 1 run, and go on until the file ``gate`` is there; queries wait."""
    name = str(gate)

    def until_open(x: float) -> float:
        while not os.path.exists(name):
            time.sleep(0.02)
        return x

    backend = GrowingBackend(ConnectApplication(remote), objective(until_open))
    try:
        assert backend.slots() == 2
        for trial_id in (0, 1):
            backend.launch(task(trial_id))
            wait_for(backend, started(trial_id))
        give_up = time.monotonic() + 60
        while backend._pending.n_open < 4:  # some may have had the slot of trial 1, before its query did
            assert backend.wait(0.1) == []
            assert time.monotonic() < give_up
        yield backend
    finally:
        gate.touch()
        backend.close()


def test_a_query_that_no_trial_will_follow_is_withdrawn(remote: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with both_slots_busy(remote, gate) as backend:
        backend._more = 0
        give_up = time.monotonic() + 60
        while backend._pending._jobs:
            assert backend.wait(0.3) == []
            assert time.monotonic() < give_up
        assert not backend._pending._errors
        assert not backend._pending._withdrawn
        backend.launch(task(2, 0.25))
        gate.touch()
        assert result_of(ends_of(wait_for_ends(backend, 0, 1, 2))[2])["loss"] == 0.25


def test_a_trial_that_is_stopped_before_a_worker_asks_for_it(remote: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with both_slots_busy(remote, gate) as backend:
        backend.launch(task(2))
        backend.launch(task(3, 0.25))
        backend.stop(2)
        ends = ends_of(wait_for_ends(backend, 2))
        assert isinstance(ends[2], Cancelled)
        gate.touch()
        ends = ends_of(wait_for_ends(backend, 0, 1, 3))
        assert result_of(ends[3])["loss"] == 0.25


# -- through the session alone -----------------------------------------------------------------------------


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers are taken for those of another machine, and do not reach the driver's port."""
    monkeypatch.setattr("sparktune.backends.spark_connect.is_local", lambda _master: False)
    monkeypatch.setattr(ConnectApplication, "driver_addresses", lambda _self: ("127.0.0.1", "127.0.0.2"))


class StopWeak:
    """Ends trials above a half at their second report."""

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> Decision | None:
        values = curves[trial_id].values
        return Decision("StopWeak", 2, values[-1], 0.5) if len(values) >= 2 and values[-1] > 0.5 else None


def study(fn: Any, xs: Sequence[float], trials: Any, **options: Any) -> Any:
    """The frame of a study of these points."""
    points = [{"x": x} for x in xs]
    space = hp.uniform("x", 0, 1)
    fmin(
        fn,
        space,
        rand.suggest,
        0,
        trials=trials,
        points_to_evaluate=points,
        show_progressbar=False,
        **options,
    )
    return trials.to_dataframe().set_index("x")


@pytest.mark.usefixtures("far")
def test_reports_go_by_the_tracking_server(
    remote: Any, mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    def objective(x: float) -> float:
        for step in range(3 if x < 0.5 else 10_000):
            report(x, step)
            time.sleep(0.05)
        return x

    trials = SparkTrials(2, spark_session=remote, early_termination=StopWeak(), watch_interval=0.2)
    frame = study(objective, (0.1, 0.9, 0.2, 0.8), trials)
    assert frame["state"][[0.1, 0.2]].tolist() == ["completed"] * 2
    assert frame["state"][[0.8, 0.9]].tolist() == ["early_terminated"] * 2
    assert frame["steps"][[0.1, 0.2]].tolist() == [3, 3]
    history = mlflow.MlflowClient().get_metric_history(frame["run_id"][0.1], "loss")
    assert {point.step for point in history} >= {0, 1, 2}
    assert len([message for message in caplog.messages if "do not reach this machine" in message]) == 1


@pytest.mark.usefixtures("far")
def test_a_trial_that_nobody_hears_of_may_run_so_long_and_no_longer(
    remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparktune.backends.spark_jobs.SILENT_S", 0.5)
    monkeypatch.setattr("sparktune.backends.spark_jobs.LOOK_S", 0.1)

    def objective(x: float) -> float:
        if x > 0.5:
            time.sleep(3600)
        return x

    frame = study(
        objective, (0.9, 0.8, 0.1, 0.7), SparkTrials(2, spark_session=remote, mlflow=False, trial_timeout=5.0)
    )
    assert frame["state"].to_dict() == {
        0.9: "timed_out",
        0.8: "timed_out",
        0.1: "completed",
        0.7: "timed_out",
    }


@pytest.mark.usefixtures("far")
def test_a_trial_has_not_begun_before_it_has_an_executor(
    tmp_path: Path, clean_env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark takes two cores for granted, on a cluster that has none yet, and then one."""
    from pyspark.sql.connect.session import SparkSession

    monkeypatch.setattr("sparktune.backends.spark_jobs.SILENT_S", 0.5)
    monkeypatch.setattr("sparktune.backends.spark_jobs.LOOK_S", 0.1)

    def objective(x: float) -> float:
        time.sleep(2.0 if x < 0.5 else 3600.0)
        return x

    options: Any = {"spark.executor.memory": "480m", "spark.executor.extraJavaOptions": QUICK_JAVA}
    conf = [f"{key}={value}" for key, value in options.items()]
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(cluster_in(tmp_path, clean_env))
        server = connect_server(tmp_path, master=cluster.url, conf=conf, env={"SPARK_LOCAL_IP": "127.0.0.1"})
        session = SparkSession.builder.remote(stack.enter_context(server)).create()
        stack.callback(session.stop)
        joins = threading.Timer(8.0, cluster.add_worker, [1])
        joins.start()
        stack.callback(joins.join)
        trials = SparkTrials(2, spark_session=session, mlflow=False, trial_timeout=5.0)
        frame = study(objective, (0.1, 0.2, 0.9), trials)
    assert frame["state"].to_dict() == {0.1: "completed", 0.2: "completed", 0.9: "timed_out"}


@pytest.mark.parametrize("instead", [{"LONGEST_TAG": 0}, {"announcing_tag": lambda *_: "another"}])
def test_a_trial_that_no_tag_announces(
    remote: Any, monkeypatch: pytest.MonkeyPatch, instead: dict[str, Any]
) -> None:
    """Its point is too long for a tag, or the server does not hand tags on to workers."""
    for name, value in instead.items():
        monkeypatch.setattr(f"sparktune.backends.spark_connect.{name}", value)
    frame = study(lambda x: x, (0.25, 0.75), SparkTrials(2, spark_session=remote, mlflow=False))
    assert frame["loss"].to_dict() == {0.25: 0.25, 0.75: 0.75}
    assert remote.getTags() == set()


def test_slots_and_a_session_that_ends(remote: Any) -> None:
    application = ConnectApplication(remote)
    assert size_of_application(application) == Size(2, 2)
    assert (application.master, application.is_near, application.is_fixed) == ("local[2,4]", True, True)
    assert application.driver_addresses() == ("127.0.0.1", "127.0.0.1")
    assert not application.has_stopped(ValueError("the objective's own"))
    assert application.ask_workers(lambda row: row * 2, 3) == [0, 2, 4]


def test_the_address_of_this_machine_on_the_way_to_a_server(remote: Any) -> None:
    application = ConnectApplication(remote)
    application.is_near, application.master = False, "spark://192.0.2.1:7077"
    bind, advertise = application.driver_addresses()
    assert bind == advertise
    socket.inet_aton(advertise)


def test_a_server_that_dies_ends_the_study_with_what_was_found(tmp_path: Path) -> None:
    from pyspark.sql.connect.session import SparkSession

    def on_three(trials: Any, *_: Any) -> tuple[bool, list[Any]]:
        if len(trials) == 3:
            server.close()
        return False, []

    with contextlib.ExitStack() as server:
        session = SparkSession.builder.remote(server.enter_context(connect_server(tmp_path))).create()
        session.client.set_retry_policies([])
        trials = SparkTrials(1, spark_session=session, mlflow=False)
        with pytest.raises(SparkNotAvailable, match="call fmin again with the same trials object"):
            study(lambda x: x, [i / 10 for i in range(10)], trials, early_stop_fn=on_three)
    found = trials.to_dataframe()["state"].tolist()
    assert found[:3] == ["completed"] * 3
    assert "failed" not in found


def test_compare_runs_there_too(remote: Any) -> None:
    algos = {"rand": rand.suggest, "tpe": tpe.suggest}
    found = compare(abs, hp.uniform("x", -1, 1), algos, 4, repeats=2, spark_session=remote, mlflow=False)
    assert len(found.table) == 2


def test_an_objective_that_holds_a_session_of_connects(remote: Any) -> None:
    frame = remote.range(3)
    for fn in (lambda x: remote.range(3).count(), lambda x: frame.count()):
        with pytest.raises(ObjectiveNotPicklable, match="exists on the driver only"):
            study(fn, [0.5], SparkTrials(spark_session=remote, mlflow=False))


def test_where_slots_are_not_known_the_search_learns(
    remote: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on serverless: the plan of a query tells no number that is understood."""
    monkeypatch.setattr(spark_connect, "SPLITS", re.compile(r"(?!)"))
    monkeypatch.setattr(spark_connect, "_cores", {})
    monkeypatch.setattr(spark_connect, "is_one_process", lambda master: False)
    finished: list[int] = []
    under_way: list[int] = []

    def algo(new_ids: Any, domain: Any, trials: Any, seed: int) -> Any:
        finished.append(sum(loss is not None for loss in trials.losses()))
        under_way.append(len(trials.trials) + 1 - finished[-1])
        return tpe.suggest(new_ids, domain, trials, seed)

    trials = SparkTrials(spark_session=remote, mlflow=False)
    with caplog.at_level("INFO", "sparktune"):
        fmin(lambda x: x, hp.uniform("x", 0, 1), algo, 40, trials=trials, show_progressbar=False)
    assert len(finished) == 40
    assert finished[10] >= 7, "results before the eleventh trial"
    assert max(under_way) <= 4
    said = "Spark does not report how many slots there are: at most 4 trials at the same time, a tenth of "
    assert said in caplog.text
