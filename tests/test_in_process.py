"""hyperopt's own ``Trials`` in ``sparktune.fmin``: recorded in MLflow too, where MLflow is set up."""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hyperopt
import mlflow
import pytest

from sparktune import SparkTrials, Trials, fmin, hp, rand, space_eval

SPACE = {"x": hp.uniform("x", 0, 1), "kind": hp.choice("kind", ["a", "b"])}


def objective(point: dict[str, Any]) -> dict[str, Any]:
    mlflow.log_metric("half", point["x"] / 2)
    return {"status": "ok", "loss": point["x"], "more": 3.0}


def children(parent: str) -> dict[str, Any]:
    runs = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent}'", output_format="list")
    return {run.info.run_name: run for run in runs}


def test_trials_are_nested_runs_of_the_active_one(mlflow_store: str) -> None:
    trials = Trials()
    with mlflow.start_run() as parent:
        best = fmin(objective, SPACE, rand.suggest, 3, trials=trials, rstate=1, show_progressbar=False)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    found = children(parent.info.run_id)
    assert set(found) == {"trial 0", "trial 1", "trial 2"}
    for number, document in enumerate(trials.trials):
        run = found[f"trial {number}"]
        x = document["misc"]["vals"]["x"][0]
        assert run.data.metrics == {"half": x / 2, "loss": x, "more": 3.0}
        assert run.data.params["x"] == str(x)
        assert run.data.params["kind"] in ("a", "b")
        assert run.info.status == "FINISHED"
        assert document["misc"]["run_id"] == run.info.run_id
    tags = mlflow.get_run(parent.info.run_id).data.tags
    assert tags["sparktune.best_x"] == str(best["x"])
    recorded = mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/best_point.json")
    assert recorded == {"trial": trials.best_trial["tid"], "point": space_eval(SPACE, best)}


def test_what_the_objective_logs_in_steps_hides_no_final_value(mlflow_store: str) -> None:
    """Of a metric MLflow shows the value of the largest step."""

    def trained(x: float) -> dict[str, Any]:
        for epoch in range(5):
            mlflow.log_metric("loss", 100 - x - epoch, step=epoch)
        mlflow.log_metric("auc", 0.1, step=10**6)
        mlflow.log_metric("seen", 5.0, step=5)
        return {"status": "ok", "loss": x, "auc": 1 - x, "more": 3.0}

    trials = Trials()
    with mlflow.start_run() as parent:
        fmin(trained, hp.uniform("x", 0, 1), rand.suggest, 3, trials=trials, rstate=1, show_progressbar=False)
    runs = [mlflow.get_run(document["misc"]["run_id"]) for document in trials.trials]
    assert [run.data.metrics for run in runs] == [
        {"loss": x, "auc": 1 - x, "more": 3.0, "seen": 5.0} for x in trials.losses()
    ]
    history = mlflow.MlflowClient().get_metric_history(runs[0].info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history)[-1] == (5, trials.losses()[0])
    best_first = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'", order_by=["metrics.loss"]
    )
    assert best_first["run_id"][0] == trials.best_trial["misc"]["run_id"]


class Noted(Trials):
    """A subclass as libraries have it."""

    def __init__(self) -> None:
        super().__init__(exp_key="theirs")
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed = getattr(self, "refreshed", 0) + 1
        super().refresh()


