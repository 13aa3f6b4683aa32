"""A SQLite store is checked before it is opened, and a new one is laid out without waiting for the disk.

MLflow creates its tables in dozens of transactions, each of which waits until the disk has it: 3.2 s on a
virtual machine's disk, 0.4 s without. Nothing is lost by that, because there is nothing yet: should the
machine lose its power in that moment, the new file is to be deleted.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sparktune.tracking.location import scheme_of


@contextlib.contextmanager
def quick(tracking_uri: str) -> Iterator[None]:
    """While the block runs, connections to a new SQLite file do not wait for the disk; afterwards they do.

    A file that exists, and any other store, is left alone.
    """
    path = _new_file(tracking_uri)
    if path is None:
        yield
        return
    event: Any = importlib.import_module("sqlalchemy.event")
    engine: Any = importlib.import_module("sqlalchemy.engine").Engine
    found: list[tuple[sqlite3.Connection, int]] = []

    def connected(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection) and _is_of(connection, path):
            found.append((connection, int(connection.execute("PRAGMA synchronous").fetchone()[0])))
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(engine, "connect", connected)
        for connection, level in found:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed
                connection.execute(f"PRAGMA synchronous={level}")


def check(tracking_uri: str) -> None:
    """Raise immediately where a local store cannot be written; MLflow tries for two minutes to open it.

    Leaves nothing behind.

    Raises:
        OSError: the folder takes no file, or the one in which it would be made.
        sqlite3.DatabaseError: the file is not a database, or cannot be written. One that is locked is fine.
    """
    path = _file(tracking_uri)
    if path is None or not path.exists():
        path = path or _folder(tracking_uri)
        if path is not None:
            _check_folder(path)
        return
    with contextlib.closing(sqlite3.connect(path, timeout=0.0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise


def is_new(tracking_uri: str) -> bool:
    """Whether the store is on this machine, and MLflow would make it when it opens it."""
    folder = _folder(tracking_uri)
    return _new_file(tracking_uri) is not None or (folder is not None and not folder.exists())


def _check_folder(path: Path) -> None:
    there = next(known for known in (path, *path.parents) if known.exists())
    try:  # permissions are not enough: a file system may be read-only
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(
            error.errno, f"nothing can be written in {there}: {error.strerror}", str(path)
        ) from error


def _new_file(tracking_uri: str) -> Path | None:
    """The file of a SQLite store that does not exist yet, or is empty; None for all else."""
    path = _file(tracking_uri)
    return None if path is None or (path.exists() and path.stat().st_size) else path


def _file(tracking_uri: str) -> Path | None:
    """The file of a SQLite store; None for all else."""
    if not scheme_of(tracking_uri).startswith("sqlite"):
        return None
    try:
        name = importlib.import_module("sqlalchemy.engine").make_url(tracking_uri).database
    except Exception:  # MLflow will report what is wrong with it
        return None
    return None if not name or name == ":memory:" or str(name).startswith("file:") else Path(name)


def _folder(tracking_uri: str) -> Path | None:
    """The folder of a file store, of an absolute address; None for all else."""
    return Path(unquote(urlsplit(tracking_uri).path)) if scheme_of(tracking_uri) == "file" else None


def _is_of(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a connection's file is this one."""
    files = [str(row[2]) for row in connection.execute("PRAGMA database_list")]
    return any(name and os.path.realpath(name) == os.path.realpath(path) for name in files)
