"""The documentation site, built by Sphinx: ``scripts/docs``.

The pages are the Markdown files of the repository, which read well where they lie. The repository is
therefore the source folder, so that a link to ``../README.md`` or ``../examples/batch_job.py`` is the same in
both places. What only the site needs is here: the order of the pages, and the folder ``api`` with the
generated reference.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the reference is that of this checkout

import sparktune  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

PAGES = {
    "docs/index": {
        "Start": ["Overview <../README>", "quick-start", "concepts", "hyperopt"],
        "Guides": [
            "fmin",
            "search",
            "early-termination",
            "tuning",
            "sweeps",
            "resume",
            "mlflow",
            "pictures",
            "scikit-learn",
            "spark-objectives",
            "../examples/README",
        ],
        "Where it runs": ["where-it-runs", "local", "cluster", "kubernetes", "yarn", "databricks"],
        "Reference": [
            "reference",
            "troubleshooting",
            "comparison",
            "architecture",
            "Contributing <../CONTRIBUTING>",
            "releasing",
            "Changelog <../CHANGELOG>",
        ],
    },
    "docs/reference": {
        "": [
            "api/studies",
            "api/search",
            "api/early-termination",
            "api/plots",
            "api/sklearn",
            "api/sweeps",
            "api/errors",
        ],
    },
}
"""Page -> heading -> the pages below it in order. A page that is missing here ends the build."""

project = PROJECT["name"]
author = "The sparktune authors"
version = release = sparktune.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
_READ = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "examples"}
exclude_patterns = [*sorted(path.name for path in ROOT.iterdir() if path.name not in _READ), "docs/_*"]

myst_heading_anchors = 4  # the anchors that repository views give to headings

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"  # its fonts are the reader's own, its scripts are in the site
html_title = f"sparktune {release}"
html_static_path = ["_static"]
html_css_files = ["sparktune.css"]
html_extra_path = ["_root"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False


def _is_there(entry: str) -> bool:
    """Whether the page of an entry, ``name`` or ``title <name>``, exists."""
    name = entry.rpartition("<")[2].rstrip(">")
    return any((ROOT / "docs" / f"{name}{suffix}").exists() for suffix in (".md", ".rst"))


def _with_contents(_app: Any, page: str, source: list[str]) -> None:
    """Append the table of contents to a page; a repository view has no use for it."""
    for caption, entries in PAGES.get(page, {}).items():
        options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
        lines = ["```{toctree}", *options, "", *filter(_is_there, entries), "```"]
        source[0] += "\n\n" + "\n".join(lines) + "\n"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _with_contents)
