"""Going on with a study that MLflow has recorded: what a dead driver leaves, and what a user does next."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from sparktune import BanditPolicy, SparkTrials, Trials, auto, fmin, hp, optuna_sampler, rand, report, tpe
from sparktune.early_termination import Curve, Decision
from sparktune.errors import CannotResume, InvalidPoint, StudyInProgress, StudyTakenOver
from sparktune.plots.sources import of_run
from sparktune.study.spec import default_study_name, objective_name
from sparktune.tracking import artifacts, lease as leases
from sparktune.trials.simulated import SimulatedTrials
from tests.conftest import needs_classic
from tests.recorded_trials import PARENT, SPACE, N, RecordedTrials, facts, objective, tune


@functools.cache
def uninterrupted() -> list[Any]:
    trials = SimulatedTrials(1)
    tune(trials=trials)
    return facts(trials)


def children(run_id: str) -> Any:
    return mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'")


def check_runs(run_id: str, n: int = N) -> None:
    """One parent, every trial once, nothing running."""
    runs = mlflow.search_runs(output_format="list")
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", "KILLED"}
    parents = [run for run in runs if PARENT not in run.data.tags]
    assert [run.info.run_id for run in parents] == [run_id]
    assert parents[0].info.status == "FINISHED"
    assert parents[0].data.metrics["total_trials_count"] == n
    ended = [run for run in runs if run not in parents and "sparktune.interrupted" not in run.data.tags]
    assert sorted(int(run.data.tags["sparktune.trial_id"]) for run in ended) == list(range(n))
    assert all(run.info.status == "KILLED" for run in runs if "sparktune.interrupted" in run.data.tags)


DRIVER = """
import sys, time
import numpy as np
from sparktune import fmin, tpe
from tests.recorded_trials import RecordedTrials, SPACE, objective

def slow(point):
    print("TRIAL", flush=True)
    time.sleep(float(sys.argv[1]))
    return objective(point)

fmin(slow, SPACE, tpe.suggest, 14, trials=RecordedTrials(1), rstate=np.random.default_rng(5),
     trials_save_file=sys.argv[2], show_progressbar=False, study_name="a study of the tests")
