"""What becomes of a study while Python workers, executors and worker machines are killed at random moments.

python benchmarks/kill_workers.py                       # all, one after another
python benchmarks/kill_workers.py local cluster         # local[8], and local-cluster[2,1,1024]
python benchmarks/kill_workers.py standalone --kills 20 # a master and two worker machines on this computer

Every fifth victim on ``local`` is the daemon that all Python workers descend from, with all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from sparktune import SparkTrials, fmin, hp, rand
from sparktune.backends.session import SETTINGS

SECONDS = 0.3
"""What a trial takes."""
TRIALS_PER_KILL = 4
COLUMNS = (
    "where",
    "killed",
    "kills",
    "trials",
    "completed",
    "failed",
    "tried again",
    "begun",
    "counted",
    "lost or twice",
    "seconds",
)
QUICK_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


class Machines:
    """A standalone cluster on this computer: a master, and worker machines that can be killed.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []
        self.url = self._start("master.Master", [], "Starting Spark master at ").split()[0]

    def add(self) -> None:
        """One more machine of two cores; returns when the master knows it."""
        folder = self._folder / f"work-{len(self._processes)}"
        options = ["--cores", "2", "--memory", "1g", "--work-dir", str(folder), self.url]
        self._start("worker.Worker", options, "Successfully registered with master")

    def kill(self, machine: psutil.Process) -> None:
        """As a machine dies: with everything that runs on it, and suddenly. Another takes its place."""
        machine.suspend()  # it would replace its executors
        for process in [machine, *machine.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.add()

    def machines(self) -> list[psutil.Process]:
        """Those that live."""
        return [psutil.Process(process.pid) for process in self._processes[1:] if process.poll() is None]

    def close(self) -> None:
        """End all."""
        for process in reversed(self._processes):
            for one in [*_descendants(process.pid), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()

    def _start(self, name: str, options: Sequence[str], sign: str) -> str:
        import pyspark

        home = Path(pyspark.__file__).parent
        env = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
        env |= {"SPARK_DAEMON_MEMORY": "128m", "SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA}
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}"]
        command += ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0", *options]
        process = subprocess.Popen(
            command,
            env=env,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if sign in line:
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return line.partition(sign)[2]
        raise RuntimeError(f"{name} ended without saying {sign!r}")


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _is_executor(process: psutil.Process) -> bool:
    return any("CoarseGrainedExecutorBackend" in part for part in process.cmdline())


class Killer:
    """Kills what it finds of a kind, at random moments.

    Args:
        pid: descendants of this process are victims.
        kinds: ``worker``, ``daemon``, ``executor``, ``machine``; taken in turns.
        machines: the standalone cluster, or None.
    """

    def __init__(self, pid: int, kinds: Sequence[str], machines: Machines | None = None) -> None:
        self._pid = pid
        self._kinds = kinds
        self._machines = machines
        self._chance = random.Random(0)
        self.kills: Counter[str] = Counter()

    def kill(self) -> None:
        """Wait for a random moment, and kill one, when there is one."""
        kind = self._kinds[self.kills.total() % len(self._kinds)]
        time.sleep(self._chance.uniform(0, 2 * SECONDS))
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                victims = self._victims(kind)
                if victims:
                    self._strike(kind, self._chance.choice(victims))
                    self.kills[kind] += 1
                    return
            time.sleep(0.05)

    def _victims(self, kind: str) -> list[psutil.Process]:
        if kind == "machine":
            return [] if self._machines is None else self._machines.machines()
        found = [process for process in _descendants(self._pid) if process.status() != psutil.STATUS_ZOMBIE]
        if kind == "executor":
            return [process for process in found if _is_executor(process)]
        daemons = {p.pid for p in found if "pyspark.daemon" in p.cmdline() and _is_java(p.parent())}
        if kind == "daemon":
            return [process for process in found if process.pid in daemons]
        return [process for process in found if process.ppid() in daemons]

    def _strike(self, kind: str, victim: psutil.Process) -> None:
        if kind == "machine" and self._machines is not None:
            self._machines.kill(victim)
            return
        for process in [victim, *(victim.children() if kind == "daemon" else [])]:
            process.kill()


def _is_java(process: psutil.Process | None) -> bool:
    return process is not None and process.name() == "java"


def study(where: str, master: str, killer: Killer, n_kills: int) -> dict[str, Any]:
    """The figures of one study during which ``n_kills`` processes are killed."""
    from pyspark.sql import SparkSession

    settings = {**SETTINGS, "spark.ui.enabled": "false", "spark.log.level": "OFF"}
    settings |= {"spark.executor.memory": "480m", "spark.executor.extraJavaOptions": QUICK_JAVA}
    if master.startswith("local-cluster"):
        del settings["spark.executor.memory"]
    spark = SparkSession.builder.master(master).config(map=settings).getOrCreate()
    ended = threading.Semaphore(0)

    def kill() -> None:
        for _ in range(n_kills):
            for _ in range(TRIALS_PER_KILL):
                ended.acquire()
            killer.kill()

    def one_more(_trials: Any, *_state: Any) -> tuple[bool, list[Any]]:
        ended.release()
        return False, []

    with tempfile.TemporaryDirectory() as folder:
        begun = Path(folder, "begun")

        def objective(x: float) -> float:
            with begun.open("a") as file:
                file.write(f"{x}\n")
            time.sleep(SECONDS)
            return x

        n = (n_kills + 3) * TRIALS_PER_KILL + n_kills
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        began = time.monotonic()
        trials = SparkTrials(mlflow=False, spark_session=spark)
        fmin(
            objective,
            hp.uniform("x", 0, 1),
            rand.suggest,
            n,
            trials=trials,
            early_stop_fn=one_more,
            max_queue_len=1,
            show_progressbar=False,
            rstate=1,
        )
        took = time.monotonic() - began
        begins = Counter(begun.read_text().split())
    frame = trials.to_dataframe()
    spark.stop()
    states = Counter(frame["state"])
    ids = Counter(frame["trial"])
    attempts = {str(x): n for x, n in zip(frame["x"], frame["attempts"], strict=True)}
    for x, times in begins.items():
        if times > attempts[x]:
            print(f"{x} began {times} times, and {attempts[x]} were counted", file=sys.stderr)
    for error in frame["error"][frame["state"] == "failed"]:
        print(f"failed: {error}", file=sys.stderr)
    figures = (
        where,
        ", ".join(f"{count} {kind}s" for kind, count in killer.kills.items()),
        killer.kills.total(),
        len(frame),
        states["completed"],
        states["failed"],
        int((frame["attempts"] > 1).sum()),
        begins.total(),
        int(frame["attempts"].sum()),
        n - states["completed"] - states["failed"] + sum(count > 1 for count in ids.values()),
        round(took),
    )
    return dict(zip(COLUMNS, figures, strict=True))


@contextlib.contextmanager
def spark_home() -> Iterator[None]:
    """Spark's files in a folder in which the executors of ``local-cluster`` may write."""
    import pyspark

    with tempfile.TemporaryDirectory() as folder:
        for entry in Path(pyspark.__file__).parent.iterdir():
            Path(folder, entry.name).symlink_to(entry)
        os.environ["SPARK_HOME"] = folder
        yield


def run(where: str, n_kills: int) -> dict[str, Any]:
    """The figures of one kind of cluster, in this process."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if where == "local":
        killer = Killer(os.getpid(), ["worker"] * 4 + ["daemon"])
        return study("local[8]", "local[8]", killer, n_kills)
    if where == "cluster":
        with spark_home():
            killer = Killer(os.getpid(), ["worker", "executor"])
            return study("local-cluster[2,1,1024]", "local-cluster[2,1,1024]", killer, n_kills)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Machines(Path(folder))) as machines:
        for _ in range(2):
            machines.add()
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        killer = Killer(os.getpid(), ["worker", "executor", "machine"], machines)
        return study("standalone, 2 machines of 2 cores", machines.url, killer, n_kills)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("where", nargs="*", metavar="local, cluster, standalone")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(run(options.where[0], options.kills)))
        return
    rows = []
    for where in options.where or ["local", "cluster", "standalone"]:
        command = [sys.executable, __file__, where, "--alone", "--kills", str(options.kills)]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        rows.append(json.loads(printed.splitlines()[-1]))
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        print(f"| {' | '.join(str(row[column]) for column in COLUMNS)} |")


if __name__ == "__main__":
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    main()
