"""Waiting for answers: in time, too late, and never."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from sparktune.tracking import asking
from sparktune.tracking.timeouts import LEAST_S, Timeouts

pytestmark = pytest.mark.unit


def test_the_answer() -> None:
    assert asking.ask(Timeouts(30), "GetRun", "one", lambda _limit_s: 7) == 7


def test_what_the_request_raises() -> None:
    def refuse(_limit_s: float) -> None:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError, match="refused"):
        asking.ask(Timeouts(30), "GetRun", "one", refuse)


@pytest.mark.parametrize(
    ("said", "limit_s"), [("Read timed out.", 2 * LEAST_S), ("connection refused", LEAST_S)]
)
def test_silence_gives_a_request_more_time_and_a_refusal_does_not(said: str, limit_s: float) -> None:
    def fail(_limit_s: float) -> None:
        raise OSError(said)

    timeouts = Timeouts(120)
    asking.ask(timeouts, "GetRun", "another", lambda _limit_s: None)
    with pytest.raises(OSError, match=said):
        asking.ask(timeouts, "GetRun", "one", fail)
    assert timeouts.limit_s(timeouts.began("GetRun", "one")) == limit_s


def test_it_is_not_waited_for_longer_than_is_sensible() -> None:
    answered = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"GetRun timed out after 0\.2 s"):
        asking.ask(Timeouts(0.2), "GetRun", "one", lambda _limit_s: answered.wait(30))
    assert time.monotonic() - began < 10
    answered.set()


def test_a_request_under_way_is_given_up_when_others_overtake_it() -> None:
    timeouts, answered, begun = Timeouts(30), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def silent(_limit_s: float) -> None:
        begun.set()
        answered.wait(60)

    def wait() -> None:
        try:
            asking.ask(timeouts, "GetRun", "silent", silent)
        except TimeoutError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(30)
    for n in range(10):
        asking.ask(timeouts, "GetRun", f"{n}", lambda _limit_s: None)
    thread.join(4)  # less than any other limit
    assert raised
    answered.set()


def test_ctrl_c_while_waiting_leaves_no_request_behind() -> None:
    timeouts, answered = Timeouts(120), threading.Event()

    def interrupt(_limit_s: float) -> bool:
        signal.raise_signal(signal.SIGINT)
        return answered.wait(30)

    known = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asking.ask(timeouts, "GetRun", "one", interrupt)
    finally:
        signal.signal(signal.SIGINT, known)
        answered.set()
    assert not timeouts._under_way


def test_threads_are_used_again_and_end() -> None:
    threads, names = asking.Threads(), []
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            names.append(threading.current_thread())
            done.set()

        threads.run(job)
        assert done.wait(30)
    assert len(set(names)) < 20
    for thread in set(names):
        thread.join(30)
        assert not thread.is_alive()
