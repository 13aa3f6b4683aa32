"""What a case came to with one of the two, hyperopt or sparktune, and whether two outcomes agree."""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import mlflow
import numpy as np

Agreement = Literal["points", "kind"]


@dataclass
class Outcome:
    """What the user of a library has at the end."""

    statuses: list[str] = field(default_factory=list)
    """Of the trials, in their order."""
    losses: list[float] = field(default_factory=list)
    """Of those that have one."""
    score: float | None = None
    """The greater the better: of the model on samples that the search has not seen."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What must be equal in any case, such as the name of an exception."""
    notes: str = ""
    """What is shown, and not compared."""
    error: str = ""
    """What the case ended with in place of a result."""

    def __str__(self) -> str:
        if self.error:
            return f"fails: {self.error}"
        parts = [f"{n} {status}" for status, n in sorted(Counter(self.statuses).items(), reverse=True)]
        parts += [f"loss {min(self.losses):.4g}"] if self.losses else []
        parts += [f"score {self.score:.3f}"] if self.score is not None else []
        parts += [f"{name} {value}" for name, value in self.facts.items()]
        parts += [self.notes] if self.notes else []
        return ", ".join(parts)


@dataclass
class Case:
    """Something that is done with a library."""

    name: str
    agreement: Agreement
    """`points`: hyperopt's algorithm draws the points, so all losses must be equal. `kind`: sparktune has an
    algorithm of its own; as many trials must succeed and fail, and the lowest loss (without losses, the
    score) must be no worse than by `margin`."""
    run: Callable[[ModuleType], Outcome]
    """Gets the module `hyperopt`, or the one in its place."""
    margin: float = 0.1


class Cases(list[Case]):
    """The cases of a library."""

    def add(
        self, name: str, agreement: Agreement, margin: float = 0.1
    ) -> Callable[[Callable[[ModuleType], Outcome]], None]:
        """A decorator for what the case does."""
        return lambda run: self.append(Case(name, agreement, run, margin))


def disagreement(case: Case, theirs: Outcome, ours: Outcome) -> str:
    """In what sparktune's outcome is not that of hyperopt; empty where they agree."""
    if ours.error:
        return "it fails"
    if theirs.error:  # its own SparkTrials on a newer Spark; the case itself has checked sparktune's outcome
        return ""
    if ours.facts != theirs.facts:
        return "other facts"
    if case.agreement == "points":
        return _other_points(theirs, ours)
    if Counter(ours.statuses) != Counter(theirs.statuses):
        return "other trials"
    if (ours.score is None) != (theirs.score is None) or bool(ours.losses) != bool(theirs.losses):
        return "other results"
    # The loss is what was searched for; a model with a lower one may score less on other samples.
    if theirs.losses:
        worse_by, what = min(ours.losses) - min(theirs.losses), "loss"
    else:
        worse_by, what = (theirs.score or 0.0) - (ours.score or 0.0), "score"
    return f"its {what} is worse by more than {case.margin:g}" if worse_by > case.margin else ""


def _other_points(theirs: Outcome, ours: Outcome) -> str:
    if ours.statuses != theirs.statuses:
        return "other trials"
    if len(ours.losses) != len(theirs.losses) or not all(map(_is_close, ours.losses, theirs.losses)):
        return "other losses"
    both = (ours.score, theirs.score)
    if both != (None, None) and (None in both or not _is_close(*both)):
        return "another score"
    return ""


def _is_close(first: Any, second: Any) -> bool:
    return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9)


def of_trials(trials: Any, score: float | None = None, notes: str = "", **facts: Any) -> Outcome:
    """The outcome of a study, from its trials object."""
    results = [trial["result"] for trial in trials.trials]
    losses = [float(result["loss"]) for result in results if result.get("loss") is not None]
    statuses = [str(result["status"]) for result in results]
    return Outcome(statuses, losses, None if score is None else float(score), facts, notes)


def in_mlflow_run(tuner: ModuleType, study: Callable[[], Outcome], n_completed: int = 0) -> Outcome:
    """The outcome of a study inside an active MLflow run, below which sparktune has to record the trials.

    MLflow stays set up, so cases without it come before. Where the outcome has no trials, `n_completed`
    is how many there are.
    """
    mlflow.set_tracking_uri("sqlite:///runs.db")
    mlflow.set_experiment(f"study {time.time_ns()}")
    with mlflow.start_run() as parent:
        outcome = study()
    runs = mlflow.search_runs([parent.info.experiment_id], output_format="list")
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    statuses = Counter(run.info.status for run in trials)
    runs_text = f"{len(trials)} runs" if trials else "no runs"
    outcome.notes = f"{outcome.notes}, {runs_text}" if outcome.notes else runs_text
    if tuner.__name__ == "sparktune":
        ends = {
            "ok": "FINISHED",
            "fail": "FAILED",
            "new": "KILLED",
        }  # new: left by SystemExit in the objective
        expected = Counter(ends[status] for status in outcome.statuses or ["ok"] * n_completed)
        assert len(runs) == len(trials) + 1, f"{len(runs)} runs in all"
        assert statuses == expected, f"the runs are {dict(statuses)}"
    return outcome


def main(cases: Cases, library: ModuleType) -> None:
    """Run the cases with the module that the first argument names, and write a JSON line for each.

    The second argument is the file. With sparktune the library must be the copy, and not what is installed.
    """
    tuner = importlib.import_module(sys.argv[1])
    is_installed = Path(str(library.__file__)).is_relative_to(sys.prefix)
    assert is_installed == (tuner.__name__ == "hyperopt"), f"the library is in {library.__file__}"
    with open(sys.argv[2], "a", encoding="utf-8") as lines:
        for case in cases:
            print(f"==== {case.name}", flush=True)
            began_s = time.monotonic()
            random.seed(0)  # hyperopt's atpe draws from these
            np.random.seed(0)
            try:
                outcome = case.run(tuner)
            except BaseException as error:
                traceback.print_exc()
                first = (str(error).strip().splitlines() or [""])[0][:100]
                outcome = Outcome(error=f"{type(error).__name__}: {first}")
            print(f"==== {time.monotonic() - began_s:.1f} s", flush=True)
            lines.write(json.dumps(asdict(outcome)) + "\n")
            lines.flush()
