"""The developer's door: the scripts, and what continuous integration runs."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONGEST

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    *sorted((ROOT / ".ci").iterdir()),
    *sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file()),
]
VERSIONS = sorted((ROOT / "scripts" / "constraints").glob("*.txt"))


def commands(script: str) -> list[str]:
    """The commands of a script, without comments, blank lines and its preamble."""
    lines = (line.strip() for line in script.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]


def readme_commands() -> list[str]:
    """The commands of the README's first shell block."""
    block = re.search(r"^```(?:bash|sh)\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert block, "README.md has no shell block"
    return [re.sub(r"\s+#.*", "", line) for line in commands(block[1])]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_is_an_executable_bash_script(script: Path, run) -> None:
    assert script.read_text("utf-8").startswith("#!/usr/bin/env bash\n")
    assert os.access(script, os.X_OK)
    assert run(["bash", "-n", script]).returncode == 0


def test_ci_runs_the_two_commands_of_the_readme_and_the_lowest_versions() -> None:
    browser, first, second, *others = commands((ROOT / ".ci" / "run").read_text("utf-8"))
    assert browser == ".ci/install-chromium"
    assert sorted(readme_commands()) == sorted([first, second])
    assert others == ["scripts/matrix lowest"]


def test_the_files_that_are_to_begin_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


def pins(versions: Path) -> dict[str, str]:
    """Package -> its one version, of a file of scripts/constraints."""
    lines = versions.read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_lowest_versions_that_are_tested_are_those_of_the_metadata() -> None:
    """What the package allows is tested, and nothing lower is allowed."""
    tested = pins(ROOT / "scripts" / "constraints" / "lowest.txt")
    extras = project()["optional-dependencies"]
    wanted = [
        *project()["dependencies"],
        *extras["spark"],
        *extras["demo"],
        *extras["plots"],
        *extras["sweeps"],
    ]
    bounds = dict(requirement.split(">=") for requirement in wanted)
    assert bounds.keys() == tested.keys() & bounds.keys()
    for name, bound in bounds.items():
        assert f"{tested[name]}.".startswith(f"{bound}."), name


def test_every_python_that_the_metadata_names_is_tested() -> None:
    heads = [path.read_text("utf-8").splitlines()[0] for path in VERSIONS]
    tested = {re.match(r"# Python (3\.\d+)\. ", head)[1] for head in heads}
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project()["classifiers"]))
    assert tested == set(named)


@pytest.mark.parametrize("versions", VERSIONS, ids=lambda path: path.stem)
def test_the_readme_has_the_versions_that_are_tested(versions: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    row = re.search(rf"^\| `{versions.stem}` .*\|$", readme, re.M)
    assert row, f"no row for {versions.stem}"
    for name in ("pyspark", "mlflow", "hyperopt"):
        assert pins(versions).get(name, "newest") in row[0], name


def test_matrix_names_the_sets_that_there_are(run) -> None:
    done = run([ROOT / "scripts" / "matrix", "no-such-set"])
    assert done.returncode == 1
    assert all(path.stem in done.stderr for path in VERSIONS)


def test_the_readmes_commands_exist() -> None:
    for command in readme_commands():
        assert (ROOT / command.split()[0]).is_file(), command


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up reads, in a folder whose name has a space."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def fake_python(folder: Path, version: str, *, venv: bool = True) -> Path:
    """A stand-in for an interpreter: it knows its version, and writes down what it is asked to do."""
    new_enough = tuple(map(int, version.split("."))) >= (3, 11)
    python = folder / "python"
    python.write_text(
        f"""#!/usr/bin/env bash
echo "$*" >>"{folder}/calls"
case "$*" in
  *version_info*) exit {0 if new_enough else 1} ;;
  *"import ensurepip"*) exit {0 if venv else 1} ;;
  --version) echo "Python {version}.0" ;;
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""
    )
    python.chmod(0o755)
    return python


def test_setup_says_so_when_python_is_too_old(checkout: Path, run) -> None:
    python = fake_python(checkout, "3.10")
    done = run([checkout / "scripts" / "setup"], env={"PYTHON": str(python)})
    assert done.returncode == 1
    assert done.stderr.startswith("setup: no Python 3.11 or newer found")
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / ".venv").exists()


def test_setup_says_so_when_venv_is_missing(checkout: Path, run) -> None:
    python = fake_python(checkout, "3.12", venv=False)
    done = run([checkout / "scripts" / "setup"], env={"PYTHON": str(python)})
    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_setup_installs_once_and_again_when_the_package_changes(checkout: Path, run) -> None:
    python = fake_python(checkout, "3.12")

    def done_so_far() -> tuple[int, int]:
        done = run([checkout / "scripts" / "setup"], env={"PYTHON": str(python)})
        assert done.returncode == 0, done.stderr
        calls = (checkout / "calls").read_text()
        return calls.count("-m venv"), calls.count("-m pip install")

    assert done_so_far() == (1, 1)
    assert done_so_far() == (1, 1)
    with (checkout / "pyproject.toml").open("a") as pyproject:
        pyproject.write("# changed\n")
    assert done_so_far() == (1, 2)
