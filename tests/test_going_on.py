"""A study goes on: a trials object used again, pickled, or read from the file of a killed process."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import anneal, hp, rand, tpe
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_RUNNING
from hypothesis import given, settings, strategies as st

import sparktune
from sparktune import SaveFileError, SimulatedTrials, SparkTrials, StudyInProgress
from sparktune.trials import savefile
from tests.conftest import needs_classic

pytestmark = pytest.mark.system

SPACE = {"x": hp.uniform("x", -5, 5), "c": hp.choice("c", ["a", {"y": hp.normal("y", 0, 1)}])}


def loss(point: Any) -> float:
    return float(point["x"] ** 2)


def tune(n: int, trials: Any = None, *, fmin: Any = sparktune.fmin, fn: Any = loss, **options: Any) -> Any:
    trials = SimulatedTrials() if trials is None else trials
    arguments = {"algo": rand.suggest, "rstate": np.random.default_rng(1), "show_progressbar": False}
    fmin(fn, SPACE, max_evals=n, trials=trials, **arguments | options)
    return trials


def points(trials: Any) -> list[Any]:
    return [document["misc"]["vals"] for document in trials._dynamic_trials]


# -- again with the same object ----------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([tpe.suggest, rand.suggest, anneal.suggest]),
    st.booleans(),
)
def test_two_calls_are_one(n: int, m: int, algo: Any, pickled: bool) -> None:
    """With the same ``rstate`` in each call (a cell that is run again), and without one in the second."""
    whole = tune(n + m, algo=algo)
    for again in (np.random.default_rng(1), None):
        trials = tune(n, algo=algo)
        if pickled:
            trials = pickle.loads(pickle.dumps(trials))
        assert points(tune(n + m, trials, algo=algo, rstate=again)) == points(whole)
    trials = tune(n, algo=algo, fmin=hyperopt.fmin)
    assert points(tune(n + m, trials, algo=algo, fmin=hyperopt.fmin)) == points(whole)


def test_a_generator_that_is_handed_on_goes_on() -> None:
    generator = np.random.default_rng(1)
    trials = tune(5, rstate=generator)
    assert points(tune(9, trials, rstate=generator)) == points(tune(9))


def test_another_seed_begins_another_stream() -> None:
    trials = tune(9, tune(5), rstate=np.random.default_rng(2))
    assert points(trials)[:5] == points(tune(5))
    assert points(trials)[5:] == points(tune(4, rstate=np.random.default_rng(2)))


def test_a_pickle_holds_everything_that_was_asked_for() -> None:
    def fn(point: Any) -> Any:
        result = {"status": "ok", "loss": loss(point), "attachments": {"a": b"bytes"}}
        return result if point["x"] > 0 else 1 / 0

    trials = tune(10, fn=fn)
    again = pickle.loads(pickle.dumps(trials))
    assert again.to_dataframe().equals(trials.to_dataframe())
    assert again.best_params == trials.best_params
    assert again.trial_attachments(again.trials[0])["a"] == b"bytes"
    assert again.count_failed_trials() == trials.count_failed_trials() > 0


def test_delete_all_begins_anew() -> None:
    trials = tune(5)
    trials.delete_all()
    assert len(trials) == 0
    assert points(tune(5, trials)) == points(tune(5))


def test_the_same_trials_in_two_threads_at_once() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fn(point: Any) -> float:
        begun.set()
        go_on.wait(60)
        return loss(point)

    trials = SimulatedTrials()
    thread = threading.Thread(target=tune, args=(3, trials), kwargs={"fn": fn})
    thread.start()
    begun.wait(60)
    try:
        with pytest.raises(StudyInProgress, match="in use by another fmin call"):
            tune(3, trials)
    finally:
        go_on.set()
        thread.join()
    assert len(trials) == 3
    assert len(tune(4, trials)) == 4


# -- from a file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmin", [sparktune.fmin, hyperopt.fmin])
def test_the_file_is_written_and_gone_on_from(fmin: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "trials.pkl")
    tune(4, fmin=fmin, trials_save_file=path)
    trials = tune(9, fmin=fmin, trials_save_file=path)
    assert points(trials) == points(tune(9))
    saved = savefile.read(path)
    assert saved is not None
    assert points(saved) == points(trials)
    assert [trial.state for trial in trials.memory.records.values()] == ["completed"] * 9


def test_without_trials_those_of_the_file_go_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    tune(4, trials_save_file=path)
    options: Any = {"rstate": np.random.default_rng(1), "show_progressbar": False}
    sparktune.fmin(loss, SPACE, rand.suggest, 9, trials_save_file=path, **options)
    saved = savefile.read(path)
    assert saved is not None
    assert points(saved) == points(tune(9))


def test_a_file_of_more_trials_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    tune(4, trials_save_file=path)
    before = path.read_bytes()
    with pytest.raises(SaveFileError, match="holds 4 trials, more than the 2"):
        tune(9, tune(2), trials_save_file=path)
    assert path.read_bytes() == before


def test_the_file_is_up_to_date_when_fmin_raises(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"

    def stop(trials: Any) -> Any:
        if len(trials) == 3:
            raise LookupError
        return False, []

    with pytest.raises(LookupError):
        tune(9, trials_save_file=path, early_stop_fn=stop)
    saved = savefile.read(path)
    assert saved is not None
    assert saved.losses() == tune(3).losses()


TOLD = """
import sys, time
import numpy as np
from sparktune import SimulatedTrials, SparkTrials, fmin, tpe
from tests.test_going_on import SPACE, loss

