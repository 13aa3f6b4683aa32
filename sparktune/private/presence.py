"""Looks up undocumented names of libraries, and warns once of a missing one."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("sparktune")

_messages: dict[str, str] = {}
"""Name -> the warning about it in this process."""
_lock = threading.Lock()


class _Output:
    is_logged = True


def read(owner: Any, name: str) -> Any:
    """The attribute ``name`` of ``owner``.

    Raises:
        AttributeError: this version of its library does not have it.
    """
    return getattr(owner, name)


def missing(library: str, name: str, consequence: str) -> None:
    """Warn that a name is missing, and what that changes; once in this process.

    Args:
        library: as pip knows it.
        name: with its class or module.
        consequence: what is different without it.
    """
    with _lock:
        if name in _messages:
            return
        try:
            version = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:  # a runtime's own build
            version = "of this environment"
        _messages[name] = f"{library} {version} does not offer {name}, which sparktune uses: {consequence}"
    if _Output.is_logged:
        logger.warning("%s", _messages[name])


def said() -> list[str]:
    """The warnings of this process."""
    return list(_messages.values())


@contextlib.contextmanager
def left_to_driver() -> Iterator[None]:
    """In a worker, whose log few people read: nothing is logged; the driver logs what ``said`` returns."""
    before, _Output.is_logged = _Output.is_logged, False
    try:
        yield
    finally:
        _Output.is_logged = before
