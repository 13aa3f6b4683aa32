"""Dispatch: how close sparktune comes to what Spark itself can do, and how it compares with its peers.

    python benchmarks/dispatch.py                  # everything, about a quarter of an hour
    python benchmarks/dispatch.py noop             # one section
    python benchmarks/dispatch.py noop --only floor,sparktune --rounds 7
    python benchmarks/dispatch.py noop connect other --python .venv-lowest/bin/python
    python benchmarks/dispatch.py --json figures.json --check

Contestants take turns, round after round, in one process on one Spark session; ratios are medians of the
ratios within a round, so that a machine which is busy for a while slows all of them. See README.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import contestants
from contestants import CONTESTANTS

HERE = Path(__file__).resolve().parent

FLOOR, PLAIN = "floor", "plain floor"
OFF, SAVED, ON = "sparktune", "sparktune + save file", "sparktune + MLflow"
STORE, BESIDE = "store's own writes", "floor beside writes"
HYPEROPT, OPTUNA = "hyperopt.SparkTrials", "MlflowSparkStudy"


WARM_UP, WARM_UP_SLOW = 80, 8
"""Trials before the first round; the fewer also before every measurement but those of slow contestants."""
SLOW_ROUNDS = 2


@dataclass(frozen=True)
class Entry:
    """A contestant in a section, and how many trials each of its rounds has.

    A slow one has its own ``SLOW_ROUNDS`` rounds after the others'.
    """

    name: str
    trials: int
    slow: bool = False


@dataclass(frozen=True)
class Section:
    """What is run where, and what its figure means."""

    title: str
    unit: str
    master: str
    parallelism: int
    entries: tuple[Entry, ...]
    measure: Callable[[Section, Entry], float]
    driver_memory: str = "2g"
    rounds: int = 5
    connect: bool = False


@dataclass(frozen=True)
class Target:
    """A ratio of two contestants' figures (without ``to``: one figure), and the bound it should meet."""

    section: str
    text: str
    name: str
    to: tuple[str, ...]
    bound: float
    at_most: bool = False


# -- measurements --------------------------------------------------------------------------------------


def trials_per_second(section: Section, entry: Entry) -> float:
    """Trials a second over the whole call."""
    began = time.perf_counter()
    CONTESTANTS[entry.name](contestants.noop, entry.trials, section.parallelism)
    return entry.trials / (time.perf_counter() - began)


def slot_utilisation(section: Section, entry: Entry) -> float:
    """See ``contestants.utilisation``."""
    with tempfile.TemporaryDirectory() as folder:
        load = contestants.sleeper(1.0, folder)
        CONTESTANTS[entry.name](load, entry.trials, section.parallelism)
        found = contestants.spans(folder)
    return contestants.utilisation(found, section.parallelism)


def burden_ms(section: Section, entry: Entry, megabytes: int = 100) -> float:
    """Milliseconds that a trial costs more when its objective holds ``megabytes``."""

    def seconds(load: contestants.Load) -> float:
        began = time.perf_counter()
        CONTESTANTS[entry.name](load, entry.trials, section.parallelism)
        return time.perf_counter() - began

    light = seconds(contestants.noop)
    return (seconds(_burden(megabytes)) - light) / entry.trials * 1e3


@functools.cache
def _burden(megabytes: int) -> contestants.Load:
    return contestants.burden(megabytes)


OTHER = "other"
"""The section that the interpreter of another environment runs: ``--python``."""