print("DONE", flush=True)
"""


def driver_env(env: Mapping[str, str], uri: str) -> dict[str, str]:
    return {**env, "MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "tests"}


def kill_a_driver(
    folder: Path,
    env: Mapping[str, str],
    uri: str,
    moment_s: float,
    trial: int,
    takes_s: float = 0.12,
    save_file: str = "",
    code: str = "",
) -> bool:
    """Run the driver, and kill it some time after it began a trial; whether it was killed."""
    env = driver_env(env, uri)
    driver = subprocess.Popen(
        [sys.executable, "-c", code or DRIVER, str(takes_s), save_file],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    n = 0
    with driver.stdout as lines:
        for line in lines:
            n += line == "TRIAL\n"
            if n == trial:
                time.sleep(moment_s)
                break
        driver.send_signal(signal.SIGKILL)
    return driver.wait(60) != 0


@needs_classic
@pytest.mark.parametrize("number", range(int(os.environ.get("SPARKTUNE_TESTS_KILLS", "2"))))
def test_a_killed_driver(
    number: int, mlflow_store: str, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    random.seed(number + 100 * int(os.environ.get("SPARKTUNE_TESTS_KILLS", "0")))
    trial, moment_s = random.randint(1, N), random.uniform(0, 0.5)
    kill_a_driver(tmp_path, clean_env, mlflow_store, moment_s, trial)
    [known] = [run for run in mlflow.search_runs(output_format="list") if PARENT not in run.data.tags]
    trials = tune(resume=known.info.run_id)
    assert facts(trials) == uninterrupted(), f"killed {moment_s:.2f} s after the beginning of trial {trial}"
    check_runs(trials.run_id)
    assert trials.run_id == known.info.run_id


@needs_classic
@pytest.mark.parametrize("number", range(int(os.environ.get("SPARKTUNE_TESTS_KILLS", "2"))))
def test_a_killed_driver_that_had_a_save_file(
    number: int, mlflow_store: str, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    """The call is made again as it stands: the file knows the run."""
    random.seed(number + 1000)
    trial, moment_s = random.randint(1, N), random.uniform(0, 0.5)
    save_file = str(tmp_path / "study.pkl")
    kill_a_driver(tmp_path, clean_env, mlflow_store, moment_s, trial, save_file=save_file)
    [known] = [run for run in mlflow.search_runs(output_format="list") if PARENT not in run.data.tags]
    if known.info.status != "RUNNING":
        return  # it was over, and the call would be one for more trials
    trials = tune(trials_save_file=save_file)
    assert facts(trials) == uninterrupted(), f"killed {moment_s:.2f} s after the beginning of trial {trial}"
    check_runs(trials.run_id)
    assert trials.run_id == known.info.run_id


def interrupt_after(n: int, **options: Any) -> str:
    """A study that Ctrl-C ends after n trials; gives its parent run."""
    begun: list[int] = []

    def fn(point: Any) -> Any:
        begun.append(1)
        if len(begun) > n:
            raise KeyboardInterrupt
        return objective(point)

    trials = RecordedTrials(1)
    with pytest.raises(KeyboardInterrupt):
        tune(fn=fn, trials=trials, **options)
    return str(trials.run_id)


def of_optuna(name: str, **options: Any) -> Any:
    return optuna_sampler(getattr(pytest.importorskip("optuna").samplers, name)(**options))


@pytest.mark.parametrize("name", ["auto", "TPESampler", "NSGAIISampler"])
def test_other_algorithms_go_on_as_if_nothing_had_been(name: str, mlflow_store: str) -> None:
    options = {"population_size": 3} if name == "NSGAIISampler" else {}
    algo = auto.suggest if name == "auto" else of_optuna(name, **options)
    whole = SimulatedTrials(1)
    tune(trials=whole, algo=algo)
    run_id = interrupt_after(7, algo=algo)
    again = auto.suggest if name == "auto" else of_optuna(name, **options)
    assert facts(tune(resume=run_id, algo=again)) == facts(whole)
    tags, params = mlflow.get_run(run_id).data.tags, mlflow.get_run(run_id).data.params
    if name == "auto":
        assert tags["sparktune.algo_reason"].startswith("tpe and gp in turn: 1 of 3 parameters")
    else:
        assert params["algo"] == f"sparktune.search.optuna_sampler.optuna_sampler({name})"


def test_a_call_that_is_refused_changes_nothing(mlflow_store: str) -> None:
    """The study that was read, or ran last, is still there for the call that is right."""
    run_id = tune(3).run_id
    mlflow.tracking.MlflowClient().set_tag(run_id, "sparktune.state", "interrupted")
    read = RecordedTrials.from_mlflow(run_id)
    empty = RecordedTrials()
    for trials, options in ((read, {}), (empty, {"resume": run_id})):
        known = trials.memory.latest, trials.memory.recorded, len(trials)
        for wrong in ({"points_to_evaluate": [{"zz": 1}]}, {"warm_start": ["0" * 32]}):
            with pytest.raises((InvalidPoint, CannotResume)):
                tune(5, trials=trials, **options, **wrong)
            assert (trials.memory.latest, trials.memory.recorded, len(trials)) == known
        tune(5, trials=trials, **options)
        assert trials.run_id == run_id
        options = {}
    ran = tune(3)
    known_run = ran.run_id
    with pytest.raises(InvalidPoint):
        tune(6, trials=ran, points_to_evaluate=[{"zz": 1}])
    tune(len(ran), trials=ran)  # nothing to run
    assert ran.run_id == known_run


@pytest.mark.parametrize("n", [0, 1, 6])
def test_a_study_that_the_user_ended(n: int, mlflow_store: str) -> None:
    run_id = interrupt_after(n)
    assert mlflow.get_run(run_id).info.status == "KILLED"
    trials = tune(resume=run_id)
    assert trials.run_id == run_id
    assert facts(trials) == uninterrupted()
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    assert mlflow.get_run(run_id).data.metrics["best_trial_loss"] == trials.best_trial["result"]["loss"]
    # The trial that was under way has two runs, of which the cancelled one counts for nobody.
    shown = {row.number: (row.state, row.run_id) for row in of_run(run_id).rows}
    assert shown == {n: (trial.state, trial.run_id) for n, trial in trials.memory.records.items()}
    assert facts(RecordedTrials.from_mlflow(run_id)) == uninterrupted()


def test_more_trials_for_a_study_that_ended(mlflow_store: str) -> None:
    first = tune(6)
    more = tune(N, resume=first.run_id)
    assert facts(more) == uninterrupted()
    check_runs(first.run_id)
    params = mlflow.get_run(first.run_id).data.params
    assert (params["max_evals"], params["max_evals_1"]) == ("6", "14")
    assert len(tune(N, resume=first.run_id)) == len(more), "nothing is left to do"


def test_the_trials_of_a_recorded_study(mlflow_store: str) -> None:
    trials = tune(slots=3, points_to_evaluate=[{"x": 0.5, "kind": 1, "degree": 2}])
    found = RecordedTrials.from_mlflow(trials.run_id)
    assert facts(found) == facts(trials)
    assert found.best_params == trials.best_params
    assert found.best_trial["result"] == trials.best_trial["result"]
    assert found.best_trial["misc"]["vals"] == {
        k: v for k, v in trials.best_trial["misc"]["vals"].items() if v
    }
    assert found.counts() == trials.counts()
    assert [d["tid"] for d in found.trials] == [d["tid"] for d in trials.trials]
    assert found.best_run_id == trials.best_run_id
    tune(N + 3, trials=found, points_to_evaluate=[{"x": 0.5, "kind": 1, "degree": 2}])
    assert found.run_id == trials.run_id
    assert sorted(found.to_dataframe()["trial"]) == list(range(N + 4))


class StopTheFirst:
    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> Decision | None:
        return Decision("the first", 1, 1.0, 2.0) if trial_id == 0 else None


@pytest.mark.parametrize(
    ("options", "values", "loss"),
    [
        ({"metric": "auc", "goal": "maximize"}, {"auc": 0.25, "loss": -0.25}, -0.25),
        ({"metric": "auc", "goal": "maximize"}, {"auc": 0.25, "loss": 7.0}, None),
        ({"metric": "loss"}, {"loss": 7.0}, None),
    ],
)
def test_a_trial_that_is_ended_before_any_completes(
    options: dict[str, Any], values: dict[str, float], loss: float | None, mlflow_store: str
) -> None:
    """Whether what it reported is a loss is known later, and then to all."""

    def fn(x: float) -> Any:
        report(0.25)
        return {"status": "ok"} | values

    trials = RecordedTrials(early_termination=StopTheFirst(), **options)
    tune(3, fn=fn, space=hp.uniform("x", 0, 1), algo=rand.suggest, trials=trials)
    run_id = trials.to_dataframe()["run_id"][0]
    table = json.loads(mlflow.artifacts.load_text(f"runs:/{trials.run_id}/trials.json"))
    tables = [trials.to_dataframe(), RecordedTrials.from_mlflow(trials.run_id, **options).to_dataframe()]
    losses = [None if math.isnan(found["loss"][0]) else found["loss"][0] for found in tables]
    losses += [trials.snapshot().trials[0].loss, of_run(trials.run_id).rows[0].loss]
    losses.append(table["data"][0][table["columns"].index("loss")])
    shown = mlflow.get_run(run_id).data.metrics.get("loss", math.nan)
    assert [*losses, None if math.isnan(shown) else shown] == [loss] * 6
    # For search algorithms it has one in any case: as bad as any that is known.
    assert trials.losses()[0] == (values["loss"] if loss is None else loss)
    assert RecordedTrials.from_mlflow(trials.run_id).losses() == trials.losses()
    before = facts(trials)
    trials.early_termination = None
    tune(4, fn=fn, space=hp.uniform("x", 0, 1), algo=rand.suggest, trials=trials)
    assert facts(trials)[:3] == before  # that study is over


def test_a_study_that_went_on_with_the_trials_of_another(mlflow_store: str) -> None:
    trials = tune(5)
    tune(9, trials=trials)
    found = RecordedTrials.from_mlflow(trials.run_id)
    assert facts(found) == facts(trials)
    tune(N, trials=found)
    whole = tune(5)
    assert facts(found) == facts(tune(N, trials=whole)), "failed trials of earlier calls do not count"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"space": {**SPACE, "x": hp.uniform("x", -5, 6)}},
            r"'x' was hp.uniform\(-5, 5\) and is hp.uniform\(-5, 6\)",
        ),
        ({"space": {**SPACE, "y": hp.uniform("y", 0, 1)}}, r"'y' was not there and is hp.uniform\(0, 1\)"),
        ({"space": {"x": hp.uniform("x", -5, 5)}}, "'kind' was .* and is not there now"),
        (
            {"algo": rand.suggest},
            "algorithm was sparktune.search.tpe.suggest and is sparktune.search.rand.suggest",
        ),
        ({"algo": functools.partial(tpe.suggest, gamma=0.5)}, "gamma=0.5"),
        ({"trials": RecordedTrials(1, metric="double")}, "metric was loss and is double"),
        (
            {"trials": RecordedTrials(1, metric="double", goal="maximize")},
            "goal was minimize and is maximize",
        ),
    ],
)
def test_another_study_is_refused(changes: dict[str, Any], message: str, mlflow_store: str) -> None:
    first = tune(2)
    with pytest.raises(CannotResume, match=message):
        tune(resume=first.run_id, **changes)
    assert len(children(first.run_id)) == 2


def test_what_cannot_be_resumed(mlflow_store: str) -> None:
    first = tune(2)
    with pytest.raises(CannotResume, match="no run 'nothing'"):
        tune(resume="nothing")
    child = children(first.run_id)["run_id"][0]
    with pytest.raises(CannotResume, match=f"it is a trial; its parent run is {first.run_id}"):
        tune(resume=child)
    with mlflow.start_run() as other:
        pass
    with pytest.raises(CannotResume, match="holds no study"):
        tune(resume=other.info.run_id)
    with pytest.raises(TypeError, match="resume is 7"):
        tune(resume=7)
    with pytest.raises(ValueError, match="hold 2 already"):
        tune(resume=first.run_id, trials=first)
    with pytest.raises(ValueError, match="without mlflow=False"):
        tune(resume=first.run_id, trials=SimulatedTrials())
    with pytest.raises(ValueError, match="trials is a Trials"):
        tune(resume=first.run_id, trials=Trials())


def test_a_store_that_does_not_answer(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparktune.tracking import reader

    monkeypatch.setattr(reader, "PAUSE_S", 0.0)
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(CannotResume, match=r"http://127.0.0.1:1 does not answer.*MLFLOW_TRACKING_URI"):
        tune(resume="some")


def test_the_last_unfinished_study(mlflow_store: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    finished = tune(3)
    begun = tune(4, resume="last")
    assert "no unfinished study named 'a study of the tests' of this space and algorithm" in caplog.text
    assert "WARNING" not in {record.levelname for record in caplog.records}
    assert begun.run_id != finished.run_id
    older, newer = interrupt_after(2), interrupt_after(3)
    assert RecordedTrials.from_mlflow("last").run_id == newer
    assert tune(resume="last").run_id == newer
    assert tune(resume="last").run_id == older
    with pytest.raises(CannotResume, match="no unfinished study"):
        RecordedTrials.from_mlflow("last")


def test_the_last_study_is_not_that_of_another_job(
    mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two jobs in one experiment with one space and algorithm, and different objectives."""
    caplog.set_level(logging.INFO, "sparktune")
    theirs = interrupt_after(3, study_name="job A")

    def other(point: Any) -> float:
        return 100.0 + float(objective(point)["loss"])

    trials = tune(6, other, resume="last", study_name="job B")
    assert trials.run_id != theirs
    assert min(loss for loss in trials.losses() if loss is not None) > 50
    assert f"run {theirs}: its name is 'job A'" in caplog.text
    assert mlflow.get_run(trials.run_id).info.run_name == "job B"
    # Another space does not stand in the way either, and the first job finds its own.
    assert tune(2, abs, hp.uniform("z", 0, 1), resume="last", study_name="job A").run_id != theirs
    assert tune(6, resume="last", study_name="job A").run_id == theirs


