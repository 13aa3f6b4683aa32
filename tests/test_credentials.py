"""The tracking server's token reaches the objective on its worker, and shows nowhere that people look."""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import psutil
import pytest

from sparktune.tracking.location import without_password
from tests.connect_server import connect_server
from tests.gate import Gate, gate_to
from tests.java import QUICK_JAVA
from tests.standalone import Process
from tests.tracking.conftest import Server

pytestmark = pytest.mark.system

TOKEN = "tok-5e7c41f00d-en"

STUDY = """
import logging, pathlib, subprocess, sys, time
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
import mlflow
from pyspark.sql import SparkSession
from sparktune import BanditPolicy, SparkTrials, fmin, hp, rand, report

folder, master = pathlib.Path(sys.argv[1]), sys.argv[2]
if master.startswith("sc:"):
    spark = SparkSession.builder.remote(master).getOrCreate()
else:
    builder = SparkSession.builder.master(master).config("spark.executor.memory", "512m")
    for setting in sys.argv[3:]:
        builder = builder.config(*setting.split("=", 1))
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("INFO")


def objective(x):
    mlflow.log_metric("half", x / 2)
    report(x)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (folder / "running").touch()
    while not (folder / "go on").exists():
        time.sleep(0.05)
    child.communicate(b"\\n")
    if x < 0:
        raise ValueError("below 0")
    return x


trials = SparkTrials(2, spark_session=spark, early_termination=BanditPolicy(slack_amount=100.0))
points = [{"x": 0.5}, {"x": -0.5}, {"x": 0.25}]
fmin(objective, hp.uniform("x", -1, 1), rand.suggest, 0, trials=trials, points_to_evaluate=points,
     trials_save_file=folder / "study.pkl", show_progressbar=False)
print("STATES", trials.to_dataframe()["state"].tolist(), flush=True)
print("RUN", trials.run_id, flush=True)
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gate, Server]]:
    behind = Server(tmp_path_factory.mktemp("mlflow"))
    behind.start()
    with gate_to(behind.port, TOKEN) as gate:
        yield gate, behind
    behind.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def pages_of(address: str) -> Iterator[tuple[str, str]]:
    """What Spark's UI and its REST interface show."""
    seen: set[str] = set()
    todo = [
        f"/{name}/" for name in ("jobs", "stages", "storage", "environment", "executors", "SQL", "connect")
    ]
    todo.append("/api/v1/applications")
    while todo and len(seen) < 200:
        page = todo.pop(0)
        if page in seen:
            continue
        seen.add(page)
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}{page}", timeout=20) as answer:
            text = answer.read().decode("utf-8", "replace")
            yield page, text
            if page == "/api/v1/applications":
                base = f"{page}/{json.loads(text)[0]['id']}"
                parts = ("jobs", "stages", "executors", "environment", "sql", "storage/rdd")
                todo += [f"{base}/{part}?details=true" for part in parts]
            links = re.findall(
                r"""href=["']?(?:https?://[^/"'>]+)?(/(?:jobs|stages|SQL|connect)/[^"'#> ]+)""", text
            )
            todo += [html.unescape(link) for link in links]


def check_folder(folder: Path) -> int:
    """Search every file; returns how many there were."""
    n = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                n += 1
                assert TOKEN.encode() not in path.read_bytes(), path
    return n


def check_processes() -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert TOKEN not in " ".join(process.cmdline()), process


