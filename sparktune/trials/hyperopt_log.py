"""The logger of hyperopt's ``SparkTrials``, whose lines alerting of unattended jobs may match.

hyperopt adds a handler to it where logging was not configured when it was imported, so that a script shows
these lines without any set-up. Logging that is configured later would show each of them twice.
"""

from __future__ import annotations

import logging

from sparktune.study import console

logger = logging.getLogger("hyperopt-spark")


class _UnlessShown(logging.Filter):
    """Drops what another handler shows on the console."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this handler alone shows the record."""
        return not console.shows(logger, record.levelno, besides=self._handler)


def _avoid_duplicates() -> None:
    """Filter hyperopt's handler; unlike the user's handlers, it has no format."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler and handler.formatter is None:
            handler.addFilter(_UnlessShown(handler))


_avoid_duplicates()
