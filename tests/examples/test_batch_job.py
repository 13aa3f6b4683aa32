"""The batch job, through the real spark-submit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent.parent
SUBMIT = [
    Path(sys.executable).parent / "spark-submit",
    "--master",
    "local[2]",
    ROOT / "examples" / "batch_job.py",
]


@pytest.fixture
def submit(run, tmp_path: Path):
    def submit(*arguments: str):
        store = f"sqlite:///{tmp_path / 'mlflow.db'}"
        return run([*SUBMIT, "--output", tmp_path / "result.json", "--store", store, *arguments])

    return submit


def test_writes_its_result_and_keeps_its_log_clean(submit, tmp_path: Path) -> None:
    done = submit("--max-evals", "4")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert result["trials"] == {"total": 4, "succeeded": 4, "failed": 0, "cancelled": 0}
    assert result["best_point"]["loss"] in ("squared_error", "absolute_error")
    assert isinstance(result["best_point"]["max_iter"], int)
    assert 30 < result["best_loss"] < 80
    assert len(result["mlflow_run_id"]) == 32
    assert result["stopped_because"] is None
    log = done.stdout + done.stderr
    assert "\r" not in log
    assert "trial/s" not in log
    assert "%|" not in log


def test_says_why_there_is_no_result(submit, tmp_path: Path) -> None:
    done = submit("--max-evals", "4", "--timeout", "0.01")
    assert done.returncode == 1
    log = done.stdout + done.stderr  # spark-submit joins the two streams of a Python program
    said = [line for line in log.splitlines() if line.startswith("batch_job: ")]
    assert len(said) == 1, log
    assert "timeout" in said[0]
    assert "Traceback" not in log
    assert not (tmp_path / "result.json").exists()
