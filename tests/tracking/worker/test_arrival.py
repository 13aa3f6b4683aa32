"""How the id of a run reaches an objective that needs it."""

from __future__ import annotations

import os
import threading

import pytest

from sparktune.tracking.worker import arrival as module
from sparktune.tracking.worker.arrival import RunArrival

pytestmark = pytest.mark.unit


def test_a_known_run_is_not_asked_for() -> None:
    def ask() -> None:
        raise AssertionError("not needed")

    assert RunArrival("r", ask).get() == "r"
    assert RunArrival(None).get() is None


def test_every_question_waits_for_its_answer() -> None:
    answers = iter([None, "r"])
    arrival = RunArrival(None, lambda: threading.Thread(target=arrival.tell, args=(next(answers),)).start())
    assert arrival.get() is None
    assert arrival.get() == "r"
    assert arrival.get() == "r"
    arrival.tell("another")
    assert arrival.get() == "r"


def test_a_driver_that_does_not_answer_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUN_PATIENCE_S", 0.01)
    questions: list[str] = []
    arrival = RunArrival(None, lambda: questions.append("?"))
    assert arrival.get() is None
    assert arrival.get() is None
    assert questions == ["?"]
    assert arrival.search_s == 0, "it was waited for already"


def test_a_driver_that_is_lost_may_still_be_creating_the_run() -> None:
    def ask() -> None:
        raise ConnectionResetError

    arrival = RunArrival(None, ask)
    assert arrival.get() is None
    assert arrival.search_s == module.RUN_PATIENCE_S


def test_who_watches_is_told_until_he_looks_away() -> None:
    seen: list[str] = []
    arrival = RunArrival(None)
    arrival.watch(seen.append)
    arrival.tell(None)
    arrival.tell("r")
    arrival.watch(seen.append)
    arrival.watch(None)
    assert seen == ["r", "r"]
    late = RunArrival(None)
    late.watch(seen.append)
    late.watch(None)
    late.tell("late")
    assert seen == ["r", "r"]


def test_a_forked_process_does_not_speak_on_its_parents_connection() -> None:
    arrival = RunArrival(None, lambda: os._exit(1))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if arrival.get() is None else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
