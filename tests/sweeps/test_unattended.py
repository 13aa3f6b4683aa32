"""The command line as a scheduler uses it: exit codes, logs, signals, and nothing that stays."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest

from sparktune import AllTrialsFailed, Sweep, cli
from sparktune.sweeps import commands
from tests.conftest import needs_classic
from tests.processes import is_over
from tests.sweeps.files import FILE, code_folder
from tests.sweeps.test_command import FAMILY, LAST_WORDS, wait_for
from tests.sweeps.test_sweeps_on_spark import LAST_FILES, artifacts, only_trial

pytestmark = [pytest.mark.system, needs_classic]

SWEEP = """\
type: sweep
trial: {command: "python train.py ${{search_space.path}}", code: code}
search_space:
  path: {type: choice, values: [PATH]}
objective: {primary_metric: score, goal: maximize}
limits: {max_total_trials: 1}
sampling_algorithm: grid
"""

OF_A_WORKER = re.compile(
    r"Traceback \(most recent call last\):\n"
    r'(?:  File "\S+/pyspark/daemon\.py", .*\n(?:    .*\n)*)+'
    r"BrokenPipeError: .*\n"
)
"""What PySpark's daemon writes, to the same stream, when it cannot flush the output of a worker whose
connection Java has closed. It is seen now and then on a busy machine, while the session ends; no process of
the sweep's own writes it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep whose command does not end."""
    code_folder(tmp_path / "code", FAMILY + LAST_WORDS)
    (tmp_path / "sweep.yml").write_text(SWEEP.replace("PATH", str(tmp_path / "told")))
    return tmp_path


@contextlib.contextmanager
def under_way(folder: Path, env: dict[str, str], store: str) -> Iterator[subprocess.Popen[str]]:
    """``sparktune sweep`` whose command has begun; it is in a process group of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "sparktune", "sweep", "sweep.yml", "--output", "out.json"],
        cwd=folder,
        env={**env, "MLFLOW_TRACKING_URI": store},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert wait_for(folder / "told"), process.communicate()[0]
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def parent_run() -> str:
    found = mlflow.search_runs(filter_string="tags.`sparktune.role` = 'study'", search_all_experiments=True)
    return str(found.iloc[0]["run_id"])


def pids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "told").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_all_and_the_code_says_so(number, folder, subprocess_env, mlflow_store) -> None:
    with under_way(folder, subprocess_env, mlflow_store) as process:
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        written, _ = process.communicate(timeout=120)
        assert process.returncode == 130, written
    assert [pid for pid in pids(folder) if not is_over(pid)] == []
    assert psutil.wait_procs(below, timeout=30)[1] == []
    assert "sparktune: interrupted" in written
    assert "Traceback" not in OF_A_WORKER.sub("", written), written
    assert "cancelled" in written
    output = json.loads((folder / "out.json").read_text())
    assert (output["parent_run_id"], output["parameters"]) == (parent_run(), None)
    assert output["states"]["cancelled"] == 1
    assert re.search(rf"INFO run {parent_run()}: up to \d+ trials? at a time, [1-9]\d* slots", written)
    assert artifacts(only_trial()) == LAST_FILES


def test_the_loss_of_spark_has_a_code_of_its_own(folder, subprocess_env, mlflow_store) -> None:
    with under_way(folder, subprocess_env, mlflow_store) as process:
        java = [p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "java"]
        for each in java:
            each.kill()
        written, _ = process.communicate(timeout=50)  # MLflow is written to as ever, without waiting
        assert process.returncode == 4, written
    own = [psutil.Process(pid) for pid in pids(folder) if psutil.pid_exists(pid)]
    assert [p for p in psutil.wait_procs(own, timeout=30)[1] if not is_over(p.pid)] == []


def test_a_bad_file_is_told_before_anything_starts(tmp_path, capsys) -> None:
    file = tmp_path / "bad.yml"
    file.write_text(FILE.replace("goal: maximize", "goal: up"))
    for command in ("sweep", "validate"):
        assert cli.main([command, str(file)]) == 3
        told = capsys.readouterr()
        assert told.err == f"{file}:6:45: objective.goal is 'up'; allowed: maximize, minimize\n"
        assert told.out == ""


def test_a_good_file_is_told_in_a_line(tmp_path, capsys) -> None:
    file = tmp_path / "good.yml"
    file.write_text("compute: x\n" + FILE)
    assert cli.main(["validate", str(file), "--set", "limits.max_total_trials=9"]) == 0
    told = capsys.readouterr()
    assert "at most 9 trials, maximize accuracy" in told.out
    assert "good.yml:1:1: compute is ignored" in told.err


def test_an_output_that_cannot_be_written_is_told_before_anything_starts(tmp_path, capsys) -> None:
    file = tmp_path / "good.yml"
    file.write_text(FILE)
    for output, complaint in ((tmp_path / "no" / "out.json", "create it"), (tmp_path, "is a folder")):
        assert cli.main(["sweep", str(file), "--output", str(output)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"sparktune: --output {str(output)!r}")
        assert complaint in told
        assert len(told.splitlines()) == 1


def test_json_has_no_infinities() -> None:
    written = commands._json({"metric": -math.inf, "trials": [{"metric": math.nan}], "name": "ü"})
    assert json.loads(written, parse_constant=pytest.fail) == {
        "metric": "-inf",
        "trials": [{"metric": "nan"}],
        "name": "ü",
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_spark_stops_ends_the_wait_for_it(number) -> None:
    """And changes nothing about how the sweep has ended; a second one, neither."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    class Session:
        def stop(self) -> None:
            signal.raise_signal(number)
            pytest.fail("it waits")

    try:
        commands._stop(Session())
        signal.raise_signal(number)
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(each, handler)


