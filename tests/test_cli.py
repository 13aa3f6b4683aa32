"""The command line: what it takes, what it says when something is missing, its exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sparktune import __version__, cli, demo
from sparktune.errors import AllTrialsFailed


def test_version(run) -> None:
    done = run([sys.executable, "-m", "sparktune", "--version"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sparktune {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["dmeo"], "'dmeo'"),
        (["demo", "--max-evals", "0"], "'0' is not a whole number above 0"),
        (["demo", "--parallelism", "2.5"], "'2.5' is not a whole number above 0"),
        (["demo", "--seed", "-1"], "'-1' is not a whole number"),
        (["doctor", "--remote", "host:15002"], "'host:15002' is not an address of a Spark Connect server"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, complaint, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_arguments_reach_the_demo(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(demo, "run", lambda *args, **options: calls.append((args, options)))
    assert cli.main(["demo", "--max-evals", "3", "--parallelism", "2", "--store", "x", "--seed", "0"]) == 0
    assert calls == [((3,), {"parallelism": 2, "store": "x", "seed": 0})]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (AllTrialsFailed("None of 4 trials completed"), 1, "sparktune: None of 4 trials completed\n"),
        (KeyboardInterrupt(), 130, "sparktune: interrupted\n"),
    ],
)
def test_exit_codes(error, code, said, monkeypatch, capsys) -> None:
    def run(*_args, **_options):
        raise error

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo"]) == code
    assert capsys.readouterr().err == said


def one_line_of_remedy(error: str, remedy: str) -> bool:
    return error.startswith("sparktune: ") and remedy in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "remedy"),
    [("pyspark", "pip install 'sparktune[spark]'"), ("sklearn", "pip install 'sparktune[demo]'")],
)
def test_a_missing_package_is_named_with_the_remedy(package, remedy, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["demo"]) == 2
    assert one_line_of_remedy(capsys.readouterr().err, remedy)


@pytest.mark.parametrize("java_home", [None, "/nowhere"])
def test_missing_java_is_said_with_the_remedy(java_home, run, tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path), "JAVA_HOME": java_home or ""}
    done = run([sys.executable, "-m", "sparktune", "demo"], env=env)
    assert done.returncode == 2
    assert one_line_of_remedy(done.stderr, "Install Java 17")


def test_how_far_unfinished_studies_are(run, mlflow_store: str) -> None:
    """Trials that were cut off run again, and one that has two runs is one trial."""
    from sparktune.trials import unfinished
    from tests.recorded_trials import RecordedTrials, objective, tune
    from tests.test_resume import interrupt_after

    def ctrl_c_at(n: int, total: int, **options: Any) -> str:
        begun: list[Any] = []

        def fn(point: Any) -> Any:
            begun.append(point)
            if len(begun) == n:
                raise KeyboardInterrupt
            return objective(point)

        with pytest.raises(KeyboardInterrupt):
            tune(total, fn, **options)
        return unfinished.table(mlflow_store).splitlines()[1]

    run_id = interrupt_after(3)
    assert "  3 of 14  " in ctrl_c_at(1, 14, resume=run_id)
    assert "  5 of 14  " in ctrl_c_at(3, 14, resume=run_id)
    tune(14, resume=run_id)
    assert "has no unfinished study" in unfinished.table(mlflow_store)
    trials = tune(4, trials=RecordedTrials(1))  # one fails, and counts for this call alone, as in hyperopt
    assert "  4 of 9  " in ctrl_c_at(2, 9, trials=trials)


def test_unfinished_studies_are_listed(run, mlflow_store: str) -> None:
    from tests.recorded_trials import tune
    from tests.test_resume import interrupt_after

    options = ["--store", mlflow_store, "--experiment", "tests"]
    command = [sys.executable, "-m", "sparktune", "resume", *options]
    tune(2)
    assert "the experiment 'tests' in sqlite:///" in run(command).stdout
    older, newer = interrupt_after(2), interrupt_after(3)
    done = run(command)
    assert done.returncode == 0, done.stderr
    header, first, second, _, advice = done.stdout.splitlines()
    assert header.split() == ["run", "began", "trials", "algorithm", "driver"]
    assert first.startswith(newer)
    assert second.startswith(older)
    assert "3 of 14  tpe.suggest  is gone" in first
    assert "2 of 14  tpe.suggest  is gone" in second
    assert f'resume="{newer}"' in advice
    assert run([*command[:-1], "nothing"]).returncode == 2