def test_an_id_that_is_given_with_another_name_warns(mlflow_store: str, caplog) -> None:
    run_id = interrupt_after(2, study_name="job A")
    assert tune(resume=run_id, study_name="job B").run_id == run_id
    assert f"the study of run {run_id} was begun as 'job A', and this call is 'job B'" in caplog.text


def test_trials_that_are_given_with_another_name_warn(mlflow_store: str, caplog) -> None:
    run_id = interrupt_after(2, study_name="job A")
    tune(trials=RecordedTrials.from_mlflow(run_id), study_name="job B")
    said = f"the study of run {run_id} was begun as 'job A', and this call is 'job B'"
    assert caplog.text.count(said) == 1


def test_objectives_of_one_name_in_two_functions_are_two_studies(caplog) -> None:
    def first() -> Any:
        def fn(x: float) -> float:
            return x

        return fn

    def second() -> Any:
        def fn(x: float) -> float:
            return -x

        return fn

    assert default_study_name(first()) != default_study_name(second())
    trials = SimulatedTrials()
    options: dict[str, Any] = {"trials": trials, "show_progressbar": False}
    fmin(first(), hp.uniform("x", 0, 1), max_evals=2, **options)
    fmin(first(), hp.uniform("x", 0, 1), max_evals=3, **options)
    assert "was begun as" not in caplog.text
    fmin(second(), hp.uniform("x", 0, 1), max_evals=4, **options)
    assert caplog.text.count("first.<locals>.fn', and this call is") == 1
    fmin(second(), hp.uniform("x", 0, 1), max_evals=5, **options)
    assert caplog.text.count("was begun as") == 1


