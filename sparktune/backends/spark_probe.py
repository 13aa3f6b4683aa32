"""Properties of Spark's workers: their Python, their packages, and what they reach."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sparktune.backends import control_port
from sparktune.backends.spark_application import Application
from sparktune.backends.spark_cluster import import_path
from sparktune.backends.spark_slots import Size, size_of_application
from sparktune.private import of_pyspark
from sparktune.worker import parcel
from sparktune.worker.objective import Objective

T = TypeVar("T")

LOOKED_AT = 16
"""At most so many workers are asked."""
CONNECT_S = 5.0
ANSWER_S = 30.0
"""How long a Spark Connect server may take to answer; PySpark itself repeats its requests for minutes."""
EXECUTORS_S = 10.0
"""How long executors of a new session may take to join."""
CONNECT_PORT = 15002
"""Where Spark Connect servers listen by default."""
DISTRIBUTIONS = ("pyspark", "pyspark-client", "databricks-connect")
"""What brings the package ``pyspark``."""
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclass(frozen=True)
class Worker:
    """The answer of one Python worker.

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


def pyspark_version() -> tuple[str, str] | None:
    """What brings pyspark here, and its version; None where it cannot be imported."""
    try:
        import pyspark
    except ImportError:
        return None
    for name in DISTRIBUTIONS:
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "pyspark", str(pyspark.__version__)  # one that pip did not install


def java_version() -> tuple[str, str] | None:
    """Java's version and where it is; None where there is none."""
    home = os.environ.get("JAVA_HOME")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if program is None or not os.path.exists(program):
        return None
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return (found[1] if found else "unknown", program)


def unreached(address: tuple[str, int]) -> str | None:
    """Why this process cannot connect to a (host, port); None where it can."""
    try:
        socket.create_connection(address, timeout=CONNECT_S).close()
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return None


def server_of(remote: str) -> tuple[str, int] | None:
    """The (host, port) in the address of a Spark Connect server, ``sc://host:15002/;token=...``.

    None where there is none in it, and where a proxy stands between.
    """
    parts = urlsplit(remote)
    if parts.scheme != "sc" or not parts.hostname or any(os.environ.get(name) for name in PROXIES):
        return None
    return parts.hostname, parts.port or CONNECT_PORT


def server_of_session(spark: Any) -> tuple[str, int] | None:
    """The (host, port) of the server of a Spark Connect session; None where that is not known."""
    return server_of(f"sc://{of_pyspark.connect_endpoint(spark) or ''}")


def in_time(call: Callable[[], T]) -> T:
    """What ``call`` gives.

    Raises:
        TimeoutError: it has not given it in ``ANSWER_S`` seconds.
        Exception: its own.
    """
    given: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            given.append(call())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if raised:
        raise raised[0]
    if not given:
        raise TimeoutError(f"no answer in {ANSWER_S:g} s")
    return given[0]


def size_soon(application: Application) -> Size:
    """The cluster's size; where it has no slots, that when the first executors have joined."""
    end = time.monotonic() + EXECUTORS_S
    while (size := size_of_application(application)).now == 0 and time.monotonic() < end:
        time.sleep(0.1)
    return size


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
                try:
                    module = importlib.import_module(name)
                    found[name] = str(getattr(module, "__version__", "unknown"))
                except ImportError:
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


class Sending:
    """An objective on its way to the workers, exactly as a study sends it.

    Args:
        application: whose.
        objective: None for a small default.

    Raises:
        ObjectiveNotPicklable: see ``Application.send``.
    """

    def __init__(self, application: Application, objective: Callable[..., Any] | None) -> None:
        from hyperopt import pyll

        self._application = application
        path = import_path(application.is_near, application.is_same_python)
        whole = Objective(objective or _small(), pyll.Literal(0))
        self._sent = application.send(lambda: parcel.pack(whole, path))

    def why_unread(self, n: int) -> str | None:
        """Why one of ``n`` workers cannot read it; None where all can."""
        question = _reading(self._sent.parcel, self._sent.companions)
        try:
            answers = self._application.ask_workers(question, max(1, min(n, LOOKED_AT)))
        except Exception as error:  # Spark's: the question itself needs cloudpickle
            return telling_line(str(error))
        found = next((answer for answer in answers if answer is not None), None)
        return found and found.partition(" on <module ")[0][:300]

    def close(self) -> None:
        """Remove it from the cluster."""
        self._sent.discard()


def _small() -> Callable[[Any], Any]:
    """Travels by value, as the objectives of notebooks and scripts do."""

    def objective(point: Any) -> Any:
        return point

    return objective


def _reading(sent: Any, companions: Iterable[Any]) -> Callable[[Any], str | None]:
    def answer(_row: Any) -> str | None:
        assert companions is not None  # broadcast variables travel with the task that names them
        try:
            from sparktune.worker.parcel import opened

            opened(sent).copy()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    return answer


_TELLING = ("ModuleNotFoundError: ", "ImportError: ", "Cannot run program", "PYTHON_VERSION_MISMATCH")


def telling_line(text: str) -> str:
    """The line of Spark's message for a failed task that names the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for sign in _TELLING:
        found = next((line for line in lines if sign in line), None)
        if found is not None:
            return found[found.index(sign) :][:300]
    return lines[0][:300] if lines else "no reason given"


class Listener:
    """A port of the driver, as a study opens one for its workers.

    Raises:
        ControlPortNotAvailable, ValueError: see ``control_port.ports`` and ``control_port.listening``.
    """

    def __init__(self, application: Application, wanted: control_port.Ports | None = None) -> None:
        bind, host = application.driver_addresses()
        self.host = control_port.unbracketed(host)
        self._sockets = control_port.listening(bind, control_port.ports(wanted, application))
        self.port: int = self._sockets[0].getsockname()[1]

    def close(self) -> None:
        """Close it."""
        for one in self._sockets:
            one.close()
