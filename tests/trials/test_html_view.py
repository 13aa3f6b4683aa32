"""What a notebook shows of trials: for any number of them, whatever became of them."""

from __future__ import annotations

import html.parser
import math
import re
import time
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from sparktune import SimulatedTrials, fmin, hp, rand
from sparktune.errors import AllTrialsFailed
from sparktune.study.trial import Trial, TrialError, TrialState
from sparktune.trials import curve, html_view

pytestmark = pytest.mark.unit

SPACE = {"x": hp.uniform("x", 0, 1), "kind": hp.choice("kind", ["<b>a</b>", "b & c"])}
VOID = {"br", "meta"}


class Balanced(html.parser.HTMLParser):
    """Parses; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def trials_of(fn: Any, n: int, **options: Any) -> SimulatedTrials:
    trials = SimulatedTrials(slots=2, **options)
    if n:
        fmin(fn, SPACE, rand.suggest, n, trials=trials, rstate=0, show_progressbar=False)
    return trials


@pytest.mark.parametrize("n", [0, 1, 12])
def test_of_so_many_trials(n: int) -> None:
    trials = trials_of(lambda p: p["x"], n)
    shown = Balanced(trials._repr_html_())
    assert shown.seen.count("tr") == (1 + min(n, html_view.ROWS) if n else 0)
    assert ("svg" in shown.seen) is bool(n)
    assert f"{n} trials" in trials._repr_html_()


def test_of_5000_trials_in_a_moment() -> None:
    trials = SimulatedTrials(8)
    fmin(math.sin, hp.uniform("x", 0, 5000), rand.suggest, 5000, trials=trials, show_progressbar=False)
    began = time.perf_counter()
    text = trials._repr_html_()
    assert time.perf_counter() - began < 1.0
    assert len(text) < 100_000
    assert "10 of 5000 trials, the best first" in text
    assert text.count("<circle") <= curve.MAX_DOTS


def test_all_failed() -> None:
    trials = SimulatedTrials(slots=2)
    with pytest.raises(AllTrialsFailed):
        fmin(
            lambda p: 1 / 0, SPACE, rand.suggest, 4, trials=trials, rstate=0, show_progressbar=False
        )  # fmt: skip
    text = trials._repr_html_()
    Balanced(text)
    assert "ZeroDivisionError" in text
    assert "no trial has a loss" in text
    assert "best:" not in text


def test_nan_and_infinite_losses() -> None:
    values = iter([math.nan, math.inf, 0.5, -math.inf, 1e308, -1e308])
    trials = trials_of(lambda p: next(values), 6)
    Balanced(trials._repr_html_())
    assert "nan" not in trials._repr_html_().replace("returned NaN", "").lower().replace("infinite", "")


def test_text_of_the_users_is_shown_as_it_is() -> None:
    error = TrialError("E", "<img src=x>", "E: <img src=x>")
    odd = "<script>alert(1)</script>\ud800"
    trial = Trial(0, {"a<": 1}, {"a<": odd}, TrialState.FAILED, error=error)
    text = html_view.of_trials("<i>title</i>", [trial], "<run>")
    Balanced(text)
    for part in ("<script", "<img", "<i>", "<run>", "a<<"):
        assert part not in text
    text.encode()


def test_the_best_come_first_then_what_has_no_loss() -> None:
    def trial(n: int, state: TrialState, loss: float | None = None) -> Trial:
        return Trial(n, {}, {}, state, loss=loss)

    done, ended, failed = TrialState.COMPLETED, TrialState.EARLY_TERMINATED, TrialState.FAILED
    trials = [trial(0, failed), trial(1, ended, 0.1), trial(2, done, 0.9), trial(3, done, 0.2)]
    trials += [trial(4, TrialState.RUNNING), trial(5, failed)]
    assert [t.trial_id for t in html_view.leading(trials)] == [3, 2, 1, 5, 4, 0]
    assert [t.trial_id for t in html_view.leading(trials, 3)] == [3, 2, 1]
    assert [t.trial_id for t in html_view.leading(trials, 4)] == [3, 2, 1, 5]


def test_many_parameters_are_cut() -> None:
    params = {f"p{n}": n for n in range(50)}
    text = html_view.of_trials("t", [Trial(0, params, params, TrialState.COMPLETED, loss=1.0)], None)
    assert "8 of 50 parameters" in text


def test_a_metric_to_be_maximized_is_shown_as_it_is() -> None:
    results = iter([0.25, 0.75, {"status": "ok", "loss": 0.125, "accuracy": 0.5}])

    def fn(_point: Any) -> Any:
        told = next(results)
        return told if isinstance(told, dict) else {"status": "ok", "accuracy": told}

    trials = SimulatedTrials(slots=1, metric="accuracy", goal="maximize")
    fmin(fn, SPACE, rand.suggest, 3, trials=trials, rstate=0, show_progressbar=False)
    assert str(trials) == "SimulatedTrials(3 trials: 3 completed; best accuracy 0.75)"
    text = trials._repr_html_()
    Balanced(text)
    assert "best: trial 1, accuracy 0.75: " in text
    assert "best accuracy 0.75, found after 2 of 3 trials" in text
    assert "-0." not in text
    assert ">loss<" not in text


# -- the curve ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "losses",
    [
        [1.0],
        [None],
        [None, None],
        [math.nan, math.inf, -math.inf],
        [1.0] * 7,
        [0.0] * 3,
        [3.0, None, 2.0, 5.0, 1.0],
        [1.7e308, -1.7e308, 0.0],
        [5e-324, 0.0],
        [1e9, *[1.0 + n / 100 for n in range(50)]],
    ],
)
def test_the_curve_is_a_picture_whatever_the_losses(losses: list[float | None]) -> None:
    text = curve.svg(losses)
    ET.fromstring(text)
    assert "nan" not in text
    assert "inf" not in text


def test_no_curve_without_trials() -> None:
    assert curve.svg([]) == ""


def test_the_curve_has_every_improvement() -> None:
    assert curve.best_so_far([3.0, None, 2.0, 5.0, math.nan, 1.0]) == [(1, 3.0), (3, 2.0), (6, 1.0)]
    assert "best loss 1, found after 6 of 6 trials" in curve.svg([3.0, None, 2.0, 5.0, math.nan, 1.0])


def test_the_curve_of_a_metric_to_be_maximized_has_the_highest_on_top() -> None:
    text = curve.svg([-0.5, -0.75], label="a<b", values=[0.5, 0.75], goal="maximize")
    ET.fromstring(text)
    assert "<title>best a&lt;b 0.75, found after 2 of 2 trials</title>" in text
    ticks = re.findall(r'text-anchor="end">([^<]*)</text>', text)[1:]
    assert [float(tick) for tick in ticks] == [0.762, 0.625, 0.487]
    first, second = (float(y) for y in re.findall(r'cy="([^"]*)"', text))
    assert second < first


def test_the_loss_tells_the_best_where_the_metric_differs() -> None:
    text = curve.svg([0.3, 0.2], label="accuracy", values=[0.9, 0.8], goal="maximize")
    assert "best accuracy 0.8, found after 2 of 2 trials" in text


def test_one_bad_trial_does_not_flatten_the_others() -> None:
    low, high = curve.bounds([1e9, *[1.0 + n / 100 for n in range(50)]])
    assert 0.9 < low < 1.0
    assert 1.4 < high < 1.6
    assert curve.bounds([2.0])[0] < 2.0 < curve.bounds([2.0])[1]
