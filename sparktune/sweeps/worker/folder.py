"""The ``code`` folder of a sweep, as it travels: a tar archive, sent to the workers once."""

from __future__ import annotations

import io
import pickle
import sys
import tarfile
from typing import Any


class Archive:
    """A tar archive.

    Args:
        data: its bytes. Pickled they lie beside the pickle (PEP 574), so that a worker maps them from the
            file in which Spark delivered them, and does not read them anew for every trial.
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
                tar.extractall(folder, filter="fully_trusted")  # this package has made it
            else:
                tar.extractall(folder)
