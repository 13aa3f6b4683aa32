"""The console: whether people read what is printed, and whether a log is shown there too."""

from __future__ import annotations

import logging
import sys
from typing import Any


def someone_watches() -> bool:
    """Whether a person reads the output: a terminal or a notebook, not a log file."""
    if "ipykernel" in sys.modules:
        return True
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def shows(log: logging.Logger, level: int = logging.INFO, besides: logging.Handler | None = None) -> bool:
    """Whether the lines of a logger are shown on the console.

    Args:
        log: the logger.
        level: of the line.
        besides: a handler that does not count.
    """
    if not log.isEnabledFor(level):
        return False
    at: logging.Logger | None = log
    while at is not None:
        if any(handler is not besides and _is_on_console(handler, level) for handler in at.handlers):
            return True
        at = at.parent if at.propagate else None
    return False


def _is_on_console(handler: logging.Handler, level: int) -> bool:
    stream: Any = getattr(handler, "stream", None)
    if stream is None:  # rich's
        stream = getattr(getattr(handler, "console", None), "file", None)
    consoles = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    return handler.level <= level and stream is not None and any(stream is known for known in consoles)


def announce(text: str, log: logging.Logger) -> None:
    """Report a step once: in the log, and on the console where a person reads it."""
    log.info("%s", text)
    if someone_watches() and not shows(log):
        print(text, file=sys.stderr, flush=True)
