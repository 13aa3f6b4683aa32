"""`scripts/libraries`, on a made-up library in place of the three that it installs."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sparktune

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "scripts" / "libraries-files"
sys.path.append(str(FILES))

import compare  # noqa: E402
from compare import LIBRARIES, copied, replaced  # noqa: E402
from outcomes import Agreement, Case, Outcome, disagreement, of_trials  # noqa: E402


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("import hyperopt", "import sparktune as hyperopt"),
        ("import hyperopt as ho", "import sparktune as ho"),
        ("import hyperopt.rand", "import sparktune.rand, sparktune as hyperopt"),
        ("import hyperopt.rand as rand", "import sparktune.rand as rand"),
        ("import os, hyperopt, sys", "import os, sparktune as hyperopt, sys"),
        ("from hyperopt import hp, tpe as algo", "from sparktune import hp, tpe as algo"),
        ("from hyperopt.pyll import (\n    scope,\n)\nx = 1", "from sparktune.pyll import scope\nx = 1"),
        ("try:\n    import hyperopt  # é", "try:\n    import sparktune as hyperopt  # é"),
        ("é = 1; import hyperopt.hp; y = 2", "é = 1; import sparktune.hp, sparktune as hyperopt; y = 2"),
    ],
)
def test_an_import_of_hyperopt_is_one_of_sparktune(theirs: str, ours: str) -> None:
    rest = "\nexcept ImportError:\n    pass\n" if theirs.startswith("try") else "\n"
    assert replaced(theirs + rest) == (ours + rest, 1)


def test_every_import_of_a_source_is_changed() -> None:
    theirs = """
if True:
    def f():
        from hyperopt import (
            hp,
        )
        return hp, hyperopt
import hyperopt; import hyperopt.tpe
"""
    ours, n = replaced(theirs)
    assert n == 3
    names: dict[str, Any] = {}
    exec(ours, names)
    assert names["f"]() == (sparktune.hp, sparktune)


@pytest.mark.parametrize(
    "source",
    [
        "from .hyperopt import Hyperopt",
        "from . import hyperopt",
        "from library.hyperopt import Hyperopt",
        "import hyperopt_sklearn",
        "x = f'{hyperopt.STATUS_OK}'  # import hyperopt",
        '"""\nimport hyperopt\n"""\n',
        "",
    ],
)
def test_the_rest_of_a_source_stays(source: str) -> None:
    assert replaced(source) == (source, 0)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package around a library, as databricks' are."""
    folder = tmp_path / "installed"
    (folder / "around" / "tuned" / "hyperopt").mkdir(parents=True)
    (folder / "around" / "neighbour.py").touch()
    (folder / "around" / "__init__.py").write_text(
        '__path__ = __import__("pkgutil").extend_path(__path__, __name__)'
    )
    (folder / "around" / "tuned" / "__init__.py").write_text(
        "from .hyperopt import stop\nfrom .search import *\n"
    )
    (folder / "around" / "tuned" / "hyperopt" / "__init__.py").write_text(
        "from hyperopt import STATUS_OK as stop\n"
    )
    (folder / "around" / "tuned" / "search.py").write_text(
        "import hyperopt\nfrom hyperopt.pyll import scope\n"
    )
    return folder