def test_the_best_point_is_read_where_mlflow_has_it_as_it_was(mlflow_store: str) -> None:
    def fn(point: Any) -> float:
        return float(point["x"])

    space = {"x": hp.uniform("x", 0, 1), "kind": hp.choice("kind", ["a", "b"]), "constant": {"n": 1}}
    trials = tune(3, fn, space)
    assert RecordedTrials.from_mlflow(trials.run_id).best_point == trials.best_point
    changed = tune(3, fn, space | {"constant": (1, "c")})
    with pytest.raises(ValueError, match=r"best_point needs the search space.*space_eval"):
        _ = RecordedTrials.from_mlflow(changed.run_id).best_point


def test_names_of_studies() -> None:
    class Model:
        def score(self, point: Any) -> float:
            return 0.0

    assert default_study_name(objective) == "tests.recorded_trials.objective"
    assert default_study_name(functools.partial(objective)) == "tests.recorded_trials.objective"
    assert default_study_name(Model().score) == f"{__name__}.test_names_of_studies.<locals>.Model.score"
    assert default_study_name(Model()) == f"{__name__}.test_names_of_studies.<locals>.Model"
    assert default_study_name(lambda x: x) == f"{__name__}.test_names_of_studies.<locals>.lambda"
    assert objective_name(Model().score) == "Model.score"
    assert objective_name(lambda x: x) == "lambda"
    with pytest.raises(TypeError, match="study_name is ' '"):
        tune(study_name=" ")


