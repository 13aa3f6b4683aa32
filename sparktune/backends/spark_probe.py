"""What Spark's workers say of themselves: their Python, their packages, and whom they reach."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import environ, path
from typing import Any

from sparktune.backends.spark_application import Application

LOOKED_AT = 16
"""At most so many workers are asked."""
CONNECT_S = 5.0


@dataclass(frozen=True)
class Worker:
    """What one Python worker says.

    Attributes:
        host: its machine.
        python: its version, ``3.11.7``.
        packages: name -> version, None where it is not installed.
        reached: "host:port" -> None, or why it cannot be reached.
    """

    host: str
    python: str
    packages: dict[str, str | None]
    reached: dict[str, str | None]


def java_version() -> tuple[str, str] | None:
    """Java's version and where it is; None where there is none."""
    home = environ.get("JAVA_HOME")
    program = path.join(home, "bin", "java") if home else shutil.which("java")
    if program is None or not path.exists(program):
        return None
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return (found[1] if found else "unknown", program)


def ask_workers(
    application: Application, packages: Sequence[str], addresses: Sequence[tuple[str, int]], n: int
) -> list[Worker]:
    """What ``n`` tasks find, each on a worker: usually on different ones.

    Args:
        application: whose.
        packages: whose versions are wanted.
        addresses: (host, port) that each worker is to reach.
        n: how many tasks; at most ``LOOKED_AT``.

    Raises:
        Exception: Spark's, where the workers cannot run Python at all.
    """
    n = max(1, min(n, LOOKED_AT))
    rows = application.ask_workers(_question(tuple(packages), tuple(addresses), CONNECT_S), n)
    return [Worker(**row) for row in rows]


def _question(
    packages: tuple[str, ...], addresses: tuple[tuple[str, int], ...], timeout_s: float
) -> Callable[[Any], dict[str, Any]]:
    """A function that travels by value: the workers need not have sparktune."""

    def answer(_row: Any) -> dict[str, Any]:
        import importlib.metadata
        import platform
        import socket

        found: dict[str, str | None] = {}
        for name in packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        reached: dict[str, str | None] = {}
        for host, port in addresses:
            try:
                socket.create_connection((host, port), timeout=timeout_s).close()
                reached[f"{host}:{port}"] = None
            except OSError as error:
                reached[f"{host}:{port}"] = f"{type(error).__name__}: {error}"
        return {
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "packages": found,
            "reached": reached,
        }

    return answer


class Listener:
    """A port of the driver, as a study opens one for its workers."""

    def __init__(self, application: Application) -> None:
        bind, self.host = application.driver_addresses()
        self._socket = socket.create_server((bind, 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Close it."""
        self._socket.close()
