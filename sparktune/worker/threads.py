"""Threads that an objective starts belong to its trial.

Python before 3.14 starts a thread with an empty context. While ``inherited`` blocks run, threads that are
started from them, and what they submit to a ``ThreadPoolExecutor``, begin with a copy of their starter's
context: its trial, and where reports go. Other threads are started as usual.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparktune.private.replacing import ReplacedMethod

_inherits: contextvars.ContextVar[bool] = contextvars.ContextVar("sparktune_inherits", default=False)


class _Patches:
    """Of this process: how many blocks need them."""

    lock = threading.Lock()
    wanted = 0
    made: tuple[ReplacedMethod, ...] = ()


@contextlib.contextmanager
def inherited() -> Iterator[None]:
    """While the block runs, threads that are started from it inherit its context."""
    with _Patches.lock:
        _Patches.wanted += 1
        if _Patches.wanted == 1:
            _Patches.made = (
                ReplacedMethod(threading.Thread, "start", _start),
                ReplacedMethod(ThreadPoolExecutor, "submit", _submit),
            )
    token = _inherits.set(True)
    try:
        yield
    finally:
        _inherits.reset(token)
        with _Patches.lock:
            _Patches.wanted -= 1
            if _Patches.wanted == 0:
                for patch in _Patches.made:
                    patch.restore()


def _start(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        if _inherits.get():
            self.run = functools.partial(contextvars.copy_context().run, self.run)  # type: ignore[method-assign]
        original(self)

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not _inherits.get():
            return original(self, fn, *args, **kwargs)
        run = contextvars.copy_context().run
        # The pool may outlive the trial: its threads are not the trial's, what they do for it is.
        return contextvars.Context().run(original, self, run, fn, *args, **kwargs)

    return submit