SECTIONS = {
    "noop": Section(
        "no-op objective, parallelism 8 on local[2]",
        "trials/s",
        "local[2]",
        8,
        (
            Entry(FLOOR, 300),
            Entry(PLAIN, 300),
            Entry(OFF, 300),
            Entry(SAVED, 300),
            Entry(ON, 150),
            Entry(STORE, 150),
            Entry(BESIDE, 150),
            Entry(HYPEROPT, 6, slow=True),
            Entry(OPTUNA, 16, slow=True),
        ),
        trials_per_second,
    ),
    "connect": Section(
        "no-op objective, parallelism 8 on a Spark Connect server with local[2]",
        "trials/s",
        "local[2]",
        8,
        (Entry(FLOOR, 200), Entry(PLAIN, 200), Entry(OFF, 200), Entry(ON, 100)),
        trials_per_second,
        connect=True,
    ),
    OTHER: Section(
        "no-op objective, parallelism 8 on local[2] of the environment that --python names",
        "trials/s",
        "local[2]",
        8,
        (Entry(FLOOR, 200), Entry(PLAIN, 200), Entry(OFF, 200), Entry(ON, 100)),
        trials_per_second,
    ),
    "busy": Section(
        "1 s objective, parallelism 8 on local[8]",
        "of the slots' time used",
        "local[8]",
        8,
        (
            Entry(FLOOR, 80),
            Entry(OFF, 80),
            Entry(ON, 80),
            Entry(HYPEROPT, 16, slow=True),
            Entry(OPTUNA, 16, slow=True),
        ),
        slot_utilisation,
        rounds=3,
    ),
    "closure": Section(
        "100 MB objective, parallelism 2 on local[2]",
        "ms a trial above a no-op",
        "local[2]",
        2,
        (Entry(OFF, 24), Entry(ON, 24), Entry(HYPEROPT, 24, slow=True)),
        burden_ms,
        driver_memory="6g",
        rounds=3,
    ),
}

TARGETS = (
    Target("noop", "sparktune / floor", OFF, (FLOOR,), 1.0),
    Target("noop", "sparktune / hyperopt.SparkTrials", OFF, (HYPEROPT,), 20.0),
    Target("noop", "sparktune + MLflow / half the floor, or the store's own rate", ON, (FLOOR, STORE), 1.0),
    Target("noop", "sparktune + MLflow / floor", ON, (FLOOR,), 0.6),
    Target("noop", "sparktune + MLflow / floor beside writes", ON, (BESIDE,), 0.9),
    Target("connect", "sparktune / floor", OFF, (FLOOR,), 0.7),
    Target(OTHER, "sparktune / floor", OFF, (FLOOR,), 0.85),
    Target("busy", "sparktune", OFF, (), 0.95),
    Target("busy", "sparktune + MLflow", ON, (), 0.95),
    Target("closure", "sparktune / hyperopt.SparkTrials", OFF, (HYPEROPT,), 0.25, at_most=True),
)

Figures = dict[str, list[float]]


def run_section(name: str, only: set[str] | None, rounds: int | None, trials: int | None) -> Figures:
    """Figures of each contestant, one for each round; ``trials`` bounds each one's trials in a round."""
    section = SECTIONS[name]
    entries = [
        replace(entry, trials=min(entry.trials, trials or entry.trials))
        for entry in section.entries
        if only is None or entry.name in only
    ]
    figures: Figures = {entry.name: [] for entry in entries}
    with contestants.arena(section.master, section.driver_memory, connect=section.connect):
        for entry in entries:  # imports, the store's tables, the JVM's compiler
            n_trials = WARM_UP_SLOW if entry.slow else WARM_UP
            CONTESTANTS[entry.name](contestants.noop, min(entry.trials, n_trials), section.parallelism)
        # The slow ones come last: they leave Spark without Python workers.
        turns = [(False, number) for number in range(rounds or section.rounds)]
        turns += [(True, number) for number in range(min(SLOW_ROUNDS, rounds or SLOW_ROUNDS))]
        for slow, number in turns:
            for entry in entries:
                if entry.slow is not slow:
                    continue
                if not slow:
                    CONTESTANTS[entry.name](
                        contestants.noop, min(entry.trials, WARM_UP_SLOW), section.parallelism
                    )
                figure = section.measure(section, entry)
                figures[entry.name].append(figure)
                _say(f"{name} round {number + 1}: {entry.name} {figure:.3g} {section.unit}")
    return figures


def versions() -> str:
    """Of what this interpreter runs."""
    found = [f"Python {platform.python_version()}"]
    found += [f"{name} {metadata.version(name)}" for name in ("pyspark", "mlflow", "hyperopt")]
    return ", ".join(found)


def _say(text: str) -> None:
    print(text, flush=True)


# -- the report ----------------------------------------------------------------------------------------


def ratio(figures: Figures, name: str, to: str) -> float:
    """The median over rounds of one contestant's figure in another's of the same round."""
    pairs = list(zip(figures[name], figures[to], strict=False))
    return statistics.median(mine / theirs for mine, theirs in pairs)


