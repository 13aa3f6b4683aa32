"""Ending a process and all that it has started, without Spark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sparktune.worker import processes

FAMILY = """
import multiprocessing, os, pathlib, subprocess, sys, time
from sparktune.worker import processes

if sys.argv[1] == "ps":
    processes.PROC = pathlib.Path("no such folder")
pool = multiprocessing.get_context("fork").Pool(2)  # which replaces processes that die
pool.apply(abs, (1,))
subprocess.Popen(["sh", "-c", "sleep 3600 & echo; wait"], stdout=subprocess.PIPE).stdout.readline()
subprocess.Popen(["sleep", "3600"], start_new_session=True)
print("begun", flush=True)
sys.stdin.readline()
processes.end_with_descendants()
"""


@pytest.mark.parametrize("source", ["proc", "ps"])
def test_none_of_the_family_is_left(source: str, subprocess_env: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY, source],
        env=subprocess_env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 5
        process.stdin.write("\n")
        process.stdin.flush()
        # Nobody holds its output any more: also the ones that were started in the meantime are dead.
        assert process.stdout.read() == ""
        assert process.wait(timeout=30) == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=1)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_both_sources_know_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 3600 & echo; wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = processes.descendants(process.pid)
        monkeypatch.setattr(processes, "PROC", Path("no such folder"))
        found_by_ps = processes.descendants(process.pid)
        for pid in {process.pid, *found}:
            os.kill(pid, signal.SIGKILL)
    assert len(found) == 1
    assert found_by_ps == found


LEFT = """
import multiprocessing, os, subprocess, sys
from multiprocessing import resource_tracker
from sparktune.worker import processes

resource_tracker.ensure_running()  # is not counted, and lives on
assert not processes.end_started_since(frozenset())
ended = subprocess.Popen(["true"])
os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
assert not processes.end_started_since(frozenset()), "it has ended"
users = subprocess.Popen(["sleep", "3600"])
before = processes.children()
assert users.pid in before
pool = multiprocessing.get_context("fork").Pool(2)  # which replaces processes that die
pool.apply(abs, (1,))
assert processes.end_started_since(before)
print(users.pid, *processes.started_since(before), flush=True)
sys.stdin.readline()
users.kill()
os._exit(0)
"""


def test_what_a_trial_has_left_ends_with_its_worker(subprocess_env: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEFT],
        env=subprocess_env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        users, *left = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        until = time.monotonic() + 60
        pool: list[psutil.Process] = []
        while len(pool) < 2 and time.monotonic() < until:  # a signal takes effect when its process is run
            pool = [child for child in left if child.status() == psutil.STATUS_STOPPED]
        assert len(pool) == 2
        assert users.status() != psutil.STATUS_STOPPED
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == "", "the pool had this, and has ended"
    _, alive = psutil.wait_procs(left, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
