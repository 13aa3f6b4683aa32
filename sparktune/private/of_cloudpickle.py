"""What sparktune uses of cloudpickle that is not documented."""

from __future__ import annotations

import io
import pickle
from collections.abc import MutableMapping
from typing import Any

import cloudpickle

from sparktune.private import presence
from sparktune.private.presence import read

NAMES = {
    "_DYNAMIC_CLASS_TRACKER_BY_ID": (
        "cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID",
        "what a trial changes in a class of the notebook, later trials in the same worker see, and an "
        "instance of it in a result changes the class on the driver",
    )
}
"""Name -> its full name, and what is different without it."""


def forget_classes() -> None:
    """Have classes that are defined in a pickle created again when it is read again.

    ``cloudpickle`` returns a class that it has unpickled before, with the changes made to it since.
    """
    known = _known_classes()
    if known is not None:
        known.clear()


def loads_keeping_classes(data: bytes) -> Any:
    """``pickle.loads``, which leaves classes as they are that this process has already.

    ``cloudpickle`` pickles a class of ``__main__`` with its attributes. Where it has come from this process,
    the class itself is found again, and its attributes and methods are replaced by the copies in the pickle.
    """
    known = _known_classes()
    if not known:
        return pickle.loads(data)
    return _Unpickler(io.BytesIO(data), frozenset(known.values())).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: frozenset[type]) -> None:
        super().__init__(file)
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if name == "_class_setstate" and module.partition(".")[0] == "cloudpickle":
            return lambda kind, state: kind if kind in self._known else found(kind, state)
        return found


def _known_classes() -> MutableMapping[str, type] | None:
    """Tracker id -> class, of those pickled by value that this process has."""
    try:
        found: MutableMapping[str, type] = read(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID")
    except AttributeError:
        presence.missing("cloudpickle", *NAMES["_DYNAMIC_CLASS_TRACKER_BY_ID"])
        return None
    return found
