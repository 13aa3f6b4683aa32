"""The public surface, pinned: names that scripts import, arguments in hyperopt's order."""

from __future__ import annotations

import importlib
import inspect
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import hyperopt
import pytest

import sparktune
from sparktune import _names

pytestmark = pytest.mark.unit

OURS = [
    "AllTrialsFailed",
    "AshaPolicy",
    "BanditPolicy",
    "Candidate",
    "CannotRecord",
    "CannotResume",
    "ControlPortNotAvailable",
    "DriverTrials",
    "DuplicateLabel",
    "InvalidPoint",
    "InvalidSpace",
    "InvalidSweep",
    "MedianStoppingPolicy",
    "NoMorePoints",
    "ObjectiveNotPicklable",
    "OptunaNotAvailable",
    "PlotlyNotAvailable",
    "SaveFileError",
    "Searcher",
    "SimulatedTrials",
    "SklearnNotAvailable",
    "SparkNotAvailable",
    "SparktuneError",
    "StudyCancelled",
    "StudyInProgress",
    "StudyNotFound",
    "StudyTakenOver",
    "Sweep",
    "TrialTerminated",
    "TruncationSelectionPolicy",
    "WarmStartRefused",
    "auto",
    "compare",
    "doctor",
    "gp",
    "grid",
    "local",
    "optuna_sampler",
    "plot_space",
    "report",
    "sample",
    "sobol",
]

HYPEROPTS = [
    "Ctrl",
    "Domain",
    "FMinIter",
    "JOB_STATES",
    "JOB_STATE_DONE",
    "JOB_STATE_ERROR",
    "JOB_STATE_NEW",
    "JOB_STATE_RUNNING",
    "STATUS_FAIL",
    "STATUS_NEW",
    "STATUS_OK",
    "STATUS_RUNNING",
    "STATUS_STRINGS",
    "STATUS_SUSPENDED",
    "Trials",
    "atpe",
    "base",
    "early_stop",
    "exceptions",
    "fmin_pass_expr_memo_ctrl",
    "mix",
    "partial",
    "pyll",
    "trials_from_docs",
]

NOT_BY_STAR = ["sample"]
"""Names that hyperopt's modules have with another meaning."""
REPLACED = ["SparkTrials", "fmin", "space_eval"]
ALGORITHMS = ["anneal", "rand", "tpe"]
"""Modules with the name and the suggest function of hyperopt's, and a search of our own."""


def test_exported_names() -> None:
    exported = sorted(OURS + HYPEROPTS + REPLACED + ALGORITHMS + ["hp"])
    assert sorted([*sparktune.__all__, *NOT_BY_STAR]) == exported
    assert all(hasattr(sparktune, name) and name in dir(sparktune) for name in exported)


def test_a_star_import_replaces_nothing_of_hyperopts() -> None:
    """Names that a notebook has from hyperopt's modules keep their meaning, or are subclasses of it."""
    before: dict[str, Any] = {}
    exec("from hyperopt.pyll.stochastic import *\nfrom hyperopt.exceptions import *", before)
    after = dict(before)
    exec("from sparktune import *", after)
    changed = {name for name, value in before.items() if after[name] is not value} - {"__builtins__"}
    assert all(issubclass(after[name], before[name]) for name in changed), changed
    assert after["pyll"].stochastic.sample is before["sample"]


def test_each_name_is_listed_once() -> None:
    source = Path(sparktune.__file__).read_bytes()
    found = _names.homes(source)
    assert set(found) == {*sparktune.__all__, *NOT_BY_STAR}
    assert all(source.count(b" as %s," % name.encode()) <= 1 for name in found)
    for name, home in found.items():  # as type checkers read it
        module = importlib.import_module(home)
        is_module = not hasattr(module, name)
        expected = importlib.import_module(f"{home}.{name}") if is_module else getattr(module, name)
        assert getattr(sparktune, name) is expected


def test_every_policy_is_exported() -> None:
    policies = {name for name in sparktune.early_termination.__all__ if name.endswith("Policy")}
    assert policies - {"EarlyTerminationPolicy"} <= set(sparktune.__all__)


