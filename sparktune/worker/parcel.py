"""The objective as it travels to the workers, and as each of them keeps it: every trial gets its own copy.

The objective is pickled once, its large buffers (arrays, data frames) beside the pickle (PEP 574), all in one
container. A worker process keeps the pickle, and maps the buffers from the file in which Spark delivered the
container. For each trial it reads the pickle again, over buffers that are mapped copy-on-write: what one
trial writes into an array, no other sees; what is not written is never copied, and a machine's workers share
it.
"""

from __future__ import annotations

import logging
import mmap
import os
import pickle
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sparktune.private import of_cloudpickle, of_pyspark
from sparktune.worker import pickling, sources
from sparktune.worker.objective import Objective, ObjectiveSent
from sparktune.worker.sources import Source

logger = logging.getLogger("sparktune")

LARGE_BYTES = 2**18
"""Buffers from this size on lie beside the pickle."""
ALIGNMENT = 64
"""Bytes; what numpy and its like want of an array's address."""

MAGIC = b"sparktune\x00parcel\x01"
HEADER_BYTES = len(MAGIC) + 8
PICKLE_PREFIX = 7
"""Where a pickle of large bytes holds them: after PROTO and BINBYTES (Python's ``pickletools``). Buffers are
aligned for that; where the bytes are many or few they begin a little later, and all works as well."""


class Part(NamedTuple):
    """A large buffer: its place in the container, and whether its owner may not write to it."""

    start: int
    end: int
    is_readonly: bool


class Index(NamedTuple):
    """What a container begins with. Places are counted from its first byte.

    Attributes:
        data: where the pickle is.
        parts: its large buffers, in their order.
        path: folders in which the worker is to find modules as well.
        sources: the driver's own modules that the objective uses; see ``sources.used``.
    """

    data: tuple[int, int]
    parts: Sequence[tuple[int, int, bool]]
    path: tuple[str, ...]
    sources: Mapping[str, tuple[str, str]]


def pack(objective: Objective, path: tuple[str, ...] = ()) -> bytes:
    """The container of an objective; see ``Index`` for the arguments.

    Warns of modules that were edited here and not reloaded: the workers import the files as they are.

    Raises:
        ObjectiveNotPicklable: see ``sparktune.worker.pickling``.
    """
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE_BYTES:
            return True
        buffers.append(raw)
        return False

    modules: set[str] = set()
    data = pickling.dumps(objective, buffer_callback=stays_inside, modules=modules)
    own = sources.used(modules)
    _warn_of(sources.edited(own))
    named = {name: (*source,) for name, source in own.items()}
    # The index itself has a length that depends on what it holds: it is given room, and padded.
    size = len(pickle.dumps((path, named), protocol=4))
    room = HEADER_BYTES + 256 + size + 64 * len(buffers)
    place = (room, room + len(data))
    parts: list[Part] = []
    end = place[1]
    for buffer in buffers:
        start = end + -(end + PICKLE_PREFIX) % ALIGNMENT
        end = start + buffer.nbytes
        parts.append(Part(start, end, buffer.readonly))
    index = pickle.dumps((place, [(*part,) for part in parts], path, named), protocol=4)
    assert HEADER_BYTES + len(index) <= room
    pieces: list[Any] = [MAGIC, len(index).to_bytes(8, "big"), index.ljust(room - HEADER_BYTES, b"\0"), data]
    at = place[1]
    for part, buffer in zip(parts, buffers, strict=True):
        pieces += [bytes(part.start - at), buffer]
        at = part.end
    return b"".join(pieces)


def _warn_of(edited: Sequence[str]) -> None:
    if edited:
        logger.warning(
            "edited since this process imported them, and not reloaded: %s. Trials run the files as they are "
            "now, this process does not: importlib.reload them, or restart",
            ", ".join(edited),
        )


