"""Notices that the Spark session of a study was stopped, or that its jobs were cancelled from outside."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from sparktune.backends.spark_application import Application
from sparktune.backends.spark_cluster import Ending, cancelled_with_caller, ending_of
from sparktune.errors import SparkNotAvailable, SparktuneError, StudyCancelled
from sparktune.study import interrupts

STOPPED = (
    "the Spark session was stopped while the study ran. The trials that finished are kept: call fmin again "
    "with the same trials object to continue"
)
TOGETHER_S = 1.0
"""Jobs of different trials that are cancelled from outside within so many seconds were cancelled together:
the Spark UI is slower. Callers from Scala may give a reason that names neither group nor tag."""


class SessionEnd:
    """The end of a study that came from outside.

    Args:
        application: where the study runs.

    Attributes:
        is_dead: the session was stopped: Spark cannot be asked any more.
        error: what ends the study; None while nothing does.
    """

    def __init__(self, application: Application) -> None:
        self._app = application
        self._cancelled_alone_at = -math.inf
        self.is_dead = False
        self.error: SparktuneError | None = None

    def look(self, error: Exception | None) -> None:
        """A job ended without an outcome, with ``error``: note whether the study has ended with it."""
        if self.error is not None:
            return
        self.is_dead = self._app.has_stopped(error)
        if self.is_dead:
            self.error = SparkNotAvailable(STOPPED)
        elif error is not None and (self._app.is_cancelled(error) or self._is_cancelled_with_others(error)):
            self.error = cancelled_with_caller(error)

    def _is_cancelled_with_others(self, error: Exception) -> bool:
        if ending_of(error) is not Ending.CANCELLED:
            return False
        before, self._cancelled_alone_at = self._cancelled_alone_at, time.monotonic()
        return self._cancelled_alone_at - before < TOGETHER_S

    @contextlib.contextmanager
    def asking_spark(self) -> Iterator[None]:
        """Around calls to Spark in the driver's thread; Ctrl-C waits for their end.

        Raises:
            SparkNotAvailable: a call failed because the session has been stopped.
            StudyCancelled: it was cancelled from outside, with all that ``fmin``'s caller runs.
        """
        with interrupts.held():
            try:
                yield
            except Exception as error:
                if self._app.has_stopped(error):
                    raise SparkNotAvailable(STOPPED) from error
                if self._app.is_cancelled(error):
                    raise cancelled_with_caller(error) from error
                raise

    @contextlib.contextmanager
    def trying_spark(self) -> Iterator[None]:
        """As ``asking_spark``; the ends of the study's jobs will show that the session has ended."""
        with contextlib.suppress(SparkNotAvailable, StudyCancelled), self.asking_spark():
            yield
