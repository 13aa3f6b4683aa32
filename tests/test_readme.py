"""The README and the pages in docs are true: their code runs, their links lead somewhere.

The README's first shell block holds the two commands that continuous integration runs (``test_scripts.py``);
blocks marked ``text`` are not run.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*DOCUMENTS, ROOT / "examples" / "README.md", ROOT / "CONTRIBUTING.md"]


class Block(NamedTuple):
    """A block of code in a document."""

    place: str
    language: str
    code: str


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text("utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    name = document.relative_to(ROOT)
    return [Block(f"{name}:{text[: m.start()].count(chr(10)) + 1}", m[1], m[2]) for m in found]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def blocks(language: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language == language]


def execute(code: str, place: str) -> None:
    exec(compile(code, place, "exec"), {"__name__": "readme"})


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_block_is_of_a_kind_that_is_tested(document: Path) -> None:
    found = blocks_of(document)
    assert {block.language for block in found} <= {"bash", "diff", "python", "text"}
    assert document.read_text("utf-8").count("\n```") == 2 * len(found)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block: Block, spark, mlflow_store, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    execute(block.code, block.place)


class _ByModule(ast.NodeTransformer):
    """``from sparktune import fmin`` becomes ``import sparktune``, and ``fmin`` ``sparktune.fmin``."""

    def __init__(self) -> None:
        self.homes: dict[str, str] = {}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module is None or node.module.partition(".")[0] != "sparktune":
            return node
        self.homes |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return ast.Import([ast.alias(node.module)])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.homes or not isinstance(node.ctx, ast.Load):
            return node
        return ast.parse(self.homes[node.id], mode="eval").body


def by_module(block: Block) -> str:
    """Its code in the form ``import sparktune``."""
    return ast.unparse(_ByModule().visit(ast.parse(block.code)))


SCRIPT = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    blocks_of_all_pages = json.load(file)
for place, code in blocks_of_all_pages:
    exec(compile(code, place, "exec"))
    print("ran", place, flush=True)
"""


def test_python_runs_in_a_script_with_the_module_imported(run, tmp_path: Path) -> None:
    """All blocks with objectives in ``__main__``, through spark-submit."""
    (tmp_path / "script.py").write_text(SCRIPT, "utf-8")
    pages = [(block.place, by_module(block)) for block in BLOCKS if block.language == "python"]
    (tmp_path / "blocks.json").write_text(json.dumps(pages), "utf-8")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    submit = [Path(sys.executable).parent / "spark-submit", "--master", "local[2]"]
    arguments = [tmp_path / "script.py", tmp_path / "blocks.json"]
    done = run([*submit, *arguments], env=store, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("ran ")] == [
        f"ran {place}" for place, _ in pages
    ]


def test_python_runs_in_a_notebook_with_the_module_imported(tmp_path: Path, monkeypatch) -> None:
    """All blocks in one kernel, each in a cell."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    pages = [by_module(block) for block in BLOCKS if block.language == "python"]
    notebook = new_notebook(cells=[new_code_cell(code) for code in pages])
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()


@pytest.mark.parametrize("block", blocks("diff"))
def test_the_migration_works(block: Block, spark, mlflow_store, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = block.code.splitlines()
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    removed = "\n".join(line[1:] for line in lines if line.startswith("-"))
    execute(removed, block.place)  # what it replaces is true as well
    execute(after, block.place)


@pytest.mark.parametrize("block", blocks("bash")[1:])
def test_shell_commands_run(block: Block, run, tmp_path) -> None:
    work = tmp_path / "checkout"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run(["bash", "-euo", "pipefail", "-c", block.code], cwd=work, env={"PATH": path})
    assert done.returncode == 0, done.stderr


def anchors(document: Path) -> set[str]:
    """What a link to one of its headings ends with."""
    prose = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", LINKING, ids=relative)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text("utf-8")):
        if re.match(r"\w+://", target):
            continue
        path, _, heading = target.partition("#")
        linked = document.parent / path if path else document
        assert linked.exists(), f"links to {target}"
        if heading:
            assert heading in anchors(linked), f"links to {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = ROOT / "docs" / "index.md"
    linked = set(re.findall(r"\]\(([\w-]+\.md)", index.read_text("utf-8")))
    assert linked == {path.name for path in DOCUMENTS if path not in (README, index)}
