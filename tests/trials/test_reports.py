"""The report of a study in its parent run: at its end, while it runs, and what happens where it cannot be."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest

import sparktune
from sparktune import DriverTrials, Trials, fmin, hp, plots, rand
from sparktune.errors import PlotlyNotAvailable
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.tracker import NullTracker, StudySummary
from sparktune.study.trial import Trial, TrialState
from sparktune.tracking.tracker import MlflowTracker
from sparktune.trials import reports
from tests.plots.test_page import payload
from tests.recorded_trials import RecordedTrials, tune
from tests.tracking import studies


def artifacts(run_id: str) -> set[str]:
    return {entry.path for entry in mlflow.MlflowClient().list_artifacts(run_id)}


def logged(run_id: str, name: str = "report.html") -> str:
    return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{name}"))


def test_every_study_leaves_its_report(mlflow_store: str) -> None:
    trials = tune(14)
    text = logged(trials.run_id)
    assert f"Best parameters: trial {trials.best_trial['tid']}" in text
    assert "The study was running" not in text
    assert '"table"' in payload(text)
    assert trials.run_id in text


def test_each_study_of_one_run_has_its_own(mlflow_store: str) -> None:
    with mlflow.start_run() as run:
        tune(3)
        tune(3)
    assert {"report.html", "report_1.html"} <= artifacts(run.info.run_id)


def test_studies_in_hyperopts_own_trials_too(mlflow_store: str) -> None:
    with mlflow.start_run() as run:
        fmin(lambda x: x**2, hp.uniform("x", -1, 1), rand.suggest, 4, trials=Trials(), show_progressbar=False)
    assert "Best parameters" in logged(run.info.run_id)


def test_without_plotly_a_study_is_as_it_was(mlflow_store: str, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with caplog.at_level(logging.DEBUG, "sparktune"):
        trials = tune(3)
    assert artifacts(trials.run_id) == {"best_point.json", "trials.json"}
    said = [r.levelname for r in caplog.records if "plotly is not installed" in r.message]
    assert said == ["DEBUG"]


def test_none_where_none_is_wanted(mlflow_store: str, caplog) -> None:
    trials = RecordedTrials(1)
    trials.log_report = False
    tune(3, trials=trials)
    assert artifacts(trials.run_id) == {"best_point.json", "trials.json"}
    assert "report" not in caplog.text


def test_a_report_that_fails_warns_once_and_loses_nothing(mlflow_store: str, monkeypatch, caplog) -> None:
    def broken(study: StudySnapshot) -> str:
        tries.release()
        raise ZeroDivisionError("no picture")

    monkeypatch.setattr(reports, "_page", broken)
    trials = RecordedTrials(1)
    trials.report_every = 0.01
    monkeypatch.setattr(reports, "REST", 0.0)
    tries = threading.Semaphore(0)

    def objective(x: float) -> float:
        assert tries.acquire(timeout=30)
        return x**2

    tune(8, fn=objective, space=hp.uniform("x", -1, 1), trials=trials)
    assert artifacts(trials.run_id) == {"best_point.json", "trials.json"}
    said = [r.message for r in caplog.records if "report" in r.message]
    assert said == ["the study's report cannot be made: ZeroDivisionError: no picture"]


def test_a_study_that_cannot_be_shown_has_no_report(caplog) -> None:
    def broken() -> StudySnapshot:
        raise ZeroDivisionError("no snapshot")

    assert reports.Reporter(broken, Kept()).final() is None
    assert "the study's report cannot be made: ZeroDivisionError: no snapshot" in caplog.text


def test_a_report_that_takes_too_long_is_left_out(mlflow_store: str, monkeypatch, caplog) -> None:
    gate = threading.Event()
    monkeypatch.setattr(reports, "_page", lambda study: str(gate.wait(60)))
    monkeypatch.setattr(reports, "WAIT_S", 0.1)
    trials = tune(3)
    gate.set()
    assert artifacts(trials.run_id) == {"best_point.json", "trials.json"}
    assert f"sparktune report {trials.run_id}" in caplog.text


class Kept(NullTracker):
    """Keeps what it is given."""

    study_id = "a study"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.came = threading.Event()

    def keep_report(self, text: str) -> None:
        self.texts.append(text)
        self.came.set()


def test_reports_at_intervals_only_where_something_changed(monkeypatch) -> None:
    monkeypatch.setattr(reports, "REST", 0.0)
    known = [Trial(0, {}, {"x": 1}, TrialState.RUNNING, started_s=1.0)]
    asked = threading.Semaphore(0)

    def snapshot() -> StudySnapshot:
        asked.release()
        return StudySnapshot(list(known), is_running=True)

    kept = Kept()
    reporter = reports.Reporter(snapshot, kept, 0.01)
    reporter.start()
    assert kept.came.wait(30)
    for _ in range(5):
        assert asked.acquire(timeout=30)
    assert len(kept.texts) == 1
    assert "The study was running when this report was made" in kept.texts[0]
    kept.came.clear()
    known[0] = known[0].to(TrialState.COMPLETED, loss=0.5)
    assert kept.came.wait(30)
    assert "best loss" in kept.texts[1]
    last = reporter.final()
    assert last is not None
    assert "The study was running" not in (last() or "")


def test_reports_while_a_study_runs_are_in_its_run(mlflow_store: str, monkeypatch) -> None:
    monkeypatch.setattr(reports, "REST", 0.0)
    trials = RecordedTrials(1)
    trials.report_every = 0.05
    seen: list[str] = []

    def objective(x: float) -> float:
        if len(trials.trials) > 2 and not seen:
            give_up = time.monotonic() + 60
            while trials.run_id is None or "report.html" not in artifacts(trials.run_id):
                assert time.monotonic() < give_up, "no report in a minute"
                threading.Event().wait(0.05)
            seen.append(logged(trials.run_id))
        return x**2

    tune(5, fn=objective, space=hp.uniform("x", -1, 1), trials=trials)
    assert "The study was running when this report was made" in seen[0]
    assert "The study was running" not in logged(str(trials.run_id))


def test_after_the_end_no_report_replaces_the_last(mlflow_store: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(studies.info())
    tracker.keep_report("early")
    tracker.finish(StudySummary([], None, report=lambda: "last"))
    tracker.keep_report("late")
    assert tracker.run_id is not None
    assert logged(tracker.run_id) == "last"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"report_every": 0}, ValueError, "report_every is 0; it must be a number of seconds > 0"),
        ({"report_every": "60"}, ValueError, "report_every is '60'"),
        ({"report_every": True}, ValueError, "report_every is True"),
        ({"report_every": 60, "mlflow": False}, ValueError, "report_every=60 logs a report to MLflow"),
        ({"report_every": 60, "log_report": False}, ValueError, "and log_report=False logs none"),
        ({"log_report": 0}, TypeError, "log_report is 0"),
    ],
)
def test_bad_intervals_are_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        DriverTrials(1, **options)


def test_an_interval_needs_plotly(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(PlotlyNotAvailable, match=r"pip install 'sparktune\[plots\]'"):
        DriverTrials(1, report_every=60)


def test_spark_trials_take_it_too(spark) -> None:
    assert sparktune.SparkTrials(2, report_every=60).report_every == 60


# -- pictures from each kind of source ---------------------------------------------------------------------


def test_pictures_are_the_same_from_trials_from_mlflow_and_from_a_data_frame(mlflow_store: str) -> None:
    trials = tune(14)
    frame = trials.to_dataframe()
    for draw in (plots.any_time, plots.parallel_coordinates, plots.slices, plots.timeline, plots.scatter):
        live, recorded, tabular = (
            draw(source).to_dict()["data"] for source in (trials, trials.run_id, frame)
        )
        assert live == recorded
        assert [trace["name"] for trace in live if "name" in trace] == [
            trace["name"] for trace in tabular if "name" in trace
        ]


def test_learning_curves_from_mlflow(mlflow_store: str) -> None:
    trials = RecordedTrials(2, early_termination=sparktune.MedianStoppingPolicy(delay_evaluation=3))

    def objective(x: float) -> float:
        for step in range(6):
            sparktune.report(x + 0.01 / (step + 1))
        return x + 0.01 / 6

    tune(10, fn=objective, space=hp.uniform("x", 0, 1), trials=trials)
    live, recorded = (plots.learning_curves(source).to_dict()["data"] for source in (trials, trials.run_id))
    assert live == recorded
    assert any(trace["name"] == "terminated early" for trace in live)


def test_runs_that_hold_no_study_are_named(mlflow_store: str) -> None:
    with mlflow.start_run() as run:
        pass
    for run_id in ("0" * 32, run.info.run_id):
        with pytest.raises(sparktune.StudyNotFound, match=f"{run_id}.*parent run"):
            plots.timeline(run_id)


def test_hyperopts_own_trials_can_be_drawn(mlflow_store: str) -> None:
    trials = Trials()
    fmin(lambda x: x**2, hp.uniform("x", -1, 1), rand.suggest, 6, trials=trials, show_progressbar=False)
    line = next(trace for trace in plots.any_time(trials).data if trace.name == "best so far")
    assert line.y[-1] == trials.best_trial["result"]["loss"]


def test_what_holds_no_trials_is_refused() -> None:
    with pytest.raises(TypeError, match="the source is int"):
        plots.any_time(3)  # type: ignore[arg-type]


def test_the_command_writes_the_report(mlflow_store: str, tmp_path: Path, monkeypatch, capsys) -> None:
    from sparktune import cli

    trials = tune(5)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", trials.run_id]) == 0
    name = f"report-{trials.run_id[:8]}.html"
    assert capsys.readouterr().out == f"{name}\n"
    assert "Best parameters" in Path(name).read_text("utf-8")
    assert cli.main(["report", trials.run_id, "--output", "x/y.html", "--store", mlflow_store]) == 0
    assert Path("x/y.html").exists()
    assert cli.main(["report", "0" * 32]) == 2
    assert "has no run" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert cli.main(["report", trials.run_id, "--output", "file/x.html"]) == 2
    assert "the report cannot be written" in capsys.readouterr().err
