"""The live curve: drawn in place, about once a second, and never at the cost of the study."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sparktune import SimulatedTrials, fmin, hp, rand
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import live_plot
from sparktune.trials.live_plot import LivePlot

pytestmark = pytest.mark.unit


class Handle:
    """What IPython's ``display`` gives."""

    def __init__(self, fails: bool = False) -> None:
        self.shown: list[str] = []
        self._fails = fails

    def update(self, thing: Any) -> None:
        if self._fails:
            raise OSError("the kernel's client is gone")
        self.shown.append(thing._repr_html_())


def ended(n: int, loss: float | None) -> Trial:
    state = TrialState.FAILED if loss is None else TrialState.COMPLETED
    return Trial(n, {}, {}, state, loss=loss, ended_s=float(n))


def test_it_is_drawn_when_there_is_news_and_not_too_often() -> None:
    handle = Handle()
    plot = LivePlot(handle, "SparkTrials", [ended(1, 0.5), ended(0, 0.9)])
    due_s = plot.due_in_s()
    assert due_s is not None
    assert due_s <= 0
    plot.do()
    assert "SparkTrials: 2 trials, best loss 0.5" in handle.shown[-1]
    assert plot.due_in_s() is None, "nothing has changed"
    plot.changed(Trial(2, {}, {}, TrialState.RUNNING))
    assert plot.due_in_s() is None
    plot.changed(ended(2, 0.25))
    due_s = plot.due_in_s()
    assert due_s is not None
    assert 0.5 < due_s <= live_plot.UPDATE_EVERY_S
    plot.changed(ended(3, None))
    plot.do()
    assert "4 trials, best loss 0.25" in handle.shown[-1]
    assert len(handle.shown) == 2


def test_it_tells_a_metric_that_is_to_be_maximized() -> None:
    handle = Handle()
    plot = LivePlot(handle, "SparkTrials", [ended(0, None)], "accuracy", "maximize")
    plot.do()
    assert "1 trial, no accuracy yet" in handle.shown[-1]
    plot.changed(ended(1, -0.5))
    plot.changed(ended(2, -0.25))
    assert "3 trials, best accuracy 0.5" in plot.html()
    assert "loss 0" not in plot.html()


def test_a_notebook_that_has_gone_costs_no_study(caplog: pytest.LogCaptureFixture) -> None:
    plot = LivePlot(Handle(fails=True), "SparkTrials", [ended(0, 1.0)])
    plot.do()
    assert "the live plot ends: OSError" in caplog.text
    plot.changed(ended(1, 0.5))
    assert plot.due_in_s() is None
    plot.do()


def test_outside_of_notebooks_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    trials = SimulatedTrials(live_plot=True)
    with caplog.at_level(logging.WARNING, "sparktune"):
        fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 3, trials=trials, show_progressbar=False)
    said = [record.message for record in caplog.records if "live_plot" in record.message]
    assert said == ["live_plot=True has no effect: it draws in notebooks, and this is not one"]


def test_in_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Handle()
    monkeypatch.setattr(live_plot, "_handle", lambda: handle)
    trials = SimulatedTrials(live_plot=True)
    fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 3, trials=trials, show_progressbar=False)
    best = trials.best_trial["result"]["loss"]
    assert f"SimulatedTrials: 3 trials, best loss {best:.6g}" in handle.shown[-1]
    fmin(lambda x: x, hp.uniform("x", 0, 1), rand.suggest, 5, trials=trials, show_progressbar=False)
    assert "5 trials" in handle.shown[-1]


@pytest.mark.parametrize("value", [1, "yes", None])
def test_it_is_on_or_off(value: Any) -> None:
    with pytest.raises(TypeError, match=r"live_plot is .*; it must be True or False"):
        SimulatedTrials(live_plot=value)
