"""What ``sparktune.report`` costs, and how fast a decision is felt.

python benchmarks/reports.py latency   # from the deciding report to the trial's end, on local[2]
python benchmarks/reports.py load      # 64 trials that report 10 times a second each, on local[64]
"""

from __future__ import annotations

import argparse
import logging
import resource
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from sparktune import SparkTrials, fmin, hp, rand, report
from sparktune.backends.session import SETTINGS
from sparktune.early_termination import Curve, Decision


class StopAt:
    """Ends every trial at one interval, and notes when it decided."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.decided_s: dict[int, float] = {}

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> Decision | None:  # noqa: ARG002
        """See ``EarlyTerminationPolicy``."""
        curve = curves[trial_id]
        if len(curve.values) != self._interval:
            return None
        self.decided_s[trial_id] = time.time()
        return Decision("StopAt", self._interval, curve.values[-1], 0.0)


class Count:
    """Lets every trial continue, and counts the reports."""

    def __init__(self) -> None:
        self.received = 0

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> None:  # noqa: ARG002
        """See ``EarlyTerminationPolicy``."""
        self.received += 1


def session(master: str) -> Any:
    """A Spark session with sparktune's settings."""
    from pyspark.sql import SparkSession

    return (
        SparkSession.builder.master(master)
        .config(map={**SETTINGS, "spark.ui.enabled": "false"})
        .getOrCreate()
    )


def latency(trials: int = 40) -> None:
    """From the decision to the trial's end as the driver knows it, and whether the workers stay."""
    spark = session("local[2,4]")

    def objective(x: float) -> None:
        for step in range(100):
            report(x + step)

    policy = StopAt(5)
    tuned = SparkTrials(mlflow=False, early_termination=policy, spark_session=spark)
    fmin(objective, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=trials, trials=tuned, verbose=False)
    ends = {trial_id: trial.ended_s for trial_id, trial in tuned.memory.records.items()}
    waits = sorted(1000 * (ends[i] - decided) for i, decided in policy.decided_s.items())
    pids = {trial.worker_pid for trial in tuned.memory.records.values()}
    print(f"{trials} trials terminated at their 5th report, in {len(pids)} worker processes for 2 slots")
    middle = statistics.median(waits)
    print(f"from the deciding report to the trial's end: median {middle:.1f} ms, worst {waits[-1]:.1f} ms")
    spark.stop()


def load(reporters: int = 64, seconds: float = 30.0) -> None:
    """All reports arrive; the driver's share of a core while they do."""
    spark = session(f"local[{reporters},4]")

    def objective(x: float) -> dict[str, Any]:
        began, worst = time.time(), 0.0
        n = int(10 * seconds)
        for step in range(n):
            due = began + step / 10
            time.sleep(max(0.0, due - time.time()))
            asked = time.perf_counter()
            report(x)
            worst = max(worst, time.perf_counter() - asked)
        return {"status": "ok", "loss": x, "sent": n, "worst_ms": 1000 * worst, "took_s": time.time() - began}

    policy = Count()
    tuned = SparkTrials(reporters, mlflow=False, early_termination=policy, spark_session=spark)
    shares: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            before, received = time.process_time(), policy.received
            began = time.perf_counter()
            done.wait(5.0)
            rate = (policy.received - received) / (time.perf_counter() - began)
            if rate > 0.9 * 10 * reporters:
                shares.append((time.process_time() - before) / (time.perf_counter() - began))

    watcher = threading.Thread(target=watch)
    watcher.start()
    fmin(
        objective, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=reporters, trials=tuned, verbose=False
    )
    done.set()
    watcher.join()
    results = tuned.results
    sent = sum(result["sent"] for result in results)
    print(
        f"{reporters} trials sent {sent} reports; {policy.received} received, lost {sent - policy.received}"
    )
    print(f"slowest report of all: {max(result['worst_ms'] for result in results):.0f} ms")
    took = statistics.median(result["took_s"] for result in results)
    print(f"median time of {seconds:.0f} s of work: {took:.1f} s")
    if shares:
        print(f"the driver's share of one core while all reported: {statistics.median(shares):.0%}")
    spark.stop()
    print(f"driver's memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    logging.getLogger("hyperopt-spark").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["latency", "load"])
    sys.exit({"latency": latency, "load": load}[parser.parse_args().what]())
