"""A trial that runs a command: the objective, on its worker."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sparktune.sweeps.references import Reference, Template, filled
from sparktune.sweeps.worker.folder import Archive
from sparktune.sweeps.worker.guarded import CannotStartError, Guarded
from sparktune.sweeps.worker.output import MetricLines, copy, tail
from sparktune.tracking.worker.files import NoMlflowError, OwnRun
from sparktune.worker import processes
from sparktune.worker.reporting import report

logger = logging.getLogger("sparktune")

PARAM = "SPARKTUNE_PARAM_"
"""The prefix of environment variables that hold one value each; SPARKTUNE_PARAMS holds all, as JSON."""
LOGS = "logs"
"""The artifact folder of the output streams."""
OUTPUTS = "outputs"
"""The command's folder whose files are kept with its run."""
NOT_FOR_COMMANDS = frozenset(
    (b"PYTHON_WORKER_FACTORY_SECRET", b"PYTHON_WORKER_FACTORY_PORT", b"PYTHON_WORKER_FACTORY_SOCK_PATH")
)
"""Environment variables for PySpark's worker alone."""
ENDED_S = 5.0
KEPT_S = 10.0
"""How long the end of a worker waits for its command's end, and for its logs to be kept."""
ATTACHED_BYTES = 64_000


class CommandFailed(RuntimeError):
    """The command could not be started, ended with another code than 0, or reported no metric."""


