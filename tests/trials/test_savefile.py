"""``trials_save_file``: on disk with every trial that has ended, whatever happens while it is written."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import hyperopt
import pytest
from hyperopt import hp, rand
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_RUNNING

from sparktune import SimulatedTrials, fmin
from sparktune.errors import SaveFileError
from sparktune.private import of_hyperopt
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import journal, savefile

pytestmark = pytest.mark.unit

DONE = Trial(0, {}, {}, TrialState.COMPLETED, loss=0.0)


def tuned(n: int) -> SimulatedTrials:
    trials = SimulatedTrials()
    fmin(abs, hp.uniform("x", -1, 1), rand.suggest, n, trials=trials, rstate=1, show_progressbar=False)
    return trials


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(3)
    assert savefile.read(path) is None
    with closing(savefile.SaveFile(path, trials)) as save:
        save.changed(DONE)
        save.keep()
    saved = savefile.read(path)
    assert isinstance(saved, SimulatedTrials)
    assert saved.losses() == trials.losses()
    assert saved.best_params == trials.best_params
    assert [file.name for file in tmp_path.iterdir()] == ["trials.pkl"]


def test_a_file_of_a_development_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(2)
    del trials.memory
    path.write_bytes(cloudpickle.dumps(trials))
    with pytest.raises(SaveFileError, match="a development version of sparktune pickled these trials"):
        savefile.read(path)


class Grown:
    """A save file that has its first pickle, and trials that have one more in memory."""

    def __init__(self, path: Path, n: int = 2) -> None:
        self.trials = tuned(n)
        self.save = savefile.SaveFile(path, self.trials)
        self.save.begin(lambda: 12.5)
        self.save.write()
        self.save._next_whole = 0.0
        self.base = path.read_bytes().removesuffix(journal.HEADER)
        self.ready = len(self.base) + len(journal.HEADER)
        more = tuned(n + 1)
        self.document = more._dynamic_trials[n]
        self.ended = more.memory.records[n]
        of_hyperopt.bring_up(self.trials, {n: self.document})
        self.trials.memory.documents[n], self.trials.memory.records[n] = self.document, self.ended

    def grow(self) -> None:
        """The trial has ended."""
        self.save.changed(self.ended)
        self.save.keep()

    def __enter__(self) -> Grown:
        return self

    def __exit__(self, *_: object) -> None:
        self.save.close()


def test_what_joins_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        inode = path.stat().st_ino
        grown.save.changed(grown.ended)
        assert path.stat().st_size == grown.ready
        grown.save.keep()
        assert path.read_bytes().startswith(grown.base)
        assert path.stat().st_ino == inode
        size = path.stat().st_size
        grown.save.keep()
        assert path.stat().st_size == size > grown.ready
    saved = savefile.read(path)
    assert isinstance(saved, SimulatedTrials)
    assert saved._dynamic_trials == grown.trials._dynamic_trials
    assert saved.memory.records == grown.trials.memory.records
    assert saved.memory.used_s == 12.5
    assert len(pickle.loads(path.read_bytes())) == 2  # as others read it: what the last pickle holds


def test_at_the_end_it_is_a_plain_pickle(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.grow()
        grown.save.finish()
    with open(path, "rb") as file:
        assert len(pickle.load(file)) == 3
        assert file.read() == b""


def test_a_suggestion_is_in_the_file_before_its_trial_ends(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.document["state"] = JOB_STATE_RUNNING
        grown.save.keep()
    saved = savefile.read(path)
    assert saved is not None
    assert [d["state"] for d in saved._dynamic_trials] == [JOB_STATE_DONE, JOB_STATE_DONE, JOB_STATE_RUNNING]


def test_attachments_come_along(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.ended = replace(grown.ended, attachments={"model": b"bytes"})
        grown.grow()
    saved = savefile.read(path)
    assert saved is not None
    assert saved.trial_attachments(saved.trials[2])["model"] == b"bytes"


def test_a_long_journal_becomes_part_of_the_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.pkl"
    monkeypatch.setattr(savefile, "COMPACT_BYTES", 1000)
    with Grown(path) as grown:
        grown.grow()
        record = path.stat().st_size - grown.ready
        while path.read_bytes().startswith(grown.base):
            assert path.stat().st_size <= grown.ready + max(1000, len(grown.base)) + record
            grown.grow()
    assert len(pickle.loads(path.read_bytes())) == 3
    assert len(savefile.read(path) or ()) == 3


def test_the_time_used_is_noted_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.grow()
        assert grown.save.due_in_s() == savefile.TICK_S
        grown.save._used_s = lambda: 12.5 + savefile.TICK_S
        assert grown.save.due_in_s() == 0
        grown.save.do()
        assert grown.save.due_in_s() == savefile.TICK_S
    assert savefile.read(path).memory.used_s == 12.5 + savefile.TICK_S  # type: ignore[union-attr]


def test_cut_off_anywhere_it_is_read_up_to_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.document["state"] = JOB_STATE_RUNNING
        grown.save.keep()
        suggested = path.stat().st_size
        grown.document["state"] = JOB_STATE_DONE
        grown.grow()
    data = path.read_bytes()
    whole = {0: len(grown.base), 1: grown.ready, 2: suggested, 3: len(data)}
    for cut in {*range(len(grown.base), len(data), 37), *whole.values(), len(data) - 1}:
        path.write_bytes(data[:cut])
        caplog.clear()
        saved = savefile.read(path)
        assert saved is not None
        read = max(n for n, end in whole.items() if end <= cut)
        assert len(saved) == (2 if read < 2 else 3)
        assert (saved._dynamic_trials[-1]["state"] == JOB_STATE_RUNNING) == (read == 2)
        left_out = cut - whole[read]
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == (left_out > 0)
        assert all(f"the last {left_out} of its bytes, from byte {whole[read]} on" in text for text in said)
    caplog.clear()
    path.write_bytes(data[:-1])
    savefile.read(path, quietly=True)
    assert caplog.records == []


def test_garbage_in_the_middle_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.grow()
    data = bytearray(path.read_bytes())
    data[grown.ready + 100] ^= 1
    path.write_bytes(data)
    caplog.clear()
    assert len(savefile.read(path) or ()) == 2
    [said] = [record.getMessage() for record in caplog.records]
    assert f"the last {len(data) - grown.ready} of its bytes" in said
    assert "a record is damaged" in said


def test_a_later_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(1)
    said = r"is of format 7, and this version of sparktune reads formats up to 1: install the sparktune"
    path.write_bytes(cloudpickle.dumps(trials) + b"sparktune journal 7\nwhatever")
    with pytest.raises(SaveFileError, match=said):
        savefile.read(path)
    with monkeypatch.context() as later:
        later.setattr(journal, "FORMAT", 7)
        path.write_bytes(cloudpickle.dumps(trials))
    with pytest.raises(SaveFileError, match=said):
        savefile.read(path)


def test_a_file_that_was_taken_away_is_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        path.unlink()
        caplog.clear()
        grown.grow()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "so it was written as a whole" in caplog.text
        assert len(savefile.read(path) or ()) == 3


def test_where_nothing_can_be_appended_writes_are_spaced_and_become_due(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        grown.save._next_whole = time.monotonic() + 1000
        path.unlink()
        grown.grow()  # the first record ever
        assert not path.exists()
        assert (grown.save.due_in_s() or 0) > 0
        grown.save._next_whole = 0.0
        assert (grown.save.due_in_s() or 0) < 0
        grown.save.do()
        assert len(savefile.read(path) or ()) == 3


def test_a_folder_that_is_gone_for_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "trials.pkl"
    with Grown(path) as grown:
        shutil.rmtree(folder)
        caplog.clear()
        for _ in range(3):
            grown.grow()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert f"could not be written to trials_save_file {path}" in caplog.text
        due = grown.save.due_in_s()
        assert due is not None
        assert 0 < due <= savefile.AGAIN_S
        folder.mkdir()
        grown.save._next_whole = 0.0
        grown.save.do()
        assert "again" in caplog.records[-1].getMessage()
        assert len(savefile.read(path) or ()) == 3
        assert [file.name for file in folder.iterdir()] == ["trials.pkl"]


NO_ROOM = """
import resource, sys
from sparktune import SimulatedTrials, fmin, hp, rand
from sparktune.trials import savefile

