"""The notebooks run from top to bottom, in any folder, and are kept without outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent.parent / "notebooks").glob("*.ipynb"))

EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs(notebook: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(notebook))


def test_iris_svc_runs(run, tmp_path: Path) -> None:
    (notebook,) = (path for path in NOTEBOOKS if path.stem == "iris_svc")
    done = run([sys.executable, "-c", EXECUTE, notebook, tmp_path / "executed.ipynb"])
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in cells(tmp_path / "executed.ipynb") for output in cell["outputs"]]
    results = ["".join(o["data"]["text/plain"]) for o in outputs if o["output_type"] == "execute_result"]
    best_params, trials, runs = results[-3:]
    assert "'kernel': 'linear'" in best_params or "'kernel': 'rbf'" in best_params
    assert "completed" in trials
    assert runs.count("FINISHED") == 5
    assert list((tmp_path / "work").iterdir()) == [], "it leaves files in the folder it is run in"
