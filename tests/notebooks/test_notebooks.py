"""The notebooks run from top to bottom, in any folder, and are kept without outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import needs_classic

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


def results(name: str, run, tmp_path: Path) -> list[str]:
    """Run a notebook; what its cells show as results."""
    (notebook,) = (path for path in NOTEBOOKS if path.stem == name)
    done = run([sys.executable, "-c", EXECUTE, notebook, tmp_path / "executed.ipynb"])
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "work").iterdir()) == [], "it leaves files in the folder it is run in"
    outputs = [output for cell in cells(tmp_path / "executed.ipynb") for output in cell["outputs"]]
    return ["".join(o["data"]["text/plain"]) for o in outputs if o["output_type"] == "execute_result"]


def test_iris_svc_runs(run, tmp_path: Path) -> None:
    best_params, trials, runs = results("iris_svc", run, tmp_path)[-3:]
    assert "'kernel': 'linear'" in best_params or "'kernel': 'rbf'" in best_params
    assert "completed" in trials
    assert runs.count("FINISHED") == 5


@needs_classic
def test_spark_ml_runs(run, tmp_path: Path) -> None:
    best_params, trials, runs, at_once, area = results("spark_ml", run, tmp_path)[-5:]
    assert "'model': 'logistic regression'" in best_params or "'model': 'random forest'" in best_params
    states = [line.split()[2:5] for line in trials.splitlines()[1:]]
    assert states[2] == ["early_terminated", "-0.500000", "1"], trials
    assert all(state == "completed" and steps == "3" for state, _, steps in states[:2]), trials
    assert len(states) == 6
    assert runs.count("FINISHED") + runs.count("KILLED") == 6
    assert "KILLED" in runs
    assert at_once == "2"
    assert float(area) > 0.95
