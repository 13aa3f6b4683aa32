"""Ctrl-C and SIGTERM: raise ``KeyboardInterrupt`` where it does no harm, and nothing else.

The driver's loop is ``shielded``: it is interrupted only where it waits for events (``get``) and in the
user's code (``admitted``), so that nothing that has arrived is lost.

PySpark's handler first cancels every job of the session, other people's too; and an interrupt in the middle
of a call to Java leaves a connection behind on which the user's next call fails.

SIGTERM is how Kubernetes, YARN and schedulers announce that a process will be killed. Python's default ends
the process without any cleanup, so that the study would seem to run on.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import math
import queue
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger("sparktune")

ONE_REQUEST_S = 2.0
"""Interrupts that follow another within so many seconds count as the same request."""


@dataclass(eq=False)
class _Shield:
    """A ``shielded`` block."""

    is_over: bool = False


@dataclass
class _State:
    """Of the main thread, which alone receives signals.

    Attributes:
        depth: how many ``held`` and ``shielded`` blocks it is in.
        due: the interrupt that one of them delays.
        requested_at: the monotonic time of the last request.
        shield: the ``shielded`` block that it is in, unless it is in one that is ``admitted`` there.
        waits_for: the inbox that ``get`` waits for.
    """

    depth: int = 0
    due: type[KeyboardInterrupt] | None = None
    requested_at: float = -math.inf
    shield: _Shield | None = None
    waits_for: queue.SimpleQueue[Any] | None = None

    @property
    def admits(self) -> bool:
        """Whether an interrupt may be raised in ``get`` and in ``admitted``."""
        return self.shield is not None and self.depth == 1

    def raise_due(self) -> None:
        """Raise the delayed interrupt, if there is one."""
        if self.due is not None:
            due, self.due = self.due, None
            raise due


_state = _State()


class Terminated(KeyboardInterrupt):
    """SIGTERM, while ``raised`` is in effect."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """While the block runs, Ctrl-C raises ``KeyboardInterrupt``, except within ``held`` blocks.

    SIGTERM raises it too, and ends the process after the block, as it would have done before. Changes nothing
    outside the main thread, or where the program has its own handler for the signal.

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
            _state.requested_at = -math.inf
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
    """Drops the frames inside the block from a ``KeyboardInterrupt`` that leaves it.

    Where the wait for a trial was interrupted means nothing to a user, and a notebook shows 70 lines of it
    below the study's messages. The whole traceback is logged at level DEBUG.
    """

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the frames; the exception propagates."""
        if isinstance(error, KeyboardInterrupt):
            logger.debug("interrupted here", exc_info=error)
            error.__traceback__ = error.__cause__ = error.__context__ = None


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Ctrl-C waits until the end of this block; a second one does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        if not _state.depth:
            _state.raise_due()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Ctrl-C waits for ``get``, ``admitted`` or the end of this block; a second one does not."""
    if threading.current_thread() is not threading.main_thread() or _state.depth:
        yield
        return
    shield, before = _Shield(), _state.shield
    try:
        _state.depth, _state.shield = 1, shield
        yield
    finally:
        shield.is_over = True
        _state.depth, _state.shield = 0, before
        _state.raise_due()


@contextlib.contextmanager
def admitted() -> Iterator[None]:
    """In a ``shielded`` block: Ctrl-C may be raised within this one, which runs the user's code.

    An interrupt that was delayed before it is not raised here: that is for ``admit``.
    """
    shield = _state.shield
    if threading.current_thread() is not threading.main_thread() or shield is None or not _state.admits:
        yield
        return
    try:
        _state.depth, _state.shield = 0, None
        yield
    finally:
        if not shield.is_over:  # a generator that was left by an interrupt may end late
            _state.depth, _state.shield = 1, shield


def admit() -> None:
    """In a ``shielded`` block: raise the delayed interrupt, if there is one."""
    if threading.current_thread() is threading.main_thread() and _state.admits:
        _state.raise_due()


_WAKE = object()


def get(inbox: queue.SimpleQueue[Any], timeout: float | None = None) -> Any:
    """The next of an inbox. In a ``shielded`` block Ctrl-C is raised here, and takes nothing out of it.

    Raises:
        queue.Empty: nothing came in ``timeout`` seconds; perhaps earlier.
        KeyboardInterrupt: Ctrl-C, now or in the block before.
    """
    admits = threading.current_thread() is threading.main_thread() and _state.admits
    try:
        if admits:
            _state.waits_for = inbox
            _state.raise_due()
        found = inbox.get(timeout=timeout)
    finally:
        if admits:
            _state.waits_for = None
    if found is _WAKE:
        if admits:
            _state.raise_due()
        raise queue.Empty
    return found


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """A signal handler: the signal is Ctrl-C. ``signal.signal(signal.SIGTERM, interrupts.interrupt)``."""
    _raise(KeyboardInterrupt)


def _handle(number: int, _frame: FrameType | None) -> None:
    _raise(Terminated if number == signal.SIGTERM else KeyboardInterrupt)


def _raise(kind: type[KeyboardInterrupt]) -> None:
    now = time.monotonic()
    if now - _state.requested_at < ONE_REQUEST_S:
        return
    _state.requested_at = now
    if _state.depth and _state.due is None:
        _state.due = kind
        if _state.waits_for is not None:
            _state.waits_for.put(_WAKE)  # may be called in a signal handler, see its documentation
    else:
        _state.due = None
        raise kind
