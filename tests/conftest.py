"""Fixtures that all tests share: one Spark session, an MLflow store of one's own, a clean environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.java import QUICK_JAVA

ROOT = Path(__file__).resolve().parent.parent
TEST_MASTER = os.environ.get("SPARKTUNE_TESTS_MASTER", "local[2,4]")
"""Two slots; by default Spark tries again a trial whose worker is lost, as on a cluster."""


ON_CONNECT = os.environ.get("SPARKTUNE_TESTS_ON") == "connect"
"""Run what uses the shared session on Spark Connect (``scripts/matrix connect``)."""


def _import_connect() -> None:
    """Import the client of Spark Connect in one of pytest-xdist's workers.

    PySpark takes a process whose main module has no file (``python -c``, such a worker) for a run of its own
    doctests, and ends it where only pyspark-client is installed.
    """
    main = sys.modules["__main__"]
    if hasattr(main, "__file__"):
        return
    main.__file__ = __file__
    try:
        importlib.import_module("pyspark.sql.connect.session")
    finally:
        del main.__file__


if ON_CONNECT:
    _import_connect()

os.environ["SPARK_SUBMIT_OPTS"] = QUICK_JAVA
"""For the sessions of this process."""

settings.register_profile("sparktune", deadline=None)  # on a busy machine the time says nothing
settings.load_profile("sparktune")

LONGEST = (
    "test_hyperopt_suite.py",
    "test_credentials.py",
    "notebooks/test_notebooks.py",
    "test_readme.py",
    "backends/test_spark_classic.py",
    "backends/test_spark_connect.py",
    "test_resume.py",
    "test_shared_application.py",
    "test_growing_cluster.py",
    "test_speculation.py",
    "test_edited_modules.py",
    "tracking/test_current_trial.py",
    "test_going_on.py",
    "test_demo.py",
    "test_standalone_cluster.py",
    "test_doctor.py",
    "sweeps/test_sweeps_on_spark.py",
    "sweeps/test_unattended.py",
    "test_bare_workers.py",
    "examples/test_batch_job.py",
    "benchmarks/test_dispatch.py",
    "private/test_of_pyspark.py",
    "tracking/test_flaky_server.py",
    "tracking/test_worker_redirect.py",
    "test_site.py",
)
"""Files of minutes, or of few tests that are long."""


TIERS = {"unit", "spark", "system"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m unit``: files that have no such test are not imported, which takes seconds."""
    if config.option.markexpr != "unit" or not collection_path.name.startswith("test_"):
        return None
    return "pytest.mark.unit" not in collection_path.read_text("utf-8") or None


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test without the mark of a tier is of the middle one."""
    if not TIERS & {mark.name for mark in item.iter_markers()}:
        item.add_marker("spark")


def _started() -> set[str]:
    """What a unit test must not start."""
    spark: Any = sys.modules.get("pyspark.core.context") or sys.modules.get("pyspark.context")
    context = getattr(spark, "SparkContext", None)
    has_java = getattr(context, "_gateway", None) is not None
    return ({"MLflow"} if "mlflow" in sys.modules else set()) | ({"Spark"} if has_java else set())


@pytest.fixture(autouse=True)
def _tier(request: pytest.FixtureRequest) -> Iterator[None]:
    """A unit test starts no Spark and imports no MLflow."""
    if request.node.get_closest_marker("unit") is None:
        yield
        return
    before = _started()
    yield
    assert _started() <= before, "a test with the mark unit uses MLflow or Spark: see CONTRIBUTING.md"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files run side by side, begin with the longest: one that begins last is waited for alone."""
    if not hasattr(config, "workerinput"):
        return
    ranks = {ROOT / "tests" / name: rank for rank, name in enumerate(LONGEST)}
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (ranks.get(item.path, len(ranks)), -sizes[item.path], item.path))


needs_classic = pytest.mark.skipif(
    importlib.util.find_spec("py4j") is None, reason="pyspark-client has no classic Spark"
)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The one Spark session of the test run, with the settings of the sessions that sparktune creates."""
    from pyspark.sql import SparkSession

    if ON_CONNECT:
        from tests.connect_server import connect_server

        folder = tmp_path_factory.mktemp("server")
        with connect_server(folder, master=TEST_MASTER) as address:
            session = SparkSession.builder.remote(address).getOrCreate()
            yield session
            session.stop()
        return

    from sparktune.backends.session import SETTINGS

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(TEST_MASTER)
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    session = (
        builder.config("spark.ui.enabled", "false")
        .config("spark.executor.extraJavaOptions", QUICK_JAVA)
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has cloudpickle alone."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    spec = importlib.util.find_spec("cloudpickle")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, Path(found.stdout.strip(), "cloudpickle"))
    return python


@pytest.fixture(scope="session", autouse=True)
def _no_stray_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test without ``mlflow_store`` records goes to a temporary folder, not into the repository."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path_factory.mktemp('stray') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: building the tables takes seconds, copying them does not."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("empty-store")
    database = folder / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{database}", str(folder / "artifacts")).engine.dispose()
    return database


@pytest.fixture
def mlflow_store(tmp_path: Path, _empty_store: Path) -> Iterator[str]:
    """An MLflow store of the test's own, set as the tracking store; mlflow's global state is reset after.

    Runs go to the experiment ``tests``, artifacts to ``tmp_path / "artifacts"``. Yields the store's URI.
    """
    import mlflow

    database = tmp_path / "mlflow.db"
    shutil.copyfile(_empty_store, database)
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    uri = f"sqlite:///{database}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("tests", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("tests")
    yield uri
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.tracking.fluent._active_experiment_id = None
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def clean_env() -> dict[str, str]:
    """An environment for child processes in which sparktune is importable and nothing else is preset."""
    ours = ("MLFLOW_", "SPARK_", "PYSPARK_", "HYPEROPT_", "PYTHON", "OMP_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    ours_now = {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, "SPARK_SUBMIT_OPTS": QUICK_JAVA}
    return {**env, **ours_now}


@pytest.fixture
def subprocess_env(tmp_path: Path, clean_env: Mapping[str, str]) -> dict[str, str]:
    """``clean_env`` with an empty home folder, as on a fresh machine."""
    home = tmp_path / "home"
    home.mkdir()
    return {**clean_env, "HOME": str(home)}


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(subprocess_env: Mapping[str, str], tmp_path: Path) -> Run:
    """Run a command in an empty working folder and return what it wrote; it may fail.

    ``run([...], env={...}, cwd=...)``: ``env`` is added to the clean environment; ``timeout`` guards against
    hangs, seconds.
    """
    work = tmp_path / "work"
    work.mkdir()

    def run_command(
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = work,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            env={**subprocess_env, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return run_command


@pytest.fixture
def spark_home(tmp_path: Path) -> Path:
    """Spark's files, seen from a folder in which its workers may write."""
    import pyspark

    home = tmp_path / "spark"
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        (home / entry.name).symlink_to(entry)
    return home
