"""What a stranger gets: the version, the changelog, and types for what import hooks give at run time.

``scripts/release`` builds the package, installs it, and has type checkers look at it.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

import sparktune
from sparktune import _hyperopt_names as hyperopt_names

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "sparktune-stubs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def stubbed() -> dict[str, Path]:
    """Module -> its stub."""
    found = {}
    for path in STUBS.rglob("*.pyi"):
        parts = path.relative_to(STUBS).with_suffix("").parts
        found[".".join(("sparktune", *(part for part in parts if part != "__init__")))] = path
    return found


def test_type_checkers_know_every_module_that_is_no_file() -> None:
    assert stubbed().keys() == hyperopt_names.OURS.keys() | hyperopt_names.HYPEROPTS.keys()
    assert (STUBS / "py.typed").read_text() == "partial\n"  # all else is in the package itself
    assert (ROOT / "sparktune" / "py.typed").is_file()
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "sparktune",
        "sparktune-stubs",
    ]


def test_a_stub_of_ours_gives_what_its_module_has() -> None:
    for name, home in hyperopt_names.OURS.items():
        (imported,) = ast.parse(stubbed()[name].read_text()).body
        assert isinstance(imported, ast.ImportFrom)
        assert (imported.module, [alias.name for alias in imported.names]) == (home, ["*"])
        assert importlib.import_module(name) is importlib.import_module(home)


def test_the_version_is_in_one_place_and_in_the_changelog() -> None:
    assert PROJECT["project"]["dynamic"] == ["readme", "urls", "version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "sparktune/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", sparktune.__version__)
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", changelog, re.M)
    assert newest
    assert newest[1] == sparktune.__version__


@pytest.mark.parametrize("repository", ["https://example.org/team/sparktune/", ""])
def test_links_of_the_readme_are_absolute_where_the_address_is_known(run, repository: str) -> None:
    env = {"SPARKTUNE_REPOSITORY": repository}
    done = run([sys.executable, "-m", "hatchling", "metadata"], cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    metadata = json.loads(done.stdout)
    readme = (ROOT / "README.md").read_text("utf-8")
    if not repository:
        assert metadata["readme"]["text"] == readme
        assert "urls" not in metadata
        return
    link = re.compile(r"\]\(([^)]+)\)")
    given, built = link.findall(readme), link.findall(metadata["readme"]["text"])
    assert len(given) == len(built)
    tag = f"v{sparktune.__version__}"
    for before, after in zip(given, built, strict=True):
        if before.startswith(("https:", "#")):
            assert after == before
        else:
            place = "raw" if before.endswith(".png") else "blob"
            assert after == f"https://example.org/team/sparktune/{place}/{tag}/{before}"
    assert metadata["urls"]["Source"] == "https://example.org/team/sparktune"