def told(trials):
    print(trials.trials[-1]["tid"], flush=True)
    return False, []

kind, path, n = sys.argv[1:]
if kind == "simulated":
    trials = SimulatedTrials()
elif kind == "together":
    trials = SimulatedTrials(slots=3, duration_s=lambda config, result: 6 + config["x"])
else:
    trials = SparkTrials(1, mlflow=False)
fmin(loss, SPACE, tpe.suggest, int(n), trials=trials, rstate=np.random.default_rng(1), trials_save_file=path,
     early_stop_fn=told, show_progressbar=False)
"""


def killed_again_and_again(kind: str, path: Path, n: int, kills: int, env: Any, last: Any = None) -> Any:
    """A study whose process is killed after some ends were told; returns its trials when it has gone on."""
    random = np.random.default_rng(0)
    told: list[int] = []
    command = [sys.executable, "-c", TOLD, kind, str(path), str(n)]
    for _ in range(kills):
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(int(random.integers(1, max(2, n // kills)))):
                told.append(int(process.stdout.readline()))
            process.kill()
            told += [int(line) for line in process.stdout if line.endswith("\n")]
        saved = savefile.read(path)
        assert saved is not None
        tids = [document["tid"] for document in saved._dynamic_trials]
        assert tids == list(range(len(tids)))
        kept = {d["tid"]: d["result"] for d in saved._dynamic_trials if d["state"] == JOB_STATE_DONE}
        assert set(told) <= kept.keys()
        assert len(set(told)) == len(told)  # no trial has ended twice
        if len(kept) == n:
            break
    trials = tune(n, last, algo=sparktune.tpe.suggest, trials_save_file=path)
    assert all(trials._dynamic_trials[tid]["result"] == result for tid, result in kept.items())
    assert [document["tid"] for document in trials._dynamic_trials] == list(range(n))
    assert {document["state"] for document in trials._dynamic_trials} == {JOB_STATE_DONE}
    return trials


@pytest.mark.parametrize(("kind", "n", "kills"), [("simulated", 200, 7), ("together", 200, 7)])
def test_a_study_that_is_killed_at_any_moment_loses_nothing(
    kind: str, n: int, kills: int, tmp_path: Path, subprocess_env: Any
) -> None:
    trials = killed_again_and_again(kind, tmp_path / "trials.pkl", n, kills, subprocess_env)
    if kind == "simulated":  # one trial at a time
        whole = tune(n, algo=sparktune.tpe.suggest)
        assert [d["misc"] for d in trials._dynamic_trials] == [d["misc"] for d in whole._dynamic_trials]


@needs_classic
def test_a_study_on_spark_that_is_killed_loses_nothing(
    tmp_path: Path, subprocess_env: Any, spark: Any
) -> None:
    last = SparkTrials(1, mlflow=False, spark_session=spark)
    trials = killed_again_and_again("spark", tmp_path / "trials.pkl", 30, 3, subprocess_env, last)
    assert points(trials) == points(tune(30, algo=sparktune.tpe.suggest))


def test_the_time_limit_goes_on_after_a_kill_alone(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    limit: Any = {"timeout": 10, "trials_save_file": path}
    assert len(tune(100, **limit)) == 10
    copy = tmp_path / "copy.pkl"

    def fn(point: Any) -> float:
        if not copy.exists() and len(savefile.read(path) or ()) == 14:
            shutil.copyfile(path, copy)
        return loss(point)

    assert len(tune(100, fn=fn, **limit)) == 20  # all ended in good order, so it has its time anew
    assert savefile.read(copy).memory.used_s == 4  # type: ignore[union-attr]
    assert len(tune(100, **limit | {"trials_save_file": copy})) == 20
    assert len(tune(100, **limit | {"trials_save_file": copy})) == 30


def test_what_the_pickle_of_a_killed_study_holds_goes_on_with_its_journal(tmp_path: Path) -> None:
    """``hyperopt.fmin`` reads the file by ``pickle.load`` and hands over what that gives."""
    path, copy = tmp_path / "trials.pkl", tmp_path / "copy.pkl"

    def fn(point: Any) -> float:
        if not copy.exists() and len(savefile.read(path) or ()) == 5:
            shutil.copyfile(path, copy)
        return loss(point)

    tune(9, fn=fn, trials_save_file=path)
    trials = pickle.loads(copy.read_bytes())
    assert len(trials) < 5
    assert points(tune(9, trials, fmin=hyperopt.fmin, trials_save_file=copy)) == points(tune(9))


def test_two_calls_on_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"

    def fn(point: Any) -> float:
        with pytest.raises(SaveFileError, match="in use by another fmin call"):
            tune(3, trials_save_file=path)
        return loss(point)

    assert len(tune(2, fn=fn, trials_save_file=path)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["trials.pkl"]


KILLED = """
import os, signal, sys
import numpy as np
from hyperopt import rand
from sparktune import SimulatedTrials, fmin
from tests.test_going_on import SPACE, loss

