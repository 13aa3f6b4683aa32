"""``trials_save_file``: the trials object on disk, with every trial that has ended.

The file is a whole pickle of the trials, as hyperopt writes it, and while a study runs a journal behind it
(``sparktune.trials.journal``): what was suggested, what has ended. ``pickle.load`` gives the trials as they
were when the pickle was written; ``read`` adds the journal. At an orderly end the file is a plain pickle of
everything.

It is a pickle: **reading it executes what is in it**. Read only files that you trust.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cloudpickle
import hyperopt

from sparktune.errors import SaveFileError
from sparktune.private import of_hyperopt
from sparktune.study import interrupts
from sparktune.study.spec import StudySpec, parameter_differences
from sparktune.study.study import SEED_BOUND
from sparktune.study.trial import Trial
from sparktune.trials import file_lock, journal
from sparktune.trials.base import StudyTrials
from sparktune.trials.documents import Document
from sparktune.worker.pickling import unpicklable

logger = logging.getLogger("sparktune")

COMPACT_BYTES = 4 * 2**20
"""A journal of so many bytes, and more than the pickle before it, is made part of the pickle: so the pickle
at least doubles each time, and the total written stays in proportion to the trials."""
SHARE_OF_TIME = 0.05
"""The most of the study's time for whole pickles where nothing can be appended (some network folders)."""
AGAIN_S = 10.0
"""How long after a write that failed the next is tried."""
TICK_S = 60.0
"""How often the time used is noted while no trial begins or ends."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], trials: StudyTrials) -> Iterator[SaveFile | None]:
    """The save file of one ``fmin`` call, which no other call can use meanwhile; None without a path.

    Raises:
        SaveFileError: the folder does not exist or cannot be written to, or another call uses the file.
    """
    if not path:
        yield None
        return
    save = SaveFile(path, trials)
    with file_lock.held(save.path), contextlib.closing(save):
        yield save


def expanded(path: str | os.PathLike[str]) -> str:
    """The path with ``~`` as the user's home."""
    return os.path.expanduser(os.fspath(path))


