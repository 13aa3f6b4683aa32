"""The README is true: its code runs, its files exist.

The first shell block holds the two commands that continuous integration runs (``test_scripts.py``); blocks
marked ``text`` are not run.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)]


def blocks(language: str) -> list[str]:
    return [code for marked, code in BLOCKS if marked == language]


def execute(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {language for language, _ in BLOCKS} <= {"bash", "diff", "python", "text"}
    assert README.count("\n```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, spark, mlflow_store, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    execute(code)


@pytest.mark.parametrize("diff", blocks("diff"))
def test_the_migration_works(diff: str, spark, mlflow_store, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = diff.splitlines()
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    removed = "\n".join(line[1:] for line in lines if line.startswith("-"))
    execute(removed)  # what it replaces is true as well
    execute(after)


@pytest.mark.parametrize("commands", blocks("bash")[1:])
def test_shell_commands_run(commands: str, run, tmp_path) -> None:
    work = tmp_path / "checkout"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run(["bash", "-euo", "pipefail", "-c", commands], cwd=work, env={"PATH": path})
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "examples" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
