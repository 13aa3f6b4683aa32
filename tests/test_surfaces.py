"""Awkward studies, and all who tell the best trial: they must give one answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from sparktune import AllTrialsFailed, DriverTrials, fmin, hp, rand, report, tpe
from sparktune.cli import main
from sparktune.early_termination import Curve, Decision
from sparktune.early_termination.base import Goal
from sparktune.plots.sources import of_run, table_of

SPACE = {"x": hp.uniform("x", -10, 10)}
PARENT = "mlflow.parentRunId"


def best_of_all_surfaces(trials: Any, argmin: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Who tells it -> the number of the best trial."""
    by_x = {record.params["x"]: record.trial_id for record in trials.memory.records.values()}
    by_run = {record.run_id: record.trial_id for record in trials.memory.records.values()}
    parent = mlflow.get_run(trials.run_id)
    tags = parent.data.tags
    artifact = mlflow.artifacts.download_artifacts(f"runs:/{trials.run_id}/best_point.json")
    point = json.loads(Path(artifact).read_text())
    capsys.readouterr()
    assert main(["best", trials.run_id]) == 0
    command = json.loads(capsys.readouterr().out)
    read = DriverTrials.from_mlflow(trials.run_id)
    marked = mlflow.search_runs([parent.info.experiment_id], "tags.`sparktune.best` = 'true'")
    own = marked[marked["tags.mlflow.parentRunId"] == trials.run_id]
    frame = trials.to_dataframe()
    row = frame.loc[frame.loss.idxmin()]
    rows = table_of(of_run(trials.run_id))
    assert rows.best is not None
    by_loss = dict(sorted(zip(frame.loss, frame.trial, strict=True), key=lambda one: -one[1]))
    return {
        "fmin": by_x[argmin["x"]],
        "trials.argmin": by_x[trials.argmin["x"]],
        "trials.best_trial": trials.best_trial["tid"],
        "trials.best_params": by_x[trials.best_params["x"]],
        "trials.best_point": by_x[trials.best_point["x"]],
        "trials.best_run_id": by_run[trials.best_run_id],
        "data frame": int(row.trial),
        "tags": int(tags["sparktune.best_trial_id"]),
        "metric of the run": by_loss[parent.data.metrics["best_trial_loss"]],
        "tag of the run": by_run[tags["sparktune.best_run_id"]],
        "tag of the value": by_x[float(tags["best_x"])],
        "best_point.json": point["trial"],
        "point in it": by_x[point["point"]["x"]],
        **({"marked run": by_run[own.run_id.item()]} if len(own) else {}),
        "command": command["trial"],
        "its point": by_x[command["point"]["x"]],
        "read back": read.best_trial["tid"],
        "pictures": rows.best.number,
    }


def test_trials_with_one_loss_of_which_the_first_ends_last(
    mlflow_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As accuracies that several trials reach."""
    others = threading.Semaphore(0)

    def objective(point: dict[str, float]) -> float:
        if point["x"] == 3.0:
            assert all(others.acquire(timeout=60) for _ in range(3))
        else:
            others.release()
        return -0.97

    trials = DriverTrials(4)
    argmin = fmin(
        objective,
        SPACE,
        rand.suggest,
        3,
        trials=trials,
        points_to_evaluate=[{"x": 3.0}],
        rstate=0,
        show_progressbar=False,
    )
    told = best_of_all_surfaces(trials, argmin, capsys)
    assert set(told.values()) == {0}
    assert "marked run" in told


def test_a_second_call_that_finds_a_better_one(mlflow_store: str, capsys: pytest.CaptureFixture[str]) -> None:
    trials = DriverTrials(1)
    options: Any = {"trials": trials, "show_progressbar": False, "rstate": 0}
    fmin(lambda point: abs(point["x"]), SPACE, rand.suggest, 2, points_to_evaluate=[{"x": 0.5}], **options)
    argmin = fmin(
        lambda point: abs(point["x"]) - 1, SPACE, rand.suggest, 4, points_to_evaluate=[{"x": 0.25}], **options
    )
    number = trials.best_trial["tid"]
    assert argmin == {"x": 0.25}
    told = best_of_all_surfaces(trials, argmin, capsys)
    assert set(told.values()) == {number}
    assert "marked run" in told


def test_a_second_call_that_finds_none_better(mlflow_store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The second parent run tells the best of all calls, as the trials object does."""
    trials = DriverTrials(1)
    options: Any = {"trials": trials, "show_progressbar": False, "rstate": 0}
    fmin(lambda point: abs(point["x"]), SPACE, rand.suggest, 2, points_to_evaluate=[{"x": 0.001}], **options)
    argmin = fmin(lambda point: abs(point["x"]), SPACE, rand.suggest, 4, **options)
    assert argmin == {"x": 0.001}
    told = best_of_all_surfaces(trials, argmin, capsys)
    assert set(told.values()) == {0}
    assert "marked run" not in told, "it is a run of the first study's, and marked there"


class AtTheSecondReport:
    """Ends every trial."""

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: Goal) -> Decision | None:
        values = curves[trial_id].values
        return Decision("at the second report", 2, values[-1], 0.0) if len(values) > 1 else None


