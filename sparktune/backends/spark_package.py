"""sparktune itself, on its way to workers that may not have it, or have another version."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import marshal
import tempfile
import zipfile
from pathlib import Path

_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Removed when this process ends: Spark reads the archive whenever an executor joins."""


@functools.cache
def archive() -> Path:
    """A zip file of this package, for Spark's list of Python files. Its name says which version it is."""
    package = Path(__file__).resolve().parent.parent
    sources = {
        f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*.py"))
    }
    digest = hashlib.sha256()
    for name, source in sources.items():
        digest.update(name.encode() + b"\0" + source + b"\0")
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="sparktune-"))
    file = Path(_FOLDERS[-1].name, f"sparktune-{digest.hexdigest()[:16]}.zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, source in sources.items():
            zipped.writestr(name, source)
            zipped.writestr(f"{name}c", _compiled(name, source))
    return file


def _compiled(name: str, source: bytes) -> bytes:
    """What a worker with the same version of Python need not compile; others pass over it (PEP 552)."""
    code = compile(source, name, "exec", dont_inherit=True)
    unchecked = (0b01).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + marshal.dumps(code)
