"""``trials_save_file``: always whole on disk, whatever happens while it is written."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle
import hyperopt
import pytest
from hyperopt import hp, rand

from sparktune import SimulatedTrials, fmin
from sparktune.errors import SaveFileError
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import savefile

DONE = Trial(0, {}, {}, TrialState.COMPLETED, loss=0.0)


def tuned(n: int) -> SimulatedTrials:
    trials = SimulatedTrials()
    fmin(abs, hp.uniform("x", -1, 1), rand.suggest, n, trials=trials, rstate=1, show_progressbar=False)
    return trials


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(3)
    assert savefile.read(path) is None
    savefile.SaveFile(path, trials).changed(DONE)
    saved = savefile.read(path)
    assert isinstance(saved, SimulatedTrials)
    assert saved.losses() == trials.losses()
    assert saved.best_params == trials.best_params
    assert [file.name for file in tmp_path.iterdir()] == ["trials.pkl"]


def test_a_file_of_an_earlier_version_is_read_although_classes_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(2)
    moved = {new: old for old, new in savefile.MOVED.items()}
    with monkeypatch.context() as earlier:
        for cls in (SimulatedTrials, Trial, TrialState):
            old = moved[cls.__module__]
            module = sys.modules.get(old) or types.ModuleType(old)
            earlier.setitem(sys.modules, old, module)
            earlier.setattr(cls, "__module__", old)
            earlier.setattr(module, cls.__name__, cls, raising=False)
        path.write_bytes(cloudpickle.dumps(trials))
    assert b"sparktune.simulated_trials" in path.read_bytes()
    saved = savefile.read(path)
    assert isinstance(saved, SimulatedTrials)
    assert saved.best_params == trials.best_params


def test_trials_that_have_not_ended_are_no_reason_to_write(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    save = savefile.SaveFile(path, tuned(1))
    save.changed(Trial(0, {}, {}, TrialState.RUNNING))
    save.finish()
    assert not path.exists()


def test_writes_are_spaced_and_the_last_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(1)
    save = savefile.SaveFile(path, trials)
    monkeypatch.setattr(savefile, "SHARE_OF_TIME", 1e-9)
    save.changed(DONE)
    written = path.stat().st_ino
    save.changed(DONE)
    assert path.stat().st_ino == written
    save.finish()
    assert path.stat().st_ino != written


def test_a_write_that_was_too_early_becomes_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.pkl"
    save = savefile.SaveFile(path, tuned(1))
    assert save.due_in_s() is None
    monkeypatch.setattr(savefile, "SHARE_OF_TIME", 1e-9)
    save.changed(DONE)
    assert save.due_in_s() is None
    written = path.stat().st_ino
    save.changed(DONE)
    assert (save.due_in_s() or 0) > 0
    save.do()
    assert path.stat().st_ino != written
    assert save.due_in_s() is None


class Refuses:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise OSError("disk full")


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(2)
    save = savefile.SaveFile(path, trials)
    save.write()
    before = path.read_bytes()
    trials.attachments["bad"] = Refuses()
    with pytest.raises(OSError, match="disk full"):
        save.write()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_once_and_written_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(1)
    save = savefile.SaveFile(path, trials)
    trials.attachments["bad"] = Refuses()
    caplog.clear()
    save.changed(DONE)
    save.changed(DONE)  # too soon after the last attempt
    save.finish()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"could not be written to trials_save_file {path}" in caplog.text
    assert not path.exists()
    del trials.attachments["bad"]
    save.finish()
    assert "again" in caplog.records[-1].getMessage()
    assert len(savefile.read(path) or ()) == 1


def test_a_full_disk_does_not_end_the_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trials.pkl"
    trials = SimulatedTrials()
    trials.attachments["bad"] = Refuses()
    space = hp.uniform("x", -1, 1)
    fmin(abs, space, rand.suggest, 5, trials=trials, show_progressbar=False, trials_save_file=path)
    assert len(trials) == 5
    assert caplog.text.count("could not be written") == 1


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
import hyperopt
from sparktune.trials import savefile

def killed(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)

save = savefile.SaveFile(sys.argv[1], hyperopt.Trials())
os.fsync = killed
save.write()
"""


def test_a_crash_in_the_middle_leaves_the_old_file_whole(tmp_path: Path, subprocess_env: Any) -> None:
    path = tmp_path / "trials.pkl"
    savefile.SaveFile(path, tuned(2)).write()
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, path], env=subprocess_env, timeout=100, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(tuned(2).trials) == len(savefile.read(path).trials)  # type: ignore[union-attr]


def test_hyperopts_own_files_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    space = hp.uniform("x", -1, 1)
    theirs = hyperopt.Trials()
    hyperopt.fmin(abs, space, rand.suggest, 3, trials=theirs, show_progressbar=False)
    path.write_bytes(cloudpickle.dumps(theirs))  # as hyperopt.FMinIter.run writes it
    ours = SimulatedTrials()
    fmin(abs, space, rand.suggest, 5, trials=ours, show_progressbar=False, trials_save_file=path)
    assert ours.losses()[:3] == theirs.losses()
    assert len(ours) == 5


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(hyperopt.Trials())[:-20]])
def test_corrupted(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    path.write_bytes(content)
    with pytest.raises(SaveFileError, match=r"trials\.pkl' cannot be read .*give another name"):
        savefile.read(path)
    assert path.read_bytes() == content


def test_something_else(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    path.write_bytes(cloudpickle.dumps({"x": 1}))
    with pytest.raises(SaveFileError, match=r"holds a dict, no trials"):
        savefile.read(path)


def test_a_place_that_cannot_be_written_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    calls: list[Any] = []
    for place in (tmp_path, tmp_path / "missing" / "trials.pkl"):
        with pytest.raises(SaveFileError):
            fmin(calls.append, hp.uniform("x", 0, 1), trials=SimulatedTrials(), trials_save_file=place)
    assert calls == []


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    """hyperopt's file is made by ``open``; a colleague, or another job, may read it."""
    path, plain = tmp_path / "trials.pkl", tmp_path / "plain"
    plain.touch()
    savefile.SaveFile(path, tuned(1)).write()
    assert oct(os.stat(path).st_mode) == oct(os.stat(plain).st_mode)