def reporting(point: dict[str, float]) -> float:
    for _ in range(3):
        report(abs(point["x"]))
    return abs(point["x"])


def failing_first(point: dict[str, float]) -> float:
    if point["x"] == 3.0:
        raise ArithmeticError("the first")
    return abs(point["x"])


@pytest.mark.parametrize("study", ["all terminated", "failed first", "warm start"])
def test_awkward_studies(study: str, mlflow_store: str, capsys: pytest.CaptureFixture[str]) -> None:
    options: Any = {"points_to_evaluate": [{"x": 3.0}, {"x": 0.5}], "rstate": 0, "show_progressbar": False}
    trials, objective = DriverTrials(1), failing_first
    if study == "all terminated":
        trials, objective = DriverTrials(1, early_termination=AtTheSecondReport()), reporting
    elif study == "warm start":
        earlier = DriverTrials(1)
        good = {**options, "points_to_evaluate": [{"x": 0.001}]}
        fmin(failing_first, SPACE, rand.suggest, 2, trials=earlier, **good)
        options["warm_start"] = [earlier.run_id]
    argmin = fmin(objective, SPACE, tpe.suggest, 2, trials=trials, **options)
    told = best_of_all_surfaces(trials, argmin, capsys)
    assert set(told.values()) == {trials.best_trial["tid"]}
    assert "marked run" in told
    if study == "all terminated":
        assert trials.count_early_terminated_trials() == len(trials) == 4


LABELS = {
    "loss": hp.choice("loss", ["log", "hinge"]),
    "state": hp.uniform("state", 0, 1),
    "trial": hp.randint("trial", 5),
    "metric": hp.uniform("metric", 0, 1),
}
"""Parameters with names that are ours."""