def table(section: Section, figures: Figures, about: str) -> str:
    """A row for each contestant: median, lowest and highest figure, and its ratio to the first.

    ``about`` are the versions it ran with.
    """
    first = next(iter(figures))
    lines = [f"{section.title}", f"  {'':<22} {'median':>8} {'lowest':>8} {'highest':>8} {'/ ' + first:>12}"]
    for name, values in figures.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        lines.append(
            f"  {name:<22} {middle:>8.3g} {low:>8.3g} {high:>8.3g} {ratio(figures, name, first):>12.3g}"
        )
    return "\n".join([*lines, f"  ({section.unit}; {len(figures[first])} rounds; {about})"])


def judged(figures: dict[str, Figures]) -> list[tuple[Target, float, bool]]:
    """Every target whose contestants have run, what was measured, and whether it meets the bound."""
    found = []
    for target in TARGETS:
        mine = figures.get(target.section, {})
        if any(name not in mine for name in (target.name, *target.to)):
            continue
        if not target.to:
            value = statistics.median(mine[target.name])
        elif target.to == (FLOOR, STORE):
            value = max(2 * ratio(mine, target.name, FLOOR), ratio(mine, target.name, STORE))
        else:
            value = ratio(mine, target.name, target.to[0])
        found.append((target, value, value <= target.bound if target.at_most else value >= target.bound))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="default: all that can run")
    parser.add_argument("--only", help=f"contestants, separated by commas: {', '.join(CONTESTANTS)}")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--trials", type=int, help="at most so many a round, to see whether it runs")
    parser.add_argument("--python", metavar="FILE", help=f"another environment's, for the section {OTHER!r}")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    only = set(options.only.split(",")) if options.only else None
    if only and not only <= set(CONTESTANTS):
        parser.error(f"--only: unknown {sorted(only - set(CONTESTANTS))}")
    names = list(options.sections) or [name for name in SECTIONS if name != OTHER or options.python]
    if options.here:
        figures_here = run_section(names[0], only, options.rounds, options.trials)
        Path(options.json).write_text(json.dumps([versions(), figures_here]))
        return 0
    if OTHER in names and not options.python:
        parser.error(f"the section {OTHER!r} needs --python")
    if idle := [name for name in names if only and not only & {e.name for e in SECTIONS[name].entries}]:
        parser.error(f"--only leaves nothing of {idle}")
    figures: dict[str, Figures] = {}
    about: dict[str, str] = {}
    for name in names:  # a process each: one process has one Spark session
        about[name], figures[name] = _in_process(name, options)
        print(f"\n{table(SECTIONS[name], figures[name], about[name])}\n", flush=True)
    outcomes = judged(figures)
    for target, value, met in outcomes:
        bound = f"{'at most' if target.at_most else 'at least'} {target.bound:g}"
        print(f"{'ok    ' if met else 'MISSED'} {target.section}: {target.text}: {value:.3g}, target {bound}")
    if options.json:
        report: dict[str, Any] = {
            "versions": about,
            "figures": figures,
            "targets": [{**asdict(target), "value": value, "met": met} for target, value, met in outcomes],
        }
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(options.check and not all(met for _, _, met in outcomes))


def _in_process(name: str, options: argparse.Namespace) -> tuple[str, Figures]:
    """The versions that a section ran with, and its figures."""
    # Not resolved: an environment's interpreter may be a link to the one that it was made with.
    python = os.path.abspath(options.python) if name == OTHER else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "figures.json")
        command = [python, str(HERE / "dispatch.py"), name, "--here", "--json", str(answer)]
        command += ["--only", options.only] if options.only else []
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        command += ["--trials", str(options.trials)] if options.trials else []
        # For Spark's Python workers too; a sparktune that PYTHONPATH names goes before the one beside this.
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(HERE), str(HERE.parent)]))
        env = {**os.environ, "PYTHONPATH": path}
        if name == OTHER:  # what names this environment's interpreter or Spark is not meant
            env = {key: value for key, value in env.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
        log = Path(folder, "log.txt")  # Spark and its daemons write to standard error what they like
        with log.open("w", encoding="utf-8") as errors:
            ended = subprocess.run(command, env=env, stderr=errors)
        if ended.returncode != 0:
            sys.exit(f"{log.read_text(encoding='utf-8')[-5000:]}\nthe section {name!r} broke, see above")
        about, figures = json.loads(answer.read_text(encoding="utf-8"))
        return about, figures


if __name__ == "__main__":
    sys.exit(main())