def test_dir_shows_what_is_public() -> None:
    shown = {name for name in dir(sparktune) if not name.startswith("__")}
    assert shown == {*sparktune.__all__, *NOT_BY_STAR, *_names.PUBLIC_ROOMS}
    assert all(inspect.ismodule(getattr(sparktune, room)) for room in _names.INTERNAL_ROOMS)


def test_without_its_source_the_package_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "sparktune"
    shutil.copytree(Path(sparktune.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / "__init__.py"
    py_compile.compile(str(source), str(folder / "__init__.pyc"))
    source.unlink()
    command = [sys.executable, "-c", "import sparktune"]
    ended = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert "ImportError: the source of sparktune is missing" in ended.stderr


def test_a_function_keeps_its_name_although_a_module_has_the_same() -> None:
    for name in ("fmin", "doctor"):
        importlib.import_module(f"sparktune.{name}")
        assert inspect.isfunction(getattr(sparktune, name))
    assert sparktune.errors.InvalidSpace is sparktune.InvalidSpace
    with pytest.raises(AttributeError, match="'sparktune' has no attribute 'nothing'"):
        _ = sparktune.nothing  # type: ignore[attr-defined]


def test_hyperopts_names_are_hyperopts_objects() -> None:
    assert all(getattr(sparktune, name) is getattr(hyperopt, name) for name in HYPEROPTS)


def test_nothing_that_hyperopt_exports_is_missing() -> None:
    exported = getattr(hyperopt, "__all__", None) or [name for name in vars(hyperopt) if name[0] != "_"]
    ours = {name for name in exported if hasattr(sparktune, name)}
    submodules = {name for name in exported if inspect.ismodule(getattr(hyperopt, name))}
    helpers = {"PackageNotFoundError", "version"}  # with which it looks up its own version
    assert set(exported) - ours - submodules - helpers == set()


def parameters(function: Any) -> list[tuple[str, Any]]:
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


def test_hp_has_everything_of_hyperopts() -> None:
    theirs = {name for name in dir(hyperopt.hp) if name[0] != "_"}
    assert theirs <= set(dir(sparktune.hp))
    assert all(callable(getattr(sparktune.hp, name)) for name in theirs)


@pytest.mark.parametrize("name", REPLACED)
def test_signatures_begin_with_hyperopts(name: str) -> None:
    theirs, ours = parameters(getattr(hyperopt, name)), parameters(getattr(sparktune, name))
    if name == "SparkTrials" and theirs[-1][0] != "resource_profile":  # which is new in hyperopt 0.3
        theirs.append(("resource_profile", None))
    assert ours[: len(theirs)] == theirs
    added = list(inspect.signature(getattr(sparktune, name)).parameters.values())[len(theirs) :]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in added)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms_take_what_hyperopts_take(name: str) -> None:
    theirs, ours = (dict(parameters(getattr(module, name).suggest)) for module in (hyperopt, sparktune))
    if name == "anneal":  # whose suggest function takes anything, and hands it to this class
        theirs = dict(parameters(hyperopt.anneal.AnnealingAlgo)) | {"new_ids": inspect.Parameter.empty}
    assert list(ours)[:4] == ["new_ids", "domain", "trials", "seed"]
    assert set(theirs) <= set(ours)


def test_spark_trials_are_hyperopts_trials() -> None:
    assert issubclass(sparktune.SparkTrials, hyperopt.Trials)
    theirs = {name for name in dir(hyperopt.SparkTrials) if name[0] != "_"}
    assert theirs - set(dir(sparktune.SparkTrials)) <= {"MAX_CONCURRENT_JOBS_ALLOWED"}


def test_trials_take_every_argument_that_hyperopt_hands_over() -> None:
    theirs = set(inspect.signature(hyperopt.Trials.fmin).parameters)
    assert theirs <= set(inspect.signature(sparktune.SparkTrials.fmin).parameters)


def test_the_version_is_told() -> None:
    assert sparktune.__version__
