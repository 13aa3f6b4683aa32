"""``sparktune doctor``: each fault is named, and its remedy works. On real Spark, real servers."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import cloudpickle
import mlflow
import pytest

from sparktune import DriverTrials, doctor, fmin, hp, rand
from sparktune.backends import spark_probe
from sparktune.backends.spark_probe import Worker
from sparktune.backends.spark_slots import Size
from sparktune.doctor import COMPARED, Diagnosis, Finding, _client, _fit, _slots
from tests.connect_server import connect_server
from tests.java import QUICK_JAVA
from tests.tracking.conftest import Server

pytestmark = pytest.mark.system

HAS_CONNECT = importlib.util.find_spec("grpc") is not None and not version("pyspark").startswith("3.")
needs_connect = pytest.mark.skipif(not HAS_CONNECT, reason="Spark Connect's own packages are not installed")
DOCTOR = [sys.executable, "-m", "sparktune", "doctor"]
RUNS = "A study would run here."

# Workers are not to import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def finding(diagnosis: Diagnosis, what: str) -> Finding:
    found = [one for one in diagnosis.findings if one.what == what]
    assert found, str(diagnosis)
    return found[-1]


def told(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The one fault that the command line names, as (what and text, remedy); nothing where all is well."""
    lines = done.stdout.splitlines()
    faults = [n for n, line in enumerate(lines) if line.startswith("FAILS")]
    if not faults:
        assert (done.returncode, lines[-1]) == (0, RUNS), done.stdout + done.stderr
        return "", ""
    [n] = faults
    verdict = "A study would fail: 1 fault, see FAILS above."
    assert (done.returncode, lines[-1]) == (1, verdict), done.stdout
    remedy = lines[n + 1].partition("Remedy: ")[2]
    return " ".join(lines[n].split()[1:]), remedy


def test_a_place_where_studies_run(spark: Any, mlflow_store: str) -> None:
    diagnosis = doctor(lambda x: x, spark_session=spark)
    assert diagnosis.is_healthy, str(diagnosis)
    assert {one.state for one in diagnosis.findings} == {"ok"}
    assert finding(diagnosis, "slots").text.startswith("2,")
    assert "workers reach it" in finding(diagnosis, "driver's port").text
    assert "Python 3" in finding(diagnosis, "driver").text
    lines = str(diagnosis).splitlines()
    assert lines[-1] == RUNS
    texts = [one.text for one in diagnosis.findings]
    assert len({line.index(text) for line, text in zip(lines, texts, strict=False)}) == 1, "aligned"


# -- the objective -----------------------------------------------------------------------------------------


def test_an_objective_that_holds_the_session(spark: Any, mlflow_store: str) -> None:
    def holds(x: float) -> float:
        return float(spark.range(3).count()) + x

    def makes_its_own(x: float) -> float:
        from pyspark.sql import SparkSession

        return float(SparkSession.builder.getOrCreate().range(3).count()) + x

    diagnosis = doctor(holds, spark_session=spark)
    one = finding(diagnosis, "objective")
    assert not diagnosis.is_healthy
    assert "SparkSession" in one.text
    assert "trials=DriverTrials()" in one.remedy
    trials = DriverTrials(1, mlflow=False)
    fmin(holds, hp.uniform("x", 0, 1), rand.suggest, 2, trials=trials, show_progressbar=False)
    assert set(trials.to_dataframe()["state"]) == {"completed"}
    data = spark.range(3).count()
    assert doctor(lambda x: data + x, spark_session=spark).is_healthy


def test_an_objective_that_holds_a_lock(spark: Any, mlflow_store: str) -> None:
    lock = threading.Lock()
    one = finding(doctor(lambda x: (lock, x), spark_session=spark), "objective")
    assert one.state == "FAILS"
    assert "lock" in one.text
    assert "create it inside the objective" in one.remedy
    assert doctor(lambda x: (threading.Lock(), x), spark_session=spark).is_healthy


def test_an_objective_by_its_name(run: Any, tmp_path: Path) -> None:
    (tmp_path / "work" / "mine.py").write_text("bad = 1\n")
    done = run([*DOCTOR, "--objective", "mine:nothing"])
    assert done.returncode == 2
    assert "mine" in done.stderr


# -- the tracking server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MLflow server, which is not started."""
    one = Server(tmp_path_factory.mktemp("mlflow-server"))
    yield one
    one.kill()


