"""Waits for a server's answer no longer than is sensible, which may change while it waits.

Each request is made in a thread of its own pool: a blocking call cannot be told to give up earlier. What is
given up goes on there until its socket times out: an answer that comes then tells that the server is slow.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sparktune.tracking.timeouts import CREATE, LEAST_S, LEAST_TO_CREATE_S, Timeouts

T = TypeVar("T")

LOOK_S = 0.5
"""How often it is looked whether a request has become one that is waited for in vain."""
IDLE_S = 1.0
"""How long a thread waits for more to do."""

_numbers = itertools.count()


class Threads:
    """Daemon threads, as many as are needed at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = 0

    def run(self, job: Callable[[], None]) -> None:
        """Have the job done, which must not raise."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._jobs.put(job)
                return
        name = f"sparktune-request-{next(_numbers)}"
        threading.Thread(target=self._work, args=(job,), name=name, daemon=True).start()

    def _work(self, job: Callable[[], None] | None) -> None:
        while job is not None:
            job()
            with self._lock:
                self._idle += 1
            job = self._next()

    def _next(self) -> Callable[[], None] | None:
        while True:
            try:
                return self._jobs.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # else a job was put for this thread just now
                        self._idle -= 1
                        return None


_threads = Threads()


def _forget_threads() -> None:
    """A forked process has none of them."""
    global _threads
    _threads = Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def ask(timeouts: Timeouts, kind: str, name: str, make: Callable[[float], T], n_bytes: int = 0) -> T:
    """The answer to a request.

    Args:
        timeouts: of the server.
        kind: see ``timeouts.Request``.
        name: see ``timeouts.Request``.
        make: makes the request; takes the time-out of its socket, seconds.
        n_bytes: see ``timeouts.Request``.

    Raises:
        TimeoutError: there was none in time.
        Exception: what ``make`` raises.
    """
    answers: list[T] = []
    errors: list[BaseException] = []
    request = timeouts.began(kind, name, n_bytes)
    is_over = threading.Event()
    socket_s = max(LEAST_TO_CREATE_S if kind == CREATE else LEAST_S, 2 * timeouts.limit_s(request))

    def job() -> None:
        try:
            answers.append(make(socket_s))
            if is_over.is_set():
                timeouts.answered_late(request)
        except BaseException as error:
            errors.append(error)
        request.news.set()

    _threads.run(job)
    while not answers and not errors:
        limit_s = timeouts.limit_s(request)
        left_s = request.began + limit_s - time.monotonic()
        if left_s <= 0:
            is_over.set()
            timeouts.given_up(request)
            raise TimeoutError(f"{kind} timed out after {limit_s:.1f} s")
        try:
            request.news.wait(min(left_s, LOOK_S))
        except BaseException:  # Ctrl-C
            is_over.set()
            timeouts.failed(request)
            raise
        request.news.clear()
    if errors:
        is_silent = "timed out" in str(errors[0]).lower()
        (timeouts.given_up if is_silent else timeouts.failed)(request)
        raise errors[0]
    timeouts.answered(request)
    return answers[0]
