"""The shape of the package: no import cycles, one way between layers, heavy imports at their own door."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from sparktune.private import of_cloudpickle, of_hyperopt, of_mlflow, of_pyspark

PACKAGE = Path(__file__).resolve().parent.parent / "sparktune"

DOORS = {
    "pyspark": [
        "sparktune.worker.bootstrap",
        "sparktune.backends.session",
        "sparktune.backends.spark_*",
        "sparktune.worker.task",
        "sparktune.worker.parcel",
    ],
    "py4j": ["sparktune.backends.session", "sparktune.backends.spark_*"],
    "mlflow": ["sparktune.tracking.*", "sparktune.comparison.record", "sparktune.demo", "sparktune.cli"],
    "sklearn": ["sparktune.demo", "sparktune.private.of_sklearn", "sparktune.sklearn.*"],
    "optuna": ["sparktune.search.optuna_sampler", "sparktune.search.samplers.*"],
    "plotly": ["sparktune.plots.*"],
    "tqdm": ["sparktune.study.progress"],
    "cryptography": ["sparktune.backends.encryption"],
    "pydantic": ["sparktune.sweeps.model", "sparktune.sweeps.validation"],
    "pathspec": ["sparktune.sweeps.code"],
    "yaml": ["sparktune.sweeps.document", "sparktune.sweeps.commands"],
}
"""Third-party package -> the only modules that may import it, at the top or inside a function."""

ROOMS = {
    "errors": [],
    "_hyperopt_names": [],
    "_naming": [],
    "private": [],
    "early_termination": [],
    "space": ["_naming", "errors"],
    "plots": ["errors", "private", "space", "study", "tracking"],
    "search": ["errors", "_hyperopt_names", "private", "space", "study"],
    "study": ["_naming", "early_termination", "errors"],
    "worker": ["early_termination", "errors", "private", "study", "tracking.worker"],
    "tracking": ["early_termination.base", "private", "_naming", "study"],
    "backends": ["errors", "private", "study", "worker"],
    "trials": [
        "backends",
        "early_termination",
        "errors",
        "_hyperopt_names",
        "plots",
        "private",
        "search",
        "space",
        "study",
        "tracking",
        "worker",
    ],
    "fmin": ["_hyperopt_names", "private", "search", "space", "study", "trials", "worker.reporting"],
    "doctor": ["backends", "errors", "tracking", "worker"],
    "sweeps": [
        "backends",
        "early_termination",
        "errors",
        "fmin",
        "search",
        "space",
        "study",
        "tracking",
        "trials",
        "worker",
    ],
    "sklearn": [
        "early_termination",
        "errors",
        "fmin",
        "_hyperopt_names",
        "private",
        "search",
        "space",
        "study",
        "tracking.worker",
        "trials",
        "worker",
    ],
    "comparison": ["errors", "fmin", "plots", "space", "study", "tracking", "trials", "worker"],
}
"""Room (or module at the top) -> the only others whose modules its own may import. They point one way."""

MAY_IMPORT = {
    "sparktune.worker.reporting": [],
    "sparktune.study.interrupts": [],
    "sparktune.study.reasons": [],
    "sparktune.study.trial": ["sparktune.early_termination.base"],
    "sparktune.study.ranking": ["sparktune.study.trial"],
    "sparktune.study.spec": ["sparktune._naming"],
    "sparktune.study.tracker": ["sparktune.study.spec", "sparktune.study.trial"],
    "sparktune.study.backend": ["sparktune.study.trial", "sparktune.study.tracker"],
    "sparktune.study.study": [
        "sparktune.early_termination.base",
        "sparktune.study.backend",
        "sparktune.study.ranking",
        "sparktune.study.reasons",
        "sparktune.study.trial",
    ],
    "sparktune.tracking.worker.*": [
        "sparktune.tracking.*",
        "sparktune.study.tracker",
        "sparktune.private.of_mlflow",
    ],
}
"""Module -> the only modules of ours that it may import."""


ONLY_IMPORTED_BY = {
    "sparktune.__main__": [],
    "sparktune.cli": ["sparktune.__main__", "sparktune.submit.sweep"],
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


OF_SKLEARN = {"_fit_and_score", "_get_scorers", "_get_routed_params_for_fit"}
"""Written out, for scikit-learn need not be there."""

PRIVATE_NAMES: dict[str, tuple[Any, set[str]]] = {
    "sparktune.private.of_pyspark": (of_pyspark.NAMES, {"_path", "ctx", "environment"}),
    "sparktune.private.of_hyperopt": (of_hyperopt.NAMES, {"_trials", "_ids"}),
    "sparktune.private.of_cloudpickle": (of_cloudpickle.NAMES, set()),
    "sparktune.private.of_sklearn": (OF_SKLEARN, set()),
    "sparktune.private.of_mlflow": (of_mlflow.NAMES, {"_tracking_uri", "_registry_uri"}),
}
"""Module -> the names of another library that are used in it alone, and those of them that our own classes
have too: these may stand behind ``self`` elsewhere."""


def names_used(tree: ast.AST, *, with_self: bool) -> set[str]:
    """Attributes that are read or set, and names in strings: for ``getattr``, or of modules (``a._b.c``)."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name("self" | "cls")) if not with_self:
                pass
            case ast.Attribute(attr=str(name)):
                found.add(name)
            case ast.Call(ast.Name("getattr" | "hasattr" | "setattr"), [_, ast.Constant(str(name)), *_]):
                found.add(name)
            case ast.Constant(str(text)) if not any(map(str.isspace, text)):
                found |= {name for name in text.split(".") if name.startswith("_")}
    return found


