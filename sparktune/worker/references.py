"""Pickles that refer to objects which were sent before, instead of holding them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import cloudpickle


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, places: dict[int, int]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._places = places

    def persistent_id(self, obj: Any) -> int | None:
        """The place of an object that was sent before; None for others."""
        return self._places.get(id(obj))


class _CloudPickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, places: dict[int, int]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._places = places

    def persistent_id(self, obj: Any) -> int | None:
        """The place of an object that was sent before; None for others."""
        return self._places.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: Sequence[Any]) -> None:
        super().__init__(file)
        self._known = known

    def persistent_load(self, pid: Any) -> Any:
        """The object at this place."""
        return self._known[pid]


def dumps(value: Any, known: Sequence[Any]) -> bytes:
    """Pickle ``value``; objects of ``known`` in it become references.

    Raises:
        Exception: whatever pickling raises.
    """
    places = {id(obj): place for place, obj in enumerate(known)}
    with io.BytesIO() as file:
        try:
            _Pickler(file, places).dump(value)
        except Exception:  # functions and classes that cannot be imported
            file.seek(0)
            file.truncate()
            _CloudPickler(file, places).dump(value)
        return file.getvalue()


def loads(data: bytes, known: Sequence[Any]) -> Any:
    """What ``dumps`` pickled, with the objects of ``known`` in their places."""
    return _Unpickler(io.BytesIO(data), known).load()
