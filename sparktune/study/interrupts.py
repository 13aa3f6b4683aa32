"""Ctrl-C and SIGTERM: raise ``KeyboardInterrupt`` where it can do no harm, and that alone.

PySpark's own handler cancels every job of the session first, other people's too; and an interrupt in the
middle of a call to Java leaves a connection behind on which the user's next call fails.

SIGTERM is how Kubernetes, YARN and schedulers announce that a process will be killed. Python's default ends
the process without any cleanup, so that the study would seem to run on.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType

logger = logging.getLogger("sparktune")

ONE_WISH_S = 2.0
"""Interrupts that follow another within so many seconds are one wish with it."""


@dataclass
class _State:
    """Of the main thread, which alone receives signals.

    Attributes:
        depth: how many ``held`` blocks it is in.
        due: the interrupt that one of them holds back.
        wished_at: the monotonic time of the last wish.
    """

    depth: int = 0
    due: type[KeyboardInterrupt] | None = None
    wished_at: float = -math.inf


_state = _State()


class Terminated(KeyboardInterrupt):
    """SIGTERM, while ``raised`` is in effect."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """While the block runs, Ctrl-C raises ``KeyboardInterrupt``, but for what ``held`` says.

    SIGTERM raises it too, and after the block ends the process, as it would have done before. Changes nothing
    outside the main thread, and where the program handles the signal in a way of its own.

    Raises:
        SystemExit: with 143 (128 + SIGTERM), after SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as stack:
        before = signal.getsignal(signal.SIGINT)
        is_pysparks = getattr(before, "__module__", "").partition(".")[0] == "pyspark"
        if before is signal.default_int_handler or is_pysparks:
            stack.callback(signal.signal, signal.SIGINT, before)
            _state.wished_at = -math.inf
            signal.signal(signal.SIGINT, _handle)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, _handle)
        try:
            yield
        except Terminated:
            stack.close()
            if hasattr(builtins, "get_ipython"):  # a notebook's kernel does not end by SystemExit
                signal.raise_signal(signal.SIGTERM)
            raise SystemExit(128 + signal.SIGTERM) from None


class Brief:
    """Has a ``KeyboardInterrupt`` leave the block without the frames inside of it.

    Where the wait for a trial ended says nothing to a user, and a notebook shows 70 lines of it below what
    the study tells. The whole is in the log, at level DEBUG.
    """

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the frames; the exception goes on."""
        if isinstance(error, KeyboardInterrupt):
            logger.debug("interrupted here", exc_info=error)
            error.__traceback__ = error.__cause__ = error.__context__ = None


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Ctrl-C waits until the end of this block; a second wish does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        if _state.due is not None and not _state.depth:
            due, _state.due = _state.due, None
            raise due


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """A signal handler: the signal is Ctrl-C. ``signal.signal(signal.SIGTERM, interrupts.interrupt)``."""
    _raise(KeyboardInterrupt)


def _handle(number: int, _frame: FrameType | None) -> None:
    _raise(Terminated if number == signal.SIGTERM else KeyboardInterrupt)


def _raise(kind: type[KeyboardInterrupt]) -> None:
    now = time.monotonic()
    if now - _state.wished_at < ONE_WISH_S:
        return
    _state.wished_at = now
    if _state.depth and _state.due is None:
        _state.due = kind
    else:
        _state.due = None
        raise kind
