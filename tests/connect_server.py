"""A real Spark Connect server, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.java import QUICK_JAVA
from tests.standalone import Process

SERVER_PYTHON = os.path.abspath(os.environ.get("SPARKTUNE_TESTS_SERVER", sys.executable))
"""The interpreter of an environment that has Spark, where this one has its client only."""
CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"


def spark_home(python: str | Path) -> Path:
    """Where pip has put Spark in the environment of this interpreter."""
    found = subprocess.run(
        [python, "-c", "import pyspark; print(pyspark.__path__[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(found.stdout.strip())


@contextlib.contextmanager
def connect_server(
    folder: Path,
    *,
    master: str = "local[2,4]",
    python: str | Path = SERVER_PYTHON,
    workers: str | Path | None = None,
    conf: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A server until the end of the block; yields its address, ``sc://127.0.0.1:PORT``.

    Args:
        folder: for its files.
        master: where it runs trials.
        python: an interpreter in whose environment Spark is installed.
        workers: the interpreter of its Python workers; None for ``python``.
        conf: settings, ``key=value``.
        env: further environment variables.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    home = spark_home(python)
    settings = [
        f"spark.connect.grpc.binding.port={port}",
        "spark.connect.grpc.binding.address=127.0.0.1",
        "spark.ui.enabled=false",
        "spark.log.level=INFO",
        "spark.python.unix.domain.socket.enabled=true",
        "spark.python.task.killTimeout=10ms",
        f"spark.driver.extraJavaOptions={QUICK_JAVA}",
        f"spark.sql.warehouse.dir={folder}/warehouse",
        *conf,
    ]
    command = [home / "bin" / "spark-submit", "--master", master, "--class", CLASS]
    for setting in settings:
        command += ["--conf", setting]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    server = Process(
        [*command, "spark-internal"],
        {**clean, "SPARK_HOME": str(home), "PYSPARK_PYTHON": str(workers or python), **(env or {})},
        folder,
    )
    try:
        server.until("Spark Connect server started")
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.kill()
