"""What a trial changes in its process is put back after it."""

from __future__ import annotations

import decimal
import gc
import importlib
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn

from sparktune.worker import imports, process_state
from sparktune.worker.process_state import ProcessState

pytestmark = pytest.mark.unit


def as_expected(state: ProcessState, caplog: pytest.LogCaptureFixture) -> None:
    state.restore()
    assert not caplog.records, caplog.text


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Should a restore be broken, it spoils this test alone."""
    environ, folder = dict(os.environ), os.getcwd()
    yield
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "a variable": (lambda: os.environ.update(SPARKTUNE_LEAK="1", HOME="/"), lambda: dict(os.environ)),
    "no variables": (lambda: os.environ.clear(), lambda: dict(os.environ)),
    "another environ": (lambda: setattr(os, "environ", {}), lambda: id(os.environ)),
    "working directory": (lambda: os.chdir("/"), os.getcwd),
    "umask": (lambda: os.umask(0o007), lambda: (mask := os.umask(0), os.umask(mask))[0]),
    "sys.path": (lambda: sys.path.insert(0, "/leak"), lambda: list(sys.path)),
    "another sys.path": (lambda: setattr(sys, "path", ["/leak"]), lambda: (id(sys.path), list(sys.path))),
    "sys.argv": (lambda: setattr(sys, "argv", ["leak"]), lambda: (id(sys.argv), list(sys.argv))),
    "stdout": (lambda: setattr(sys, "stdout", sys.__stderr__), lambda: id(sys.stdout)),
    "excepthook": (lambda: setattr(sys, "excepthook", print), lambda: id(sys.excepthook)),
    "recursion": (lambda: sys.setrecursionlimit(4321), sys.getrecursionlimit),
    "garbage collection": (
        lambda: (gc.disable(), gc.set_threshold(7)),
        lambda: (gc.isenabled(), gc.get_threshold()),
    ),
    "a signal's handler": (
        lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
        lambda: signal.getsignal(signal.SIGUSR1),
    ),
    "an alarm": (lambda: signal.alarm(600), lambda: signal.getitimer(signal.ITIMER_REAL)),
    "random": (lambda: random.seed(5), random.getstate),
    "numpy.random": (lambda: np.random.seed(5), lambda: np.random.get_state()[1].tolist()),  # type: ignore[union-attr]
    "print options": (lambda: np.set_printoptions(precision=2), np.get_printoptions),
    "floating-point errors": (lambda: np.seterr(all="raise"), np.geterr),
    "scikit-learn": (lambda: sklearn.set_config(assume_finite=True), sklearn.get_config),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), lambda: locale.setlocale(locale.LC_ALL)),
    "socket timeout": (lambda: socket.setdefaulttimeout(3.0), socket.getdefaulttimeout),
    "decimal": (lambda: setattr(decimal.getcontext(), "prec", 3), lambda: decimal.getcontext().prec),
    "start method": (
        lambda: multiprocessing.set_start_method("spawn", force=True),
        lambda: multiprocessing.get_start_method(allow_none=True),
    ),
    "warning filters": (lambda: warnings.simplefilter("ignore"), lambda: list(warnings.filters)),
    "showwarning": (lambda: setattr(warnings, "showwarning", print), lambda: id(warnings.showwarning)),
    "root logger": (lambda: logging.getLogger().setLevel("DEBUG"), lambda: logging.getLogger().level),
    "a logger": (
        lambda: logging.getLogger("sparktune").setLevel(7),
        lambda: logging.getLogger("sparktune").level,
    ),
    "a handler": (lambda: logging.basicConfig(force=True), lambda: list(logging.getLogger().handlers)),
    "a new logger": (
        lambda: logging.getLogger("leak.new").setLevel(7),
        lambda: logging.getLogger("leak.new").level,
    ),
    "logging.disable": (lambda: logging.disable(50), lambda: logging.root.manager.disable),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_put_back(name: str, caplog: pytest.LogCaptureFixture) -> None:
    change, look = CHANGES[name]
    before = look()
    state = ProcessState()
    change()
    assert look() != before, "this change changes nothing"
    as_expected(state, caplog)
    assert look() == before


def test_a_working_directory_that_was_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = os.getcwd()
    state = ProcessState()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    as_expected(state, caplog)
    assert os.getcwd() == before


def test_the_time_zone_follows_its_variable(caplog: pytest.LogCaptureFixture) -> None:
    before = time.localtime(0)
    state = ProcessState()
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    as_expected(state, caplog)
    assert time.localtime(0) == before


def test_what_cannot_be_put_back_is_logged_and_the_rest_is(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)
        state = ProcessState()
        sys.path.append("/leak")
        os.chdir(before)
    state.restore()
    assert "/leak" not in sys.path
    assert "working directory" in caplog.text


def test_a_warning_is_decided_by_the_restored_filters() -> None:
    def warn() -> None:
        warnings.warn("again", UserWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = ProcessState()
        warnings.simplefilter("ignore")
        warn()
        state.restore()
        with pytest.raises(UserWarning):
            warn()


LIBRARY = """
import logging, warnings
class Odd(Warning): pass
warnings.simplefilter("always", Odd)
warnings.filterwarnings("always", category=DeprecationWarning, module=r"^sparktune_test_library")
logging.getLogger("sparktune_test_library.inner").setLevel("INFO")
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported as in a worker."""
    imports.watch()
    name = "sparktune_test_library"
    (tmp_path / f"{name}.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)
    sys.meta_path.remove(imports._watch)


def test_filters_and_loggers_of_a_library_that_the_trial_imports_stay(library: str) -> None:
    before = list(warnings.filters)
    state = ProcessState()
    warnings.simplefilter("error")
    module = importlib.import_module(library)
    assert "exec_module" not in vars(module.__loader__)  # type: ignore[arg-type]
    warnings.simplefilter("ignore")
    warnings.simplefilter("ignore", module.Odd)
    logging.getLogger("sparktune_test_library.inner").disabled = True
    logging.getLogger("sparktune_test_library").setLevel("ERROR")
    state.restore()
    try:
        assert len(warnings.filters) == len(before) + 2
        assert {entry[0] for entry in list(warnings.filters)[:2]} == {"always"}
        inner, outer = (logging.getLogger(f"sparktune_test_library{end}") for end in (".inner", ""))
        assert (inner.level, inner.disabled) == (logging.INFO, False)
        assert outer.level == logging.NOTSET
    finally:
        warnings.filters[:] = before  # type: ignore[index]


FIRST_IMPORT = """
import sys
from sparktune.worker import imports
from sparktune.worker.process_state import ProcessState

imports.watch()
seen = []
assert "numpy" not in sys.modules
for _ in range(2):
    state = ProcessState()
    state.seed(7)
    import numpy as np
    seen.append([np.get_printoptions(), np.geterr(), np.random.random()])
    np.set_printoptions(precision=2, suppress=True)
    np.seterr(all="raise")
    state.restore()
assert seen[0] == seen[1], seen
assert np.get_printoptions()["precision"] == 8
"""


def test_settings_of_numpy_are_those_of_its_import_also_when_a_trial_has_imported_it(
    subprocess_env: Any,
) -> None:
    subprocess.run([sys.executable, "-c", FIRST_IMPORT], env=subprocess_env, check=True)


def test_a_thread_that_is_not_the_main_one_leaves_signals_alone(caplog: pytest.LogCaptureFixture) -> None:
    thread = threading.Thread(target=lambda: ProcessState().restore())
    thread.start()
    thread.join()
    assert not caplog.records


def test_a_seed_makes_random_numbers_repeat() -> None:
    state = ProcessState()
    draws = []
    for number in (7, 7, 8):
        process_state.seed(number)
        draws.append((random.random(), np.random.random()))
    state.restore()
    assert draws[0] == draws[1] != draws[2]
