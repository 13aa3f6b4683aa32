"""Replacing the word ``hyperopt`` by ``sparktune`` in a repository works."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import hyperopt
import pytest

import sparktune
from sparktune import SimulatedTrials, Trials, fmin, hp, hyperopt_names, rand, space_eval

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
