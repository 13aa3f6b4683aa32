"""The notebooks run from top to bottom, in any folder, and their stored outputs are those of their code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, needs_classic

pytestmark = pytest.mark.system

nbformat = pytest.importorskip("nbformat")

FOLDER = ROOT / "notebooks"
# spark_ml first: it wants a Spark session of its own settings.
NAMES = [
    "spark_ml",
    *("iris_svc", "from_hyperopt", "early_termination", "compare_algorithms", "sweep", "large_data"),
]
PLOTLY = "application/vnd.plotly.v1+json"


def read(folder: Path, name: str) -> Any:
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(notebook: Any) -> str:
    """All that the cells print and show."""
    shown = [
        output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs(notebook)
    ]
    return "\n".join(shown)


def results(notebook: Any) -> list[str]:
    """What the cells show as results."""
    found = (output for output in outputs(notebook) if output.output_type == "execute_result")
    return [output.data["text/plain"] for output in found]


def kinds(notebook: Any) -> list[set[str]]:
    """What each code cell shows; a PNG is added when outputs are stored."""
    return [
        {kind for output in cell.outputs for kind in output.get("data", {})} - {"image/png"}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_no_notebook_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)
    for page in (ROOT / "examples" / "README.md", ROOT / "docs" / "index.md"):
        listed = set(re.findall(r"notebooks/(\w+)\.ipynb", page.read_text("utf-8")))
        assert listed == set(NAMES), page


@pytest.mark.parametrize("name", NAMES)
class TestStoredOutputs:
    def test_they_are_those_of_the_code(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("nbclient")
        monkeypatch.syspath_prepend(FOLDER)
        import execute

        notebook = read(FOLDER, name)
        nbformat.validate(notebook)
        stored = notebook.metadata["sparktune"]["sources"]
        assert stored == execute.sources(notebook), f"run: python notebooks/execute.py {name}"
        assert [output for output in outputs(notebook) if output.output_type == "error"] == []

    def test_nothing_of_the_machine_is_in_them(self, name: str) -> None:
        shown = (FOLDER / f"{name}.ipynb").read_text("utf-8")
        assert (
            re.findall(r"/(?:home|root|work|Users)/\w+|/tmp/(?!sparktune-)\w+|WARN \w+|\bresolves to", shown)
            == []
        )

    def test_pictures_are_small_and_shown_everywhere(self, name: str) -> None:
        for output in outputs(read(FOLDER, name)):
            data = output.get("data", {})
            assert (PLOTLY in data) == ("image/png" in data)
            assert len(data.get("text/html", "")) < 50_000
        assert (FOLDER / f"{name}.ipynb").stat().st_size < 500_000


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, clean_env: dict[str, str]) -> Path:
    """All notebooks, executed one after another in one kernel."""
    import subprocess

    pytest.importorskip("nbclient")
    folder = tmp_path_factory.mktemp("executed")
    done = subprocess.run(
        [sys.executable, FOLDER / "execute.py", "--output", folder, *NAMES],
        env={**clean_env, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@needs_classic
class TestExecuted:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_same_is_shown_as_is_stored(self, name: str, executed: Path) -> None:
        assert kinds(read(executed, name)) == kinds(read(FOLDER, name))

    def test_iris_svc(self, executed: Path) -> None:
        best_params, trials, frame, *_, runs, artifacts = results(read(executed, "iris_svc"))
        assert "'kernel': 'linear'" in best_params or "'kernel': 'rbf'" in best_params
        assert trials.startswith("SparkTrials(16 trials: 16 completed; best loss ")
        assert "completed" in frame
        assert runs.count("FINISHED") == 5
        assert "report.html" in artifacts

    def test_spark_ml(self, executed: Path) -> None:
        best_params, trials, runs, at_once, area = results(read(executed, "spark_ml"))[-5:]
        assert "'model': 'logistic regression'" in best_params or "'model': 'random forest'" in best_params
        states = [line.split()[2:5] for line in trials.splitlines()[1:]]
        assert states[2] == ["early_terminated", "-0.500000", "1"], trials
        assert all(state == "completed" and steps == "3" for state, _, steps in states[:2]), trials
        assert len(states) == 6
        assert runs.count("FINISHED") + runs.count("KILLED") == 6
        assert "KILLED" in runs
        assert at_once == "2"
        assert float(area) > 0.95

    def test_from_hyperopt(self, executed: Path) -> None:
        shown = text(read(executed, "from_hyperopt"))
        assert shown.count("ValueError: no model for -0.66") >= 1
        assert "2 failed" in shown

    def test_early_termination(self, executed: Path) -> None:
        notebook = read(executed, "early_termination")
        ended = re.search(r"KILLED +(\d+)", results(notebook)[-1])
        assert ended
        assert int(ended[1]) >= 1
        assert f"{ended[1]} early terminated" in text(notebook)

    def test_compare_algorithms(self, executed: Path) -> None:
        shown = text(read(executed, "compare_algorithms"))
        assert all(
            re.search(rf"^\d +{name} +0\.[45]", shown, re.M) for name in ("tpe", "gp", "hyperopt's tpe")
        )

    def test_sweep(self, executed: Path) -> None:
        shown = text(read(executed, "sweep"))
        assert "did you mean 'loguniform'?" in shown
        assert re.search(r"\d completed(, \d early terminated)?\nbest trial \d", shown)
        assert "best/outputs/model.pickle" in shown

    def test_large_data(self, executed: Path) -> None:
        shown = text(read(executed, "large_data"))
        assert "reads of the file by each process: {1}" in shown
        assert "resource_profile is left out" in shown
        assert results(read(executed, "large_data"))[-1] == "{'cpu'}"
