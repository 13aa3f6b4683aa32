"""``report``: outside of a study, its steps, its arguments, its end."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from sparktune import SimulatedTrials, TrialTerminated, fmin, hp, rand, report
from sparktune.worker import reporting

pytestmark = pytest.mark.unit


class Listener:
    def __init__(self, ends_at: int = 99) -> None:
        self.heard: list[tuple[int, float]] = []
        self._ends_at = ends_at

    def report(self, step: int, value: float) -> bool:
        self.heard.append((step, value))
        return step >= self._ends_at


@pytest.fixture
def listener() -> Any:
    made = Listener(ends_at=5)
    reporting.begin(made)
    yield made
    reporting.begin(None)


def test_outside_of_a_study_nothing_happens() -> None:
    assert report(0.5) is None  # type: ignore[func-returns-value]


def test_steps_number_themselves(listener: Listener) -> None:
    report(0.1)
    report(np.float32(0.5))
    report(1, step=3)
    report(2)
    assert listener.heard == [(1, 0.1), (2, 0.5), (3, 1.0), (4, 2.0)]
    assert reporting.last_value() == 2.0


def test_the_end_is_not_swallowed_by_except_exception(listener: Listener) -> None:
    cleaned = []

    def careless() -> None:
        try:
            report(0.1, step=5)
        except Exception:
            pytest.fail("TrialTerminated must pass")
        finally:
            cleaned.append(True)

    with pytest.raises(TrialTerminated):
        careless()
    assert cleaned


@pytest.mark.parametrize(
    ("value", "step"), [("high", None), (None, None), (0.1, "1"), (0.1, 1.5), (0.1, True)]
)
def test_bad_arguments(value: Any, step: Any) -> None:
    with pytest.raises(TypeError, match="report got"):
        report(value, step)


def curve(x: float) -> dict[str, Any]:
    for t in range(10):
        report(x * (t + 1))
    return {"status": "ok", "score": 10 * x}


class StopBelowHalf:
    """A policy of one's own."""

    def decide(self, trial_id: int, curves: Any, goal: str) -> Any:
        from sparktune.early_termination import Decision

        value = curves[trial_id].values[-1]
        n = len(curves[trial_id].values)
        return Decision("StopBelowHalf", n, value, 1.5) if n == 3 and value < 1.5 else None


def test_a_study_ends_weak_trials_and_learns_from_them() -> None:
    trials = SimulatedTrials(4, metric="score", goal="maximize", early_termination=StopBelowHalf())
    best = fmin(curve, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=30, trials=trials, rstate=1)
    frame = trials.to_dataframe()
    cut = frame[frame.state == "early_terminated"]
    whole = frame[frame.state == "completed"]
    assert set(cut.steps) == {3}
    assert (cut.x < 0.5).all()
    assert (whole.x >= 0.5).all()
    assert cut.loss.tolist() == pytest.approx((-3 * cut.x).tolist())
    assert best["x"] == whole.x.max()
    assert trials.best_trial["misc"]["vals"]["x"] == [whole.x.max()]
    assert len(trials) == 30
    saved = 7 * len(cut) / (10 * 30)
    assert trials.share_saved == pytest.approx(saved)


def test_a_terminated_trial_is_the_best_only_where_nothing_else_finished() -> None:
    class All(StopBelowHalf):
        def decide(self, trial_id: int, curves: Any, goal: str) -> Any:
            from sparktune.early_termination import Decision

            return Decision("All", 1, curves[trial_id].values[-1], 0.0)

    trials = SimulatedTrials(4, metric="score", goal="maximize", early_termination=All())
    best = fmin(curve, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=5, trials=trials, rstate=1)
    assert best["x"] == trials.to_dataframe().x.max()


def test_a_result_without_a_loss_gets_it_from_the_metric_or_the_last_report() -> None:
    def only_reports(x: float) -> None:
        report(x)

    for goal, sign in (("maximize", -1), ("minimize", 1)):
        trials = SimulatedTrials(1, metric="score", goal=goal)  # type: ignore[arg-type]
        fmin(only_reports, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=2, trials=trials, rstate=0)
        assert trials.losses() == [sign * d["misc"]["vals"]["x"][0] for d in trials.trials]

    def own_loss(x: float) -> dict[str, Any]:
        return {"status": "ok", "score": x, "loss": 7.0}

    trials = SimulatedTrials(1, metric="score", goal="maximize")
    fmin(own_loss, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=1, trials=trials)
    assert trials.losses() == [7.0]


def test_a_metric_that_never_shows_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    trials = SimulatedTrials(1, metric="val_accuracy", goal="maximize", early_termination=StopBelowHalf())
    fmin(
        lambda x: {"status": "ok", "loss": x, "val_acc": 1 - x},
        hp.uniform("x", 0, 1),
        algo=rand.suggest,
        max_evals=9,
        trials=trials,
    )
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    said = [text for text in warnings if "val_accuracy" in text]
    assert len(said) == 1
    assert "val_acc" in said[0].split("Metrics seen:")[1]


def test_a_trial_times_out_by_itself() -> None:
    trials = SimulatedTrials(2, lambda config, _result: 100 * config["x"], trial_timeout=50)
    fmin(lambda x: x, hp.uniform("x", 0, 1), algo=rand.suggest, max_evals=20, trials=trials, rstate=0)
    frame = trials.to_dataframe()
    assert set(frame.state) == {"completed", "timed_out"}
    assert (frame[frame.state == "timed_out"].x > 0.5).all()
    assert (frame[frame.state == "completed"].x <= 0.5).all()
    assert frame[frame.state == "timed_out"].duration_s.tolist() == pytest.approx(
        [50.0] * (frame.state == "timed_out").sum()
    )


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"metric": ""}, ValueError, "metric"),
        ({"metric": "a", "goal": "max"}, ValueError, "goal"),
        ({"goal": "maximize"}, ValueError, "maximize"),
        ({"early_termination": "median"}, TypeError, "early_termination"),
        ({"early_termination": StopBelowHalf}, TypeError, "early_termination"),
        ({"trial_timeout": 0}, ValueError, "trial_timeout"),
        ({"trial_timeout": "5"}, ValueError, "trial_timeout"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SimulatedTrials(1, **arguments)
