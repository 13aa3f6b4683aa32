"""The ``code`` folder of a sweep, packed: what trials of commands unpack, and what workers import."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sparktune.errors import InvalidSweep
from sparktune.sweeps.worker.folder import Archive, Modules

LEFT_OUT = frozenset(
    (".git", ".hg", ".venv", "__pycache__", ".ipynb_checkpoints", ".mypy_cache", "mlruns", "mlartifacts")
)
"""Folders that are not code."""
LARGEST = 300_000_000
"""Bytes; a larger folder is data, which does not travel with code."""


def packed(folder: Path) -> Archive:
    """The folder as an archive.

    Raises:
        InvalidSweep: it is too large, or cannot be read.
    """
    stream = io.BytesIO()
    size = 0
    with tarfile.open(fileobj=stream, mode="w:") as tar:
        for path in files(folder):
            size += 0 if path.is_symlink() else path.stat().st_size
            if size > LARGEST:
                raise InvalidSweep(
                    f"trial.code: the folder {str(folder)!r} has more than {LARGEST // 1_000_000} MB; keep "
                    "data elsewhere, and hand it to the command as an input (a path or an address)"
                )
            try:
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
            except OSError as error:
                raise InvalidSweep(f"trial.code: {str(path)!r} cannot be read: {error.strerror}") from None
    return Archive(stream.getvalue())


def files(folder: Path) -> Iterator[Path]:
    """The files and folders below a folder, each folder before what is in it, in a fixed order."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in sorted([*names, *folders]):
            path = Path(root, name)
            if path.is_symlink() or path.is_file() or path.is_dir():
                yield path


def modules(folder: Path) -> Modules:
    """The files of a folder as a zip file, from which workers import.

    Raises:
        InvalidSweep: a file cannot be read.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in files(folder):
            if path.is_file():
                try:
                    # The same bytes for the same files: their digest names them on a worker's machine.
                    zipped.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
                except OSError as error:
                    raise InvalidSweep(
                        f"trial.code: {str(path)!r} cannot be read: {error.strerror}"
                    ) from None
    return Modules(stream.getvalue())
