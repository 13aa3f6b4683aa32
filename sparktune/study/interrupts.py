"""Ctrl-C: raises ``KeyboardInterrupt`` where it can do no harm, and that alone.

PySpark's own handler cancels every job of the session first, other people's too; and an interrupt in the
middle of a call to Java leaves a connection behind on which the user's next call fails.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

ONE_WISH_S = 2.0
"""Interrupts that follow another within so many seconds are one wish with it."""


@dataclass
class _State:
    """Of the main thread, which alone receives signals.

    Attributes:
        depth: how many ``held`` blocks it is in.
        is_due: whether one of them holds an interrupt back.
        wished_at: the monotonic time of the last wish.
    """

    depth: int = 0
    is_due: bool = False
    wished_at: float = -math.inf


_state = _State()


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """While the block runs, Ctrl-C raises ``KeyboardInterrupt``, but for what ``held`` says.

    Changes nothing outside the main thread, and where the program handles SIGINT in a way of its own.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_known = handler is signal.default_int_handler
    is_known = is_known or getattr(handler, "__module__", "").partition(".")[0] == "pyspark"
    if not is_known or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.wished_at = -math.inf
    signal.signal(signal.SIGINT, _handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


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
        if _state.is_due and not _state.depth:
            _state.is_due = False
            raise KeyboardInterrupt


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler: the signal is Ctrl-C. ``signal.signal(signal.SIGTERM, interrupts.interrupt)``."""
    _handle(number, frame)


def _handle(_number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if now - _state.wished_at < ONE_WISH_S:
        return
    _state.wished_at = now
    if _state.depth and not _state.is_due:
        _state.is_due = True
    else:
        _state.is_due = False
        raise KeyboardInterrupt
