"""Runs libraries that have hyperopt inside with hyperopt and with sparktune in its place, and compares.

See `scripts/libraries`. A library is not changed where it is installed: a copy of it is, in a temporary
folder that comes first on the path.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from outcomes import Cases, Outcome, disagreement

HERE = Path(__file__).resolve().parent


class Library(NamedTuple):
    """A library with hyperopt inside."""

    distribution: str
    package: str
    cases: str
    """The file with what is done with it."""


LIBRARIES = (
    Library("hyperopt-sklearn", "hpsklearn", "hpsklearn_cases"),
    Library("lale", "lale", "lale_cases"),
    Library("databricks-automl-runtime", "databricks.automl_runtime", "automl_cases"),
)


def replaced(source: str) -> tuple[str, int]:
    """The source with sparktune imported in place of hyperopt, and in how many statements that was.

    The rest stays as it is: `import hyperopt` becomes `import sparktune as hyperopt`.
    """
    lines = source.encode().splitlines(keepends=True)
    changed = 0
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    # From the end, so that the places before it stay.
    for node in sorted(found, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        new = ast.unparse(_with_sparktune(node))
        if new == ast.unparse(node):
            continue
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        lines[first : last + 1] = [before + new.encode() + after]
        changed += 1
    return b"".join(lines).decode(), changed


def _with_sparktune(node: ast.Import | ast.ImportFrom) -> ast.Import | ast.ImportFrom:
    """The import statement that a user would write in place of one of hyperopt."""
    if isinstance(node, ast.ImportFrom):
        is_relative = node.level > 0
        module = node.module if is_relative or node.module is None else _renamed(node.module)
        return ast.ImportFrom(module, node.names, node.level)
    names = []
    for alias in node.names:
        new = _renamed(alias.name)
        if new == alias.name:
            names.append(alias)
        elif new == "sparktune" or alias.asname:
            names.append(ast.alias(new, alias.asname or "hyperopt"))
        else:  # `import hyperopt.rand` gives the name `hyperopt`
            names += [ast.alias(new), ast.alias("sparktune", "hyperopt")]
    return ast.Import(names)


def _renamed(module: str) -> str:
    top, dot, below = module.partition(".")
    return f"sparktune{dot}{below}" if top == "hyperopt" else module


def copied(package: str, installed: Path, folder: Path) -> int:
    """Copy a package, with sparktune in place of hyperopt.

    Args:
        package: its name, dots included.
        installed: the folder of its top.
        folder: where the copy comes; the one to be named in the path.

    Returns:
        How many import statements were changed.
    """
    top, *below = package.split(".")
    source, target = installed, folder / top
    for name in below:  # packages around it
        target.mkdir(parents=True, exist_ok=True)
        if (source / "__init__.py").is_file():
            shutil.copy(source / "__init__.py", target)
        source, target = source / name, target / name
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    n_changed = 0
    for path in sorted(target.rglob("*.py")):
        text, n = replaced(path.read_text("utf-8"))
        if n:
            path.write_text(text, "utf-8")
        n_changed += n
    return n_changed


def folder_of(package: str) -> Path:
    """Where the top of a package is installed."""
    spec = importlib.util.find_spec(package.split(".")[0])
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"libraries: {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def outcomes(library: Library, tuner: str, path: Path | None) -> tuple[list[Outcome], str]:
    """What the library's cases came to, and what the process wrote.

    Args:
        library: whose.
        tuner: the module, `hyperopt` or `sparktune`.
        path: what comes first on the path.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLFLOW_", "SPARK", "PYSPARK"))
        }
        first = [str(path)] if path else []
        env = {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [*first, kept.get("PYTHONPATH")]))}
        env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HYPEROPT_FMIN_SEED"), "1")
        env |= {"PYTHONWARNINGS": "ignore", "PYSPARK_PYTHON": sys.executable}
        lines = Path(folder) / "outcomes.jsonl"
        lines.touch()
        command = [sys.executable, str(HERE / f"{library.cases}.py"), tuner, str(lines)]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
        found = [Outcome(**json.loads(line)) for line in lines.read_text("utf-8").splitlines()]
    return found, done.stdout + done.stderr


def cases_of(library: Library) -> Cases:
    """The cases, without running them."""
    cases: Cases = importlib.import_module(library.cases).CASES
    return cases


def row(*cells: str) -> str:
    """A row of the table."""
    return f"| {' | '.join(cells)} |"


def compare(library: Library, log: Path | None) -> bool:
    """Print the rows of a library; whether all cases agree."""
    cases = cases_of(library)
    with tempfile.TemporaryDirectory() as folder:
        if not copied(library.package, folder_of(library.package), Path(folder)):
            sys.exit(f"libraries: nothing in {library.package} imports hyperopt")
        theirs, their_text = outcomes(library, "hyperopt", None)
        ours, our_text = outcomes(library, "sparktune", Path(folder))
    if log is not None:
        log.write_text(their_text + "\n" + "=" * 100 + "\n" + our_text, "utf-8")
    agree = True
    missing = [Outcome(error="the process ended")] * len(cases)
    for case, their, our in zip(cases, theirs + missing, ours + missing, strict=False):
        reason = disagreement(case, their, our)
        agree = agree and not reason
        print(
            row(library.distribution, case.name, str(their), str(our), f"no: {reason}" if reason else "yes"),
            flush=True,
        )
    return agree


def versions() -> str:
    """Of what the comparison depends on."""
    names = [
        *(library.distribution for library in LIBRARIES),
        "hyperopt",
        "mlflow",
        "numpy",
        "pyspark",
        "scikit-learn",
    ]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def main() -> None:
    """Compare those that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="LIBRARY", help="of " + ", ".join(x.distribution for x in LIBRARIES)
    )
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="write here what the processes write")
    options = parser.parse_args()
    if unknown := set(options.names) - {library.distribution for library in LIBRARIES}:
        parser.error(f"there is no library {sorted(unknown)[0]}")
    began_s = time.monotonic()
    print(row("library", "case", "hyperopt", "sparktune", "agree"))
    print(row(*["---"] * 5))
    agree = True
    for library in LIBRARIES:
        if not options.names or library.distribution in options.names:
            log = options.logs and options.logs / f"{library.package}.log"
            agree = compare(library, log) and agree
    print(f"\n{versions()}; {time.monotonic() - began_s:.0f} s")
    sys.exit(not agree)


if __name__ == "__main__":
    main()
