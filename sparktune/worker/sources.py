"""The user's own modules: which an objective uses, where they come from, and whether they have changed.

Own are those that are neither Python's, nor installed packages, nor sparktune: the files that a user edits
between two studies. On the driver they are found when the objective is packed; on a worker ``imports`` notes
them when they are imported.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Signature = tuple[int, int, int]
"""Of a file: time of its last change in ns, size in bytes, inode."""

_INSTALLED = frozenset(("site-packages", "dist-packages", "pyspark", "pyspark.zip"))
"""Folders that hold packages, and those of PySpark, wherever Spark has put it."""
_PYTHONS = tuple(
    os.path.join(os.path.realpath(folder), "")
    for name in ("stdlib", "platstdlib")
    if (folder := sysconfig.get_path(name))
)


class Source(NamedTuple):
    """A module of the driver.

    Attributes:
        digest: of the content of its file.
        path: of its file.
    """

    digest: str
    path: str


def own_file(name: str, module: Any) -> str | None:
    """The file of a loaded module that is the user's own; None for any other."""
    spec = getattr(module, "__spec__", None)
    path = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    return path if isinstance(path, str) and is_own(name, path) else None


def is_own(name: str, path: str) -> bool:
    """Whether the module of this name, in this file, is one that the user may edit."""
    if name.partition(".")[0] in ("sparktune", "__main__", "__mp_main__"):
        return False
    return os.path.isabs(path) and _holds_own(os.path.dirname(path))


@functools.cache
def _holds_own(folder: str) -> bool:
    real = os.path.join(os.path.realpath(folder), "")
    return not real.startswith(_PYTHONS) and _INSTALLED.isdisjoint((folder + real).split(os.sep))


def signature(path: str) -> Signature | None:
    """What changes with a file, or with the archive that holds it; None where there is none."""
    while len(path) > 1:
        try:
            stat = os.stat(path)
        except NotADirectoryError:  # inside a zip file
            path = os.path.dirname(path)
        except OSError:
            return None
        else:
            return stat.st_mtime_ns, stat.st_size, stat.st_ino
    return None


def digest(path: str, loader: Any = None) -> str | None:
    """Of the content of a module's file; None where it cannot be read."""
    try:
        if hasattr(loader, "get_data"):  # it may lie in an archive
            data = loader.get_data(path)
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError:
        return None
    return hashlib.sha256(data).hexdigest()[:32]


# On the driver ---------------------------------------------------------------------------------------------


def used(names: Iterable[str]) -> dict[str, Source]:
    """The driver's own modules among ``names``, and those that they use: name -> source.

    A module uses what its variables and the code of its functions name, as far as it is loaded.
    """
    found: dict[str, Source] = {}
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in seen or module is None:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])
        path = own_file(name, module)
        if path is None:
            continue
        content = digest(path, getattr(module, "__loader__", None))
        if content is not None:
            found[name] = Source(content, path)
        for value in list(vars(module).values()):
            waiting += named_by(value)
    return found


def named_by(value: Any) -> Iterator[str]:
    """Names of modules that a value refers to; of a function also what may be one."""
    if isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, types.CodeType):
        yield from value.co_names
        for constant in value.co_consts:
            if isinstance(constant, types.CodeType):
                yield from named_by(constant)
    elif isinstance(value, type | types.FunctionType):
        yield str(value.__module__)
        if isinstance(value, types.FunctionType):
            yield from named_by(value.__code__)
    else:
        yield str(type(value).__module__)


_loaded: dict[str, tuple[Any, str]] = {}
"""Own module -> its spec, which ``importlib.reload`` replaces, and the digest of its file as it was then."""


def edited(own: Mapping[str, Source]) -> list[str]:
    """Those of the driver's own modules whose files have changed since they were imported or reloaded here.

    As far as that is known: the file counts as imported as it was when a study first used the module.
    """
    changed = []
    for name, source in own.items():
        spec = getattr(sys.modules.get(name), "__spec__", None)
        known = _loaded.get(name)
        if known is None or known[0] is not spec:
            _loaded[name] = spec, source.digest
        elif known[1] != source.digest:
            changed.append(name)
    return sorted(changed)
