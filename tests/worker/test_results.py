"""Results on their way to the driver: an entry that cannot travel costs no other."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparktune.worker import results

pytestmark = pytest.mark.unit

LOCK = threading.Lock()


class Ends:
    """Ends the process that reads it."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class Raises:
    """Cannot be pickled, in a rude way."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


class Unreadable:
    """Can be pickled, and not be read."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_what_is_sent_arrives_in_its_order() -> None:
    class Local:
        """Known to this function only, so that plain pickle refuses it."""

    keys = {3: "three", ("epoch", 1): 2, np.str_("auc"): 0.5}
    sent = {"loss": 1.0, "model": Local(), "status": "ok", "curve": [0.5, 0.25], **keys}
    payload, dropped = results.packed(sent, {"a": b"b"})
    result, attachments, unread = results.unpacked(payload)
    assert (dropped, unread, attachments) == ([], [], {"a": b"b"})
    assert list(result) == list(sent)
    assert result["curve"] == [0.5, 0.25]
    assert {key: result[key] for key in keys} == keys
    assert type(result["model"]).__name__ == "Local"


@pytest.mark.parametrize(
    ("entry", "attachments", "note"),
    [
        ({"guard": LOCK}, {}, "the result['guard'] is a lock, which cannot be sent to the driver"),
        ({}, {"guard": LOCK}, "the attachments['guard'] is a lock, which cannot be sent"),
        ({"file": [io.StringIO(), io.FileIO(0, closefd=False)]}, {}, "the result['file'][1] is a FileIO"),
        ({LOCK: 1}, {}, "the key of the result[a lock] is a lock"),
        ({"end": Raises()}, {}, "the result['end'] is a Raises"),
    ],
)
def test_an_entry_that_cannot_be_pickled_is_dropped(entry: Any, attachments: Any, note: str) -> None:
    sent = {"loss": 1.0, "status": "ok", **entry, "accuracy": 0.5}
    payload, dropped = results.packed(sent, attachments)
    assert [note in text and "Remedy" in text for text in dropped] == [True]
    kept = {"loss": 1.0, "status": "ok", "accuracy": 0.5}
    assert results.unpacked(payload) == (kept, {}, [])
    assert results.sendable(sent, attachments) == (kept, {}, dropped)


@pytest.mark.parametrize(
    ("value", "error"), [(Ends(), "SystemExit: 3"), (Unreadable(), "ValueError: invalid")]
)
def test_an_entry_that_cannot_be_read_is_dropped(value: Any, error: str) -> None:
    payload, _ = results.packed({"loss": 1.0, "model": value, "status": "ok"}, {"a": value})
    result, attachments, unread = results.unpacked(payload)
    assert (result, attachments) == ({"loss": 1.0, "status": "ok"}, {})
    names = [text.partition(" cannot be read on the driver")[0] for text in unread]
    assert names == ["the result['model']", "the attachments['a']"]
    assert all(error in text and "Remedy" in text for text in unread)


ON_THE_WORKER = """
import pickle, sys
from sparktune.worker import results
Model, Mode = pickle.loads(sys.stdin.buffer.read())
Model.made = 7
payload, dropped = results.packed({"loss": 1.0, "model": Model(), "mode": Mode.FAST}, {})
assert not dropped
sys.stdout.buffer.write(payload)
"""
ON_THE_DRIVER = """
import enum, subprocess, sys
import cloudpickle
from sparktune.worker import results

FACTOR = 2

class Model:
    made = 0
    def score(self):
        return FACTOR

class Mode(enum.Enum):
    FAST = 1

score = Model.score
there = cloudpickle.dumps((Model, Mode))
payload = subprocess.run([sys.executable, sys.argv[1]], input=there, capture_output=True, check=True).stdout
result, _, unread = results.unpacked(payload)
assert not unread, unread
assert type(result["model"]) is Model and result["mode"] is Mode.FAST
assert Model.made == 0 and Model.score is score
FACTOR = 3
assert result["model"].score() == 3
"""


def test_a_class_of_the_notebook_stays_as_it_is_on_the_driver(tmp_path: Path) -> None:
    """cloudpickle finds the class itself again, and would replace its attributes by those of the copy."""
    for name, text in (("worker.py", ON_THE_WORKER), ("driver.py", ON_THE_DRIVER)):
        (tmp_path / name).write_text(text)
    command = [sys.executable, tmp_path / "driver.py", tmp_path / "worker.py"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
