"""Replacing the word ``hyperopt`` by ``sparktune`` in a repository works."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle
import hyperopt
import pytest

import sparktune
from sparktune import SimulatedTrials, Trials, _hyperopt_names as hyperopt_names, fmin, hp, rand, space_eval
from sparktune.worker import pickling

PKG_RESOURCES = "ignore:pkg_resources is deprecated as an API"
"""hyperopt 0.2.7 imports it."""

LOOKED_FOR = """
import sys
from sparktune.pyll import scope
from sparktune.pyll.base import scope as again, rec_eval
import sparktune.pyll.stochastic as stochastic
from sparktune.pyll.stochastic import sample
from sparktune.tpe import suggest
from sparktune.rand import suggest as random_suggest
from sparktune.anneal import suggest as anneal_suggest
from sparktune.hp import uniform
from sparktune.early_stop import no_progress_loss
from sparktune.exceptions import AllTrialsFailed
from sparktune.base import STATUS_OK, Trials, Domain, JOB_STATE_DONE
from sparktune.utils import coarse_utcnow
from sparktune.fmin import fmin, space_eval, generate_trials_to_calculate, FMinIter, partial
import sparktune.hp as hp
import sparktune.base
import hyperopt
import hyperopt.pyll.stochastic
assert scope is again is hyperopt.pyll.scope
assert stochastic is hyperopt.pyll.stochastic
assert sparktune.base is hyperopt.base and hyperopt.base.__spec__.name == "hyperopt.base"
assert hyperopt.base.__name__ == "hyperopt.base"
import sparktune
assert suggest is sparktune.tpe.suggest and random_suggest is sparktune.rand.suggest
assert "matplotlib" not in sys.modules and "pymongo" not in sys.modules
sample({"x": uniform("x", 0, 1)})
"""


def test_every_way_to_import_them(run: Any) -> None:
    done = run([sys.executable, "-W", "error", "-W", PKG_RESOURCES, "-c", LOOKED_FOR])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(hyperopt_names.HYPEROPTS))
def test_they_are_hyperopts_own_modules(name: str) -> None:
    wanted = hyperopt_names.HYPEROPTS[name]
    try:
        module = importlib.import_module(wanted)
    except ImportError as error:  # plotting without matplotlib, mongoexp without pymongo
        with pytest.raises(type(error)):
            importlib.import_module(name)
        return
    assert importlib.import_module(name) is module
    assert module.__spec__ is not None
    assert module.__spec__.name == wanted


def test_a_name_that_neither_has_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"sparktune\.nothing"):
        importlib.import_module("sparktune.nothing")


def test_installing_twice_changes_nothing() -> None:
    before = list(sys.meta_path)
    hyperopt_names.install()
    assert sys.meta_path == before


@pytest.mark.parametrize("where", ["package", "module", "both"])
def test_hyperopts_fmin_may_be_replaced_by_ours(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where != "module":
        monkeypatch.setattr(hyperopt, "fmin", fmin)
    if where != "package":
        monkeypatch.setattr(sys.modules["hyperopt.fmin"], "fmin", fmin)
    for trials in (Trials(), SimulatedTrials()):
        best = hyperopt.fmin(
            abs, hp.uniform("x", -1, 1), rand.suggest, 3, trials=trials, show_progressbar=False
        )
        assert best.keys() == {"x"}
        assert len(trials) == 3
    again = Trials().fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 3, show_progressbar=False)
    assert again.keys() == {"x"}


def test_the_word_is_replaced_in_a_whole_script(run: Any, tmp_path: Path) -> None:
    script = """
from hyperopt import fmin, tpe, hp, STATUS_OK, Trials, space_eval
from hyperopt.pyll import scope
from hyperopt.early_stop import no_progress_loss
import hyperopt.pyll.stochastic

space = {"n": scope.int(hp.quniform("n", 1, 9, 1)), "c": hp.choice("c", ["a", "b"])}
print(hyperopt.pyll.stochastic.sample(space).keys())
trials = Trials()
best = fmin(lambda p: {"loss": p["n"], "status": STATUS_OK}, space, algo=tpe.suggest, max_evals=5,
            trials=trials, early_stop_fn=no_progress_loss(10), show_progressbar=False)
