"""One call at a time on one save file, in one process and in two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparktune.errors import SaveFileError
from sparktune.trials import file_lock

pytestmark = pytest.mark.unit

HOLDS = """
import sys
from pathlib import Path
from sparktune.trials import file_lock

with file_lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_call_in_this_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with file_lock.held(path):
        same = tmp_path / ".." / tmp_path.name / path.name
        said = r"trials\.pkl' is in use by another fmin call, of this process; wait for its end"
        with pytest.raises(SaveFileError, match=said), file_lock.held(same):
            pass
        with file_lock.held(tmp_path / "other.pkl"):
            pass
    with file_lock.held(path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed", [True, False])
def test_another_process_is_refused_until_the_first_is_over(
    killed: bool, tmp_path: Path, subprocess_env: Any
) -> None:
    path = tmp_path / "trials.pkl"
    command = [sys.executable, "-c", HOLDS, path]
    with subprocess.Popen(
        command, env=subprocess_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        said = rf"of process {process.pid} on .*; wait for its end, or give another name"
        with pytest.raises(SaveFileError, match=said), file_lock.held(path):
            pass
        if killed:
            process.kill()
        else:
            process.stdin.close()
        process.wait(60)
    assert (tmp_path / ".trials.pkl.lock").exists() == killed
    with file_lock.held(path):
        pass
    assert not (tmp_path / ".trials.pkl.lock").exists()


def test_where_nothing_can_be_locked_the_call_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".trials.pkl.lock").mkdir()
    with file_lock.held(tmp_path / "trials.pkl"):
        assert "cannot be locked" in caplog.text
