"""In a real kernel: the bar, the live curve drawn in place, and what stands for a trials object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

KERNEL = """
import json, sys
import nbclient, nbformat
from nbformat.v4 import new_code_cell, new_notebook

class Client(nbclient.NotebookClient):
    updates = 0

    def process_message(self, msg, cell, cell_index):
        self.updates += msg["msg_type"] == "update_display_data"
        return super().process_message(msg, cell, cell_index)

notebook = new_notebook(cells=[new_code_cell(code) for code in json.load(sys.stdin)])
client = Client(notebook, timeout=120, kernel_name="python3", allow_errors=len(sys.argv) > 1)
client.execute()
print(json.dumps([client.updates, [cell.outputs for cell in notebook.cells]]))
"""

CELLS = [
    # Without Java, DriverTrials run their trials in threads, and the kernel is quick.
    "import os, time; os.environ['JAVA_HOME'] = os.environ['PATH'] = '/nowhere'\n"
    "from sparktune import DriverTrials, fmin, hp, rand\n"
    "trials = DriverTrials(2, mlflow=False, live_plot=True)",
    "def objective(x):\n    time.sleep(0.4)\n    return abs(x)\n"
    "fmin(objective, hp.uniform('x', -1, 1), rand.suggest, 8, trials=trials, rstate=0);",
    "trials",
    "print(trials)",
]


INTERRUPTED = [
    "import os, signal, time; os.environ['JAVA_HOME'] = os.environ['PATH'] = '/nowhere'\n"
    "os.environ['MLFLOW_TRACKING_URI'] = f'sqlite:///{os.getcwd()}/mlflow.db'\n"
    "import hyperopt, sparktune\n"
    "from sparktune import DriverTrials, hp, rand\n"
    "def objective(x):\n"
    "    if len(trials.losses()) > 1:\n        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(60)\n"
    "    return abs(x)\n",
    "trials = DriverTrials(1)\n"
    "sparktune.fmin(objective, hp.uniform('x', -1, 1), rand.suggest, 80, trials=trials)",
    "trials = DriverTrials(1)\n"
    "hyperopt.fmin(objective, hp.uniform('x', -1, 1), rand.suggest, 80, trials=trials)",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, clean_env: dict[str, str]) -> tuple[int, list[Any]]:
    return in_a_kernel(CELLS, tmp_path_factory.mktemp("kernel"), clean_env)


def in_a_kernel(
    cells: list[str], folder: Path, clean_env: dict[str, str], *arguments: str
) -> tuple[int, list[Any]]:
    """The updates of displays, and the outputs of each cell; with an argument, cells may raise."""
    pytest.importorskip("nbclient")
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, *arguments],
        input=json.dumps(cells),
        env={**clean_env, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    updates, outputs = json.loads(done.stdout.splitlines()[-1])
    return updates, outputs


def stream(outputs: list[Any]) -> str:
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def test_the_bar_tells_how_the_study_stands(executed: tuple[int, list[Any]]) -> None:
    text = stream(executed[1][1])
    assert "waiting for the first of 2 trials" in text
    assert "running: 2" in text
    assert "8/8" in text
    assert "IProgress" not in text


def test_the_curve_is_drawn_in_place(executed: tuple[int, list[Any]]) -> None:
    updates, outputs = executed
    (shown,) = (output for output in outputs[1] if output["output_type"] == "display_data")
    assert "DriverTrials: 8 trials, best loss" in shown["data"]["text/html"], "the last state stands there"
    assert "<svg" in shown["data"]["text/html"]
    assert updates >= 2, "while the study ran, and at its end"


def test_trials_show_themselves(executed: tuple[int, list[Any]]) -> None:
    _, outputs = executed
    (shown,) = outputs[2]
    assert shown["data"]["text/plain"].startswith("DriverTrials(8 trials: 8 completed; best loss ")
    assert "<table>" in shown["data"]["text/html"]
    assert stream(outputs[3]).startswith("DriverTrials(8 trials: 8 completed; best loss ")


def test_ctrl_c_says_what_matters_and_little_else(clean_env: dict[str, str], tmp_path: Path) -> None:
    """Of hyperopt's ``fmin`` the notebook shows its frame, a call of 20 lines."""
    _, (_, ours, hyperopts) = in_a_kernel(INTERRUPTED, tmp_path, clean_env, "raising")
    for outputs, most in ((ours, 30), (hyperopts, 50)):
        said = stream(outputs)
        for text in ("best loss ", "runs in MLflow: mlflow ui", "to continue, call fmin again", "resume='"):
            assert text in said
        (error,) = (output for output in outputs if output["output_type"] == "error")
        assert error["ename"] == "KeyboardInterrupt"
        shown = "\n".join(error["traceback"])
        assert len(shown.splitlines()) <= most, shown
        assert "driver_threads.py" not in shown
