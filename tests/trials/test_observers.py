"""What is said where results do not go with the metric and the goal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparktune import AllTrialsFailed, SimulatedTrials, fmin, hp, rand, report

pytestmark = pytest.mark.unit


def warnings_of(
    objective: Callable[[float], Any], caplog: pytest.LogCaptureFixture, **options: Any
) -> list[str]:
    trials = SimulatedTrials(**options)
    fmin(objective, hp.uniform("x", 0.5, 1), rand.suggest, 4, trials=trials, rstate=0, show_progressbar=False)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def reports_and_returns_it(x: float) -> float:
    report(x)
    return x


def reports_and_returns_its_negative(x: float) -> float:
    report(x)
    return -x


def returns_both(x: float) -> dict[str, Any]:
    return {"status": "ok", "loss": -x, "accuracy": x}


@pytest.mark.parametrize(
    ("objective", "metric", "said"),
    [
        (reports_and_returns_it, "accuracy", "so this study looks for the lowest accuracy"),
        (reports_and_returns_its_negative, "accuracy", None),
        (returns_both, "accuracy", None),
        (returns_both, "acuracy", "'acuracy' is not in the result of trial 0: x="),
        (lambda x: {"status": "ok", "accuracy": x}, "accuracy", None),
        (lambda x: -x, "accuracy", None),
        (lambda x: {"status": "ok", "loss": -x, "eval_time": 1.5, "loss_variance": 0.1}, "accuracy", None),
    ],
)
def test_what_is_said_of_results(
    objective: Callable[[float], Any], metric: str, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = warnings_of(objective, caplog, metric=metric, goal="maximize")
    assert len(found) == (said is not None), found
    assert said is None or said in found[0]


def test_to_be_minimized_the_reported_value_is_the_loss(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(reports_and_returns_it, caplog, metric="rmse") == []


def test_a_metric_that_is_not_there_fails_the_trial_with_the_names_that_are() -> None:
    trials = SimulatedTrials(metric="acuracy", goal="maximize")
    with pytest.raises(
        AllTrialsFailed, match="neither 'loss' nor the metric 'acuracy', but 'status', 'accuracy'"
    ):
        fmin(
            lambda x: {"status": "ok", "accuracy": x},
            hp.uniform("x", 0.5, 1),
            rand.suggest,
            2,
            trials=trials,
            show_progressbar=False,
        )
