"""Looking for a name that its library does not document, and saying once that it is missing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("sparktune")

_said: dict[str, str] = {}
"""Name -> what was said of it in this process."""
_lock = threading.Lock()


class _Voice:
    is_heard = True


def read(owner: Any, name: str) -> Any:
    """The attribute ``name`` of ``owner``.

    Raises:
        AttributeError: this version of its library has none.
    """
    return getattr(owner, name)


def missing(library: str, name: str, consequence: str) -> None:
    """Say that a name is missing, and what that changes; once in this process.

    Args:
        library: as pip knows it.
        name: with its class or module.
        consequence: what is different without it.
    """
    with _lock:
        if name in _said:
            return
        try:
            version = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:  # a runtime's own build
            version = "of this environment"
        _said[name] = f"{library} {version} does not offer {name}, which sparktune uses: {consequence}"
    if _Voice.is_heard:
        logger.warning("%s", _said[name])


def said() -> list[str]:
    """What was said in this process."""
    return list(_said.values())


@contextlib.contextmanager
def left_to_driver() -> Iterator[None]:
    """In a worker, whose log few people read: nothing is logged, and the driver logs what was ``said``."""
    before, _Voice.is_heard = _Voice.is_heard, False
    try:
        yield
    finally:
        _Voice.is_heard = before