@contextlib.contextmanager
def answering(status: int, text: str, *, once: bool = False) -> Iterator[str]:
    """A server that says ``text`` where its version is asked for, and unless it is HTML has an experiment.

    ``once``: it is closed when the experiment is asked for.
    """
    experiment = {"experiment": {"experiment_id": "0", "name": "Default", "lifecycle_stage": "active"}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asks_version = self.path == "/version"
            if once and not asks_version:
                self.server.server_close()
            allowed = status != 401 or self.headers.get("Authorization") == "Bearer open sesame"
            self.send_response(200 if allowed else status)
            self.end_headers()
            is_page = asks_version or text.startswith("<")
            self.wfile.write((text if is_page else json.dumps(experiment)).encode())

        def log_message(self, *_args: Any) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    body = (
        (lambda: (listener.handle_request(), listener.handle_request())) if once else listener.serve_forever
    )
    thread = threading.Thread(target=body)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_address[1]}"
    if not once:
        listener.shutdown()
    thread.join()
    listener.server_close()


def test_a_tracking_server_that_nobody_reaches(spark: Any, mlflow_store: str, server: Server) -> None:
    mlflow.set_tracking_uri(server.uri)
    diagnosis = doctor(spark_session=spark)
    one = finding(diagnosis, "MLflow")
    assert one.state == "FAILS"
    assert f"{server.uri} does not answer this machine (ConnectionRefusedError" in one.text
    assert "start the server (mlflow server" in one.remedy
    server.start()
    mlflow.set_experiment("doctor")  # the one that was active is in another store
    diagnosis = doctor(spark_session=spark)
    assert diagnosis.is_healthy, str(diagnosis)
    assert finding(diagnosis, "MLflow").text == f"{server.uri} answers, version {mlflow.__version__}"


def test_a_tracking_server_that_workers_do_not_reach(spark: Any, mlflow_store: str, server: Server) -> None:
    with answering(200, mlflow.__version__, once=True) as uri:
        mlflow.set_tracking_uri(uri)
        diagnosis = doctor(spark_session=spark)
    assert finding(diagnosis, "MLflow").state == "ok"
    one = finding(diagnosis, "workers' MLflow")
    assert one.state == "FAILS"
    assert uri in one.text
    assert "at an address that the workers reach, and call mlflow.set_tracking_uri with it" in one.remedy
    server.start()
    mlflow.set_tracking_uri(server.uri)
    mlflow.set_experiment("doctor")
    diagnosis = doctor(spark_session=spark)
    assert diagnosis.is_healthy, str(diagnosis)
    assert finding(diagnosis, "workers' MLflow").text == f"workers reach {server.uri}"


def test_a_tracking_server_that_wants_credentials(
    spark: Any, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(401, mlflow.__version__) as uri:
        mlflow.set_tracking_uri(uri)
        one = finding(doctor(spark_session=spark), "MLflow")
        assert one.state == "FAILS"
        assert "HTTP 401" in one.text
        assert "MLFLOW_TRACKING_TOKEN" in one.remedy
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "open sesame")
        assert doctor(spark_session=spark).is_healthy


@pytest.mark.parametrize(
    ("answer", "said", "state"),
    [
        ("1.30.0", "has version 1.30.0; this client has", "note"),
        ("a version", "does not report its ver", "note"),
        ("<html>", "not in a valid JSON format", "FAILS"),
    ],
)
def test_a_tracking_server_of_another_kind(
    answer: str, said: str, state: str, spark: Any, mlflow_store: str
) -> None:
    with answering(200, answer) as uri:
        mlflow.set_tracking_uri(uri)
        diagnosis = doctor(spark_session=spark)
    one = finding(diagnosis, "MLflow")
    assert one.state == state
    assert said in one.text
    assert diagnosis.is_healthy is (state == "note")


# -- Java, and the workers' Python -------------------------------------------------------------------------


def another_python() -> str | None:
    """An interpreter of another version than ours."""
    for name in ("3.12", "3.13", "3.10", "3.11"):
        if name == f"{sys.version_info[0]}.{sys.version_info[1]}":
            continue
        for program in (
            shutil.which(f"python{name}"),
            *map(str, Path.home().glob(f".pyenv/versions/{name}*/bin/python")),
        ):
            if (
                program
                and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0
            ):
                return program
    return None


def test_from_a_machine_without_java_to_one_where_studies_run(run: Any, tmp_path: Path) -> None:
    """One fault after the other is named; with what its remedy says it is gone."""
    program = another_python()
    if program is None:
        program = str(tmp_path / "python")
        Path(program).write_text("#!/bin/sh\nexit 1\n")
        os.chmod(program, 0o755)
    java = shutil.which("java")
    assert java is not None
    java_home = str(Path(java).resolve().parent.parent)
    path = os.environ["PATH"]
    env = {"PATH": str(Path(sys.executable).parent), "JAVA_HOME": "", "PYSPARK_PYTHON": program}
    said, remedy = told(run(DOCTOR, env=env))
    assert said == "Java not found: JAVA_HOME is not set, and no java is on the PATH"
    assert "openjdk-17" in remedy
    assert "set JAVA_HOME or the PATH" in remedy

    said, remedy = told(run(DOCTOR, env={**env, "PATH": path, "JAVA_HOME": "/nowhere"}))
    assert said == "Java not found: JAVA_HOME is '/nowhere', which has no bin/java"
    assert remedy == f"unset JAVA_HOME: {java} is there"

    env |= {"PATH": path, "JAVA_HOME": java_home}
    said, remedy = told(run(DOCTOR, env=env))
    assert said.startswith("workers")
    name, value = re.fullmatch(r"export (\w+)=(\S+) before the Spark session is created", remedy).groups()  # type: ignore[union-attr]
    assert told(run(DOCTOR, env={**env, name: value})) == ("", "")


