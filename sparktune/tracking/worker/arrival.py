"""On the worker: the id of the trial's run, which may not exist yet when the objective begins."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from sparktune.study.tracker import RUN_PATIENCE_S


class RunArrival:
    """Where the run's id is asked for and arrives.

    Args:
        run_id: where it is known already.
        ask: sends the question to the driver, whose answer comes to ``tell``; raises OSError when the driver
            cannot be reached. None where the driver cannot be asked.
        search_s: how long the run is to be looked for in the store before it is created there, because a
            driver that cannot be asked may be creating it.

    Attributes:
        run_id: once it is known.
    """

    def __init__(
        self, run_id: str | None, ask: Callable[[], None] | None = None, search_s: float = 0.0
    ) -> None:
        self.run_id = run_id
        self.search_s = search_s
        self._ask = ask
        self._pid = os.getpid()
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._watcher: Callable[[str], None] | None = None

    def tell(self, run_id: str | None) -> None:
        """The run's id; None: it cannot be created for now. Called from any thread."""
        with self._lock:
            if run_id is not None and self.run_id is None:
                self.run_id = run_id
                if self._watcher is not None:
                    self._watcher(run_id)
        self._answered.set()

    def watch(self, watcher: Callable[[str], None] | None) -> None:
        """Have ``watcher`` called with the id once it arrives (None: no watcher); not afterwards."""
        with self._lock:
            self._watcher = watcher
            if watcher is not None and self.run_id is not None:
                watcher(self.run_id)

    def get(self) -> str | None:
        """The run's id. The driver is asked where it is not known; its answer is waited for, 30 s at most."""
        ask = self._ask
        if self.run_id is not None or ask is None or self._pid != os.getpid():  # a fork has no connection
            return self.run_id
        self._answered.clear()
        try:
            if self.run_id is None:
                ask()
                if not self._answered.wait(RUN_PATIENCE_S):
                    self._ask = None
        except OSError:
            self._ask, self.search_s = None, RUN_PATIENCE_S
        return self.run_id
