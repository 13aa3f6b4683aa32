"""Whether anything grows but the trials: a long study, and many studies in one process, on live Spark.

    python benchmarks/endurance.py [--trials 5000] [--studies 200]

Prints, for each tenth: the rate, and what the process holds at its end (memory, threads, open files,
temporary files, Spark's storage memory with its broadcasts, the heap of the Java process after a collection).
With --check it exits with 1 where the last tenth is more than 10 % slower than the first, or something grew
that is not the trials'.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import _first  # noqa: F401

COLUMNS = (
    "part",
    "per second",
    "memory MB",
    "threads",
    "files",
    "temporary",
    "storage MB",
    "heap MB",
    "processes",
)


class Gauge:
    """Reads what this process, and Spark's, hold."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self._spark, self._folder = spark, folder

    def read(self) -> tuple[float, ...]:
        """What is held now, in the order of ``COLUMNS``."""
        gc.collect()
        context = self._spark.sparkContext
        jvm = context._jvm
        jvm.System.gc()
        runtime = jvm.java.lang.Runtime.getRuntime()
        heap = runtime.totalMemory() - runtime.freeMemory()
        status = context._jsc.sc().getExecutorMemoryStatus()
        memory = status.values().head()
        storage = memory._1() - memory._2()
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return (
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            threading.active_count(),
            len(os.listdir("/proc/self/fd")),
            sum(1 for path in self._folder.rglob("*") if path.is_file()),
            storage / 1e6,
            heap / 1e6,
            sum(1 for _ in descendants(os.getpid())),
        )


def descendants(pid: int) -> Any:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text("ascii").split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from descendants(int(child))


def show(title: str, rows: list[tuple[Any, ...]]) -> None:
    print(f"\n{title}\n")
    print("  ".join(name.rjust(10) for name in COLUMNS))
    for row in rows:
        print("  ".join((f"{v:.1f}" if isinstance(v, float) else str(v)).rjust(10) for v in row), flush=True)


def long_study(gauge: Gauge, n: int, mlflow: bool) -> list[tuple[Any, ...]]:
    """One study, looked at after each tenth by its early_stop_fn."""
    from sparktune import SparkTrials, fmin, hp, rand

    rows: list[tuple[Any, ...]] = []
    tenth = max(1, n // 10)
    ended = itertools.count(1)
    since = [time.monotonic()]

    def look(_trials: Any, *_args: Any) -> tuple[bool, list[Any]]:
        number = next(ended)
        if number % tenth == 0:
            rate = tenth / (time.monotonic() - since[0])
            rows.append((number, rate, *gauge.read()))
            since[0] = time.monotonic()
        return False, []

    trials = SparkTrials(mlflow=mlflow)
    space = hp.uniform("x", -1, 1)
    fmin(lambda x: x, space, rand.suggest, n, trials=trials, early_stop_fn=look, show_progressbar=False)
    return rows


def many_studies(gauge: Gauge, n: int, mlflow: bool) -> list[tuple[Any, ...]]:
    """Studies of four trials each, one after another."""
    from sparktune import SparkTrials, fmin, hp, rand

    rows: list[tuple[Any, ...]] = []
    tenth = max(1, n // 10)
    since = time.monotonic()
    for number in range(1, n + 1):
        fmin(
            lambda x: x,
            hp.uniform("x", -1, 1),
            rand.suggest,
            4,
            trials=SparkTrials(mlflow=mlflow),
            show_progressbar=False,
        )
        if number % tenth == 0:
            rate = tenth / (time.monotonic() - since)
            rows.append((number, rate, *gauge.read()))
            since = time.monotonic()
    return rows


def faults(name: str, rows: list[tuple[Any, ...]], per_trial_kb: float) -> list[str]:
    """What of a table is not flat; from the second tenth on, for the first has the warming up."""
    first, last = rows[1], rows[-1]
    n = last[0] - first[0]
    allowed = {
        "memory MB": 20.0 + n * per_trial_kb / 1e3,
        "threads": 2,
        "files": 4,
        "temporary": 10,
        "storage MB": 2.0,
        "heap MB": 40.0,
        "processes": 1,
    }
    found = []
    if last[1] < 0.9 * max(first[1], rows[0][1]):
        found.append(f"{name}: the rate fell from {max(first[1], rows[0][1]):.1f} to {last[1]:.1f} a second")
    for column, limit in allowed.items():
        at = COLUMNS.index(column)
        if last[at] - first[at] > limit:
            found.append(f"{name}: {column} grew from {first[at]:.1f} to {last[at]:.1f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000, help="of the long study")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--no-mlflow", action="store_true", help="record nothing")
    parser.add_argument("--check", action="store_true", help="exit with 1 where something is not flat")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tempfile.tempdir = str(folder)
        os.environ["TMPDIR"] = name
        import mlflow
        from pyspark.sql import SparkSession

        from sparktune.backends.session import SETTINGS

        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        for key, value in {**SETTINGS, "spark.local.dir": name}.items():
            builder = builder.config(key, value)
        spark = builder.getOrCreate()
        gauge = Gauge(spark, folder)
        is_recorded = not options.no_mlflow
        long = long_study(gauge, options.trials, is_recorded)
        show(f"one study of {options.trials} no-op trials", long)
        many = many_studies(gauge, options.studies, is_recorded)
        show(f"{options.studies} studies of four no-op trials, one after another", many)
        spark.stop()
    # A trial: its document and record. A study: its trials object, which nobody keeps.
    found = faults("one study", long, 30.0) + faults("many studies", many, 0.0)
    for fault in found:
        print(fault)
    return 1 if found and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
