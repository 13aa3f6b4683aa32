"""Ending a process and all that it has started, without Spark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
