"""The benchmark of dispatch: its ratios, and a few trials on Spark Connect and in another environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dispatch
import pytest

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "dispatch.py"


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    figures = {"floor": [10.0, 100.0, 1000.0], "sparktune": [9.0, 80.0, 1000.0]}
    assert dispatch.ratio(figures, "sparktune", "floor") == 0.9
    found = dispatch.judged({"connect": figures})
    assert [(target.section, value, met) for target, value, met in found] == [("connect", 0.9, True)]


@pytest.mark.parametrize(("section", "options"), [("connect", []), ("other", ["--python", sys.executable])])
def test_a_short_run(run, tmp_path: Path, section: str, options: list[str]) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, PROGRAM, section, *options, "--only", "floor,sparktune"]
    done = run([*command, "--rounds", "1", "--trials", "3", "--json", file])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{section}: sparktune / floor: " in done.stdout
    report = json.loads(file.read_text())
    assert "pyspark" in report["versions"][section]
    assert {name: len(values) for name, values in report["figures"][section].items()} == {
        "floor": 1,
        "sparktune": 1,
    }
    assert [target["name"] for target in report["targets"]] == ["sparktune"]


def test_what_cannot_run_is_said(run) -> None:
    assert "the section 'other' needs --python" in run([sys.executable, PROGRAM, "other"]).stderr
    command = [sys.executable, PROGRAM, "connect", "--only", "MlflowSparkStudy"]
    assert "--only leaves nothing of ['connect']" in run(command).stderr
