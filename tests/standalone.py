"""A standalone Spark cluster in processes of this machine, and driver processes that use it."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pyspark

from tests.java import QUICK_JAVA

SPARK_HOME = Path(pyspark.__file__).parent
PATIENCE_S = 90.0


class Process:
    """A child process, and the lines that it writes."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> None:
        self.lines: list[str] = []
        self._arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    def until(self, pattern: str, patience_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait for a line with this pattern; the lines so far are in ``lines``.

        Raises:
            AssertionError: the process ended without one, or was silent for too long.
        """
        end = time.monotonic() + patience_s
        while True:
            try:
                line = self._arrived.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                written = "\n".join(self.lines)
                if len(written) > 20000:  # the first fault is at its beginning, the last one at its end
                    written = f"{written[:10000]}\n[...]\n{written[-10000:]}"
                raise AssertionError(f"the process has not written {pattern!r}, but:\n{written}")
            self.lines.append(line)
            found = re.search(pattern, line)
            if found is not None:
                return found

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def interrupt(self) -> None:
        """As Ctrl-C in its terminal."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """The exit code, when the process has ended by itself."""
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """As a machine dies: at once, and with all that the process has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            mine = psutil.Process(self._process.pid)
            mine.suspend()  # a worker of Spark's would replace its executors
            descendants = mine.children(recursive=True)
            mine.kill()
            for process in descendants:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)


class Cluster:
    """A standalone master, and as many workers as are started.

    Args:
        folder: for its files.
        env: the environment of its processes, and of the drivers'.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self.env = {
            **env,
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "128m",
            "SPARK_DAEMON_JAVA_OPTS": f"{QUICK_JAVA} -Dspark.master.rest.enabled=false",
        }
        self._started: list[Process] = []
        self._work_dirs: dict[int, Path] = {}
        try:
            master = self._daemon("master.Master")
            self.url = master.until(r"Starting Spark master at (\S+)")[1]
            master.until("New state: ALIVE")
        except BaseException:
            self.close()
            raise

    def add_worker(self, cores: int, *, host: str = "127.0.0.1", wait: bool = True) -> Process:
        """One more worker machine; returns when the master knows it, unless it is not to ``wait``.

        Machines of other addresses of this one's (``host``) are other machines to Spark.
        """
        work_dir = self._folder / f"work-{len(self._started)}"
        options = ["--cores", str(cores), "--memory", "1g", "--work-dir", str(work_dir)]
        worker = self._daemon("worker.Worker", *options, self.url, host=host)
        self._work_dirs[worker.pid] = work_dir
        if wait:
            worker.until("Successfully registered with master")
        return worker

    def work_dir_of(self, worker: Process) -> Path:
        """Where a worker machine keeps the folders of its executors, ``app-.../0``."""
        return self._work_dirs[worker.pid]

    def drive(self, script: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Process:
        """Run a Python script as a driver process; its first argument is the master's URL."""
        folder = self._folder / f"driver-{len(self._started)}"
        folder.mkdir()
        command = [sys.executable, "-c", script, self.url, *arguments]
        self._started.append(Process(command, {**self.env, **(env or {})}, folder))
        return self._started[-1]

    def close(self) -> None:
        """End all that was started."""
        for process in reversed(self._started):
            process.kill()

    def _daemon(self, name: str, *arguments: str, host: str = "127.0.0.1") -> Process:
        command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{name}"]
        command += ["--host", host, "--port", "0", "--webui-port", "0", *arguments]
        self._started.append(Process(command, self.env, self._folder))
        return self._started[-1]


@contextlib.contextmanager
def cluster_in(folder: Path, env: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    with contextlib.closing(Cluster(folder, env)) as cluster:
        yield cluster