@pytest.mark.parametrize("place", PRIVATE_NAMES)
def test_private_names_of_other_libraries_are_used_in_one_module_each(place: str) -> None:
    names, also_ours = PRIVATE_NAMES[place]
    for module, tree in MODULES.items():
        if module != place:
            used = names_used(tree, with_self=True) & (set(names) - also_ours)
            used |= names_used(tree, with_self=False) & also_ours & set(names)
            assert used == set(), module


def test_trials_reach_for_no_private_part_of_hyperopts_trials() -> None:
    """``self`` is hyperopt's own object in its subclasses."""
    for module in (
        "sparktune.trials.base",
        "sparktune.trials.memory",
        "sparktune.trials.run",
        "sparktune.trials.spark",
    ):
        assert names_used(MODULES[module], with_self=True) & set(of_hyperopt.NAMES) == set(), module


REACHES = {
    "_exit": "os._exit",
    "_replace": "documented, of named tuples",
    "_bit_generator": "numpy's RandomState has no public way to it",
    "_data": "of os.environ: CPython's own dict, where there is one",
    "_format": "the version in a pickle of trials, which the object itself does not have",
    "_clear_cache": "logging's, after disable was set directly",
    "_parse_args": "scipy.stats has no public way to the arguments of a frozen distribution",
}
"""Private names of other objects that modules may use, and why."""


GETTERS = "getattr", "setattr", "hasattr", "delattr"


def reaches(node: ast.AST, own: frozenset[str] = frozenset()) -> Iterator[str]:
    """Private names of objects other than ``self``; but those that the class around has itself (``own``)."""
    match node:
        case ast.ClassDef():
            own |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            for part in ast.walk(node):
                match part:
                    case ast.Attribute(ast.Name("self" | "cls"), str(name), ast.Store()):
                        own |= {name}
        case ast.Attribute(ast.Name("self" | "cls") | ast.Call(ast.Name("super"))):
            pass
        case ast.Attribute(attr=str(name)) | ast.Call(ast.Name(_), [_, ast.Constant(str(name)), *_]):
            is_reach = isinstance(node, ast.Attribute) or ast.unparse(node.func) in GETTERS
            if is_reach and re.match("_(?!_)", name) and name not in own | REACHES.keys():
                yield ast.unparse(node)
    for part in ast.iter_child_nodes(node):
        yield from reaches(part, own)


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("sparktune.private.")])
def test_no_module_touches_the_private_attributes_of_another_object(module: str) -> None:
    assert set(reaches(MODULES[module])) == set()


CLOCKS = {"time", "datetime", "sched", "asyncio", "threading", "sqlite3"}
WITH_A_CLOCK = {"sparktune.study.interrupts", "sparktune.study.progress", "sparktune.study.outcome"}
"""Ctrl-C and the progress bar are real time's; ``outcome`` reads times that stand in hyperopt's documents."""


def test_the_study_knows_neither_mlflow_nor_a_clock() -> None:
    for module, tree in MODULES.items():
        if room(module) != "study":
            continue
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert {name for name in names if "mlflow" in name.lower()} == set(), module
        if module not in WITH_A_CLOCK:
            imported = {name.partition(".")[0] for name in imported_names(tree)}
            assert imported & CLOCKS == set(), module


def room(module: str) -> str:
    return module.removeprefix("sparktune").removeprefix(".").partition(".")[0]


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_stand_on_those_below_them(name: str) -> None:
    allowed = [pattern for below in ROOMS[name] for pattern in (f"sparktune.{below}", f"sparktune.{below}.*")]
    for module in MODULES:
        if room(module) == name:
            others = {i for i in our_imports(module) if room(i) != name}
            assert {i for i in others if not matches(i, allowed)} == set(), module


def test_every_room_is_in_the_table_and_they_point_one_way() -> None:
    assert {room(module) for module in MODULES} - ROOMS.keys() == {
        "",
        "__main__",
        "_names",
        "cli",
        "demo",
        "submit",
    }
    graph = {name: {below.partition(".")[0] for below in ROOMS[name]} for name in ROOMS}
    tuple(graphlib.TopologicalSorter(graph).static_order())


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


@pytest.mark.parametrize("package", ["pyspark", "mlflow", "sklearn", "plotly", "optuna", "pydantic", "yaml"])
def test_sparktune_imports_without(package: str, run) -> None:
    """On Databricks the runtime brings pyspark; elsewhere the first use says what to install."""
    done = run([sys.executable, "-W", "error", "-c", BLOCKED_IMPORT.format(packages={package})])
    assert done.returncode == 0, done.stderr


def test_importing_sparktune_does_not_import_mlflow(run) -> None:
    """It takes a second or two, in every Python worker."""
    done = run([sys.executable, "-c", "import sparktune, sys; sys.exit('mlflow' in sys.modules)"])
    assert done.returncode == 0, done.stderr


def test_workers_need_neither_hyperopt_nor_numpy(run) -> None:
    """Nor anything else but cloudpickle, which is small."""
    imports = "import sparktune.worker.task, sys; from sparktune import report; "
    check = "print(*{n.partition('.')[0] for n in sys.modules} & {'hyperopt', 'numpy', 'scipy', 'pandas'})"
    done = run([sys.executable, "-c", imports + check])
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