savefile.AGAIN_S = 0.001
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
calls = []

def fn(x):
    calls.append(x)
    if len(calls) == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))
    if len(calls) == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return {"status": "ok", "loss": x, "text": "x" * 500}

fmin(fn, hp.uniform("x", 0, 1), rand.suggest, int(sys.argv[2]), trials=SimulatedTrials(), rstate=1,
     trials_save_file=sys.argv[1], show_progressbar=False)
"""


@pytest.mark.parametrize("n", [15, 30])
def test_on_a_full_disk_the_study_goes_on(n: int, tmp_path: Path, run: Any) -> None:
    path = tmp_path / "trials.pkl"
    done = run([sys.executable, "-c", NO_ROOM, path, n])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("could not be written") == 1, done.stderr
    saved = savefile.read(path)
    assert saved is not None
    tids = [document["tid"] for document in saved._dynamic_trials]
    assert tids == list(range(n if n > 20 else len(tids)))
    assert saved.memory.is_unfinished == (n < 20)
    assert len(tids) >= 4


class Refuses:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise OSError("disk full")


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    trials = tuned(2)
    with closing(savefile.SaveFile(path, trials)) as save:
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
    for _ in range(2):  # the second time too soon after the last attempt
        save.changed(DONE)
        save.keep()
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


def test_a_trial_that_cannot_be_pickled_does_not_keep_others_from_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trials.pkl"
    with Grown(path) as grown:
        caplog.clear()
        bad = replace(grown.trials.memory.records[0], result={"bad": Refuses()})
        grown.trials.memory.records[0] = bad
        grown.save.changed(bad)
        grown.grow()
        grown.grow()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert len(savefile.read(path) or ()) == 3


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
from sparktune import SimulatedTrials
from sparktune.trials import savefile

def killed(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)

save = savefile.SaveFile(sys.argv[1], SimulatedTrials())
os.fsync = killed
save.write()
"""