print(space_eval(space, best))
"""
    path = tmp_path / "script.py"
    path.write_text(script.replace("hyperopt", "sparktune"))
    done = run([sys.executable, path])
    assert done.returncode == 0, done.stderr
    assert "'n':" in done.stdout


def test_the_names_of_space_eval_and_fmin_are_ours() -> None:
    module = sys.modules["sparktune.fmin"]
    assert isinstance(module, types.ModuleType)
    assert module.fmin is sparktune.fmin
    assert module.space_eval is space_eval


NOT_UNDER_OUR_NAME = {
    "hyperopt.main": "a command that no released hyperopt can import: it asks for names that are gone",
    "hyperopt.tests": "hyperopt's own tests",
    "hyperopt.pyll.tests": "tests of hyperopt's",
}


def hyperopts_modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(hyperopt.__path__, "hyperopt.", lambda _: None)]
    return [n for n in found if not any(f"{n}.".startswith(f"{left}.") for left in NOT_UNDER_OUR_NAME)]


@pytest.mark.filterwarnings(PKG_RESOURCES)
@pytest.mark.parametrize("theirs", hyperopts_modules())
def test_every_public_name_of_every_module(theirs: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        module = importlib.import_module(theirs)
    except ImportError as error:
        pytest.skip(f"hyperopt cannot import it here: {error}")
    ours = importlib.import_module(theirs.replace("hyperopt", "sparktune", 1))
    public = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    assert [name for name in public if not hasattr(ours, name)] == []


def test_submodules_are_attributes_as_they_are_of_hyperopt() -> None:
    theirs = {name for name, value in vars(hyperopt).items() if isinstance(value, types.ModuleType)}
    assert {"utils", "pyll_utils", "progress", "algobase", "vectorize"} <= theirs
    assert [name for name in theirs - {"main", "tests"} if not hasattr(sparktune, name)] == []
    assert sparktune.spark.SparkTrials is sparktune.SparkTrials
    if hasattr(hyperopt.spark, "FMIN_CANCELLED_REASON_TIMEOUT"):  # not in 0.2.7
        assert sparktune.spark.FMIN_CANCELLED_REASON_TIMEOUT == "fmin run timeout"
    assert not hasattr(sparktune, "main")


class _Objectives:
    """What refers to the module in the ways that people do."""

    def __init__(self) -> None:
        self.module = sparktune

    def by_attribute(self, x: float) -> dict[str, Any]:
        return {"loss": x, "status": self.module.STATUS_OK}

    def by_global(self, x: float) -> dict[str, Any]:
        return {"loss": x, "status": sparktune.STATUS_OK}


def by_closure() -> Any:
    module = sparktune
    return lambda x: {"loss": x, "status": module.STATUS_OK}


def by_default(x: float, module: Any = sparktune) -> dict[str, Any]:
    return {"loss": x, "status": module.STATUS_OK}


@pytest.mark.parametrize("dumps", [cloudpickle.dumps, pickling.dumps])
def test_objectives_that_name_the_module_can_be_sent(dumps: Any) -> None:
    for objective in (_Objectives().by_attribute, _Objectives().by_global, by_closure(), by_default):
        assert pickle.loads(dumps(objective))(1.0) == {"loss": 1.0, "status": "ok"}


def test_the_module_is_pickled_by_its_name() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(sparktune, protocol)) is sparktune
    assert copy.deepcopy({"module": sparktune})["module"] is sparktune


def test_positional_arguments_mean_what_they_mean_in_hyperopt() -> None:
    for name in ("tpe", "rand"):
        theirs, ours = (
            list(inspect.signature(getattr(package, name).suggest).parameters)
            for package in (hyperopt, sparktune)
        )
        assert ours[: len(theirs)] == theirs
    annealing = list(inspect.signature(hyperopt.anneal.AnnealingAlgo).parameters)
    assert list(inspect.signature(sparktune.anneal.suggest).parameters)[4:] == annealing[3:]


def test_arguments_are_seen_by_getfullargspec() -> None:
    """hyperopt-sklearn looks for ``rstate`` there."""
    for name in sparktune.__all__:
        function = getattr(sparktune, name)
        if not inspect.isfunction(function):
            continue
        found = inspect.getfullargspec(function)
        several = [extra for extra in (found.varargs, found.varkw) if extra is not None]
        assert {*found.args, *found.kwonlyargs, *several} == set(inspect.signature(function).parameters)
    assert inspect.getfullargspec(fmin).args[:3] == ["fn", "space", "algo"]
