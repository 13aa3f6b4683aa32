"""The objective as it travels to the workers, and as each of them keeps it: every trial gets its own copy.

The objective is pickled once, its large buffers (arrays, data frames) beside the pickle (PEP 574). A worker
process keeps both. For each trial it reads the pickle anew, over buffers that are mapped copy-on-write: what
one trial writes into an array, no other sees, and what nobody writes is never copied.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import cloudpickle

from sparktune.worker import pickling
from sparktune.worker.objective import Objective

LARGE_BYTES = 2**18
"""Buffers from this size on travel beside the pickle."""


class Part(NamedTuple):
    """One large buffer of a pickle, and whether its owner may not write to it."""

    data: Any
    is_readonly: bool


class Parcel:
    """A pickled objective inside a broadcast: reading the broadcast's value gives an ``Original``.

    Args:
        data: the pickle.
        parts: its large buffers, in their order.
        path: folders in which the worker is to find modules as well.
    """

    def __init__(self, data: bytes, parts: Sequence[Part] = (), path: tuple[str, ...] = ()) -> None:
        self.data = data
        self.parts = parts
        self.path = path

    @classmethod
    def of(cls, objective: Objective, path: tuple[str, ...] = ()) -> Parcel:
        """The objective, ready to be sent.

        Raises:
            ObjectiveNotPicklable: see ``sparktune.worker.pickling``.
        """
        parts: list[Part] = []

        def stays_inside(buffer: pickle.PickleBuffer) -> bool:
            with buffer.raw() as raw:
                if raw.nbytes < LARGE_BYTES:
                    return True
                parts.append(Part(buffer, raw.readonly))
            return False

        return cls(pickling.dumps(objective, buffer_callback=stays_inside), parts, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.data, [tuple(part) for part in self.parts], self.path)


def _arrived(data: bytes, parts: list[tuple[Any, bool]], path: tuple[str, ...]) -> Original:
    known = {os.path.abspath(entry) for entry in sys.path}
    sys.path += [entry for entry in path if entry not in known]
    return Original(data, [Part(*part) for part in parts])


class Original:
    """The objective as it was sent, kept by a worker process.

    Args:
        data: the pickle.
        parts: its large buffers.
    """

    def __init__(self, data: bytes, parts: Sequence[Part] = ()) -> None:
        self._data = data
        self._readonly = [part.is_readonly for part in parts]
        self._places: list[tuple[int, int]] = []
        self._size = 0
        for part in parts:
            n_bytes = memoryview(part.data).nbytes
            self._places.append((self._size, self._size + n_bytes))
            self._size += -(-n_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file = _written(parts, self._places, self._size) if self._size else None
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    def copy(self) -> Objective:
        """A new objective, which shares nothing that can be changed with any other copy."""
        _forget_classes()
        objective = pickle.loads(self._data, buffers=self._buffers())
        assert isinstance(objective, Objective)
        return objective

    def _buffers(self) -> list[memoryview]:
        if self._file is None:
            return []
        private = memoryview(mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_COPY))
        views = [private[start:end] for start, end in self._places]
        return [
            view.toreadonly() if is_readonly else view
            for view, is_readonly in zip(views, self._readonly, strict=True)
        ]


def _written(parts: Sequence[Part], places: Sequence[tuple[int, int]], size: int) -> Any:
    """The buffers in a file without a name: in memory where the system offers that, else on disk."""
    if hasattr(os, "memfd_create"):
        file: Any = open(os.memfd_create("sparktune"), "r+b", buffering=0)  # noqa: SIM115
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    file.truncate(size)
    for part, (start, _) in zip(parts, places, strict=True):
        view = memoryview(part.data).cast("B")
        file.seek(start)
        while view.nbytes:
            view = view[file.write(view) :]
    return file


def _forget_classes() -> None:
    """Have classes that are defined in the pickle made anew, too.

    ``cloudpickle`` gives a class that it has unpickled before again, with what was changed in it since.
    """
    known = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", None)
    if known is not None:
        known.clear()
