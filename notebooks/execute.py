"""Executes notebooks from top to bottom and stores their outputs: ``python notebooks/execute.py [NAME ...]``.

Stored outputs are those of the run, without what is of this machine or of no use to a reader: Spark's
greeting, MLflow's log at level INFO, temporary folders, time stamps, plotly's own script (4.5 MB in each
notebook). A plotly figure is stored as JSON, which Jupyter, VS Code and Databricks draw, and as a PNG,
which every viewer shows. A headless Chromium draws it: ``pip install 'sparktune[browser,notebook,plots]'``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbclient
import nbformat

FOLDER = Path(__file__).resolve().parent
PLOTLY = "application/vnd.plotly.v1+json"
TIME_LIMIT_S = 240
WIDTH, HEIGHT = 800, 450

NOISE = re.compile(
    r"^(WARNING: Using incubator modules.*|Using Spark's default log4j.*|Setting default log level.*"
    r"|To adjust logging level.*|\d\d/\d\d/\d\d [\d:]+ (WARN|INFO) .*|WARNING: .*(java|sun)\..*"
    r"|WARNING: (A terminally|Use --enable|Please consider|A restricted|Restricted).*"
    r"|\d{4}/\d\d/\d\d [\d:]+ INFO (mlflow|alembic).*|Setting Spark log level.*"
    r"|netlib-blas: JNI_OnLoad: .*"
    r"|.*TqdmWarning: IProgress not found.*\n  from .*"
    r"|.*FutureWarning: PySpark does not yet.*\n  require_.*)$\n?"
    r"|(?<=.)netlib-blas: JNI_OnLoad: .*",  # behind a progress bar
    re.M,
)


def sources(notebook: Any) -> str:
    """A digest of the code. It is stored with the outputs, and shows whether they are those of the code."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


BETWEEN = "import os\nos.chdir({folder!r})\n%reset -f"


def execute(*notebooks: Any) -> None:
    """Run all cells in a new kernel, in an empty folder; raises ``CellExecutionError``.

    Several notebooks run one after another in one kernel, which saves the start of Spark and of MLflow's
    store: variables are deleted between them, the Spark session and the tracking store stay.
    """
    with tempfile.TemporaryDirectory(prefix="notebook-") as place:
        folder = Path(place)
        (folder / "work").mkdir()
        (folder / "tmp").mkdir()
        work = str(folder / "work")
        together = nbformat.v4.new_notebook()
        for notebook in notebooks:
            together.cells += [nbformat.v4.new_code_cell(BETWEEN.format(folder=work)), *notebook.cells]
        client = nbclient.NotebookClient(
            together,
            timeout=TIME_LIMIT_S,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": work}},
        )
        ours = {
            "TMPDIR": str(folder / "tmp"),
            "GIT_PYTHON_REFRESH": "quiet",
            "PYSPARK_PYTHON": sys.executable,
        }
        client.execute(env={**os.environ, **ours})
        left = sorted(path.name for path in (folder / "work").iterdir())
        if left:
            raise RuntimeError(f"the notebook leaves files in the folder it is run in: {left}")
        names = {str(folder / "tmp"): "/tmp", str(FOLDER.parent): "sparktune", sys.prefix: "venv"}
        for notebook in notebooks:
            clean(notebook, names)


def clean(notebook: Any, names: dict[str, str]) -> None:
    """Leave out what is of this machine or of no use to a reader.

    Args:
        notebook: an executed one; changed in place.
        names: folder of this machine -> what is written in its place.
    """

    def named(text: str) -> str:
        for path, name in names.items():
            text = text.replace(path, name)
        return text

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        cell.execution_count = number
        kept = []
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
            if output.output_type == "stream":
                output.text = NOISE.sub("", named(output.text).replace("\r\n", "\n"))
                if not output.text.strip():
                    continue
            for kind, data in output.get("data", {}).items():
                if isinstance(data, str):
                    output.data[kind] = named(data)
            if PLOTLY in output.get("data", {}):
                output.data = {PLOTLY: output.data[PLOTLY], "text/plain": "a plotly figure"}
            kept.append(output)
        cell.outputs = kept
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "sparktune": {"sources": sources(notebook)},
    }


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium with a page on which plotly is loaded."""
    from plotly.offline import get_plotlyjs
    from selenium import webdriver

    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        raise SystemExit("Chromium is not installed (on Debian: apt-get install chromium chromium-driver)")
    with tempfile.TemporaryDirectory() as place:
        page = Path(place, "page.html")
        page.write_text(
            f"<meta charset=utf-8><script>{get_plotlyjs()}</script><div id=figure></div>", "utf-8"
        )
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.add_argument(f"--user-data-dir={Path(place, 'profile')}")
        found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            found.set_script_timeout(60)
            found.get(page.as_uri())
            yield found
        finally:
            found.quit()


DRAW = """
const [figure, width, height, done] = arguments;
const size = {width: figure.layout.width || width, height: figure.layout.height || height};
Plotly.newPlot("figure", figure.data, {...figure.layout, ...size})
  .then(drawn => Plotly.toImage(drawn, {format: "png", ...size}))
  .then(done, error => done("error: " + error));
"""


def add_pictures(notebook: Any) -> None:
    """Add a PNG to every plotly figure among the outputs."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if PLOTLY in output.get("data", {})]
    if not figures:
        return
    with browser() as found:
        for output in figures:
            image = found.execute_async_script(DRAW, output.data[PLOTLY], WIDTH, HEIGHT)
            if not image.startswith("data:image/png;base64,"):
                raise RuntimeError(f"plotly could not draw a figure: {image}")
            picture = base64.b64decode(image.partition(",")[2])
            output.data["image/png"] = base64.b64encode(picture).decode()


def main() -> None:
    """Execute the notebooks that are named, or all of them."""
    parser = argparse.ArgumentParser(description="Execute notebooks and store their outputs.")
    parser.add_argument("names", nargs="*", help="names without .ipynb; all by default")
    parser.add_argument(
        "--output",
        type=Path,
        help="write them to this folder instead, without PNGs, and use one kernel for all",
    )
    args = parser.parse_args()
    paths = [FOLDER / f"{name}.ipynb" for name in args.names] or sorted(FOLDER.glob("*.ipynb"))
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    if args.output is not None:
        execute(*notebooks)
    for path, notebook in zip(paths, notebooks, strict=True):
        if args.output is None:
            execute(notebook)
            add_pictures(notebook)
        nbformat.write(notebook, (args.output or FOLDER) / path.name)


if __name__ == "__main__":
    main()
