"""The shape of the package: no import cycles, one way between layers, heavy imports at their own door."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sparktune"

CORE = [
    "sparktune.early_termination.base",
    "sparktune.trial",
    "sparktune.errors",
    "sparktune.study",
    "sparktune.space",
    "sparktune.search*",
]
PORTS = ["sparktune.backends.base", "sparktune.tracking.base"]

DOORS = {
    "pyspark": ["sparktune.session", "sparktune.backends.spark_*"],
    "py4j": ["sparktune.session", "sparktune.backends.spark_*"],
    "mlflow": ["sparktune.tracking.*", "sparktune.demo", "sparktune.cli"],
    "sklearn": ["sparktune.demo"],
    "plotly": ["sparktune.plots*"],
}
"""Third-party package -> the only modules that may import it, at the top or inside a function."""

MAY_IMPORT = {
    "sparktune.early_termination.base": [],
    "sparktune.early_termination*": ["sparktune.early_termination*"],
    "sparktune.reporting": [],
    "sparktune.trial": ["sparktune.early_termination.base"],
    "sparktune.errors": [],
    "sparktune.tracking.base": ["sparktune.trial"],
    "sparktune.backends.base": ["sparktune.trial", "sparktune.tracking.base"],
    "sparktune.study": [*CORE, "sparktune.backends.base"],
    "sparktune.search*": CORE,
    "sparktune.interrupts": [],
    "sparktune.driver": [*CORE, *PORTS, "sparktune.interrupts"],
}
"""Module -> the only modules of ours that it may import."""

MUST_NOT_IMPORT = {
    "sparktune.backends.*": ["sparktune.study", "sparktune.driver", "sparktune.*trials", "sparktune.fmin"],
    "sparktune.tracking.*": [
        "sparktune.study",
        "sparktune.driver",
        "sparktune.*trials",
        "sparktune.fmin",
        "sparktune.backends*",
    ],
}


ONLY_IMPORTED_BY = {
    "sparktune.__main__": [],
    "sparktune.cli": ["sparktune.__main__"],
    "sparktune.demo": ["sparktune.cli"],
}
"""Module of ours -> the only modules of ours that may import it."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that is imported, also inside functions; not what only type checkers import."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for branch in node.orelse:
                    yield from imported_names(branch)
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                raise AssertionError(f"line {node.lineno}: write the import with its full name")
            case _:
                yield from imported_names(node)


def our_imports(module: str) -> set[str]:
    """The modules of ours that a module imports; a name in a module counts as the module."""
    found = set()
    for name in imported_names(MODULES[module]):
        if name.partition(".")[0] == "sparktune":
            found.add(name if name in MODULES else name.rpartition(".")[0])
    return found - {module}


def matches(module: str, patterns: list[str]) -> bool:
    return any(fnmatch(module, pattern) for pattern in patterns)


def test_there_are_no_import_cycles() -> None:
    graph = {module: our_imports(module) for module in MODULES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_every_import_of_ours_exists() -> None:
    unknown = {(m, i) for m in MODULES for i in our_imports(m) if i not in MODULES}
    assert not unknown


@pytest.mark.parametrize("package", DOORS)
def test_heavy_packages_are_imported_at_their_door_only(package: str) -> None:
    importers = {
        m for m, tree in MODULES.items() if package in {n.partition(".")[0] for n in imported_names(tree)}
    }
    assert {m for m in importers if not matches(m, DOORS[package])} == set()


@pytest.mark.parametrize("pattern", MAY_IMPORT)
def test_lower_layers_know_nothing_of_higher_ones(pattern: str) -> None:
    for module in MODULES:
        if fnmatch(module, pattern):
            assert {i for i in our_imports(module) if not matches(i, MAY_IMPORT[pattern])} == set(), module


@pytest.mark.parametrize("pattern", MUST_NOT_IMPORT)
def test_no_layer_reaches_above_itself(pattern: str) -> None:
    for module in MODULES:
        if fnmatch(module, pattern):
            assert {i for i in our_imports(module) if matches(i, MUST_NOT_IMPORT[pattern])} == set(), module


@pytest.mark.parametrize("target", ONLY_IMPORTED_BY)
def test_nothing_stands_on_the_command_line(target: str) -> None:
    importers = {module for module in MODULES if target in our_imports(module)}
    assert importers <= set(ONLY_IMPORTED_BY[target])


BLOCKED_IMPORT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
import sparktune, sparktune.cli
from sparktune import *
loaded = {packages} & {{name.partition(".")[0] for name in sys.modules}}
assert not loaded, loaded
"""


@pytest.mark.parametrize("package", ["pyspark", "mlflow", "sklearn", "plotly"])
def test_sparktune_imports_without(package: str, run) -> None:
    """On Databricks the runtime brings pyspark; elsewhere the first use says what to install."""
    done = run([sys.executable, "-W", "error", "-c", BLOCKED_IMPORT.format(packages={package})])
    assert done.returncode == 0, done.stderr


def test_importing_sparktune_does_not_import_mlflow(run) -> None:
    """It takes a second or two, in every Python worker."""
    done = run([sys.executable, "-c", "import sparktune, sys; sys.exit('mlflow' in sys.modules)"])
    assert done.returncode == 0, done.stderr