def test_after_ctrl_c_the_same_trials_go_on_under_the_same_parent(mlflow_store: str, caplog) -> None:
    begun: list[int] = []

    def fn(point: Any) -> Any:
        begun.append(1)
        if len(begun) == 5:
            raise KeyboardInterrupt
        return objective(point)

    trials = RecordedTrials(1)
    with pytest.raises(KeyboardInterrupt):
        tune(fn=fn, trials=trials)
    first = trials.run_id
    [said] = [record.message for record in caplog.records if "to continue" in record.message]
    assert f"fmin(..., resume={first!r})" in said
    assert said.startswith(f"best loss {trials.best_trial['result']['loss']:.6g} (trial ")
    tune(fn=fn, trials=trials)
    assert trials.run_id == first
    assert facts(trials) == uninterrupted()
    assert facts(RecordedTrials.from_mlflow(first)) == uninterrupted(), "each trial once"
    assert mlflow.get_run(first).info.status == "FINISHED"
    tune(N + 2, fn=fn, trials=trials)
    assert trials.run_id != first, "that study has ended"


def test_a_study_that_was_cut_off_twice_is_read_back_with_each_trial_once(mlflow_store: str) -> None:
    """It went on with the same object, and is not a study before itself."""
    stops = {4: True, 7: True}

    def fn(point: Any) -> Any:
        n_ended = sum(trial["result"]["status"] == "ok" for trial in trials.trials)
        if stops.pop(n_ended, False):
            raise KeyboardInterrupt
        return objective(point)

    trials = RecordedTrials(1)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune(fn=fn, trials=trials)
    first = trials.run_id
    assert len(RecordedTrials.from_mlflow(first).losses()) == len(trials.losses())
    last = tune(resume="last")
    assert last.run_id == first
    assert facts(last) == uninterrupted()


def test_a_save_file_together_with_the_last(mlflow_store: str, tmp_path: Path) -> None:
    """A job that a scheduler restarts has both."""
    options = {"trials_save_file": str(tmp_path / "study.pkl"), "resume": "last"}
    first = interrupt_after(4, **options)
    trials = tune(**options)
    assert trials.run_id == first
    assert facts(trials) == uninterrupted()
    with pytest.raises(ValueError, match="hold 14 already"):
        tune(trials=trials, resume="last")


def test_a_save_file_of_another_study_warns(mlflow_store: str, tmp_path: Path, caplog) -> None:
    path = str(tmp_path / "study.pkl")
    tune(3, abs, hp.uniform("x", 0, 1), trials_save_file=path)
    assert "of another study" not in caplog.text
    tune(5, abs, hp.uniform("x", 0, 2), trials_save_file=path, study_name="job B")
    assert "'x' was hp.uniform(0, 1) and is hp.uniform(0, 2)" in caplog.text
    assert "the study was 'a study of the tests' and is 'job B'" in caplog.text


BRANCHES = hp.choice(
    "kind", [{"k": 0, "x": hp.uniform("x", 1, 2)}, {"k": 1, "run_id": hp.uniform("run_id", 0, 1)}]
)