BARE = """
from sparktune import doctor
from sparktune.backends.session import get_or_create
import numpy

table = numpy.arange(3)
for objective in (lambda x: x, lambda x: table.sum() + x):
    print(doctor(objective, spark_session=get_or_create()))
"""


def test_workers_that_have_cloudpickle_alone(run: Any, bare: Path) -> None:
    done = run([sys.executable, "-c", BARE], env={"PYSPARK_PYTHON": str(bare)})
    assert done.returncode == 0, done.stderr
    plain, uses_numpy = done.stdout.split("\n\nA study would ")[:2]
    assert "FAILS" not in plain, plain
    assert "workers' cloudpickle" not in plain
    for name in ("numpy", "mlflow"):
        assert re.search(rf"note +workers' {name} +missing; the driver has {re.escape(version(name))}", plain)
    assert "sparktune" not in plain
    [fault] = [line for line in uses_numpy.splitlines() if line.startswith("FAILS")]
    assert "workers cannot read the objective (ModuleNotFoundError: No module named 'numpy')" in fault
    assert "install numpy on every worker" in uses_numpy
    assert done.stdout.splitlines()[-1] == "A study would fail: 1 fault, see FAILS above."


def test_workers_without_cloudpickle(run: Any, bare: Path, tmp_path: Path) -> None:
    """With its remedy they are those of the test above: no package index is asked here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "none"], check=True)
    python = tmp_path / "none" / "bin" / "python"
    said, remedy = told(run(DOCTOR, env={"PYSPARK_PYTHON": str(python)}))
    mine = version("cloudpickle")
    assert said == f"workers' cloudpickle missing; the driver has {mine}: no trial runs there"
    assert remedy == f"pip install cloudpickle=={mine} on every worker"


def worker(**packages: str | None) -> Worker:
    return Worker("node", "3.11.7", {**{name: version(name) for name in COMPARED}, **packages}, {})


CANNOT = "AttributeError: Can't get attribute '_function_setstate'"


@pytest.mark.parametrize(
    ("packages", "unread", "states"),
    [
        ({}, None, []),
        ({"cloudpickle": None}, "ModuleNotFoundError: No module named 'cloudpickle'", ["FAILS"]),
        ({"cloudpickle": "2.2.1"}, CANNOT, ["FAILS"]),
        ({"cloudpickle": "3.0.0"}, None, ["note"]),
        ({"mlflow": None}, None, ["note"]),
        ({"numpy": "1.0"}, None, ["note"]),
        ({"numpy": None}, "ModuleNotFoundError: No module named 'numpy'", ["note", "FAILS"]),
    ],
)
def test_what_workers_lack(packages: dict[str, str | None], unread: str | None, states: list[str]) -> None:
    rest = list(_fit([worker(), worker(**packages)], unread, True))
    assert [one.state for one in rest] == states
    assert all("install" in one.remedy for one in rest)


# -- slots -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "state", "says"),
    [
        (Size(4, 4), "ok", "4, so many trials run at the same time"),
        (Size(2, math.inf, "Spark's dynamic allocation"), "ok", "2 now; the cluster is elastic (Spark's"),
        (
            Size(2, 16, "Databricks' autoscaling"),
            "ok",
            "at most 16): one in 10 of max_evals runs at the same time",
        ),
        (
            Size(None, math.inf),
            "note",
            "of a size that is not known: one in 10 of max_evals runs at the same time",
        ),
    ],
)
def test_the_kind_of_cluster_and_what_would_be_used(size: Size, state: str, says: str) -> None:
    one = _slots(cast("Any", None), size)
    assert (one.state, says in one.text) == (state, True), one


WITHOUT_SLOTS = """
import sys
from pyspark.sql import SparkSession
from sparktune import doctor
from sparktune.backends import spark_probe

spark_probe.EXECUTORS_S = 0.5
builder = SparkSession.builder.config("spark.ui.enabled", "false")
for setting in sys.argv[1:]:
    builder = builder.config(*setting.split("=", 1))