@dataclass(frozen=True)
class Command(processes.EndsInTime):
    """The objective of a sweep whose trials are commands.

    Attributes:
        argv: the program and its arguments, with references.
        metric: the primary metric.
        inputs: name -> text.
        env: environment variables, with references.
        outputs: name -> whether it is a folder.
        code: the folder that the command runs in, or None for an empty one.
    """

    argv: tuple[Template, ...]
    metric: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, Template] = field(default_factory=dict)
    outputs: Mapping[str, bool] = field(default_factory=dict)
    code: Archive | None = None
    ends_within_s: ClassVar[float] = ENDED_S + KEPT_S + 2.0

    def __call__(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Run the command with the values of a point; the result has the metric.

        Raises:
            CommandFailed: it could not be started, failed, or reported no metric.
            TrialTerminated: the study ends the trial.
        """
        values = {Reference("search_space", name): as_text(value) for name, value in point.items()}
        values |= {Reference("inputs", name): text for name, text in self.inputs.items()}
        run = OwnRun.of_environment()
        with _Scratch(self.code) as scratch:
            for name, is_folder in self.outputs.items():
                path = scratch.work / OUTPUTS / name
                (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
                values[Reference("outputs", name)] = str(path)
            argv = [filled(argument, values) for argument in self.argv]
            env = self._environment(point, values)
            return _Execution(argv, env, scratch, self.metric, run).result()

    def _environment(self, point: Mapping[str, Any], values: Mapping[Reference, str]) -> dict[bytes, bytes]:
        """The command's environment; as bytes, because values are UTF-8 whatever the worker's locale is."""
        env: dict[str, str] = {}
        # `python` is the interpreter that Spark's workers have.
        path = [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
        env["PATH"] = os.pathsep.join(filter(None, path))
        env["PYTHONUNBUFFERED"] = os.environ.get("PYTHONUNBUFFERED") or "1"  # metrics arrive immediately
        env["SPARKTUNE_PARAMS"] = json.dumps(dict(point), ensure_ascii=True)
        for name, value in point.items():
            if "=" not in name:
                env[PARAM + name] = as_text(value)
        env |= {name: filled(text, values) for name, text in self.env.items()}
        ours = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in env.items()}
        mine = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
        return {name: value for name, value in mine.items() if name not in NOT_FOR_COMMANDS} | ours


def as_text(value: Any) -> str:
    """A value as an argument: text as it is; lists and mappings as JSON; others as Python prints them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


class _Scratch:
    """The folder of one trial: the command's working folder, and its logs beside that."""

    def __init__(self, code: Archive | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sparktune-"))
        self.work = self.folder / "work"
        self.stdout, self.stderr = self.folder / "stdout.log", self.folder / "stderr.log"
        try:
            self.work.mkdir()
            if code is not None:
                code.unpack(str(self.work))
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class _Execution:
    """One command from its start to its end."""

    def __init__(
        self, argv: list[str], env: Mapping[bytes, bytes], scratch: _Scratch, metric: str, run: OwnRun | None
    ) -> None:
        self._argv, self._scratch, self._metric, self._run = argv, scratch, metric, run
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._over = threading.Event()
        self._doomed = threading.Event()
        self._last: float | None = None
        self._attachments: dict[str, bytes] = {}
        with scratch.stderr.open("wb") as stderr:
            self._guarded = Guarded(argv, env, str(scratch.work), str(scratch.folder), stderr)

    def result(self) -> dict[str, Any]:
        """Wait for its end; reports metrics that it prints."""
        reader = threading.Thread(target=self._read, name="sparktune-stdout", daemon=True)
        waiter = threading.Thread(target=self._wait, args=(reader,), name="sparktune-command", daemon=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(processes.before_the_end(self._worker_ends))
            stack.callback(self._guarded.close)
            stack.callback(self._keep)
            stack.callback(self._over.wait, ENDED_S)
            stack.callback(self._guarded.end)
            for thread in (reader, waiter):
                thread.start()
            if self._run is not None:
                # Its import takes seconds, and is needed at the end: the command uses the processor
                # meanwhile.
                threading.Thread(target=OwnRun.load, name="sparktune-import", daemon=True).start()
            for value, step in iter(self._events.get, None):
                self._last = value
                report(value, step)
            self._check(self._code)
            value = self._value()
        attached = {"attachments": self._attachments} if self._attachments else {}
        return {"status": "ok", self._metric: value, **attached}

    def _read(self) -> None:
        with self._guarded.stdout, self._scratch.stdout.open("wb") as file:
            copy(self._guarded.stdout, file, MetricLines(self._metric), self._events.put)

    def _wait(self, reader: threading.Thread) -> None:
        try:
            self._code: int | str = self._guarded.wait()
        except CannotStartError as error:
            self._code = str(error)
        reader.join(ENDED_S)
        self._over.set()
        if not self._doomed.is_set():  # else the trial's end is recorded by what ends this worker
            self._events.put(None)

    def _check(self, code: int | str) -> None:
        """Raise unless the command succeeded."""
        if code == 0:
            return
        if isinstance(code, str):
            raise CommandFailed(
                f"the command {self._argv[0]!r} could not be started: {code}. It is looked for on the PATH "
                "of Spark's workers, and as a path in the code folder"
            )
        how = f"ended with exit code {code}" if code > 0 else f"was ended by {_signal_name(-code)}"
        if code == -signal.SIGKILL:
            how += " (the system does that when memory runs out)"
        written = [(file.stem, tail(file)) for file in (self._scratch.stderr, self._scratch.stdout)]
        stream, text = next(((name, text) for name, text in written if text), ("", ""))
        raise CommandFailed(f"the command {how}" + (f"; its {stream} ends with:\n{text}" if text else ""))

    def _value(self) -> float:
        """The metric: as it was printed last, or else as it was logged last."""
        if self._last is not None:
            return self._last
        found = None
        if self._run is not None:
            try:
                found = self._run.metric(self._metric)
            except NoMlflowError:
                raise CommandFailed(
                    f"the command printed no line {self._metric}=VALUE, and what it logged cannot be read: "
                    "Spark's workers have no MLflow. Print the metric, or install mlflow there"
                ) from None
        if found is None:
            raise CommandFailed(
                f"the command succeeded, but reported no metric {self._metric!r}: log it with "
                f"mlflow.log_metric({self._metric!r}, value), or print a line {self._metric}=VALUE"
            )
        return found

    def _keep(self) -> None:
        """Keep the output streams and the folder ``outputs`` with the trial's run."""
        if self._run is None:
            return
        try:
            self._run.keep([self._scratch.stdout, self._scratch.stderr], LOGS)
            self._run.keep_folder(self._scratch.work / OUTPUTS, OUTPUTS)
        except NoMlflowError:
            for file in (self._scratch.stdout, self._scratch.stderr):
                with contextlib.suppress(OSError):
                    self._attachments[file.name] = file.read_bytes()[-ATTACHED_BYTES:]
        except Exception as error:  # trouble with MLflow must not cost the trial its result
            logger.warning("the output of a trial could not be kept in MLflow: %s", error)

    def _worker_ends(self) -> None:
        """In the thread that ends this process: first the command, then its logs."""
        self._doomed.set()
        self._guarded.end()
        self._over.wait(ENDED_S)
        if self._run is not None:
            # Waits for MLflow where it is still being imported, in the first seconds of a worker.
            keeping = threading.Thread(target=self._keep, daemon=True)
            keeping.start()
            keeping.join(KEPT_S)
        self._guarded.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
