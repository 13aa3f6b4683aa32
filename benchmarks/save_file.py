"""What ``trials_save_file`` costs.

python benchmarks/save_file.py [--trials 400] [--rounds 5] [--parallelism 8]

A no-op study on local[2] with and without the file, in turns on one session: trials a second and their ratio
within each round. Then what one record and one fdatasync take, in the folder that is given by ``--folder``.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import _first  # noqa: F401
import cloudpickle
from reports import session

from sparktune import SparkTrials, fmin, hp, rand
from sparktune.trials import journal

SPACE = {"x": hp.uniform("x", -5, 5), "y": hp.uniform("y", -5, 5)}


def study(spark: object, n: int, parallelism: int, path: Path | str) -> tuple[float, SparkTrials]:
    """Trials a second of the whole call, and its trials."""
    trials = SparkTrials(parallelism, mlflow=False, spark_session=spark)
    began = time.perf_counter()
    fmin(
        lambda _point: 0.0,
        SPACE,
        rand.suggest,
        n,
        trials=trials,
        trials_save_file=path,
        show_progressbar=False,
    )
    return n / (time.perf_counter() - began), trials


def milliseconds(folder: Path, trials: SparkTrials, rounds: int = 200) -> tuple[float, float, int]:
    """What it takes to make a record, and to have it on the disk, in the median; the record's bytes."""
    made: list[float] = []
    synced: list[float] = []
    document, trial = trials.trials[0], trials.memory.records[0]
    descriptor = os.open(folder / "records", os.O_WRONLY | os.O_CREAT)
    for _ in range(rounds):
        began = time.perf_counter()
        data = journal.record(cloudpickle.dumps((1, 1.0, document, trial)))
        made.append(time.perf_counter() - began)
        os.write(descriptor, data)
        began = time.perf_counter()
        os.fdatasync(descriptor)
        synced.append(time.perf_counter() - began)
    os.close(descriptor)
    return 1000 * statistics.median(made), 1000 * statistics.median(synced), len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description="What trials_save_file costs.")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallelism", type=int, default=8)
    parser.add_argument("--folder", default=None, help="on the disk in question; a temporary one by default")
    options = parser.parse_args()
    for name in ("sparktune", "hyperopt-spark"):
        logging.getLogger(name).setLevel(logging.ERROR)
    spark = session("local[2]")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        study(spark, options.trials // 2, options.parallelism, "")
        ratios: list[float] = []
        for number in range(options.rounds):
            places = ["", folder / f"{number}.pkl"]
            if number % 2:
                places.reverse()
            rates: dict[bool, float] = {}
            for place in places:
                rates[bool(place)], trials = study(spark, options.trials, options.parallelism, place)
            ratios.append(rates[True] / rates[False])
            print(
                f"round {number + 1}: {rates[False]:.0f} trials/s without, {rates[True]:.0f} with the file; "
                f"ratio {ratios[-1]:.2f}"
            )
        print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
        record_ms, sync_ms, size = milliseconds(folder, trials)
        print(f"a record of {size} bytes: {record_ms:.2f} ms; an fdatasync: {sync_ms:.2f} ms")
    spark.stop()


if __name__ == "__main__":
    main()
