"""How the driver scales: many trials on a simulated cluster, with random search.

No Spark and no waiting: the simulated backend's clock is virtual, so every second measured here is the
driver's, the study's and the suggest function's own. Prints a row for each block of trials; time per trial
should stay flat from the first block to the last, and memory should grow by the same amount in each quarter.

    python benchmarks/simulated.py
    python benchmarks/simulated.py --trials 100000 --slots 1000 --no-memory
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparktune import fmin, hp, rand
from sparktune.trials.simulated import SimulatedTrials

SPACE = {
    "x": hp.uniform("x", -5, 5),
    "rate": hp.loguniform("rate", -7, 0),
    "depth": hp.quniform("depth", 1, 12, 1),
    "kind": hp.choice("kind", ["a", "b", "c"]),
}

TARGET_S = 60.0
"""For 20,000 trials on 500 slots; scaled with the number of trials."""
FLAT = 1.25
"""What a trial of the last rows may cost, in trials of the first, to pass as flat."""
LINEAR = 1.25
"""How far the quarters of a study may lie apart in memory per trial to pass as linear growth."""


def objective(point: dict[str, Any]) -> float:
    return float(point["x"] ** 2)


def virtual_duration_s(config: Any, _result: Any) -> float:
    """From 1 to 11 virtual seconds, so that trials end out of order."""
    return 1.0 + abs(float(config["x"])) * 2


class Suggest:
    """Random search that counts its calls and the processor time spent in it."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See ``hyperopt.rand.suggest``."""
        self.calls += 1
        began = time.thread_time()
        try:
            return rand.suggest(*args, **kwargs)
        finally:
            self.spent_s += time.thread_time() - began


class Marks:
    """A progress reporter that calls ``mark`` after every ``every`` trials."""

    def __init__(self, every: int, mark: Callable[[], None]) -> None:
        self._every, self._mark = every, mark
        self._done = 0
        self.postfix: object = None

    def update(self, n: int) -> None:
        """Count ``n`` trials that ended."""
        self._done += n
        if self._done % self._every == 0:
            self._mark()

    @contextlib.contextmanager
    def reporter(self, _initial: int, _total: int) -> Iterator[Marks]:
        """See ``hyperopt.progress``."""
        yield self


def study(trials: int, slots: int, suggest: Any, every: int, mark: Callable[[], None]) -> SimulatedTrials:
    simulated = SimulatedTrials(slots=slots, duration_s=virtual_duration_s)
    fmin(
        objective,
        SPACE,
        algo=suggest,
        max_evals=trials,
        trials=simulated,
        rstate=0,
        show_progressbar=Marks(every, mark).reporter,
    )
    return simulated


def timed(trials: int, slots: int, block: int) -> tuple[float, list[tuple[float, float]]]:
    """Seconds for the whole, and for each block milliseconds of processor time per trial.

    Processor time, because it is the same on a machine that others use. Two figures for each block: a call of
    the suggest function, and what a trial costs beyond it. The first block launches more trials than it ends
    (it fills the slots) and the last one fewer: a trial counts half for its launch, half for its end.
    """
    suggest = Suggest()
    rows: list[tuple[float, float]] = []
    before = (time.thread_time(), 0.0, 0)

    def mark() -> None:
        nonlocal before
        now = (time.thread_time(), suggest.spent_s, suggest.calls)
        whole_s, suggest_s, calls = (new - old for new, old in zip(now, before, strict=True))
        rows.append((suggest_s / max(1, calls) * 1e3, (whole_s - suggest_s) / ((calls + block) / 2) * 1e3))
        before = now

    began = time.perf_counter()
    study(trials, slots, suggest, block, mark)
    return time.perf_counter() - began, rows


def traced(trials: int, slots: int, block: int) -> list[tuple[int, float]]:
    """After each block: trials suggested so far, and the megabytes that Python holds for the study."""
    suggest = Suggest()
    held: list[tuple[int, float]] = []
    gc.collect()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]

    def mark() -> None:
        gc.collect()
        held.append((suggest.calls, (tracemalloc.get_traced_memory()[0] - start) / 1e6))

    study(trials, slots, suggest, block, mark)
    tracemalloc.stop()
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--block", type=int, default=1_000, help="trials in a row of the table of times")
    parser.add_argument(
        "--no-memory", action="store_true", help="leave out the second run, which measures memory"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args()
    logging.getLogger("hyperopt-spark").setLevel(logging.ERROR)
    trials, slots, block = options.trials, options.slots, min(options.block, options.trials)

    study(min(500, trials), slots, rand.suggest, block, lambda: None)  # imports, first calls
    total_s, rows = timed(trials, slots, block)
    print(f"{trials} trials on {slots} simulated slots, random search: {total_s:.1f} s")
    print(f"\nprocessor time per trial, ms\n{'trials':>9} {'suggest':>9} {'driver':>9}")
    for number, (suggest_ms, driver_ms) in enumerate(rows, 1):
        print(f"{number * block:>9} {suggest_ms:>9.3f} {driver_ms:>9.3f}")
    few = max(1, min(3, len(rows) // 2))
    flat = statistics.median(ms for _, ms in rows[-few:]) / statistics.median(ms for _, ms in rows[:few])
    target_s = TARGET_S * trials / 20_000
    checks = [
        (f"seconds: {total_s:.1f}, target below {target_s:.0f}", total_s < target_s),
        (
            f"driver time per trial, last {few} rows / first {few}: {flat:.2f}, target below {FLAT}",
            flat < FLAT,
        ),
    ]
    report: dict[str, Any] = {
        "trials": trials,
        "slots": slots,
        "seconds": total_s,
        "suggest_ms": [ms for ms, _ in rows],
        "driver_ms": [ms for _, ms in rows],
        "last_to_first": flat,
    }
    if not options.no_memory:
        held = traced(trials, slots, max(1, trials // 4))
        steps = zip([(0, 0.0), *held], held, strict=False)
        growth = [(after[1] - before[1]) / (after[0] - before[0]) * 1e3 for before, after in steps]
        print(f"\nmemory\n{'suggested':>9} {'MB held':>9} {'kB/trial':>9}")
        for (suggested, megabytes), kilobytes in zip(held, growth, strict=True):
            print(f"{suggested:>9} {megabytes:>9.1f} {kilobytes:>9.2f}")
        uneven = max(growth) / min(growth)
        checks.append(
            (f"memory per trial, most / least: {uneven:.2f}, target below {LINEAR}", uneven < LINEAR)
        )
        report |= {"held": held, "kb_per_trial": growth}
    print()
    for text, met in checks:
        print(f"{'ok    ' if met else 'MISSED'} {text}")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(options.check and not all(met for _, met in checks))


if __name__ == "__main__":
    sys.exit(main())
