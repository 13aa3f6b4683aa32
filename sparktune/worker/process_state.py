"""What a trial changes in its Python process, put back after it.

Worker processes are kept, and with them the modules that trials have imported. All else that an objective may
change for those after it is noted before it runs and restored when it has ended: see the functions below, one
for each. A change that belongs to an import stays with it (the handlers of a library's loggers, its warning
filters); what the objective changes in a library that it has imported itself does not.

What a module keeps in its own variables stays as well, with the import; so do threads that an objective
leaves running. ``SparkTrials(fresh_worker=True)`` gives every trial a new process.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sparktune.tracking.worker import autologging
from sparktune.worker import imports
from sparktune.worker.shared_settings import Loggers, WarningFilters

logger = logging.getLogger("sparktune")

Restore = Callable[[], None]

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)


class ProcessState:
    """The state of this process at the moment at which this object is made; ``restore`` puts it back.

    What an import changes in between belongs to it, and stays (``imports.followed_by``).
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._restores = [note() for note in NOTES]
        self._absent = [name for name in OF_LIBRARIES if name not in sys.modules]
        imports.followed_by(self._importing)

    def seed(self, number: int) -> None:
        """Give ``random`` and ``numpy.random`` the trial's own seed, in [0, 2**32).

        numpy gets it when it is imported, if it is not there yet.
        """
        self._seed = number
        seed(number)

    @contextlib.contextmanager
    def _importing(self) -> Iterator[None]:
        """Wraps each import of the trial."""
        following: list[Any] = [one for one in self._restores if isinstance(one, WarningFilters | Loggers)]
        for one in following:
            one.import_begins()
        try:
            yield
        finally:
            for one in following:
                one.import_ended()
            for name in [name for name in self._absent if name in sys.modules]:
                self._absent.remove(name)
                self._restores += [note() for note in OF_LIBRARIES[name]]
                if self._seed is not None:
                    _seed_numpy(self._seed)

    def restore(self) -> None:
        """Put everything back; what cannot be is logged."""
        imports.followed_by(None)
        for restore in self._restores:
            try:
                restore()
            except Exception as error:
                name = getattr(restore, "__qualname__", type(restore).__name__)
                what = name.partition(".")[0].strip("_").replace("_", " ")
                logger.warning(
                    "later trials of this worker may see what a trial changed: %s: %s", what, error
                )


def seed(number: int) -> None:
    """Give ``random`` and ``numpy.random`` the trial's own seed, in [0, 2**32)."""
    random.seed(number)
    _seed_numpy(number)


def _seed_numpy(number: int) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(number)


# One function for each thing: it notes how that is now, and returns what puts it back -------------------


def _environment() -> Restore:
    environ, zone = os.environ, os.environ.get("TZ")
    encoded = getattr(
        environ, "_data", None
    )  # CPython's own dict: decoding all of it takes longer than all else
    raw = None if encoded is None else dict(encoded)
    before = dict(environ) if raw is None else {}

    def restore() -> None:
        nonlocal before
        os.environ = environ  # noqa: B003 - the object itself, in case it was replaced
        if raw is not None:
            if encoded == raw:
                return
            before = {environ.decodekey(name): environ.decodevalue(value) for name, value in raw.items()}
        now = dict(environ)
        for name in now.keys() - before.keys():
            del environ[name]
        environ.update({name: value for name, value in before.items() if now.get(name) != value})
        if now.get("TZ") != zone and hasattr(time, "tzset"):
            time.tzset()

    return restore


def _working_directory() -> Restore:
    before = os.getcwd()

    def restore() -> None:
        try:
            now = os.getcwd()
        except FileNotFoundError:  # the trial's own, and removed
            now = ""
        if now != before:
            os.chdir(before)

    return restore


def _umask() -> Restore:
    before = os.umask(0o077)
    os.umask(before)
    return lambda: (os.umask(before), None)[1]