print(doctor(spark_session=builder.getOrCreate()))
"""


def test_no_executor_yet(run: Any) -> None:
    settings = [
        "spark.master=local-cluster[1,1,512]",
        "spark.executor.memory=512m",
        f"spark.executor.extraJavaOptions={QUICK_JAVA}",
        "spark.dynamicAllocation.enabled=true",
        "spark.dynamicAllocation.shuffleTracking.enabled=true",
        "spark.dynamicAllocation.minExecutors=0",
    ]
    done = run([sys.executable, "-c", WITHOUT_SLOTS, *settings])
    assert re.search(r"waits  slots +none yet: Spark's dynamic allocation starts executors", done.stdout), (
        done
    )
    assert done.stdout.splitlines()[-1] == "A study would wait here: see waits above."


# -- Spark Connect -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs."""
    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        yield address


@needs_connect
def test_a_place_where_studies_run_on_connect(remote: str, mlflow_store: str) -> None:
    from pyspark.sql.connect.session import SparkSession

    connected = SparkSession.builder.remote(remote).create()
    diagnosis = doctor(lambda x: x, spark_session=connected)
    assert diagnosis.is_healthy, str(diagnosis)
    assert {one.state for one in diagnosis.findings} == {"ok"}
    assert finding(diagnosis, "Spark").text.endswith(f"by Spark Connect from {remote}")
    assert finding(diagnosis, "slots").text.startswith("2,")
    assert "workers reach it" in finding(diagnosis, "driver's port").text
    assert "Java" not in {one.what for one in diagnosis.findings}, "the server's affair"
    one = finding(doctor(lambda x: (connected, x), spark_session=connected), "objective")
    assert one.state == "FAILS"
    assert "trials=DriverTrials()" in one.remedy
    connected.stop()


@pytest.fixture
def client_only(tmp_path: Path) -> Path:
    """A folder with this environment's packages, pyspark as the package pyspark-client has it."""
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    folder = tmp_path / "client"
    (folder / "pyspark").mkdir(parents=True)
    for path in package.iterdir():
        if path.name not in ("core", "jars", "bin", "sbin"):
            (folder / "pyspark" / path.name).symlink_to(path)
    for path in package.parent.iterdir():
        if not path.name.startswith(("pyspark", "py4j", "_")) and not path.name.endswith(".pth"):
            (folder / path.name).symlink_to(path)
    metadata = folder / f"pyspark_client-{version('pyspark')}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: pyspark-client\nVersion: {version('pyspark')}\n")
    return folder


@needs_connect
def test_a_client_without_java_whose_server_has_gone(remote: str, run: Any, client_only: Path) -> None:
    """Has pyspark-client alone. The remedy is a server that runs."""
    python = Path(sys.executable).resolve()
    home = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys._base_executable)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    env = {"PATH": str(python.parent), "JAVA_HOME": "/nowhere"}
    env["PYTHONPATH"] = f"{Path(__file__).parent.parent}:{client_only}"
    command = [home, "-m", "sparktune", "doctor"]
    said, remedy = told(run(command, env={**env, "SPARK_REMOTE": "sc://127.0.0.1:1"}))
    assert said.startswith("Spark sc://127.0.0.1:1 does not answer (ConnectionRefusedError")
    assert "--remote sc://host:15002" in remedy
    done = run([*command, "--remote", remote], env={**env, "SPARK_REMOTE": "sc://127.0.0.1:1"})
    assert told(done) == ("", "")
    assert f"pyspark-client {version('pyspark')}" in done.stdout


@needs_connect
def test_a_session_whose_server_has_gone(tmp_path: Path, mlflow_store: str) -> None:
    from pyspark.sql.connect.session import SparkSession

    with connect_server(tmp_path) as address:
        connected = SparkSession.builder.remote(address).create()
    connected.client.set_retry_policies([])  # else it retries for ten minutes when this process ends
    one = finding(doctor(spark_session=connected), "Spark")
    assert one.state == "FAILS"
    assert f"{address} does not answer (ConnectionRefusedError" in one.text
    assert "must be created again" in one.remedy
    connected.client.close()


def test_a_client_and_a_server_of_two_versions() -> None:
    name, mine = spark_probe.pyspark_version() or ("", "")
    assert list(_client(mine)) == []
    [one] = _client("4.99.1")
    assert (one.state, one.text) == ("note", f"{name} {mine}; the server has Spark 4.99.1")
    assert f"pip install '{name}==4.99.*'" in one.remedy


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("sc://host:15003/;token=secret", ("host", 15003)),
        ("sc://host", ("host", 15002)),
        ("sc://[::1]:7/", ("::1", 7)),
        ("local[2]", None),
    ],
)
def test_the_address_in_the_name_of_a_server(
    remote: str, address: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in spark_probe.PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert spark_probe.server_of(remote) == address
