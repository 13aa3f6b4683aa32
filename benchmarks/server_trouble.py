"""What trouble with the tracking server costs a study: its time against a quiet server's, and what is lost.

    python benchmarks/server_trouble.py [--trials 120] [--seconds 0.25]
    python benchmarks/server_trouble.py --only "every third silent; killed for 10 s"

A real MLflow server behind a proxy that fails requests, or answers late. Trials run in this process, one at
a time, so that a study takes trials x seconds, and all else is MLflow's part. Ratios are to the quiet studies
of the same run: one before all others, one behind.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import _first  # noqa: F401
import mlflow

from sparktune import fmin, hp, rand
from tests.gate import Gate, Trouble, gate_to
from tests.recorded_trials import PARENT, RecordedTrials
from tests.tracking.conftest import Server

AWAY_S = 10.0
SLOW_S = 8.0
QUIET = "quiet"
COLUMNS = (
    "server",
    "seconds",
    "/ quiet",
    "requests",
    "failed",
    "trials recorded",
    "runs lacking or twice",
    "left open",
)


@dataclass
class Row:
    """The figures of one study."""

    server: str
    seconds: float
    requests: int
    failed: int
    recorded: int
    wrong: int
    left_open: int


class Bench:
    """Studies on one server.

    Args:
        server: MLflow's.
        gate: the proxy before it.
        trials: of each study.
        seconds: that a trial takes.
    """

    def __init__(self, server: Server, gate: Gate, trials: int, seconds: float) -> None:
        self._server, self._gate, self._trials, self._seconds = server, gate, trials, seconds
        self._client = mlflow.MlflowClient(server.uri)
        self._count = 0

    def study(self, name: str) -> Row:
        """One study behind the gate as it is now."""
        self._count += 1
        experiment_id = self._client.create_experiment(f"{self._count}: {name}")
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id
        mlflow.set_tracking_uri(self._gate.uri)
        self._gate.restart()

        def objective(x: float) -> float:
            time.sleep(self._seconds)
            return x

        began = time.monotonic()
        fmin(
            objective,
            hp.uniform("x", -1, 1),
            rand.suggest,
            self._trials,
            trials=RecordedTrials(1),
            rstate=0,
            show_progressbar=False,
        )
        took = time.monotonic() - began
        requests, failed = self._gate.seen, self._gate.troubled
        self._gate.quiet()
        runs = list(self._client.search_runs([experiment_id], max_results=50_000))
        children = [run for run in runs if PARENT in run.data.tags]
        ids = Counter(int(run.data.tags["sparktune.trial_id"]) for run in children)
        whole = [run for run in children if run.info.status == "FINISHED" and "loss" in run.data.metrics]
        wrong = sum(ids[n] != 1 for n in range(self._trials)) + abs(len(runs) - len(children) - 1)
        left_open = sum(run.info.status == "RUNNING" for run in runs)
        return Row(name, took, requests, failed, len(whole), wrong, left_open)

    @contextlib.contextmanager
    def away(self, *, killed: bool) -> Iterator[None]:
        """The server is killed, or stopped, a third of the way through, and is back ``AWAY_S`` later."""
        self.was_away_s = None
        over = threading.Event()

        def strike() -> None:
            if over.wait(self._trials * self._seconds / 3):
                return  # the study ended too early: reported below
            assert self._server.process is not None
            group = self._server.process.pid
            self._server.kill() if killed else os.killpg(group, signal.SIGSTOP)
            began = time.monotonic()
            over.wait(AWAY_S)
            self._server.start() if killed else os.killpg(group, signal.SIGCONT)
            self.was_away_s = time.monotonic() - began

        thread = threading.Thread(target=strike)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if self.was_away_s is None:
            raise RuntimeError("the server was not away during the study: give more --trials or --seconds")

    @contextlib.contextmanager
    def every_third(self, trouble: Trouble, first: int = 0) -> Iterator[None]:
        """Every third request meets trouble, until ``study`` makes the server quiet again."""
        self._gate.trouble = lambda number: trouble if number % 3 == first else None
        yield

    @contextlib.contextmanager
    def slow_creates(self, after: int) -> Iterator[None]:
        """Runs are created slowly from some request on."""
        self._gate.delay_s = lambda number, path: (
            SLOW_S if number > after and path.endswith("/runs/create") else 0.0
        )
        yield

    def kinds(self) -> dict[str, contextlib.AbstractContextManager[None]]:
        """Name of a trouble -> the trouble, for one study."""
        return {
            "every third 429": self.every_third("429"),
            "every third 500": self.every_third("500"),
            "every third answer lost": self.every_third("lost answer"),
            "every third silent": self.every_third("silence"),
            "every third silent, from request 1": self.every_third("silence", 1),
            "every third silent, from request 2": self.every_third("silence", 2),
            f"killed for {AWAY_S:g} s": self.away(killed=True),
            f"stopped for {AWAY_S:g} s": self.away(killed=False),
            f"creates take {SLOW_S:g} s": self.slow_creates(0),
            f"creates take {SLOW_S:g} s after a while": self.slow_creates(40),
        }

    def rows(self, only: set[str] | None) -> Iterator[Row]:
        """All studies, one after another, between two with a quiet server."""
        yield self.study(QUIET)
        for name, trouble in self.kinds().items():
            if only is None or name in only:
                self.was_away_s = None
                with trouble:
                    row = self.study(name)
                if self.was_away_s is not None and name.startswith("killed"):
                    row.server += f" (away {self.was_away_s:.0f} s with its start)"
                yield row
        yield self.study(QUIET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--only", help="kinds of trouble, separated by semicolons; 'none' for the quiet ones")
    options = parser.parse_args()
    only = {name.strip() for name in options.only.split(";")} if options.only else None
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            with gate_to(server.port) as gate:
                bench = Bench(server, gate, options.trials, options.seconds)
                unknown = (only or set()) - {"none", *bench.kinds()}
                if unknown:
                    known = "; ".join(bench.kinds())
                    parser.error(f"--only: {'; '.join(sorted(unknown))} is unknown; there are: {known}")
                for row in bench.rows(only):
                    print(row, file=sys.stderr, flush=True)
                    rows.append(row)
        finally:
            server.kill()
    quiet = statistics.mean(row.seconds for row in rows if row.server == QUIET)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        figures = (f"{row.seconds:.1f}", f"{row.seconds / quiet:.2f}", row.requests, row.failed)
        figures += (f"{row.recorded} of {options.trials}", row.wrong, row.left_open)
        print(f"| {row.server} | {' | '.join(map(str, figures))} |")


if __name__ == "__main__":
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr, level=logging.WARNING)
    main()
