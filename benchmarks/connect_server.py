"""A Spark Connect server in a separate process, on the Spark of this environment.

``SparkSession.builder.remote("local[2]")`` starts a real server too, but always on port 15002, and in a Java
process that also holds a classic session of this one. Users meet a server that serves nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"
PATIENCE_S = 90.0


@contextlib.contextmanager
def connect_server(master: str, settings: Mapping[str, str], folder: str) -> Iterator[str]:
    """A server until the end of the block; yields its address, ``sc://127.0.0.1:PORT``.

    Args:
        master: where it runs its tasks; their Python is this one.
        settings: Spark's, key -> value.
        folder: for its files.
    """
    import pyspark

    home = Path(pyspark.__path__[0])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(home / "bin" / "spark-submit"), "--master", master, "--class", SERVER]
    for key, value in {
        **settings,
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
    }.items():
        command += ["--conf", f"{key}={value}"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    log = Path(folder, "server.txt")
    with log.open("w", encoding="utf-8") as lines:
        server = subprocess.Popen(
            [*command, "spark-internal"],
            env={**clean, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
        )
    try:
        end = time.monotonic() + PATIENCE_S
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no Spark Connect server:\n{log.read_text(encoding='utf-8')[-4000:]}")
            time.sleep(0.1)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