class Artifact(NamedTuple):
    """A container that was sent as a file artifact of a Spark Connect session.

    Attributes:
        name: of the file.
    """

    name: str

    @property
    def value(self) -> bytes:
        """The container."""
        return Path(self.path()).read_bytes()

    def path(self) -> str:
        """On a worker, where Spark has put it."""
        from pyspark import SparkFiles

        return str(SparkFiles.get(self.name))


def opened(parcel: Any) -> Original:
    """The objective in a parcel: an ``Artifact``, or Spark's ``Broadcast`` of a container.

    Broadcasts are files on the worker's machine, unless Spark encrypts them.
    """
    path = parcel.path() if isinstance(parcel, Artifact) else of_pyspark.broadcast_file(parcel)
    if path is not None:
        original = Original.in_file(path)
        if original is not None:
            return original
    return Original.in_memory(parcel.value)


class Original:
    """The objective as it was sent, kept by a worker process.

    Args:
        index: of the container.
        data: the pickle.
        parts: its large buffers, at their places in ``file``.
        file: is mapped; None where there are no parts.

    Attributes:
        sources: see ``Index``.
    """

    def __init__(self, index: Index, data: bytes, parts: Sequence[Part], file: BinaryIO | None) -> None:
        self._data, self._parts, self._file = data, parts, file
        if file is not None:
            weakref.finalize(self, file.close)
        self.sources = {name: Source(*source) for name, source in index.sources.items()}
        self._folders = index.path
        self._path: tuple[list[str], list[str]] = ([], [])

    @classmethod
    def in_file(cls, path: str) -> Original | None:
        """The container in the file of a pickle; None where it does not lie there as expected."""
        file = open(path, "rb")  # noqa: SIM115
        base = file.read(PICKLE_PREFIX + 32 + len(MAGIC)).find(MAGIC)
        if base < 0:
            file.close()
            return None
        file.seek(base + len(MAGIC))
        index = Index(*pickle.loads(file.read(int.from_bytes(file.read(8), "big"))))
        start, end = index.data
        file.seek(base + start)
        data = file.read(end - start)
        parts = [Part(base + start, base + end, is_readonly) for start, end, is_readonly in index.parts]
        if not parts:
            file.close()
        return cls(index, data, parts, file if parts else None)

    @classmethod
    def in_memory(cls, container: bytes) -> Original:
        """A container that lies in no file: its buffers go to one that only this process sees."""
        size = int.from_bytes(container[len(MAGIC) : HEADER_BYTES], "big")
        index = Index(*pickle.loads(container[HEADER_BYTES : HEADER_BYTES + size]))
        data = container[slice(*index.data)]
        if not index.parts:
            return cls(index, data, [], None)
        whole = memoryview(container)
        file = _file_without_name()
        parts = []
        for start, end, readonly in index.parts:
            file.write(bytes(-file.tell() % ALIGNMENT))
            parts.append(Part(file.tell(), file.tell() + end - start, readonly))
            file.write(whole[start:end])
        file.flush()
        return cls(index, data, parts, file)

    def copy(self) -> ObjectiveSent:
        """A new objective, which shares nothing that can be changed with any other copy.

        Adds its folders to ``sys.path``.
        """
        sys.path[:] = self.import_path()
        of_cloudpickle.forget_classes()
        objective = pickle.loads(self._data, buffers=self._buffers())
        assert isinstance(objective, ObjectiveSent)
        return objective

    def import_path(self) -> list[str]:
        """``sys.path`` with the folders of the objective."""
        before, whole = self._path
        if sys.path != before or not whole:
            known = {os.path.abspath(entry) for entry in sys.path}
            whole = [*sys.path, *(entry for entry in self._folders if entry not in known)]
            self._path = list(sys.path), whole
        return whole

    def _buffers(self) -> list[memoryview]:
        if self._file is None:
            return []
        private = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY))
        views = [(private[part.start : part.end], part.is_readonly) for part in self._parts]
        return [view.toreadonly() if is_readonly else view for view, is_readonly in views]


def _file_without_name() -> BinaryIO:
    """In memory where the system offers that, else on disk."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("sparktune"), "w+b")
    return tempfile.TemporaryFile()
