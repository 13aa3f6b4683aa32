"""Where Ctrl-C is raised, and where it waits."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from sparktune.study import interrupts
from sparktune.study.cut_off import cut_off_reason

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    """Python's handler, which a run in the background of a shell, where SIGINT is ignored, does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_raised_at_once_outside_of_held_blocks() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        press()
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_the_process_when_what_there_is_to_do_is_done() -> None:
    done = []

    def work() -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            done.append(1)

    with pytest.raises(SystemExit) as caught, interrupts.raised():
        work()
    assert caught.value.code == 143
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    assert cut_off_reason(caught.value.__context__) == "fmin run ended by SIGTERM"
    assert done == [1]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_held_until_the_outermost_block_ends() -> None:
    done = []

    def work() -> None:
        with interrupts.held():
            with interrupts.held():
                press()
                press()  # two in a row are one
                done.append("inner")
            done.append("outer")

    with interrupts.raised():
        with pytest.raises(KeyboardInterrupt):
            work()
        with interrupts.held():
            done.append("nothing is held back any more")
    assert len(done) == 3


def test_two_in_a_row_are_one_wish() -> None:
    with interrupts.raised():
        with pytest.raises(KeyboardInterrupt):
            press()
        press()
    with interrupts.raised(), pytest.raises(KeyboardInterrupt):
        press()  # not of this fmin call's


def test_an_exception_in_a_held_block_gives_way_to_the_interrupt() -> None:
    def work() -> None:
        with interrupts.held():
            press()
            raise ValueError

    with interrupts.raised(), pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_the_impatient_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ONE_REQUEST_S", 0.0)
    reached = []

    def work() -> None:
        with interrupts.held():
            press()
            reached.append(1)
            press()
            reached.append(2)

    with interrupts.raised():
        with pytest.raises(KeyboardInterrupt):
            work()
        with interrupts.held():
            pass
    assert reached == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_of_the_programs_own_stays(number: signal.Signals) -> None:
    pressed = []
    before = signal.signal(number, lambda *_arguments: pressed.append(1))
    try:
        with interrupts.raised(), interrupts.held():
            signal.raise_signal(number)
        assert pressed == [1]
    finally:
        signal.signal(number, before)


def test_other_threads_hold_nothing() -> None:
    def work() -> None:
        with interrupts.raised(), interrupts.held():
            entered.set()
            leave.wait()

    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        press()
    leave.set()
    thread.join()


def test_in_a_shielded_block_it_waits_for_where_it_is_admitted() -> None:
    done: list[int] = []
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()

    def work(wait: Callable[[], object]) -> None:
        with interrupts.raised(), interrupts.shielded():
            with interrupts.held():
                press()
                interrupts.admit()  # within what holds it back, nothing is admitted
                with interrupts.admitted():
                    done.append(1)
            done.append(2)
            wait()
            done.append(3)

    inbox.put(7)
    for wait in (interrupts.admit, lambda: interrupts.get(inbox)):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            work(wait)
        assert done == [1, 2]
    assert interrupts.get(inbox) == 7, "nothing was taken out"
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        work(lambda: None)
    assert done == [1, 2, 3], "at the end of the block"


def test_who_waits_for_an_inbox_is_woken() -> None:
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
    main = threading.get_ident()
    waits = threading.Event()
    presses = threading.Thread(target=lambda: waits.wait(60) and signal.pthread_kill(main, signal.SIGINT))
    presses.start()

    def work() -> None:
        with interrupts.raised(), interrupts.shielded():
            waits.set()
            interrupts.get(inbox, timeout=60)

    with pytest.raises(KeyboardInterrupt):
        work()
    presses.join()


def test_an_item_that_comes_with_the_interrupt_is_not_lost() -> None:
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Pressed:
        """An inbox in which an item arrives in the same moment as Ctrl-C."""

        put = inbox.put

        def get(self, timeout: float | None) -> int:
            inbox.put(1)
            press()
            return inbox.get(timeout=timeout)

    taken = []

    def work() -> None:
        with interrupts.raised(), interrupts.shielded():
            taken.append(interrupts.get(Pressed()))  # type: ignore[arg-type]
            interrupts.get(inbox)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert taken == [1]
    with pytest.raises(queue.Empty):
        interrupts.get(inbox, timeout=0.0)


def test_in_other_threads_an_inbox_is_an_inbox() -> None:
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
    found: list[int] = []

    def work() -> None:
        with interrupts.shielded(), interrupts.admitted():
            found.append(interrupts.get(inbox, timeout=60))

    thread = threading.Thread(target=work)
    thread.start()
    inbox.put(1)
    thread.join()
    assert found == [1]


def test_a_study_inside_a_study_does_not_switch_it_off() -> None:
    """As in an objective of ``SimulatedTrials``, or in a search algorithm, that calls ``fmin``."""
    done: list[int] = []

    def inner() -> None:
        with interrupts.raised(), interrupts.shielded():
            with interrupts.held():
                pass
            with interrupts.admitted():
                done.append(1)

    def outer() -> None:
        with interrupts.raised(), interrupts.shielded():
            with interrupts.admitted():
                inner()
            press()
            done.append(2)
            interrupts.admit()
            done.append(3)

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == [1, 2]


def test_a_block_that_ends_late_changes_nothing() -> None:
    """The generator of a block that an interrupt left in its last moment is finalised some time later."""
    left = []

    def work() -> None:
        with interrupts.raised(), interrupts.shielded():
            left.append(interrupts.admitted())
            left[0].__enter__()
            press()

    with pytest.raises(KeyboardInterrupt):
        work()
    left[0].__exit__(None, None, None)
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        press()


def test_the_users_own_code_is_cut() -> None:
    done: list[int] = []

    def work() -> None:
        with interrupts.raised(), interrupts.shielded(), interrupts.admitted():
            press()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []
