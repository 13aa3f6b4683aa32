"""The ``code`` folder of a sweep, packed: what trials of commands unpack, and what workers import."""

from __future__ import annotations

import io
import logging
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparktune.errors import InvalidSweep, SparktuneError
from sparktune.sweeps.worker.folder import Archive, Modules

logger = logging.getLogger("sparktune")

LEFT_OUT = frozenset(
    (".git", ".hg", ".venv", "__pycache__", ".ipynb_checkpoints", ".mypy_cache", "mlruns", "mlartifacts")
)
"""Folders that are not code."""
IGNORE_FILES = (".amlignore", ".gitignore")
"""The file with the patterns to leave out; the first that exists, as on Azure."""
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
            leads_out = path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())
            tar.dereference = leads_out and path.is_file()
            size += path.stat().st_size if tar.dereference or not path.is_symlink() else 0
            if size > LARGEST:
                raise InvalidSweep(
                    f"trial.code: the folder {str(folder)!r} has more than {LARGEST // 1_000_000} MB; keep "
                    "data elsewhere, and pass it to the command as an input (a path or an address)"
                )
            try:
                if path.is_symlink() and not tar.dereference:
                    tar.addfile(_link(tar, path, folder, leads_out=leads_out))
                else:
                    tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
            except OSError as error:
                raise InvalidSweep(f"trial.code: {str(path)!r} cannot be read: {error.strerror}") from None
    return Archive(stream.getvalue())


def _link(tar: tarfile.TarFile, path: Path, folder: Path, *, leads_out: bool) -> tarfile.TarInfo:
    """A symbolic link that leads to the same file on a worker, where the folder has another path."""
    info = tar.gettarinfo(path, path.relative_to(folder).as_posix())
    target = path.resolve()
    if leads_out:
        logger.warning(
            "trial.code: %r is a link to %r, outside of the folder: the workers must have that",
            str(path),
            str(target),
        )
    info.linkname = str(target) if leads_out else os.path.relpath(target, path.parent.resolve())
    return info


def _ignored(folder: Path) -> Any:
    """The patterns of the folder's ignore file, or None.

    Raises:
        InvalidSweep: it cannot be read.
        SparktuneError: the package that reads it is missing.
    """
    file = next((folder / name for name in IGNORE_FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    try:
        from pathspec import GitIgnoreSpec

        return GitIgnoreSpec.from_lines(file.read_text("utf-8").splitlines())
    except ImportError as error:
        raise SparktuneError(
            f"trial.code has the file {file.name}; pathspec, which reads it, cannot be imported ({error}): "
            "pip install 'sparktune[sweeps]'"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidSweep(f"trial.code: {str(file)!r} cannot be read: {error}") from None


def files(folder: Path) -> Iterator[Path]:
    """The files and folders below a folder, each folder before what is in it, in a fixed order.

    Without the files that its ignore file names, virtual environments and ``LEFT_OUT``.
    """
    ignored = _ignored(folder)

    def is_kept(path: Path, end: str) -> bool:
        return ignored is None or not ignored.match_file(path.relative_to(folder).as_posix() + end)

    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if name not in LEFT_OUT
            and not (here / name / "pyvenv.cfg").is_file()
            and is_kept(here / name, "" if (here / name).is_symlink() else "/")
        )
        for name in sorted([*(name for name in names if is_kept(here / name, "")), *folders]):
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
