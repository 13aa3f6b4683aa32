"""How long a new process takes until its first trial has ended, and where the time goes.

    python benchmarks/first_result.py [--rounds 5] [--no-mlflow] [--json FILE]

Each round is a new process: it imports sparktune, creates `SparkTrials` (which starts Spark), and calls
`fmin` with 4 no-op trials. Seconds since the process began, the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PHASES = ("import", "Spark started", "first trial began", "first result", "fmin returned")

CHILD = """
import json, os, sys, time
began = float(os.environ["BEGAN_S"])
def passed():
    return time.time() - began
marks = {}
from sparktune import SparkTrials, fmin, hp, tpe
marks["import"] = passed()
first = {}
def objective(x):
    import time
    return {"loss": x, "status": "ok", "at_s": time.time()}
def look(trials, *_):
    if not first:
        first["arrived"], first["at_s"] = passed(), trials.results[-1]["at_s"] - began
    return False, []
trials = SparkTrials(parallelism=2, mlflow=sys.argv[1] == "mlflow")
marks["Spark started"] = passed()
fmin(objective, hp.uniform("x", 0, 1), algo=tpe.suggest, max_evals=4, trials=trials, early_stop_fn=look)
marks["first trial began"], marks["first result"] = first["at_s"], first["arrived"]
marks["fmin returned"] = passed()
print(json.dumps(marks))
"""


def once(mlflow: bool) -> dict[str, float]:
    """The marks of one new process, in seconds since it began."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(HERE.parent)]))
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        env["BEGAN_S"] = str(time.time())
        command = [sys.executable, "-c", CHILD, "mlflow" if mlflow else "none"]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    marks: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-mlflow", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    rounds: list[dict[str, Any]] = [once(not options.no_mlflow) for _ in range(options.rounds)]
    for phase in PHASES:
        figures = [marks[phase] for marks in rounds]
        print(f"{phase:<18} {statistics.median(figures):6.2f} s  (lowest {min(figures):.2f})")
    if options.json:
        Path(options.json).write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
