"""``trials_save_file``: the trials object on disk, always whole, never far behind."""

from __future__ import annotations

import logging
import os
import pickle
import time
import uuid
from pathlib import Path
from typing import Any

import cloudpickle
import hyperopt

from sparktune.errors import SaveFileError
from sparktune.study.trial import Trial

logger = logging.getLogger("sparktune")

SHARE_OF_TIME = 0.05
"""The most of the study's time that goes into writing."""
AGAIN_S = 10.0
"""How long after a write that failed the next is tried."""

MOVED = {
    "sparktune.spark_trials": "sparktune.trials.spark",
    "sparktune.simulated_trials": "sparktune.trials.simulated",
    "sparktune.trial": "sparktune.study.trial",
}
"""Modules whose classes are in the save files of earlier versions -> where these classes are now."""


class SaveFile:
    """Writes a trials object after finished trials, and at the end (the driver's ``Observer`` and ``Chore``).

    A file of many trials takes time to write: writes are spaced so that they take at most ``SHARE_OF_TIME``.

    Args:
        path: where; replaced by a whole new file each time (a rename in its folder).
        trials: what is written.

    Raises:
        SaveFileError: the folder does not exist or cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], trials: Any) -> None:
        self._path = Path(path).absolute()
        self._trials = trials
        self._next_write = 0.0
        self._is_stale = False
        self._has_failed = False
        folder = self._path.parent
        if self._path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise SaveFileError(
                f"trials_save_file is {os.fspath(path)!r}; it must name a file in a folder that exists and "
                "can be written to"
            )

    def changed(self, trial: Trial) -> None:
        """Write, unless the last write was too recent; then ``due_in_s`` says when."""
        if trial.state.is_final:
            self._is_stale = True
            if time.monotonic() >= self._next_write:
                self._try_to_write()

    def due_in_s(self) -> float | None:
        """Seconds until what the file lacks is to be written; None when it lacks nothing."""
        return self._next_write - time.monotonic() if self._is_stale else None

    def do(self) -> None:
        """Write what the file lacks."""
        self._try_to_write()

    def finish(self, *, anew: bool = False) -> None:
        """Write what has not been written; with ``anew`` all of it."""
        if self._is_stale or anew:
            self._try_to_write()

    def _try_to_write(self) -> None:
        """Write; a full disk is said aloud once, and does not end a study whose trials are in memory."""
        try:
            self.write()
        except Exception:
            if not self._has_failed:
                logger.exception(
                    "the trials could not be written to trials_save_file %s; the study goes on, and writing "
                    "is tried again every %.0f s and at the end",
                    self._path,
                    AGAIN_S,
                )
            self._has_failed = True
            self._next_write = time.monotonic() + AGAIN_S
        else:
            if self._has_failed:
                logger.warning("the trials are in trials_save_file %s again", self._path)
            self._has_failed = False

    def write(self) -> None:
        """Write now.

        Raises:
            OSError: the file cannot be written; what it held before is whole.
        """
        began = time.monotonic()
        data = cloudpickle.dumps(self._trials)
        name = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        try:
            with open(name, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        self._is_stale = False
        took = time.monotonic() - began
        self._next_write = time.monotonic() + took * (1 / SHARE_OF_TIME - 1)


class _Unpickler(pickle.Unpickler):
    """Finds classes that have moved since the file was written."""

    def find_class(self, module: str, name: str) -> Any:
        """See ``pickle.Unpickler``."""
        return super().find_class(MOVED.get(module, module), name)


def read(path: str | os.PathLike[str]) -> hyperopt.Trials | None:
    """The trials in a save file, also one that hyperopt wrote; None when there is no file.

    Raises:
        SaveFileError: the file holds no trials.
    """
    if not os.path.exists(path):
        return None
    try:
        with open(path, "rb") as file:
            trials = _Unpickler(file).load()
    except Exception as error:
        raise SaveFileError(
            f"trials_save_file {os.fspath(path)!r} cannot be read ({type(error).__name__}: {error}); give "
            "another name, or move the file away to begin anew"
        ) from error
    if not isinstance(trials, hyperopt.Trials):
        raise SaveFileError(
            f"trials_save_file {os.fspath(path)!r} holds a {type(trials).__name__}, no trials; give another "
            "name"
        )
    return trials