def test_show_and_best(folder, run, mlflow_store, capsys) -> None:
    """A whole sweep, one failed and one completed trial, and one that none completes."""
    code_folder(folder / "code", """
        import os, sys
        print("epoch 1")
        os.mkdir("outputs")
        open("outputs/model", "w").write("the model")
        assert sys.argv[1] != "bad", "\\33[2J"
        print("score=0.5")
    """)  # fmt: skip
    (folder / "sweep.yml").write_text(SWEEP.replace("PATH", "good, bad"))
    sparktune = [sys.executable, "-m", "sparktune"]
    env = {"MLFLOW_TRACKING_URI": mlflow_store, "MLFLOW_EXPERIMENT_NAME": "tests"}
    command = [*sparktune, "sweep", folder / "sweep.yml", "--output", "out.json"]
    done = run([*command, "--set", "limits.max_total_trials=2"], env=env)
    assert done.returncode == 0, done.stderr
    assert "trial 0: path=good completed, score=0.5" in done.stderr
    assert "%|" not in done.stderr
    run_id = done.stdout.split()[1]
    assert "): score=0.5 path='good'" in done.stdout
    work = folder / "work"
    output = json.loads((work / "out.json").read_text())
    assert output["parameters"] == {"path": "good"}
    assert output["states"]["failed"] == 1

    def told(*arguments: str, code: int = 0) -> str:
        assert cli.main([*arguments, "--store", mlflow_store]) == code
        written = capsys.readouterr()
        return written.out if code == 0 else written.err

    table = told("show", run_id)
    assert [line.split()[:2] for line in table.splitlines()[1:3]] == [["0", "completed"], ["1", "failed"]]
    assert "AssertionError: \\x1b[2J" in table
    assert "\33" not in table
    shown = json.loads(told("show", run_id, "--format", "json"))
    assert [trial["metric"] for trial in shown["trials"]] == [0.5, None]

    best = json.loads(told("best", run_id, "--download", str(work / "there")))
    assert best["metric"] == {"name": "score", "value": 0.5}
    assert best["point"] == best["parameters"]
    assert (work / "there" / "outputs" / "model").read_text() == "the model"
    assert (work / "there" / "logs" / "stdout.log").read_text().startswith("epoch 1")
    assert "path: good" in told("best", run_id, "--format", "yaml")
    assert "has no run 'nothing'" in told("best", "nothing", code=2)


def test_workers_that_have_python_alone(folder, run, bare, mlflow_store) -> None:
    """A printed metric needs nothing there; of one that is logged, the failure says what it needs."""
    code_folder(folder / "code", """
        import sys
        assert sys.executable.startswith(sys.argv[2]), sys.executable
        if sys.argv[1] == "prints":
            print("score=0.5")
    """)  # fmt: skip
    text = SWEEP.replace("PATH", "prints, logs").replace("path}}", "path}} ${{inputs.where}}")
    (folder / "sweep.yml").write_text(f"inputs: {{where: {bare.parent}}}\n{text}")
    command = [sys.executable, "-m", "sparktune", "sweep", folder / "sweep.yml"]
    env = {"MLFLOW_TRACKING_URI": mlflow_store, "PYSPARK_PYTHON": str(bare)}
    done = run([*command, "--set", "limits.max_total_trials=2"], env=env)
    assert done.returncode == 0, done.stderr
    assert "trial 0: path=prints completed, score=0.5" in done.stderr
    assert "Spark's workers have no MLflow. Print the metric, or install mlflow there" in done.stderr


def test_no_trial_completed(folder, mlflow_store, spark, capsys) -> None:
    code_folder(folder / "code", "raise ValueError('the cause')")
    with pytest.raises(AllTrialsFailed, match="ValueError: the cause"):
        Sweep.from_yaml(folder / "sweep.yml").run(spark, show_progressbar=False)
    assert cli.main(["best", parent_run(), "--store", mlflow_store]) == 1
    assert "no trial of the run" in capsys.readouterr().err


def test_the_script_for_spark_submit_is_where_it_is_said_to_be(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "--script"])
    assert stop.value.code == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