@pytest.mark.parametrize("kind", ["local-cluster", "connect"])
def test_the_token_reaches_workers_and_shows_nowhere(
    kind: str, gate: tuple[Gate, Server], tmp_path: Path, clean_env: Mapping[str, str]
) -> None:
    front, behind = gate
    for name in ("events", "local", "driver", "work"):
        (tmp_path / name).mkdir()
    settings = [
        f"spark.local.dir={tmp_path}/local",
        f"spark.eventLog.dir={tmp_path}/events",
        "spark.eventLog.enabled=true",
        "spark.eventLog.compress=false",
        "spark.ui.enabled=true",
        f"spark.ui.port={free_port()}",
        "spark.port.maxRetries=0",
        "spark.ui.showConsoleProgress=false",
        f"spark.driver.extraJavaOptions={QUICK_JAVA}",
        f"spark.executor.extraJavaOptions={QUICK_JAVA}",
    ]
    env = {
        **clean_env,
        "MLFLOW_TRACKING_URI": front.uri,
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "MLFLOW_EXPERIMENT_NAME": kind,
        "TMPDIR": str(tmp_path / "driver"),
        "SPARK_WORKER_DIR": str(tmp_path / "work"),
    }
    with contextlib.ExitStack() as stack:
        master, arguments = "local-cluster[2,1,1024]", settings
        if kind == "connect":
            server = connect_server(tmp_path, conf=settings, env={"TMPDIR": str(tmp_path / "driver")})
            master, arguments = stack.enter_context(server), []
        driver = Process([sys.executable, "-c", STUDY, tmp_path, master, *arguments], env, tmp_path)
        stack.callback(driver.kill)
        ui = next(f"http://127.0.0.1:{line[14:]}" for line in settings if line.startswith("spark.ui.port="))
        while not (tmp_path / "running").exists():
            with contextlib.suppress(AssertionError):
                driver.until("sparktune|mlflow|Spark|INFO|DEBUG")
        check_processes()
        shown = list(pages_of(ui))
        n_during = check_folder(tmp_path)
        (tmp_path / "go on").touch()
        states = driver.until("STATES (.*)")[1]
        run_id = driver.until("RUN (.*)")[1]
        assert driver.wait() == 0
    assert states == "['completed', 'failed', 'completed']"
    assert front.refused == 0, "workers and driver have the token"
    client = mlflow.MlflowClient(behind.uri)
    experiment_id = client.get_run(run_id).info.experiment_id
    runs = client.search_runs([experiment_id])
    halves = sorted(run.data.metrics["half"] for run in runs if "half" in run.data.metrics)
    assert halves == [-0.25, 0.125, 0.25], "the objective has logged"

    for page, text in shown:
        assert TOKEN not in text, page
    assert len(shown) > 10
    assert kind != "connect" or any(page.startswith("/connect/session") for page, _ in shown), shown
    assert not [line for line in driver.lines if TOKEN in line]
    assert n_during > 2
    assert check_folder(tmp_path) > 2
    check_folder(behind.folder)
    assert TOKEN not in str([run.to_dictionary() for run in runs])
    assert list((tmp_path / "events").rglob("*")), "there is an event log to be searched"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:s3cret@host:5000/x", "http://me:***@host:5000/x"),
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db"),
        ("https://:t0ken@host", "https://:***@host"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////data/a:b@c.db", "sqlite:////data/a:b@c.db"),
        ("databricks://profile", "databricks://profile"),
        ("mlruns", "mlruns"),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_password_in_the_address_shows_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sparktune.tracking import tracker as tracking
    from tests.recorded_trials import tune

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "REMOTE_BEGIN_S", 0.1)
    monkeypatch.setattr(tracking.MlflowTracker.__init__, "__kwdefaults__", {
        **(tracking.MlflowTracker.__init__.__kwdefaults__ or {}), "patience_s": 0.1,
    })  # fmt: skip
    mlflow.set_tracking_uri(f"http://me:{TOKEN}@127.0.0.1:1")
    try:
        with caplog.at_level("DEBUG"):
            tune(2)
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert TOKEN not in "".join(
        record.getMessage() for record in caplog.records if "sparktune" in record.name
    )
    [left] = tmp_path.glob("sparktune-unwritten-*")
    assert TOKEN not in left.read_text()
    assert "http://me:***@127.0.0.1:1" in left.read_text()