def test_a_metric_to_be_maximized_beside_a_loss_of_its_own(
    mlflow_store: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The best by loss, 0.368, has the accuracy 0.893; neither is the other's negative, nor the highest."""

    def objective(point: dict[str, Any]) -> dict[str, Any]:
        far = abs(point["state"] - 0.5)
        return {"status": "ok", "loss": 0.368 + far, "accuracy": 0.893 + far / 10}

    trials = DriverTrials(1, metric="accuracy", goal="maximize")
    given = {"loss": "hinge", "state": 0.5, "trial": 3, "metric": 0.25}
    options: Any = {"points_to_evaluate": [{**given, "loss": 1}], "rstate": 0, "show_progressbar": False}
    with caplog.at_level("INFO", "sparktune"):
        fmin(objective, LABELS, rand.suggest, 5, trials=trials, **options)

    assert trials.best_trial["result"]["accuracy"] == 0.893
    assert "best accuracy 0.893)" in repr(trials)
    assert "accuracy 0.893" in caplog.text
    assert "accuracy" in trials._repr_html_()
    assert "0.893" in trials._repr_html_()
    assert trials.best_point == given
    frame = trials.to_dataframe().set_index("trial")
    assert (frame.loss.idxmin(), frame.loss.min(), frame.param_loss[0]) == (0, 0.368, "hinge")
    parent = mlflow.get_run(trials.run_id)
    assert "**Best: accuracy 0.893, loss 0.368**" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["best_trial_loss"] == 0.368
    assert parent.data.tags["best_loss"] == "hinge", "the parameter of that name"
    child = mlflow.get_run(trials.best_run_id)
    assert child.data.metrics == {"loss": 0.368, "accuracy": 0.893}
    assert child.data.params == {"loss": "hinge", "state": "0.5", "trial": "3", "metric": "0.25"}
    report = mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/report.html")
    assert "0.893" in report

    capsys.readouterr()
    assert main(["show", trials.run_id]) == 0
    shown = capsys.readouterr().out
    [first] = [line.split() for line in shown.splitlines() if line.startswith("0 ")]
    assert shown.split()[:6] == ["trial", "state", "accuracy", "loss", "seconds", "param_loss"]
    assert first[2:4] == ["0.893", "0.368"]
    assert "best trial 0: accuracy=0.893" in shown
    assert main(["best", trials.run_id]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == {"name": "accuracy", "value": 0.893}
    assert told["point"] == given
    read = DriverTrials.from_mlflow(trials.run_id)
    assert read.best_trial["result"]["accuracy"] == 0.893
    assert read.best_params == trials.best_params
    assert read.to_dataframe().param_loss.tolist() == trials.to_dataframe().param_loss.tolist()


@pytest.mark.parametrize("has_file", [False, True])
def test_a_call_that_has_nothing_to_run_begins_no_study(
    mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], has_file: bool
) -> None:
    options: Any = {"show_progressbar": False, "rstate": 0}
    if has_file:
        options["trials_save_file"] = str(tmp_path / "study.pkl")
    trials = DriverTrials(1)
    first = fmin(lambda point: abs(point["x"]), SPACE, rand.suggest, 4, trials=trials, **options)
    run_id = trials.run_id
    again = DriverTrials(1) if has_file else trials
    assert fmin(lambda point: abs(point["x"]), SPACE, rand.suggest, 4, trials=again, **options) == first
    assert again.run_id == run_id
    assert len(again) == 4
    runs = mlflow.search_runs(output_format="list")
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1
    told = best_of_all_surfaces(again, first, capsys)
    assert set(told.values()) == {again.best_trial["tid"]}


def test_before_any_trial_there_is_no_best_and_that_is_said() -> None:
    with pytest.raises(AllTrialsFailed, match="of 0 trials none has completed"):
        _ = DriverTrials(1, mlflow=False).best_point


NESTED = [{"layers": [64, 32], "dropout": None}, (1, 2.5), [3, "é"], {"rate": {"high": float("inf")}}, "[1]"]
"""Options that JSON holds, though not as hyperopt gives them: it makes tuples of lists."""


def distance(point: Mapping[str, Any]) -> float:
    return abs(float(point["x"]))


def test_options_that_are_dicts_and_lists(mlflow_store: str, capsys: pytest.CaptureFixture[str]) -> None:
    space = SPACE | {"option": hp.choice("option", NESTED)}
    points = [{"x": 9.0 - n, "option": n} for n in range(len(NESTED))]
    points.append({"x": 0.0, "option": 0})
    options: Any = {"show_progressbar": False, "rstate": 0}
    trials = DriverTrials(1)
    fmin(distance, space, tpe.suggest, 1, trials=trials, points_to_evaluate=points, **options)
    read = DriverTrials.from_mlflow(trials.run_id)
    params = [trial.params for trial in trials.memory.records.values()]
    assert params[0]["option"] == {"layers": (64, 32), "dropout": None}
    assert [trial.params for trial in read.memory.records.values()] == params
    assert read.to_dataframe().option.tolist() == trials.to_dataframe().option.tolist()
    assert read.best_params == trials.best_params
    assert [row.params for row in of_run(trials.run_id).rows] == params
    capsys.readouterr()
    assert main(["show", trials.run_id, "--format", "json"]) == 0
    shown = [trial["parameters"]["option"] for trial in json.loads(capsys.readouterr().out)["trials"]]
    assert shown[:3] == [{"layers": [64, 32], "dropout": None}, [1, 2.5], [3, "é"]]
    assert main(["best", trials.run_id, "--format", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["parameters"] == {"x": 0.0, "option": shown[0]}
    warm = DriverTrials(1)
    fmin(distance, space, tpe.suggest, 1, trials=warm, warm_start=[trials.run_id], **options)
    assert len(warm.memory.latest.warm) == len(trials) == len(points) + 1


DRIVER = """
import time
from sparktune import DriverTrials, fmin, hp, rand

def objective(point):
    if point["x"] == 1.0:
        raise ArithmeticError("the reason")
    if point["x"] == 3.0:
        print("last", flush=True)
        time.sleep(600)
    return point["x"]

points = [{"x": float(x)} for x in (0, 1, 2, 3)]
fmin(objective, {"x": hp.uniform("x", -10, 10)}, rand.suggest, 4, trials=DriverTrials(1),
     points_to_evaluate=points, rstate=0, show_progressbar=False, catch_eval_exceptions=True)
"""

ENDED = "tags.trial_status != 'running'"


def trials_of_all_surfaces(run_id: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[int, Any]]:
    """Surface -> trial -> its state, loss, error, parameter, and run if it has ended."""
    capsys.readouterr()
    assert main(["show", run_id, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)["trials"]
    drawn = of_run(run_id).rows
    read = DriverTrials.from_mlflow(run_id)
    frame = read.to_dataframe().astype(object)
    return {
        "show": {
            row["trial"]: (row["state"], row["metric"], row["error"], row["parameters"], row["run_id"])
            for row in shown
        },
        "pictures": {row.number: (row.state, row.loss, row.error, row.params, row.run_id) for row in drawn},
        "read back": {
            trial.trial_id: (
                trial.state,
                trial.loss,
                None if trial.error is None else trial.error.summary,
                trial.params,
                trial.run_id,
            )
            for trial in read.memory.records.values()
        },
        "data frame": {
            row.trial: (row.state, row.loss, row.error, {"x": row.x}, row.run_id)
            for row in frame.where(frame.notna(), None).itertuples()
        },
    }


def test_a_dead_driver_and_a_cancelled_run_after_a_completed_one(
    mlflow_store: str, clean_env: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {**clean_env, "MLFLOW_TRACKING_URI": mlflow_store, "MLFLOW_EXPERIMENT_NAME": "tests"}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER], env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "last\n"
            while not (
                len(mlflow.search_runs(filter_string="tags.sparktune.trial_id = '3'")) == 1
                and len(known := mlflow.search_runs(filter_string=ENDED, output_format="list")) == 3
            ):
                time.sleep(0.1)
            run_id = known[0].data.tags[PARENT]
            alive = of_run(run_id)
        finally:
            driver.kill()
    assert alive.is_running
    assert [row.state for row in alive.rows] == ["completed", "failed", "completed", "running"]
    client = mlflow.MlflowClient()
    first = next(run for run in known if run.data.tags["sparktune.trial_id"] == "0")
    later = dict(first.data.tags) | {"trial_status": "cancelled"}
    document = json.loads(later["sparktune.trial"])
    document["sparktune"] |= {"state": "cancelled", "stop_reason": "Ctrl-C"}
    del document["sparktune"]["loss"]
    later["sparktune.trial"] = json.dumps(document)
    again = client.create_run(first.info.experiment_id, tags=later)
    client.set_terminated(again.info.run_id, "KILLED")

    assert not of_run(run_id).is_running
    found = trials_of_all_surfaces(run_id, capsys)
    ids = {int(run.data.tags["sparktune.trial_id"]): run.info.run_id for run in known}
    ended = {
        0: ("completed", 0.0, None, {"x": 0.0}, ids[0]),
        1: ("failed", None, "ArithmeticError: the reason", {"x": 1.0}, ids[1]),
        2: ("completed", 2.0, None, {"x": 2.0}, ids[2]),
    }
    for surface, trials in found.items():
        state = "not finished" if surface == "show" else "queued"
        assert trials.keys() == {0, 1, 2, 3}, surface
        assert {n: trials[n] for n in ended} == ended, surface
        assert trials[3][:4] == (state, None, None, {"x": 3.0}), surface
    assert main(["best", run_id]) == 0
    best = json.loads(capsys.readouterr().out)
    assert (best["trial"], best["run_id"]) == (0, ids[0])
    assert of_run(run_id).best.run_id == DriverTrials.from_mlflow(run_id).best_run_id == ids[0]

    client.set_tag(ids[1], "sparktune.trial", "{ somebody wrote over it")
    found = trials_of_all_surfaces(run_id, capsys)
    assert found["show"][1][0] == "not finished"
    assert found["pictures"][1][0] == "queued"
    assert found["read back"].get(1, ("queued",))[0] == "queued"
