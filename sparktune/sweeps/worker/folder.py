"""The ``code`` folder of a sweep, as it travels to the workers: with the objective, which is sent once."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import tarfile
from typing import Any

from sparktune.worker import bootstrap


class Archive:
    """A tar archive.

    Args:
        data: its bytes. Pickled they lie beside the pickle (PEP 574), so that a worker maps them from the
            file in which Spark delivered them, without reading them for every trial.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        data = pickle.PickleBuffer(self._data) if int(protocol) >= 5 else bytes(self._data)
        return Archive, (data,)

    def unpack(self, folder: str) -> None:
        """Write the files of the archive into a folder."""
        with tarfile.open(fileobj=io.BytesIO(self._data), mode="r:") as tar:
            if sys.version_info >= (3, 12) or hasattr(tarfile, "data_filter"):
                tar.extractall(folder, filter="fully_trusted")  # created by this package
            else:
                tar.extractall(folder)


class Modules:
    """A zip file of Python modules.

    Args:
        data: its bytes; pickled as those of an ``Archive``.
        name: distinguishes them from others.
    """

    def __init__(self, data: Any, name: str = "") -> None:
        self._data = data
        self._name = name or f"sweep-{hashlib.sha256(data).hexdigest()[:32]}.zip"

    def __reduce_ex__(self, protocol: Any) -> Any:
        data = pickle.PickleBuffer(self._data) if int(protocol) >= 5 else bytes(self._data)
        return Modules, (data, self._name)

    def add_to_path(self) -> None:
        """Import from it in this process; modules of another sweep are imported again."""
        place = bootstrap.functions().put(self._name, self._data)
        if place not in sys.path:
            sys.path.insert(0, place)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if "/sweep-" in file and ".zip/" in file and not file.startswith(place):
                del sys.modules[name]
