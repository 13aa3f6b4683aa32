"""sparktune itself, on its way to workers that may not have it, or have another version.

It is not in the application's list of files: there two Python processes with one application would collide,
and a file whose process has ended is missed by every executor that comes later. A task's body is pickled
together with where the package is, and ``worker.bootstrap`` imports it there.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import marshal
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.machinery import PathFinder
from typing import Any

from sparktune.worker import bootstrap

DIGEST = "SPARKTUNE_PACKAGE"
"""Environment variable of workers: Spark pools them by their environment, each version has its own."""

_FUNCTIONS = bootstrap.functions()


def _folder() -> str:
    """Where this package is; a path inside of an archive where it was imported from one."""
    return str(sys.modules["sparktune"].__path__[0])


@dataclass(frozen=True)
class Package:
    """This version of sparktune, as the workers of an application get it.

    Attributes:
        folder: where they find it as well as this process.
        archive: for those that do not: a ``Broadcast`` of ``archived()``, or the name of a file artifact.
        is_alone: a worker process that has used another version is ended, and does not go on with this one.
    """

    folder: str | None = None
    archive: Any = None
    is_alone: bool = False

    def carrying(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """What Spark is given for the body of a task: pickled, it brings the package along."""
        return _Carried(body, self)

    def fetch(self) -> bytes:
        """What a worker needs that does not have the package, pickled; see ``bootstrap.Functions``."""
        return self._fetch_kept if self.archive is None or isinstance(self.archive, str) else self._fetch()

    @functools.cached_property
    def _fetch_kept(self) -> bytes:
        return self._fetch()

    def _fetch(self) -> bytes:
        instead = _pickled(_FUNCTIONS.not_run) if self.is_alone else None
        return _pickled(functools.partial(_FUNCTIONS.fetch, digest(), self.folder, self.archive, instead))


class _Carried:
    """A function that unpickles as itself, on a worker that has the package by then."""

    def __init__(self, body: Callable[..., Any], package: Package) -> None:
        self._body, self._package = body, package

    def __call__(self, *args: Any) -> Any:
        """Call the function here; Spark wants to see that it can be called."""
        return self._body(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        # Not before Spark pickles a job: it notes then which broadcast variables the job needs.
        return _FUNCTIONS.load, (digest(), self._package.fetch(), _pickled(self._body))


def _pickled(body: Any) -> bytes:
    from pyspark import cloudpickle  # Spark's own, which every worker has

    return bytes(cloudpickle.dumps(body, pickle.HIGHEST_PROTOCOL))  # type: ignore[no-untyped-call]


def folder() -> str | None:
    """The folder or zip file that this process has imported the package from; None where that is neither."""
    found = os.path.dirname(os.path.abspath(_folder()))
    spec = PathFinder.find_spec("sparktune", [found])
    return None if spec is None or spec.origin is None else found


@functools.cache
def digest() -> str:
    """Tells this version of the package from others, whatever they call themselves."""
    all_of_it = hashlib.sha256()
    for name, source in sorted(_sources().items()):
        all_of_it.update(f"{name}\0{len(source)}\0".encode() + source)
    return all_of_it.hexdigest()[:32]


def archived() -> bytes:
    """A zip file of the package."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, source in _sources().items():
            zipped.writestr(name, source)
            zipped.writestr(f"{name}c", _compiled(name, source))
    return stream.getvalue()


def _sources() -> dict[str, bytes]:
    """The Python files of the package by their paths, also where it was imported from a zip file."""
    found = dict(_files(resources.files("sparktune"), "sparktune"))
    if "sparktune/__init__.py" not in found:
        raise FileNotFoundError(f"the sources of sparktune are not in {_folder()}")
    return found


def _files(folder: Any, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}/{entry.name}"
        if entry.is_dir():
            yield from _files(entry, name)
        elif name.endswith(".py"):
            yield name, entry.read_bytes()


def _compiled(name: str, source: bytes) -> bytes:
    """What a worker with the same version of Python need not compile; others pass over it (PEP 552)."""
    code = compile(source, name, "exec", dont_inherit=True)
    unchecked = (0b01).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + marshal.dumps(code)