calls = []

def fn(point):
    calls.append(point)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(point)

trials = SimulatedTrials(slots=3, duration_s=lambda config, result: 6 + config["x"])
fmin(fn, SPACE, rand.suggest, 9, trials=trials, rstate=np.random.default_rng(1), trials_save_file=sys.argv[1])
"""


def test_a_killed_process_loses_nothing_that_finished(tmp_path: Path, subprocess_env: Any) -> None:
    path = tmp_path / "trials.pkl"
    command = [sys.executable, "-c", KILLED, str(path)]
    assert subprocess.run(command, env=subprocess_env, timeout=100, check=False).returncode == -signal.SIGKILL
    left = savefile.read(path)
    assert left is not None
    states = [document["state"] for document in left._dynamic_trials]
    assert states.count(JOB_STATE_DONE) >= 1
    assert states.count(JOB_STATE_RUNNING) >= 1
    kept = {d["tid"]: d["result"] for d in left._dynamic_trials if d["state"] == JOB_STATE_DONE}

    trials = tune(9, trials_save_file=path)
    assert [document["tid"] for document in trials._dynamic_trials] == list(range(9))
    assert {document["state"] for document in trials._dynamic_trials} == {JOB_STATE_DONE}
    assert points(trials) == points(tune(9))
    assert all(trials._dynamic_trials[tid]["result"] == result for tid, result in kept.items())
