"""Whether the driver of a study lives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from sparktune.tracking import lease as leases
from sparktune.tracking.lease import Lease, LeaseKeeper, is_alive, life


def test_it_is_read_back() -> None:
    lease = Lease.mine(3.5)
    assert Lease.from_json(lease.as_json()) == lease
    assert Lease.from_json("") is None
    assert Lease.from_json('{"owner": "x"}') is None
    assert f"process {os.getpid()} on " in str(lease)


def test_of_a_process_of_this_machine() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = replace(Lease.mine(0), pid=child.pid, began=leases._began(child.pid))
    assert life(theirs) == "lives"
    assert life(replace(theirs, began="7")) == "is over", "another process has its number now"
    child.kill()
    while leases._began(child.pid):  # a zombie is no driver
        time.sleep(0.01)
    assert life(theirs) == "is over"
    child.communicate()
    assert life(theirs) == "is over"


def test_of_this_process() -> None:
    assert life(Lease.mine(0)) == "is over", "the call that had it is over"


def test_of_another_machine() -> None:
    theirs = replace(Lease.mine(0), host="elsewhere")
    assert life(theirs) == "unknown"
    assert life(replace(theirs, renewed_s=time.time() - 2 * leases.SURELY_S)) == "is over"


def test_one_of_another_machine_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SILENT_S", 1.2)
    theirs = replace(Lease.mine(0), host="elsewhere")
    assert is_alive(theirs, lambda: theirs.renewed(1.0))
    assert not is_alive(theirs, lambda: theirs)
    assert not is_alive(theirs, lambda: None)


def test_it_is_renewed_until_somebody_else_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.01)
    mine, theirs = Lease.mine(2.0), Lease.mine(0.0)
    written: list[Lease] = []
    taken: list[Lease] = []
    lost = threading.Event()

    def tell(lease: Lease) -> None:
        taken.append(lease)
        lost.set()

    answers = iter([None, OSError("the server is away"), mine, theirs])

    def answer() -> Lease | None:
        found = next(answers)
        if isinstance(found, OSError):
            raise found
        return found

    keeper = LeaseKeeper(mine, lambda: 5.0, written.append, answer, tell)
    assert life(mine) == "lives"
    assert lost.wait(60)
    assert taken == [theirs]
    assert [(lease.owner, lease.used_s) for lease in written] == [(mine.owner, 5.0)] * 2
    keeper.close()
    assert life(mine) == "is over"