def test_a_crash_in_the_middle_leaves_the_old_file_whole(tmp_path: Path, subprocess_env: Any) -> None:
    path = tmp_path / "trials.pkl"
    with closing(savefile.SaveFile(path, tuned(2))) as save:
        save.write()
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


@pytest.mark.parametrize("content", [b"not a pickle", pickle.dumps(hyperopt.Trials())[:-20]])
def test_corrupted(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    path.write_bytes(content)
    with pytest.raises(SaveFileError, match=r"trials\.pkl' cannot be read .*give another name"):
        savefile.read(path)
    assert path.read_bytes() == content


def test_home_an_empty_file_and_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``tempfile`` leaves one; a link may lead to another disk."""
    monkeypatch.setenv("HOME", str(tmp_path))
    there = tmp_path / "there"
    there.mkdir()
    (there / "t.pkl").touch()
    (tmp_path / "t.pkl").symlink_to(there / "t.pkl")
    for trials, n in ((SimulatedTrials(), 2), (None, 3)):
        options: Any = {"trials_save_file": "~/t.pkl", "rstate": 1, "show_progressbar": False}
        fmin(abs, hp.uniform("x", -1, 1), rand.suggest, n, trials=trials, **options)
        saved = savefile.read("~/t.pkl")
        assert saved is not None
        assert len(saved) == n
    assert (tmp_path / "t.pkl").is_symlink()
    assert [file.name for file in there.iterdir()] == ["t.pkl"]


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
    with closing(savefile.SaveFile(path, tuned(1))) as save:
        save.write()
    assert oct(os.stat(path).st_mode) == oct(os.stat(plain).st_mode)
