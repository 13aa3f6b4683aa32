"""Search quality: which algorithm finds better points in fewer trials, also with many in parallel.

    python benchmarks/search.py --out results.jsonl          # the first set; again: go on where it stopped
    python benchmarks/search.py --seeds 3 --problems camel,models --workers 8
    python benchmarks/search.py --algos sparktune.tpe:suggest?gamma=0.2,optuna,random
    python benchmarks/search.py --out results.jsonl --report # only the tables

Studies run on simulated clusters: asynchronous workers, each evaluation as long as the problem defines, and
no waiting. See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import _first  # noqa: F401
from search_algorithms import suggest_function
from search_problems import SETS, names_of
from search_report import report
from search_simulation import CUTS, Row, reference, search

ALGOS = "sparktune.tpe:suggest,hyperopt.tpe:suggest,optuna,random"


def work(arguments: tuple[Any, ...]) -> Row:
    """One search, ``(algo, problem, workers, seed, trials)``, or one reference, ``(problem, trials)``."""
    logging.getLogger("hyperopt").setLevel(logging.WARNING)
    logging.getLogger("hyperopt-spark").setLevel(logging.ERROR)
    return reference(*arguments) if len(arguments) == 2 else search(*arguments)


def key(row: Row) -> tuple[Any, ...]:
    """What ``work`` was given."""
    if "reference" in row:
        return row["reference"], row["trials"]
    return row["algo"], row["problem"], row["workers"], row["seed"], row["trials"]


def read(path: Path | None) -> list[Row]:
    """The rows of an earlier call; a last line that was cut short is left out."""
    rows: list[Row] = []
    if path is not None and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    return rows


def appended(path: Path) -> TextIO:
    """The file, to add lines to, also when the last one was cut short."""
    is_cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    file = path.open("a", encoding="utf-8")
    file.write("\n" * is_cut)
    return file


def run(jobs: Iterable[tuple[Any, ...]], processes: int) -> Iterator[Row]:
    """Do the jobs, in this process or in others, in any order."""
    if processes == 1:
        yield from map(work, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(work, jobs)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algos", default=ALGOS, help="separated by commas: %(default)s")
    parser.add_argument(
        "--problems", default="first", help=f"separated by commas, or a set of {', '.join(SETS)}: %(default)s"
    )
    parser.add_argument("--workers", default="1,8,32", help="numbers of simulated workers: %(default)s")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each kind: %(default)s")
    parser.add_argument("--trials", type=int, default=200, help="trials of each search: %(default)s")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="all cores by default")
    parser.add_argument("--out", type=Path, help="a file of JSON lines that is added to, and read")
    parser.add_argument("--report", action="store_true", help="run nothing; tables of what --out holds")
    options = parser.parse_args(arguments)
    options.algos = options.algos.split(",")
    options.workers = [int(number) for number in options.workers.split(",")]
    try:
        options.problems = names_of(options.problems)
    except ValueError as error:
        parser.error(str(error))
    if options.trials < CUTS[0] and not options.report:
        parser.error(f"--trials is {options.trials}; the tables need at least {CUTS[0]}")
    for name in options.algos:
        try:
            suggest_function(name)
        except ValueError as error:
            parser.error(str(error))
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    rows = read(options.out)
    jobs: list[tuple[Any, ...]] = [(name, options.trials) for name in options.problems]
    # Seed by seed, so that a run which is stopped early has something of everything.
    jobs += [
        (algo, name, workers, seed, options.trials)
        for seed, name, workers, algo in itertools.product(
            range(options.seeds), options.problems, options.workers, options.algos
        )
    ]
    known = {key(row) for row in rows}
    todo = [] if options.report else [job for job in jobs if job not in known]
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(appended(options.out)) if options.out else None
        for done, row in enumerate(run(todo, options.processes), 1):
            rows.append(row)
            if file is not None:
                file.write(json.dumps(row) + "\n")
                file.flush()
            if done == len(todo) or done % max(1, len(todo) // 50) == 0:
                print(f"{done}/{len(todo)}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    wanted = set(jobs)
    for line in report([row for row in rows if key(row) in wanted], options.algos):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