class SaveFile:
    """Writes a trials object while its study runs (the driver's ``Observer``, ``Keeper`` and ``Chore``).

    When ``keep`` returns, every end that was passed to ``changed`` is on the disk (one fsync for all of
    them), and what was suggested is with the operating system, where it survives the death of this process. A
    full disk is logged once, and does not end a study whose trials are in memory.

    Args:
        path: where; replaced by a whole new file (a rename in its folder), and appended to.
        trials: what is written.

    Raises:
        SaveFileError: the folder does not exist or cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], trials: StudyTrials) -> None:
        # A link stays a link, and its target is written.
        self.path = Path(os.path.realpath(expanded(path)))
        self._trials = trials
        self._used_s: Callable[[], float] = lambda: trials.memory.used_s
        self._journal: journal.Journal | None = None
        self._records: list[bytes] = []
        self._has_ends = False
        self._n_documents = 0
        self._is_stale = False
        self._is_over = False
        self._next_whole = 0.0
        self._has_failed = False
        self._append_error: OSError | None = None
        self._has_warned_whole = False
        folder = self.path.parent
        if self.path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise SaveFileError(
                f"trials_save_file is {os.fspath(path)!r}; it must name a file in a folder that exists and "
                "can be written to"
            )

    def begin(self, used_s: Callable[[], float]) -> None:
        """The study begins, and updates the file at its end also when no trial is launched.

        Args:
            used_s: gives the seconds of the time limit that have been used.
        """
        self._used_s = used_s
        self._trials.memory.saved_by = uuid.uuid4().hex
        self._is_stale = os.path.exists(self.path)

    def changed(self, trial: Trial) -> None:
        """Note that a trial has ended."""
        if trial.state.is_final:
            self._note_suggested()
            self._note(self._trials.memory.documents[trial.trial_id], trial)
            self._has_ends = True

    def keep(self) -> None:
        """Write what the file lacks; see the class."""
        self._note_suggested()
        if not self._records and not self._is_stale:
            return
        with interrupts.held():
            if self._records:
                self._append()
            if (self._is_stale or self._is_long()) and time.monotonic() >= self._next_whole:
                self._try_to_write()

    def renew(self) -> None:
        """Have the file written as a whole: something changed that the journal does not hold."""
        self._is_stale, self._next_whole = True, 0.0

    def due_in_s(self) -> float | None:
        """Seconds until a write that failed is tried again, or the time used is noted."""
        if self._is_stale:
            return self._next_whole - time.monotonic()
        return None if self._journal is None else self._trials.memory.used_s + TICK_S - self._used_s()

    def do(self) -> None:
        """Write what the file lacks, and the time used."""
        if not self._is_stale:
            self._note(None, None)
        self.keep()

    def finish(self, *, again: bool = False) -> None:
        """The study is over: make the file a plain pickle; with ``again`` once more."""
        self._note_suggested()
        if self._is_over and not again and not self._is_stale:
            return
        if self._records:
            self._append()
        if self._journal is not None or self._is_stale or again:
            self._is_over = True
            self._try_to_write()

    def close(self) -> None:
        """Stop appending to the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # -- into the journal ----------------------------------------------------------------------------------

    def _note_suggested(self) -> None:
        """Note the documents that have joined the trials."""
        known = of_hyperopt.documents(self._trials)
        if len(known) > self._n_documents:
            for document in known[self._n_documents :]:
                self._note(document, self._trials.memory.records.get(document["tid"]))
            self._n_documents = len(known)

    def _note(self, document: Document | None, trial: Trial | None) -> None:
        if self._journal is None:
            self._is_stale = True  # it will be in the whole pickle
            return
        memory = self._trials.memory
        memory.used_s = self._used_s()
        draws = None if memory.stream is None else memory.stream.draws
        try:
            content = cloudpickle.dumps((draws, memory.used_s, document, trial))
        except Exception:
            self._is_stale = True
            self._log_failed()
        else:
            self._records.append(journal.record(content))

    def _append(self) -> None:
        assert self._journal is not None
        try:
            self._journal.append(b"".join(self._records), sync=self._has_ends)
        except OSError as error:
            self._append_error = error
            self._is_stale = True
            if self._journal.size:  # it worked before: writing everything now costs no more than that did
                self._next_whole = 0.0
            self.close()
        else:
            self._append_error = None
        self._records.clear()
        self._has_ends = False

    def _is_long(self) -> bool:
        return self._journal is not None and self._journal.size > max(COMPACT_BYTES, self._journal.base)

    # -- as a whole ----------------------------------------------------------------------------------------

    def _try_to_write(self) -> None:
        cause = self._append_error
        try:
            self.write()
        except Exception:
            self._log_failed()
            self._next_whole = time.monotonic() + AGAIN_S
            return
        if self._has_failed:
            logger.warning("the trials are in trials_save_file %s again", self.path)
        elif cause is not None and not self._has_warned_whole:
            self._has_warned_whole = True
            logger.warning(
                "nothing can be appended to trials_save_file %s (%s: %s), so it was written as a whole; "
                "while that lasts, the last trials before a crash may be missing in it",
                self.path,
                type(cause).__name__,
                cause,
            )
        self._has_failed = False

    def _log_failed(self) -> None:
        culprit = None if self._has_failed else self._unpicklable()
        if culprit is not None:
            logger.warning(
                "the trials cannot be kept in trials_save_file %s: %s, which cannot be pickled. The study "
                "continues, and the trials object has it. To have a save file, return plain values and save "
                "models to shared storage",
                self.path,
                culprit,
            )
        elif not self._has_failed:
            logger.exception(
                "the trials could not be written to trials_save_file %s; the study continues, and writing "
                "is tried again every %.0f s and at the end",
                self.path,
                AGAIN_S,
            )
        self._has_failed = True

    def _unpicklable(self) -> str | None:
        """The result that cannot be pickled, if there is one: ``DriverTrials`` keep any object."""
        for document in of_hyperopt.documents(self._trials):
            found = unpicklable(document["result"], {})
            if found is not None:
                return f"{found} in trial {document['tid']}"
        return None

    def write(self) -> None:
        """Write all trials now, into a new file that replaces the old one.

        Raises:
            OSError: the file cannot be written; what it held before is whole.
        """
        began = time.monotonic()
        self._trials.memory.used_s = self._used_s()
        name = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(name.unlink, missing_ok=True)
            file = on_failure.enter_context(open(name, "xb"))
            cloudpickle.dump(self._trials, file)
            base = file.tell()
            if not self._is_over:
                file.write(journal.HEADER)
            file.flush()
            os.fsync(file.fileno())
            os.replace(name, self.path)
            _sync_folder(self.path.parent)
            on_failure.pop_all()
        self.close()
        self._journal = journal.Journal(self.path, file, base)
        if self._is_over:
            self.close()
        self._records.clear()
        self._has_ends = self._is_stale = False
        self._n_documents = len(of_hyperopt.documents(self._trials))
        now = time.monotonic()
        self._next_whole = now + (now - began) * (1 / SHARE_OF_TIME - 1)