def _interpreter() -> Restore:
    """``sys.path``, ``sys.argv``, the standard streams, hooks and limits."""
    lists = [(name, getattr(sys, name), list(getattr(sys, name))) for name in ("path", "argv")]
    names = ("stdin", "stdout", "stderr", "excepthook", "displayhook", "dont_write_bytecode")
    values = {name: getattr(sys, name) for name in names}
    depth, interval, hook = sys.getrecursionlimit(), sys.getswitchinterval(), threading.excepthook
    collects, thresholds = gc.isenabled(), gc.get_threshold()

    def restore() -> None:
        for name, the_list, content in lists:
            if the_list != content:
                the_list[:] = content
            setattr(sys, name, the_list)
        for name, value in values.items():
            setattr(sys, name, value)
        threading.excepthook = hook
        sys.setrecursionlimit(depth)
        sys.setswitchinterval(interval)
        (gc.enable if collects else gc.disable)()
        gc.set_threshold(*thresholds)

    return restore


def _signal_handlers() -> Restore:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # another thread can set none
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm of the trial would kill the next
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return restore


def _random_state() -> Restore:
    before = random.getstate()
    numpy = sys.modules.get("numpy")
    legacy = numpy.random.get_state(legacy=False) if numpy is not None else None

    def restore() -> None:
        random.setstate(before)
        if numpy is not None:
            numpy.random.set_state(legacy)

    return restore


def _numpy_settings() -> Restore:
    """Print options and what is done about floating-point errors."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return lambda: None
    printing, errors, call = numpy.get_printoptions(), numpy.geterr(), numpy.geterrcall()

    def restore() -> None:
        if numpy.get_printoptions() != printing:
            numpy.set_printoptions(**printing)
        if numpy.geterr() != errors:
            numpy.seterr(**errors)
        if numpy.geterrcall() is not call:
            numpy.seterrcall(call)

    return restore


def _scikit_learn_settings() -> Restore:
    """``sklearn.set_config``, which holds for one thread: a new one has the settings of the beginning."""
    sklearn: Any = sys.modules.get("sklearn")
    before = sklearn.get_config() if sklearn is not None else None

    def restore() -> None:
        now: Any = sys.modules.get("sklearn")
        if now is None:
            return
        wanted: list[dict[str, Any]] = [before] if before is not None else []
        if not wanted:
            thread = threading.Thread(target=lambda: wanted.append(now.get_config()))
            thread.start()
            thread.join()
        if wanted and now.get_config() != wanted[0]:
            now.set_config(**wanted[0])

    return restore


def _process_defaults() -> Restore:
    """The locale, the sockets' time limit, decimal arithmetic, how ``multiprocessing`` starts processes."""
    language = locale.setlocale(locale.LC_ALL)
    limit_s, arithmetic = socket.getdefaulttimeout(), decimal.getcontext().copy()
    multiprocessing: Any = sys.modules.get("multiprocessing")
    method = multiprocessing and multiprocessing.get_start_method(allow_none=True)

    def restore() -> None:
        if locale.setlocale(locale.LC_ALL) != language:
            locale.setlocale(locale.LC_ALL, language)
        socket.setdefaulttimeout(limit_s)
        decimal.setcontext(arithmetic)
        now: Any = sys.modules.get("multiprocessing")
        if now is not None and now.get_start_method(allow_none=True) != method:
            now.set_start_method(method, force=True)

    return restore


NOTES: tuple[Callable[[], Restore], ...] = (
    _environment,
    _working_directory,
    _umask,
    _interpreter,
    _signal_handlers,
    _random_state,
    _numpy_settings,
    _scikit_learn_settings,
    _process_defaults,
    WarningFilters,
    Loggers,
    autologging.noted,
)
"""What is noted and restored."""

OF_LIBRARIES: dict[str, tuple[Callable[[], Restore], ...]] = {"numpy": (_random_state, _numpy_settings)}
"""Module -> what is noted again when a trial has imported it: before, there was nothing to note."""
