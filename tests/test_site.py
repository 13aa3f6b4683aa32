"""The documentation site: it builds without a warning, needs no network, and has every exported name."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparktune
from tests.test_api import HYPEROPTS

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = "--fail-on-warning --keep-going --quiet -b html"


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", *OPTIONS.split()]
    places = ["-d", out.with_name("doctrees"), "-c", source / "docs", source, out]
    return subprocess.run([*command, *map(str, places)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


def test_the_script_builds_in_the_same_way() -> None:
    script = (ROOT / "scripts" / "docs").read_text("utf-8")
    assert f"sphinx {OPTIONS} " in script


def test_the_front_page_is_found(site: Path) -> None:
    address = re.search(r"url=([\w/.]+)", (site / "index.html").read_text("utf-8"))
    assert address
    assert "<h1>sparktune" in (site / address[1]).read_text("utf-8")


def test_every_page_of_the_repository_is_there(site: Path) -> None:
    pages = {page.relative_to(ROOT) for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
    assert {page for page in pages if not (site / page.with_suffix(".html")).is_file()} == set()


def test_every_exported_name_is_in_the_reference(site: Path) -> None:
    reference = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert {name for name in sparktune.__all__ if f"`{name}`" not in reference} == set()
    details = "".join(page.read_text("utf-8") for page in (site / "docs" / "api").glob("*.html"))
    documented = set(re.findall(r'<dt class="sig sig-object py" id="([\w.]+)"', details))
    ours = set(sparktune.__all__) - set(HYPEROPTS) - {"hp"}
    parts = {part for name in documented for part in name.split(".")}
    assert ours - parts == set()
    assert {"sparktune.hp.auto", "sparktune.tpe.suggest", "sparktune.SparkTrials.to_dataframe"} <= documented


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """Links lead elsewhere; styles, scripts, fonts and pictures are in the site."""
    loaded = re.compile(
        r"<(?:script|img|iframe|source|link(?=[^>]*stylesheet))[^>]*\b(?:src|href)=\"(?:https?:)?//"
    )
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text("utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text("utf-8")), style


def test_what_is_broken_ends_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "docs").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copy(ROOT / "docs" / "conf.py", source / "docs")
    for folder in ("_static", "_root"):
        shutil.copytree(ROOT / "docs" / folder, source / "docs" / folder)
    (source / "README.md").write_text("# A\n\n[a](docs/no-page.md) [b](docs/index.md#no-heading)\n")
    (source / "docs" / "index.md").write_text("# B\n\n[a](../README.md)\n")
    (source / "docs" / "in-no-menu.md").write_text("# C\n")
    done = build(source, tmp_path / "html")
    assert done.returncode != 0
    for complaint in (
        "no-page.md",
        "no-heading",
        r"in-no-menu.md: WARNING: document isn't included in any toctree",
    ):
        assert complaint in done.stderr


def messages() -> list[str]:
    """The messages of our own that the page on troubleshooting quotes."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    ours = page.partition("\n## Messages of Spark")[0]
    cells = re.findall(r"^\| (`.*?`.*?) \| ", ours, re.M)
    return [quoted for cell in cells for quoted in re.findall(r"`([^`]+)`", cell)]


def test_messages_that_are_explained_are_those_of_the_code() -> None:
    texts = []
    for module in (ROOT / "sparktune").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    said = "\n".join([*texts, *sparktune.__all__])
    assert len(messages()) > 50
    assert [quoted for quoted in messages() if quoted not in said] == []
