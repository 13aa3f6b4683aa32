"""What a terminated trial's last report is worth: under ``loss`` stands only what compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sparktune import SimulatedTrials, fmin, hp, rand, report
from sparktune.early_termination import Curve, Decision
from sparktune.study.backend import Finished, Reported, Terminated
from sparktune.study.study import Study
from sparktune.study.trial import Trial, TrialState
from sparktune.tracking import schema

pytestmark = pytest.mark.unit


class Never:
    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> Decision | None:
        return None


class StopOdd:
    """Ends trials with odd numbers at their first report."""

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: str) -> Decision | None:
        return Decision("StopOdd", 1, 0.0, 0.0) if trial_id % 2 else None


def a_study(**options: Any) -> Study:
    queued = [Trial(n, {}, {}) for n in range(8)]
    study = Study(lambda _: None, np.random.default_rng(0), queued=queued, policy=StopOdd(), **options)
    for _ in queued:
        study.next_trial(0.0)
    return study


def complete(study: Study, n: int, loss: float, reported: float, **result: float) -> None:
    study.tell(Reported(n, 0.0, reported, 1))
    study.tell(Finished(n, 1.0, {"status": "ok", "loss": loss, **result}))


def cut(study: Study, n: int, reported: float) -> Trial:
    study.tell(Reported(n, 0.0, reported, 1))
    trial = study.tell(Terminated(n, 1.0))
    assert trial is not None
    assert trial.state is TrialState.EARLY_TERMINATED
    return trial


def test_a_value_on_another_scale_is_no_loss_and_bad_for_search() -> None:
    study = a_study(metric="val_error")
    complete(study, 0, loss=5.0, reported=0.3)
    trial = cut(study, 1, reported=0.4)
    assert trial.loss is None
    assert trial.result == {"val_error": 0.4, "loss": 5.0, "status": "ok"}
    assert study.best is not None
    assert study.best.trial_id == 0
    tags, points, _ = schema.final_record(trial, {"tid": 1}, 0)
    assert {point.key for point in points} == {"val_error"}
    assert tags["trial_status"] == "early_terminated"


@pytest.mark.parametrize(
    ("options", "loss", "reported"),
    [({}, 0.3, 0.3), ({"metric": "acc", "goal": "maximize"}, -0.9, 0.9), ({"metric": "rmse"}, 2.0, 2.0)],
)
def test_a_value_that_compares_is_its_loss(options: Any, loss: float, reported: float) -> None:
    study = a_study(**options)
    complete(study, 0, loss, reported)
    sign = -1 if options.get("goal") else 1
    assert cut(study, 1, reported / 2).loss == sign * reported / 2


def test_the_metric_in_the_result_tells_too() -> None:
    study = a_study(metric="acc", goal="maximize")
    study.tell(Finished(0, 1.0, {"status": "ok", "loss": -0.8, "acc": 0.8}))
    assert cut(study, 1, 0.5).loss == -0.5


def test_before_anything_completed_the_name_decides_and_the_end_corrects_it() -> None:
    named, other = a_study(), a_study(metric="acc", goal="maximize")
    assert cut(named, 1, 0.5).loss == 0.5
    assert cut(other, 1, 0.5).loss is None
    complete(named, 0, loss=7.0, reported=0.1)
    complete(other, 0, loss=-0.9, reported=0.9)
    for study in (named, other):
        study.conclude()
    assert named.trials[1].loss is None
    assert other.trials[1].loss == -0.5


def test_where_nothing_completed_terminated_trials_are_the_best_there_is() -> None:
    study = a_study(metric="acc", goal="maximize")
    for n, value in ((1, 0.5), (3, 0.8), (5, 0.6)):
        cut(study, n, value)
    assert study.best is not None
    assert study.best.trial_id == 3


@given(st.lists(st.tuples(st.booleans(), st.floats(-5, 5), st.floats(-5, 5)), max_size=8))
def test_no_terminated_trial_stands_above_the_best_of_another_scale(
    trials: list[tuple[bool, float, float]],
) -> None:
    study = a_study(metric="m")
    done = 0
    for n, (completes, loss, reported) in enumerate(trials):
        if completes and n % 2 == 0:
            complete(study, n, loss + 100.0, reported)
            done += 1
        elif n % 2:
            cut(study, n, reported)
    study.conclude()
    losses = [t.loss for t in study.trials if t.state is TrialState.EARLY_TERMINATED]
    if done:
        assert set(losses) <= {None}
        assert study.best is not None
        assert study.best.state is TrialState.COMPLETED


def test_what_was_read_after_the_end_completes_the_curve_and_judges_nothing() -> None:
    study = a_study(metric="m")
    study.tell(Reported(0, 0.0, 0.9, 1, "tracker"))
    study.tell(Finished(0, 1.0, {"status": "ok", "loss": 0.1}))
    for step, value in ((2, 0.5), (3, 0.1)):
        assert study.tell(Reported(0, 2.0, value, step, "tracker")) is None
    assert study.curves[0].values == [0.9, 0.5, 0.1]
    assert study.curves[0].is_over
    trial = study.trials[0]
    assert (trial.state, trial.steps, trial.last_step) == (TrialState.COMPLETED, 3, 3)
    assert study.counts[TrialState.COMPLETED] == 1


def test_a_trial_that_reports_is_not_completed_from_mlflow() -> None:
    study = a_study(metric="m")
    complete(study, 0, 0.1, 0.1)
    assert study.tell(Reported(0, 2.0, 0.1, 1, "tracker")) is None
    assert study.curves[0].values == [0.1]


def test_hyperopts_view_of_a_terminated_trial_has_a_loss() -> None:
    def objective(x: float) -> dict[str, Any]:
        report(x)
        return {"status": "ok", "loss": 100 + x, "error_rate": x}

    trials = SimulatedTrials(metric="error_rate", early_termination=StopOdd())
    fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 8, trials=trials, rstate=0, show_progressbar=False)
    frame = trials.to_dataframe().set_index("state")
    assert frame.loc["early_terminated"].loss.isna().all()
    assert (frame.loc["completed"].loss >= 100).all()
    assert all(loss is not None and loss >= 100 for loss in trials.losses())
    assert trials.counts()[TrialState.EARLY_TERMINATED] == 4
    assert trials.count_successful_trials() == 4
    assert trials.count_total_trials() == 8