def by_branch(order: list[int]) -> Any:
    """The points of a study whose trials take the branches in this order; the second one is the better."""
    return [{"kind": k} | ({"x": 1.5 - n / 10} if k == 0 else {"run_id": 0.5}) for n, k in enumerate(order)]


def of_branch(point: Any) -> float:
    return float(point.get("x", -1))


def said_of_the_best(run_id: str, trials: Any, prefix: str = "", suffix: str = "") -> dict[str, str]:
    """What the parent's tags say of the best, having compared the other surfaces with it."""
    run = mlflow.get_run(run_id)
    study_id = run.data.tags[f"fmin_uuid{suffix}"]
    assert not any("best_" in key for key in run.data.params)
    tags = {key: tag for key, tag in run.data.tags.items() if "best_" in key and key.endswith(suffix)}
    best = trials.best_trial["tid"]
    assert tags.pop(f"sparktune.best_trial_id{suffix}") == str(best)
    assert tags.pop(f"sparktune.best_run_id{suffix}") == trials.best_run_id
    [marked] = mlflow.search_runs(
        filter_string=f"tags.fmin_uuid = '{study_id}' and tags.sparktune.best = 'true'",
        output_format="list",
    )
    assert marked.info.run_id == trials.best_run_id
    assert of_run(run_id).best.number == best
    file = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/best_point{suffix}.json"))
    assert file == {"trial": best, "point": trials.best_point}
    if not suffix:  # a run of the user's has the description of the first of its studies
        assert f"([trial {best}]" in run.data.tags["mlflow.note.content"]
    return {key.removeprefix(f"{prefix}best_").removesuffix(suffix): tag for key, tag in tags.items()}


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("again", ["resume", "the same trials"])
def test_the_parent_tells_the_best_of_all_calls_and_no_other(
    again: str, is_own: bool, mlflow_store: str
) -> None:
    """The best of the first call is beaten by one of another branch, after an interruption."""
    points = by_branch([0, 0, 1])
    begun: list[Any] = []

    def fn(point: Any) -> float:
        begun.append(point)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return of_branch(point)

    prefix, suffix = ("", "") if is_own else ("sparktune.", "_1")
    options = {"space": BRANCHES, "algo": rand.suggest, "points_to_evaluate": points}
    first = RecordedTrials(1)
    with contextlib.nullcontext() if is_own else mlflow.start_run():
        if not is_own:  # by another study, of which nothing may change
            tune(1, of_branch, BRANCHES, algo=rand.suggest, points_to_evaluate=by_branch([0]))
        with pytest.raises(KeyboardInterrupt):
            tune(4, fn, trials=first, **options)
    run_id = str(first.run_id)
    before = mlflow.get_run(run_id).data.tags
    assert said_of_the_best(run_id, first, prefix, suffix) == {"kind": "option 0", "x": "1.4"}
    assert before[f"sparktune.stop_reason{suffix}"] == "fmin run cancelled by user"

    second = first if again == "the same trials" else RecordedTrials(1)
    how = {} if again == "the same trials" else {"resume": run_id}
    tune(4, of_branch, trials=second, **options, **how)
    assert second.run_id == run_id
    assert said_of_the_best(run_id, second, prefix, suffix) == {"kind": "option 1", "param_run_id": "0.5"}
    after = mlflow.get_run(run_id).data.tags
    assert f"sparktune.stop_reason{suffix}" not in after
    others = {key for key in before if key.startswith("sparktune.best_") and not key.endswith("_1")}
    assert is_own or len(others) == 4
    assert is_own or {key: before[key] for key in others} == {key: after[key] for key in others}


def test_an_error_that_a_resumed_study_has_left_behind(mlflow_store: str) -> None:
    def raises(trials: Any) -> Any:
        raise LookupError("of early_stop_fn")

    trials = RecordedTrials(1)
    with pytest.raises(LookupError):
        tune(3, trials=trials, early_stop_fn=raises)
    assert mlflow.get_run(trials.run_id).data.tags["sparktune.error"] == "LookupError: of early_stop_fn"
    tune(3, trials=trials)
    assert "sparktune.error" not in mlflow.get_run(trials.run_id).data.tags


def test_the_users_own_run_is_gone_on_with_and_stays_open(mlflow_store: str) -> None:
    with mlflow.start_run() as mine:
        tune(3)
        run_id = interrupt_after(4)
        assert run_id == mine.info.run_id
    trials = tune(resume=run_id)
    assert trials.run_id == run_id
    assert facts(trials) == uninterrupted()
    run = mlflow.get_run(run_id)
    assert run.data.metrics["total_trials_count"] == 3
    assert run.data.metrics["total_trials_count_1"] == N
    assert run.data.tags["fmin_uuid_1"] == children(run_id)["tags.fmin_uuid"][0]