def _sync_folder(folder: Path) -> None:
    """Sync a rename to the disk, where folders can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- reading -----------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str], *, quietly: bool = False) -> hyperopt.Trials | None:
    """The trials in a save file, also one that hyperopt wrote; None when there is no file, or an empty one.

    Executes what is in the file: read only files that you trust. A journal that was cut off, or damaged, is
    read up to there.

    Args:
        path: of the file.
        quietly: do not warn of what cannot be read.

    Raises:
        SaveFileError: the file holds no trials, or those of a later version.
    """
    path = expanded(path)
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    try:
        with open(path, "rb") as file:
            trials = pickle.load(file)
            if not isinstance(trials, hyperopt.Trials):
                raise SaveFileError(
                    f"trials_save_file {os.fspath(path)!r} holds a {type(trials).__name__}, no trials; give "
                    "another name"
                )
            _check_format(path, getattr(trials, "_format", journal.FORMAT))
            begins = file.tell()
            contents = journal.parse(file.read())
        if isinstance(trials, StudyTrials):
            _replay(trials, contents.records)
    except journal.NewerFormat as newer:
        _check_format(path, newer.version)
        raise
    except SaveFileError:
        raise
    except Exception as error:
        raise SaveFileError(
            f"trials_save_file {os.fspath(path)!r} cannot be read ({type(error).__name__}: {error}); give "
            "another name, or move the file away to start again"
        ) from error
    if contents.left_out and not quietly:
        size = os.path.getsize(path)
        logger.warning(
            "trials_save_file %s: the last %d of its bytes, from byte %d on, are left out: %s. The %d "
            "records before them, and the pickle of %d bytes, are read",
            os.fspath(path),
            contents.left_out,
            size - contents.left_out,
            contents.problem,
            len(contents.records),
            begins,
        )
    return trials


def _check_format(path: str | os.PathLike[str], version: int) -> None:
    if version > journal.FORMAT:
        raise SaveFileError(
            f"trials_save_file {os.fspath(path)!r} is of format {version}, and this version of sparktune "
            f"reads formats up to {journal.FORMAT}: install the sparktune that wrote it, or give another name"
        )


def _replay(trials: StudyTrials, records: Iterable[memoryview]) -> None:
    """Bring trials to what a journal holds."""
    latest: dict[int, Document] = {}
    known: dict[int, Trial] = {}
    memory = trials.memory
    for content in records:
        draws, memory.used_s, document, trial = pickle.loads(content)
        stream = memory.stream
        while stream is not None and draws is not None and stream.draws < draws:
            stream.integers(SEED_BOUND)
        if document is not None:
            latest[document["tid"]] = document
        if trial is not None:
            known[trial.trial_id] = trial
    if not latest:
        return
    of_hyperopt.bring_up(trials, latest)
    memory.records.update(known)
    for trial_id, trial in known.items():
        for name, value in trial.attachments.items():
            trials.trial_attachments(latest[trial_id])[name] = value


# -- resuming from a file ----------------------------------------------------------------------------------


def adopted(trials: StudyTrials, path: Path, parameters: Mapping[str, str], name: str) -> bool:
    """Resume from a save file when the trials object given is empty, or the beginning of what is in the file.

    Args:
        trials: given to ``fmin``.
        path: of the file.
        parameters: of this call, see ``space.signature``.
        name: of this call's study.

    Returns:
        Whether it does.

    Raises:
        SaveFileError: the file cannot be read, or holds more trials, and would be overwritten.
    """
    saved = read(path)
    if saved is None or saved is trials:
        return False
    n_saved, n_given = (len(of_hyperopt.documents(each)) for each in (saved, trials))
    # hyperopt.fmin gives what the file's pickle holds, without the journal behind it.
    written_by = saved.memory.saved_by if isinstance(saved, StudyTrials) else None
    is_beginning = written_by is not None and written_by == trials.memory.saved_by
    if n_given and not is_beginning:
        if n_saved <= n_given:
            return False
        raise SaveFileError(
            f"trials_save_file {str(path)!r} holds {n_saved} trials, more than the {n_given} of the trials "
            "object given, and would be overwritten: pass an empty trials object to resume from the file, or "
            "give another name"
        )
    _become(trials, saved)
    _warn_of_another_study(trials.memory.spec, path, parameters, name)
    return True


def _become(trials: StudyTrials, saved: hyperopt.Trials) -> None:
    """Give a trials object all that one read from a file has: trials, attachments, memory."""
    of_hyperopt.forget(trials)
    hyperopt.Trials.delete_all(trials)
    of_hyperopt.fill(trials, saved)
    trials.attachments = saved.attachments
    if isinstance(saved, StudyTrials):
        trials.memory = replace(saved.memory, saved_by=trials.memory.saved_by)


def _warn_of_another_study(was: StudySpec, path: Path, parameters: Mapping[str, str], name: str) -> None:
    """Warn of differences between a save file's study and this call. Ranges may be changed."""
    differs = [f"the parameter {text}" for text in parameter_differences(was.parameters, parameters)]
    if was.name not in ("", name):
        differs.append(f"the study was {was.name!r} and is {name!r}")
    if differs and was.parameters:
        logger.warning(
            "the trials in trials_save_file %r are of another study: %s. They count in this one; if they "
            "should not, give another file",
            str(path),
            "; ".join(differs),
        )