def test_a_copy_is_changed_and_what_is_installed_is_not(installed: Path, tmp_path: Path, run) -> None:
    before = {path: path.read_text() for path in installed.rglob("*.py")}
    copy = tmp_path / "copy"
    assert copied("around.tuned", installed / "around", copy) == 3
    assert {path: path.read_text() for path in installed.rglob("*.py")} == before
    assert not (copy / "around" / "neighbour.py").exists()
    look = "import around.tuned as t, around.neighbour; print(t.stop, t.search.hyperopt.__name__, t.__file__)"
    for folders, module in (((copy, installed), "sparktune"), ((installed,), "hyperopt")):
        path = os.pathsep.join(map(str, [*folders, ROOT]))
        done = run([sys.executable, "-c", look], env={"PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["ok", module, str(folders[0] / "around" / "tuned" / "__init__.py")]


GOOD = Outcome(["ok", "ok", "fail"], [0.25, 0.5], 0.9, {"folds": 3})


@pytest.mark.parametrize(
    ("agreement", "ours", "reason"),
    [
        ("points", GOOD, ""),
        ("points", replace(GOOD, losses=[0.25, 0.5 + 1e-9]), ""),
        ("points", replace(GOOD, losses=[0.5, 0.25]), "other losses"),
        ("points", replace(GOOD, losses=[0.25]), "other losses"),
        ("points", replace(GOOD, statuses=["fail", "ok", "ok"]), "other trials"),
        ("points", replace(GOOD, score=0.91), "another score"),
        ("points", replace(GOOD, score=None), "another score"),
        ("kind", replace(GOOD, losses=[0.34, 8.0], score=0.7, notes="another model"), ""),
        ("kind", replace(GOOD, losses=[0.36, 0.5]), "its loss is worse by more than 0.1"),
        ("kind", replace(GOOD, losses=[]), "other results"),
        ("kind", replace(GOOD, score=None), "other results"),
        ("kind", replace(GOOD, statuses=["ok", "ok"]), "other trials"),
        ("kind", replace(GOOD, statuses=["ok", "fail", "fail"]), "other trials"),
        ("kind", replace(GOOD, facts={"folds": 2}), "other facts"),
        ("kind", Outcome(error="ValueError: no"), "it fails"),
    ],
)
def test_outcomes_that_differ_do_not_agree(agreement: Agreement, ours: Outcome, reason: str) -> None:
    case = Case("a case", agreement, lambda _: GOOD)
    assert disagreement(case, GOOD, ours) == reason


def test_without_losses_the_score_is_compared() -> None:
    case = Case("a case", "kind", lambda _: GOOD)
    assert disagreement(case, Outcome(score=0.9), Outcome(score=0.81)) == ""
    assert (
        disagreement(case, Outcome(score=0.9), Outcome(score=0.79)) == "its score is worse by more than 0.1"
    )


def test_where_hyperopt_fails_sparktune_must_not() -> None:
    case = Case("a case", "kind", lambda _: GOOD)
    failed = Outcome(error="Exception: no tasks")
    assert str(failed) == "fails: Exception: no tasks"
    assert disagreement(case, failed, GOOD) == ""
    assert disagreement(case, failed, failed) == "it fails"


def test_an_outcome_of_trials() -> None:
    trials = sparktune.Trials()
    space = sparktune.hp.uniform("x", 0, 1)
    sparktune.fmin(lambda x: 0.5, space, max_evals=2, trials=trials, show_progressbar=False)
    assert str(of_trials(trials, 1, "a tree", folds=3)) == "2 ok, loss 0.5, score 1.000, folds 3, a tree"


@pytest.mark.parametrize(("ours", "ends"), [([GOOD], "yes"), ([], "no: it fails")])
def test_a_row_says_whether_they_agree(
    ours: list[Outcome], ends: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that ends before its cases do is a disagreement too."""
    monkeypatch.setattr(compare, "cases_of", lambda _: [Case("a case", "points", lambda _: GOOD)])
    monkeypatch.setattr(compare, "copied", lambda *_: 1)
    monkeypatch.setattr(compare, "folder_of", lambda _: ROOT)
    monkeypatch.setattr(
        compare, "outcomes", lambda _, tuner, __: ([GOOD] if tuner == "hyperopt" else ours, "")
    )
    assert compare.compare(LIBRARIES[0], None) == (ends == "yes")
    assert capsys.readouterr().out.endswith(f"| {ends} |\n")


def test_the_libraries_are_those_that_are_installed() -> None:
    lines = (FILES / "requirements.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    page = (ROOT / "docs" / "hyperopt.md").read_text("utf-8")
    for library in LIBRARIES:
        assert (FILES / f"{library.cases}.py").is_file()
        assert f"{library.distribution} {pinned[library.distribution]}" in page
