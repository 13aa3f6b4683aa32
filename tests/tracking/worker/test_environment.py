"""MLFLOW_RUN_ID for whoever looks, however he looks, when the run comes after the objective began."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparktune.study.tracker import RunContext
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.redirect import redirect

SHOW = [sys.executable, "-c", "import os; print(os.environ.get('MLFLOW_RUN_ID'))"]
CONTEXT = RunContext(None, "http://server", None, "7", claim="{}")


def shown(**options: Any) -> str:
    return subprocess.run(SHOW, capture_output=True, text=True, check=True, **options).stdout.strip()


def system() -> str:
    assert os.system("echo $MLFLOW_RUN_ID > shown.txt") == 0
    return Path("shown.txt").read_text().strip()


def forked() -> str | None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, (os.environ.get("MLFLOW_RUN_ID") or "").encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read) as pipe:
        return pipe.read()


def spawned() -> str | None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(os.getenv, ("MLFLOW_RUN_ID",))


LOOKS: dict[str, Callable[[], str | None]] = {
    "environ[]": lambda: os.environ["MLFLOW_RUN_ID"],
    "getenv": lambda: os.getenv("MLFLOW_RUN_ID"),
    "in": lambda: "r" if "MLFLOW_RUN_ID" in os.environ else None,
    "copy": lambda: os.environ.copy().get("MLFLOW_RUN_ID"),
    "dict": lambda: dict(os.environ).get("MLFLOW_RUN_ID"),
    "or": lambda: (os.environ | {"a": "b"}).get("MLFLOW_RUN_ID"),
    "pop": lambda: os.environ.pop("MLFLOW_RUN_ID", None),
    "subprocess": shown,
    "with an environment": lambda: shown(env={**os.environ, "a": "b"}),
    "shell": lambda: subprocess.check_output("echo $MLFLOW_RUN_ID", shell=True, text=True).strip(),
    "system": system,
    "fork": forked,
    "multiprocessing": spawned,
}


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The questions; the driver answers each with the run ``r``, from another thread."""
    questions: list[str] = []

    def ask() -> None:
        questions.append("?")
        threading.Thread(target=arrival.tell, args=("r",)).start()

    arrival = RunArrival(None, ask)
    before = variables()
    with redirect(CONTEXT, arrival):
        yield questions
    assert variables() == before
    assert type(os.environ) is type(os.environb)


@pytest.mark.parametrize("way", LOOKS)
def test_whoever_looks_finds_the_run(asked: list[str], way: str) -> None:
    assert not asked
    assert LOOKS[way]() == "r"
    assert asked == ["?"]


def test_other_variables_do_not_wait(asked: list[str]) -> None:
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://server"
    assert os.getenv("HOME") == os.environ.get("HOME")
    os.environ["SPARKTUNE_TEST"] = "x"
    del os.environ["SPARKTUNE_TEST"]
    with open(os.devnull) as file:
        file.read()
    assert asked == []


def test_an_objective_may_take_the_variable_away(asked: list[str]) -> None:
    del os.environ["MLFLOW_RUN_ID"]
    assert shown() == "None"
    os.environ["MLFLOW_RUN_ID"] = "mine"
    assert shown() == "mine"


def test_a_run_that_comes_unasked_is_there() -> None:
    arrival = RunArrival(None)
    with redirect(CONTEXT, arrival):
        assert os.environb.get(b"MLFLOW_RUN_ID") is None
        arrival.tell("r")
        assert os.environb.get(b"MLFLOW_RUN_ID") == b"r"
    arrival = RunArrival(None)
    with redirect(CONTEXT, arrival):
        pass
    arrival.tell("late")
    assert "MLFLOW_RUN_ID" not in os.environ


def test_a_run_that_cannot_be_had_stays_unset() -> None:
    with redirect(CONTEXT, RunArrival(None)):
        assert os.getenv("MLFLOW_RUN_ID") is None
        assert shown() == "None"