@needs_classic
def test_the_users_own_run_whose_process_died_is_ended(
    mlflow_store: str, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    code = f"import mlflow\nmlflow.start_run()\n{DRIVER}"
    assert kill_a_driver(tmp_path, clean_env, mlflow_store, 0.1, 6, code=code)
    [known] = [run for run in mlflow.search_runs(output_format="list") if PARENT not in run.data.tags]
    assert known.info.status == "RUNNING"
    trials = tune(resume="last")
    assert facts(trials) == uninterrupted()
    check_runs(known.info.run_id)


def test_the_time_that_was_used_counts(mlflow_store: str) -> None:
    trials = RecordedTrials(1, timeout=10.5)  # of the virtual clock, a trial takes a second
    tune(100, trials=trials)
    n = len(trials.to_dataframe())
    assert trials.fmin_cancelled_reason == "fmin run timeout"
    key = next(key for key in mlflow.get_run(trials.run_id).data.tags if key.startswith("sparktune.lease."))
    lease = leases.Lease.from_json(mlflow.get_run(trials.run_id).data.tags[key])
    assert lease is not None
    mlflow.MlflowClient().set_tag(
        trials.run_id, key, lease.renewed(10.5).as_json()
    )  # the clock of the study was virtual, that of the lease is real
    again = tune(100, trials=RecordedTrials(1, timeout=10.5), resume=trials.run_id)
    assert len(again.to_dataframe()) == n
    longer = tune(100, trials=RecordedTrials(1, timeout=13.5), resume=trials.run_id)
    assert n < len(longer.to_dataframe()) < n + 6


ALIVE = """
import sys, time
from sparktune import fmin, rand
from sparktune.errors import StudyTakenOver
from tests.recorded_trials import RecordedTrials, SPACE

def slow(point):
    print("TRIAL", flush=True)
    time.sleep(0.5)
    return 1.0

try:
    fmin(slow, SPACE, rand.suggest, 1000, trials=RecordedTrials(1), rstate=1, show_progressbar=False,
         study_name="a study of the tests")
except StudyTakenOver as error:
    print(f"ENDED {error}", flush=True)
"""


@needs_classic
def test_a_study_whose_driver_lives(
    mlflow_store: str, clean_env: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.standalone import Process

    env = driver_env(clean_env, mlflow_store)
    code = f"from sparktune.tracking import lease\nlease.RENEW_S = 0.3\n{ALIVE}"
    driver = Process([sys.executable, "-c", code], env, tmp_path)
    try:
        for _ in range(4):
            driver.until("TRIAL")
        options: Any = {"algo": rand.suggest, "resume": "last"}
        with pytest.raises(StudyInProgress, match=r"has a driver that is alive: process .*take_over=True"):
            tune(5, **options)
        with monkeypatch.context() as elsewhere:  # on another machine, it is watched
            elsewhere.setattr(leases.socket, "gethostname", lambda: "elsewhere")
            with pytest.raises(StudyInProgress, match="has a driver that is alive"):
                tune(5, **options)
        taken = tune(5, take_over=True, **options)
        driver.until("ENDED another driver has taken this study over")
        assert driver.wait() == 0
    finally:
        driver.kill()
    assert mlflow.get_run(taken.run_id).info.status == "FINISHED"
    assert "RUNNING" not in set(children(taken.run_id)["status"])


def test_a_driver_elsewhere_that_is_not_heard_of(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SILENT_S", 1.5)
    run_id = interrupt_after(3)
    client = mlflow.MlflowClient()
    key = next(key for key in client.get_run(run_id).data.tags if key.startswith("sparktune.lease."))
    mine = leases.Lease.mine(0.0)
    theirs = leases.replace(mine, host="elsewhere", owner="theirs")
    client.set_tag(run_id, key, theirs.as_json())
    say_it_runs(run_id)
    assert facts(tune(resume=run_id)) == uninterrupted()


def say_it_runs(run_id: str) -> None:
    """As if the driver of an interrupted study had not ended."""
    tags = mlflow.get_run(run_id).data.tags
    study = next(key for key in tags if key.startswith("sparktune.study."))
    mlflow.MlflowClient().set_tag(run_id, study, tags[study].replace("interrupted", "running"))


@pytest.mark.parametrize("n_renewals", [1, 100])
def test_a_driver_renews_its_lease_while_it_is_taken_over_from(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, n_renewals: int
) -> None:
    """It has seen its own lease, and writes it over that of the driver that takes over."""
    from sparktune.tracking import reader

    monkeypatch.setattr(reader, "SETTLE_S", 0.0)
    run_id = interrupt_after(3)
    tags = mlflow.get_run(run_id).data.tags
    key = next(key for key in tags if key.startswith("sparktune.lease."))
    theirs = leases.replace(leases.Lease.mine(0.0), host="elsewhere", owner="theirs")
    mlflow.MlflowClient().set_tag(run_id, key, theirs.as_json())
    say_it_runs(run_id)
    read, renewals = reader.Reader.lease, iter(range(n_renewals))

    def read_late(self: reader.Reader, study: reader.RecordedStudy) -> leases.Lease | None:
        for _ in renewals:
            mlflow.MlflowClient().set_tag(run_id, key, theirs.renewed(1.0).as_json())
            break
        return read(self, study)

    monkeypatch.setattr(reader.Reader, "lease", read_late)
    if n_renewals == 1:
        assert facts(tune(resume=run_id, take_over=True)) == uninterrupted()
    else:  # it does not look whose the lease is: it would write for ever
        with pytest.raises(StudyInProgress, match="on elsewhere"):
            tune(resume=run_id, take_over=True)


@needs_classic
def test_runs_that_a_trial_had_begun_below_its_own_are_ended(
    mlflow_store: str, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    assert kill_a_driver(tmp_path, clean_env, mlflow_store, 1.5, 1, 10.0)
    running = mlflow.search_runs(filter_string="attributes.status = 'RUNNING'")
    trial = running[running["tags.mlflow.runName"].str.startswith("trial", na=False)]["run_id"].iloc[0]
    fold = mlflow.MlflowClient().create_run(
        mlflow.get_run(trial).info.experiment_id, tags={"mlflow.parentRunId": trial}
    )
    run_id = tune(resume="last").run_id
    assert mlflow.get_run(fold.info.run_id).info.status == "KILLED"
    assert mlflow.get_run(trial).data.tags["sparktune.interrupted"] == "true"
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_large_points_and_results_are_artifacts_and_read_back(mlflow_store: str) -> None:
    labels = [f"a parameter with a long name, number {n}" for n in range(150)]
    space = {label: hp.uniform(label, 0, 1) for label in labels}

    def fn(point: Any) -> Any:
        return {"status": "ok", "loss": sum(point.values()), "curve": np.arange(20_000), "odd": object()}

    trials = tune(3, fn=fn, space=space, algo=rand.suggest)
    found = RecordedTrials.from_mlflow(trials.run_id)
    assert facts(found) == facts(trials)
    assert found.trials[0]["result"]["curve"] == list(range(20_000))
    more = tune(5, fn=fn, space=space, algo=rand.suggest, resume=trials.run_id)
    whole = tune(5, fn=fn, space=space, algo=rand.suggest, trials=SimulatedTrials())
    assert facts(more) == facts(whole)


def test_long_results_are_read_back_without_a_download_for_each(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fn(x: float) -> Any:
        return {"status": "ok", "loss": x, "text": "é" * 30_000}

    trials = tune(3, fn=fn, space=hp.uniform("x", 0, 1), algo=rand.suggest)
    downloads: list[Any] = []
    monkeypatch.setattr(artifacts, "text_of", lambda *args: downloads.append(args))
    found = RecordedTrials.from_mlflow(trials.run_id)
    assert facts(found) == facts(trials)
    assert [result["text"] for result in found.results] == ["é" * 30_000] * 3
    assert not downloads


def test_on_spark(spark: Any, mlflow_store: str) -> None:
    def fn(point: Any) -> Any:
        from sparktune import report

        for step in range(4):
            report(point["x"], step)
        return point["x"]

    def trials() -> SparkTrials:
        return SparkTrials(2, spark_session=spark, early_termination=policy)

    policy = BanditPolicy(slack_amount=1.0)
    first = tune(6, fn=fn, algo=rand.suggest, trials=trials())
    found = SparkTrials.from_mlflow(first.run_id, spark_session=spark, early_termination=policy)
    assert facts(found) == facts(first)
    curves = {trial: curve.values for trial, curve in found.memory.curves.items()}
    assert curves == {trial: curve.values for trial, curve in first.memory.curves.items()}
    more = tune(9, fn=fn, algo=rand.suggest, trials=trials(), resume=first.run_id)
    assert more.run_id == first.run_id
    assert len(more.to_dataframe()) == 9


def test_taken_over_is_an_error_of_ours() -> None:
    assert issubclass(StudyTakenOver, RuntimeError)
