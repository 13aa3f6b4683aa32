"""The ``code`` folder of a sweep, packed: what trials of commands unpack, and what workers import."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sparktune.errors import InvalidSweep
from sparktune.sweeps.worker.folder import Archive

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


class ModuleArchive:
    """The Python files of a folder as a zip file, for Spark's list of Python files; removed by ``close``."""

    def __init__(self, folder: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sparktune-")
        content = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder) if path.is_file()
        }
        digest = hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]
        self.path = Path(self._folder.name, f"sweep-{digest}.zip")
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in content.items():
                zipped.writestr(name, data)

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()
