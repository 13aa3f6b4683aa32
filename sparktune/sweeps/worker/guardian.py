"""Runs between a worker and a trial's command: nothing of the command outlives the trial.

A separate program, which needs only Python's standard library. The worker sends it, on its standard input,
one line of JSON. Then

- a byte means: end the command, and all that it has started. Its process group gets SIGTERM, so that it can
  save what it has (a shell ends immediately, the program that it started saves); after ``grace_s`` seconds,
  or as soon as the command and its process group have ended, what is left is killed;
- the end of the input means: kill it now, and remove the folder. It comes when the worker closes it, and when
  the worker dies, however it dies.

On Linux whatever the command starts stays below this process (PR_SET_CHILD_SUBREAPER, prctl(2)), in the
background and in its own sessions, too. Elsewhere only the command's process group is known.

The result is one line of JSON on the file ``result_fd``: ``{"code": 1}``, or ``{"error": [errno, text]}``
where the command could not be started.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
INHERITED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGPIPE)
"""Signals that a Spark worker may ignore, or block: the command begins as in a terminal."""

_asked = threading.Event()
_ending = threading.Event()
_gone = threading.Event()
_command = {"pid": 0}
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def main() -> None:
    """Run the command, report how it ended, end what it left, remove the folder."""
    config = json.loads(sys.stdin.buffer.readline())
    result_fd = config["result_fd"]
    os.set_inheritable(result_fd, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the worker ends it
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guardian = os.getpid()

    def begin() -> None:
        for number in INHERITED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if _prctl is not None:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guardian:
                os._exit(127)

    listener = threading.Thread(target=_listen, args=(config["grace_s"],), daemon=True)
    try:
        command = subprocess.Popen(
            config["argv"],
            cwd=config["cwd"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=begin,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        outcome: dict[str, object] = {"error": [getattr(error, "errno", None) or 0, str(error)]}
        _leave_output()
        listener.start()
    else:
        _command["pid"] = command.pid
        _leave_output()
        listener.start()
        command.returncode = _reap()
        outcome = {"code": command.returncode}
    with contextlib.suppress(OSError):  # the worker is dead
        os.write(result_fd, json.dumps(outcome).encode() + b"\n")
    with contextlib.suppress(OSError):
        os.close(result_fd)
    _gone.wait()
    shutil.rmtree(config["folder"], ignore_errors=True)
    os._exit(0)


def _leave_output() -> None:
    """Close this process's copy of the command's output, which ends when its last writer has ended."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)


def _listen(grace_s: float) -> None:
    """Wait for the request to end, or for the end of the worker."""
    while sys.stdin.buffer.read(1):
        if not _asked.is_set() and not _ending.is_set():
            _asked.set()
            _ask()
            timer = threading.Timer(grace_s, _end)
            timer.daemon = True
            timer.start()
    _end()
    _gone.set()


def _ask() -> None:
    """Ask the command to end, as a terminal or a scheduler does."""
    with contextlib.suppress(OSError):
        if _command["pid"]:
            os.killpg(_command["pid"], signal.SIGTERM)
            os.killpg(_command["pid"], signal.SIGCONT)  # one that is stopped would not receive it


def _end() -> None:
    _ending.set()
    _kill_all()


def _reap() -> int:
    """Wait for every process below this one, and end them once the command has ended; its exit code."""
    code = 0
    has_ended = False
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            if has_ended and _may_save():  # without a subreaper what is left is not a child of this process
                _ending.wait()
            _end()
            return code
        if pid == _command["pid"]:
            code = os.waitstatus_to_exitcode(status)
            has_ended = True
        if has_ended and not _may_save():
            _ending.set()
        if _ending.is_set():
            _kill_all()  # again after each: a process that was missed has become a child of this one


def _may_save() -> bool:
    """Whether the command was asked to end, its time is not over, and its process group is not empty."""
    if not _asked.is_set() or _ending.is_set():
        return False
    try:
        os.killpg(_command["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it exists
    return True


def _kill_all() -> None:
    """Stop, then kill, all below this process: none starts another in the meantime."""
    with contextlib.suppress(OSError):
        if _prctl is None:
            os.killpg(_command["pid"], signal.SIGKILL)
    stopped: set[int] = set()
    while new := _below(os.getpid()) - stopped:
        for pid in new:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> set[int]:
    """The processes that descend from one, by ``/proc/<pid>/stat`` (proc(5)); none without a /proc."""
    parents = {}
    for entry in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        if entry.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                parents[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


if __name__ == "__main__":
    main()