class Elsewhere(Trials):
    asynchronous = True

    def fmin(self, fn: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        assert fn is objective
        return {"x": 0.5}


class ItsOwn(Elsewhere):
    asynchronous = False


def test_trials_of_a_subclass_are_recorded_too(mlflow_store: str) -> None:
    trials = Noted()
    with mlflow.start_run() as parent:
        fmin(objective, SPACE, rand.suggest, 2, trials=trials, rstate=1, show_progressbar=False)
    found = children(parent.info.run_id)
    assert [run.info.run_id for _, run in sorted(found.items())] == [
        document["misc"]["run_id"] for document in trials.trials
    ]
    assert [run.data.metrics["loss"] for _, run in sorted(found.items())] == trials.losses()
    assert trials.refreshed


def test_trials_that_run_elsewhere_are_named_once_where_they_are_not_recorded(
    mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    with mlflow.start_run() as parent:
        for kind in (Elsewhere, ItsOwn, ItsOwn):
            assert fmin(objective, SPACE, rand.suggest, 2, trials=kind(), show_progressbar=False) == {
                "x": 0.5
            }
        assert not children(parent.info.run_id)
        its_own = ItsOwn()
        fmin(
            objective, SPACE, rand.suggest, 2, trials=its_own, allow_trials_fmin=False, show_progressbar=False
        )
    assert len(children(parent.info.run_id)) == 2
    start = "the trials are not recorded in MLflow, because "
    assert [record.message for record in caplog.records if record.message.startswith(start)] == [
        f"{start}Elsewhere are asynchronous: their trials run in other processes",
        f"{start}ItsOwn have their own fmin; allow_trials_fmin=False uses hyperopt's, which is recorded",
    ]


def test_no_address_in_memory_is_recorded(mlflow_store: str) -> None:
    """Functions and objects as options: by their names, the same in the process that resumes the study."""

    class Plain: ...

    options = [objective, lambda x: x, Plain(), [Plain()], functools.partial(objective, f=Plain())]
    space = {"x": hp.uniform("x", 0, 1), "f": hp.choice("f", options)}
    with mlflow.start_run() as parent:
        fmin(lambda p: p["x"], space, rand.suggest, 12, trials=Trials(), rstate=1, show_progressbar=False)
    runs = [parent.info.run_id, *(run.info.run_id for run in children(parent.info.run_id).values())]
    for run_id in runs:
        run = mlflow.get_run(run_id)
        files = Path(run.info.artifact_uri.removeprefix("file://")).rglob("*")
        texts = [str(run.data), *(file.read_text("utf-8") for file in files if file.is_file())]
        assert " at 0x" not in "".join(texts)
    shown = {mlflow.get_run(run_id).data.params["f"] for run_id in runs[1:]}
    assert f"{__name__}.objective" in shown


def test_failures_are_recorded_and_pass_as_hyperopt_has_it(mlflow_store: str) -> None:
    def fails(point: dict[str, Any]) -> float:
        raise ValueError("no such point")

    for catch in (True, False):
        trials = Trials()
        words = "no evaluation tasks" if catch else "no such point"
        with mlflow.start_run() as parent, pytest.raises(Exception, match=words):
            fmin(
                fails,
                SPACE,
                rand.suggest,
                2,
                trials=trials,
                catch_eval_exceptions=catch,
                show_progressbar=False,
            )
        found = children(parent.info.run_id)
        assert {run.info.status for run in found.values()} == {"FAILED"}
        assert len(found) == (2 if catch else 1)
        assert "no such point" in found["trial 0"].data.tags["sparktune.error"]


def test_a_parent_is_made_and_ended_where_an_experiment_was_set(mlflow_store: str) -> None:
    trials = Trials()
    fmin(objective, SPACE, rand.suggest, 2, trials=trials, show_progressbar=False)
    (parent,) = [
        run for run in mlflow.search_runs(output_format="list") if "mlflow.parentRunId" not in run.data.tags
    ]
    assert parent.info.status == "FINISHED"
    assert len(children(parent.info.run_id)) == 2
    assert parent.data.tags["best_x"]


QUICK_LOOK = """
import os
from sparktune import SparkTrials, Trials, fmin, hp, rand
fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 2, trials=Trials(), show_progressbar=False)
import sys
assert "mlflow" not in sys.modules
assert os.listdir() == [], os.listdir()
"""


def test_a_time_limit_that_is_none(mlflow_store: str) -> None:
    fmin(objective, SPACE, rand.suggest, 2, timeout=math.inf, trials=Trials(), show_progressbar=False)
    (run,) = [
        run for run in mlflow.search_runs(output_format="list") if "mlflow.parentRunId" not in run.data.tags
    ]
    assert run.info.status == "FINISHED"
    assert "at most 2 trials." in run.data.tags["mlflow.note.content"]


def test_a_bad_time_limit_leaves_no_run(mlflow_store: str) -> None:
    with pytest.raises(Exception, match="timeout argument"):
        fmin(objective, SPACE, rand.suggest, 2, timeout=-1, trials=Trials(), show_progressbar=False)
    assert not mlflow.search_runs(output_format="list")


def test_studies_in_threads_beside_somebody_elses_runs(mlflow_store: str) -> None:
    environment = dict(os.environ)
    studies = [Trials() for _ in range(3)]
    over = threading.Event()

    def study(number: int) -> None:
        def numbered(x: float) -> float:
            with mlflow.start_run():
                mlflow.log_param("study", number)
            mlflow.log_metric("number", number)
            return x

        fmin(
            numbered, hp.uniform("x", 0, 1), rand.suggest, 3, trials=studies[number], verbose=False,
            show_progressbar=False,
        )  # fmt: skip

    def somebody_else() -> set[str]:
        runs = set()
        while not over.is_set():
            with mlflow.start_run(run_name="unrelated") as run:
                runs.add(run.info.run_id)
        return runs

    with ThreadPoolExecutor(4) as pool:
        others = pool.submit(somebody_else)
        done = [pool.submit(study, number) for number in range(3)]
        try:
            for one in done:
                one.result()
        finally:
            over.set()
    trials = {document["misc"]["run_id"] for study_trials in studies for document in study_trials.trials}
    assert len(trials) == 9
    for number, study_trials in enumerate(studies):
        runs = [mlflow.get_run(document["misc"]["run_id"]) for document in study_trials.trials]
        assert {run.data.params["study"] for run in runs} == {str(number)}
        assert {run.data.metrics["number"] for run in runs} == {number}
        assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1
    assert not trials & others.result()
    assert {mlflow.get_run(run_id).info.run_name for run_id in others.result()} == {"unrelated"}
    assert mlflow.active_run() is None
    assert dict(os.environ) == environment
    assert type(os.environ).__module__ == "os"


def test_after_an_interrupt_trials_have_their_own_runs_again(mlflow_store: str) -> None:
    calls = iter(range(100))

    def interrupted(x: float) -> float:
        number = next(calls)
        mlflow.log_metric("call", number)
        if number == 1:
            raise KeyboardInterrupt
        return x

    trials = Trials()
    with pytest.raises(KeyboardInterrupt):
        fmin(interrupted, hp.uniform("x", 0, 1), rand.suggest, 4, trials=trials, show_progressbar=False)
    assert mlflow.active_run() is None
    fmin(interrupted, hp.uniform("x", 0, 1), rand.suggest, 5, trials=trials, show_progressbar=False)
    recorded = [d for d in trials._dynamic_trials if "run_id" in d["misc"]]
    runs = [mlflow.get_run(d["misc"]["run_id"]) for d in recorded]
    assert [run.data.metrics["call"] for run in runs] == list(range(len(runs)))
    assert [run.info.run_name for run in runs] == [f"trial {d['tid']}" for d in recorded]
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED"] + ["FINISHED"] * (len(runs) - 2)
    assert len(runs) > 3


def test_who_has_not_set_up_mlflow_finds_nothing_of_it(run: Any) -> None:
    done = run([sys.executable, "-c", QUICK_LOOK])
    assert done.returncode == 0, done.stderr


def test_low_level_objectives_stay_hyperopts(mlflow_store: str, tmp_path: Path) -> None:
    @hyperopt.fmin_pass_expr_memo_ctrl
    def low(expr: Any, memo: Any, ctrl: Any) -> Any:
        point = hyperopt.pyll.rec_eval(expr, memo=memo)
        return {"status": "ok", "loss": point["x"]}

    trials = Trials()
    fmin(low, SPACE, rand.suggest, 2, trials=trials, show_progressbar=False)
    assert len(trials) == 2


def test_annotated_objectives_are_recorded_too(mlflow_store: str) -> None:
    def annotated(x: hp.uniform("x", 0, 1), y: hp.normal("y", 0, 1)) -> float:  # type: ignore[valid-type]
        return x + abs(y)

    with mlflow.start_run() as parent:
        fmin(annotated, "annotated", rand.suggest, 2, trials=Trials(), show_progressbar=False)
    assert {len(run.data.params) for run in children(parent.info.run_id).values()} == {2}


def test_a_search_inside_of_an_objective_is_not_recorded(spark: Any, mlflow_store: str) -> None:
    def outer(x: float) -> float:
        inner = fmin(
            lambda y: (y - x) ** 2, hp.uniform("y", 0, 1), rand.suggest, 5, trials=Trials(), verbose=False
        )
        return abs(inner["y"] - x)

    trials = SparkTrials(2, spark_session=spark)
    fmin(outer, hp.uniform("x", 0, 1), rand.suggest, 2, trials=trials, show_progressbar=False)
    assert trials.count_successful_trials() == 2
    assert len(mlflow.search_runs(output_format="list")) == 3
