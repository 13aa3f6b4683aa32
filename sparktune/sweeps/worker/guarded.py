"""A command that ends with its trial, whatever ends the trial: the worker's side of ``guardian``."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

BOOT = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))"
GRACE_S = 3.0
"""The time between SIGTERM and SIGKILL for a command that is to end."""
END_S = 5.0
"""How long the guardian may take to end a command and to remove its folder."""


class CannotStartError(Exception):
    """The command could not be started."""


class Guarded:
    """A running command.

    Args:
        argv: the program and its arguments.
        env: its environment.
        cwd: its working folder.
        folder: removed when all is over.
        stderr: where its error stream goes.

    Attributes:
        stdout: its output.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[bytes, bytes], cwd: str, folder: str, stderr: BinaryIO
    ) -> None:
        source = pkgutil.get_data(__package__, "guardian.py")
        assert source is not None
        result, result_fd = os.pipe()
        config = {
            "argv": list(argv),
            "cwd": cwd,
            "folder": folder,
            "result_fd": result_fd,
            "grace_s": GRACE_S,
        }
        try:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", BOOT, str(len(source))],
                env=dict(env),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=[result_fd],
                start_new_session=True,
            )
        except BaseException:
            os.close(result)
            raise
        finally:
            os.close(result_fd)
        assert self._guardian.stdin is not None
        assert self._guardian.stdout is not None
        self.stdout: BinaryIO = self._guardian.stdout  # type: ignore[assignment]
        self._lifeline = self._guardian.stdin
        self._result = os.fdopen(result, "rb")
        self._lock = threading.Lock()
        with contextlib.suppress(OSError):  # it is dead: the result reports that
            self._lifeline.write(source + json.dumps(config).encode() + b"\n")
            self._lifeline.flush()

    def wait(self) -> int:
        """The exit code, once the command and all that it has started have ended; below 0 for a signal.

        Raises:
            CannotStartError: it was not started.
        """
        with self._result:
            line = self._result.readline()
        outcome: dict[str, Any] = json.loads(line) if line else {"code": -9}
        if "error" in outcome:
            raise CannotStartError(outcome["error"][1])
        return int(outcome["code"])

    def end(self) -> None:
        """End the command, and all that it has started; its folder stays. See ``GRACE_S``."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._lifeline.write(b"x")
            self._lifeline.flush()

    def close(self) -> None:
        """End it, and remove its folder; waits for that a little."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._lifeline.close()
        try:
            self._guardian.wait(END_S)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
