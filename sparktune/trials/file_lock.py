"""One ``fmin`` call at a time on one save file.

The lock is POSIX's, on a file beside the one it guards, since that one is replaced repeatedly. It ends with
its process, and children do not inherit it; two threads of one process are kept apart here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from sparktune.errors import SaveFileError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger("sparktune")

_guard = threading.Lock()
_ours: set[Path] = set()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a save file for one ``fmin`` call.

    Where the file system has no locks the call continues without one, and logs a warning.

    Raises:
        SaveFileError: another call holds it, in this process or another.
    """
    path = path.parent.resolve() / path.name
    with _guard:
        if path in _ours:
            raise _in_use(path, "of this process")
        _ours.add(path)
    try:
        lock = path.with_name(f".{path.name}.lock")
        descriptor = _locked(path, lock)
        try:
            yield
        finally:
            if descriptor is not None:
                # While it is locked: a process that opened it meanwhile finds that it is not the one at its
                # path.
                with contextlib.suppress(OSError):
                    lock.unlink()
                os.close(descriptor)
    finally:
        with _guard:
            _ours.discard(path)


def _locked(path: Path, lock: Path) -> int | None:
    if sys.platform == "win32":
        return None
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            _warn_unlocked(path, error)
            return None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, descriptor):
                with contextlib.suppress(OSError):  # a full disk; it is only for the other's message
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except (BlockingIOError, PermissionError):
            holder = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise _in_use(path, f"of {holder or 'another process'}") from None
        except OSError as error:
            os.close(descriptor)
            _warn_unlocked(path, error)
            return None
        os.close(descriptor)


def _is_at(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _warn_unlocked(path: Path, error: OSError) -> None:
    logger.warning(
        "trials_save_file %s cannot be locked (%s); make sure that no other fmin call uses it meanwhile",
        path,
        error,
    )


def _in_use(path: Path, whose: str) -> SaveFileError:
    return SaveFileError(
        f"trials_save_file {os.fspath(path)!r} is in use by another fmin call, {whose}; wait for its end, or "
        "give another name"
    )
