"""What is in each picture; every one is checked by plotly, for studies of all kinds."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparktune import plots
from sparktune.plots import comparison, page
from sparktune.plots.drawings import learning, parallel, timeline
from sparktune.plots.style import BEST, LOOKS
from sparktune.plots.table import Row, Table
from sparktune.plots.values import ValueAxis
from sparktune.study import words
from sparktune.study.trial import TrialState
from tests.plots_studies import table

pytestmark = pytest.mark.unit

COMPLETED, FAILED = TrialState.COMPLETED, TrialState.FAILED
FIGURES: list[Callable[[Any], Any]] = [
    plots.any_time,
    plots.learning_curves,
    plots.parallel_coordinates,
    plots.scatter,
    plots.scatter_3d,
    plots.param_importance,
    plots.slices,
    plots.timeline,
]
LARGEST = sys.float_info.max
MANY = [f"parameter_with_a_long_name_{n}" for n in range(40)]
RNG = np.random.default_rng(0)


def row(number: int, loss: float | None, state: TrialState = COMPLETED, **params: Any) -> Row:
    return Row(number, state, loss, params, float(number), number + 1.0, 1.0)


ODD = {
    "none": Table([]),
    "one": table(1),
    "ten": table(10),
    "many": table(5000, slots=16),
    "all failed": Table([row(n, None, FAILED, x=n) for n in range(6)]),
    "not finite": Table(
        [row(0, math.inf, x=1), row(1, -math.inf, x=2), row(2, 1.0, x=3), row(3, None, FAILED, x=4)]
    ),
    "largest": Table([row(0, LARGEST, x=1), row(1, -LARGEST, x=2), row(2, 1.0, x=3), row(3, LARGEST, x=4)]),
    "largest alone": Table([row(n, LARGEST, x=n) for n in range(5)]),
    "largest, logarithmic": Table([row(n, 10.0**n, x=n) for n in range(300)] + [row(300, LARGEST, x=1)]),
    "largest parameters": Table(
        [row(n, float(n), x=LARGEST * (n % 3 - 1), y=LARGEST / 2.0**n) for n in range(20)]
    ),
    "smallest": Table([row(n, 5e-324 * (n % 2), x=5e-324 * (n % 3)) for n in range(9)]),
    "all equal": Table([row(n, 1.0, x=n) for n in range(30)]),
    "no parameters": Table([row(n, float(n)) for n in range(8)]),
    "40 parameters": Table([row(n, float(n % 7), **dict.fromkeys(MANY, RNG.random())) for n in range(50)]),
    "no times": Table([Row(n, COMPLETED, float(n), {"x": n}) for n in range(5)]),
    "running": Table(
        [Row(0, TrialState.RUNNING, None, {"x": 1}, 1.0), Row(1, TrialState.QUEUED, None, {"x": 2})]
    ),
    "markup": Table([row(n, float(n), **{"<b>a</b>&": f"<i>{n % 3}</i>", "x": 1.0}) for n in range(9)]),
    "maximized": table(40, metric="auc", goal="maximize", shows_metric=True),
    "reports of nothing": Table([Row(0, COMPLETED, 1.0, {}, reports=[math.inf, math.nan])]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_every_picture_of_every_study_is_drawn(draw: Callable[[Any], Any], name: str) -> None:
    figure = draw(ODD[name])
    assert figure.layout.title.text
    text = figure.to_json()
    assert "Infinity" not in text
    assert "NaN" not in text
    notes = [note.text for note in figure.layout.annotations]
    assert figure.data or (len(notes) == 1 and notes[0])  # nothing to be seen: it says why
    if name == "markup" and figure.data:
        assert "<b>a</b>" not in text
    n_points = sum(len(trace.x) for trace in figure.data if trace.x is not None)
    assert n_points < 20_000


@pytest.mark.parametrize("name", ODD)
def test_every_study_has_a_report(name: str) -> None:
    assert "</html>" in plots.report(ODD[name])


@pytest.mark.parametrize("name", ["largest", "largest alone", "largest, logarithmic", "smallest"])
def test_such_losses_are_compared(name: str) -> None:
    spec = comparison.several({"a": [ODD[name], ODD["ten"]], "b": ODD[name]})
    assert page.self_contained(spec, name)


def trace(figure: Any, name: str, place: int = 0) -> Any:
    return [found for found in figure.data if found.name == name][place]


def symbols_and_colours(figure: Any) -> dict[str, tuple[str, str]]:
    return {t.name: (t.marker.symbol, t.marker.color) for t in figure.data if t.mode == "markers"}


def test_names_are_escaped_once() -> None:
    rows = [row(n, float(n), **{"a<b": n, "c&d": n % 3}) for n in range(9)]
    known = Table(rows, "p<q", "maximize", shows_metric=True)
    texts = [figure.layout.title.to_plotly_json() for figure in (plots.any_time(known), plots.scatter(known))]
    assert "best p&lt;q: 0 (trial 0)" in texts[0]["subtitle"]["text"]
    assert "a&lt;b" in texts[1]["text"]
    assert "c&amp;d" in texts[1]["text"]
    for draw in FIGURES:
        for text in ("&amp;lt;", "&amp;amp;"):
            assert text not in draw(known).to_json().replace("\\u0026", "&")


# -- any-time curve ---------------------------------------------------------------------------


def test_the_best_so_far_falls_where_trials_ended() -> None:
    rows = [row(0, 3.0), row(1, None, FAILED), row(2, 4.0), row(3, 1.0)]
    figure = plots.any_time(Table(rows))
    by_trials, by_time = (trace(figure, "best so far", place) for place in (0, 1))
    assert (list(by_trials.x), list(by_trials.y)) == ([1, 4, 4], [3.0, 1.0, 1.0])
    assert (list(by_time.x), by_time.xaxis) == ([1.0, 4.0, 4.0], "x2")
    assert list(trace(figure, "best trial").y) == [1.0]
    assert list(trace(figure, "failed").x) == [2]
    assert "time since the first trial began (s)" in figure.layout.xaxis2.title.text


def test_a_trial_that_never_ran_does_not_cost_the_panel_over_time() -> None:
    known = Table([row(0, 3.0), row(1, 1.0), Row(2, TrialState.CANCELLED)])
    figure = plots.any_time(known)
    assert list(trace(figure, "best so far", 1).x) == [1.0, 2.0, 2.0]
    assert "1 that never ran are left out" in figure.layout.title.subtitle.text
    over_time = [t for t in plots.any_time({"a": known, "b": known}).data if t.xaxis == "x2"]
    assert over_time


def test_a_maximized_metric_rises() -> None:
    rows = [row(0, -0.5), row(1, -0.9)]
    figure = plots.any_time(Table(rows, "auc", "maximize", shows_metric=True))
    assert list(trace(figure, "best so far").y) == [0.5, 0.9, 0.9]
    assert figure.layout.yaxis.title.text == "auc"


def test_states_are_called_as_in_the_terminal() -> None:
    assert {state: LOOKS[state].words for state in words.WORDS} == words.WORDS
    assert LOOKS.keys() == set(TrialState)


def test_states_differ_in_colour_and_in_shape() -> None:
    figure = plots.any_time(table(300))
    found = symbols_and_colours(figure)
    assert {"succeeded", "failed", "terminated early", "timed out", "best trial"} <= set(found)
    assert (
        len({symbol for symbol, _ in found.values()})
        == len({colour for _, colour in found.values()})
        == len(found)
    )
    assert (
        len({look.symbol for look in LOOKS.values()})
        == len({look.colour for look in LOOKS.values()})
        == len(LOOKS)
    )


def test_hover_tells_the_trial_and_its_parameters() -> None:
    known = table(40)
    text = trace(plots.any_time(known), "best trial").text[0]
    assert known.best is not None
    assert f"trial {known.best.number}" in text
    assert all(label in text for label in known.best.params)
    assert "ValueError: the matrix is singular" in " ".join(trace(plots.any_time(known), "failed").text)


def test_much_thinned_says_so_and_keeps_the_best() -> None:
    figure = plots.any_time(ODD["many"])
    assert "2,000 of 5,000 trials drawn" in figure.layout.title.subtitle.text
    assert trace(figure, "best trial").marker.symbol == BEST["symbol"]


def test_outliers_do_not_flatten_the_others() -> None:
    rows = [row(n, 1.0 + n / 100) for n in range(40)] + [row(40, 1e9)]
    figure = plots.any_time(Table(rows))
    low, high = figure.layout.yaxis.range
    assert low < 1.0
    assert 1.39 < high < 2
    assert "1 worse values lie outside" in figure.layout.title.subtitle.text


def test_ranges() -> None:
    assert ValueAxis.of([]).spec == {"range": [0.0, 1.0]}
    same = ValueAxis.of([2.0, 2.0])
    assert same.low < 2.0 < same.high
    tiny = ValueAxis.of([0.0, 5e-324])
    assert tiny.high - tiny.low > 1e-300  # of a shorter one, pixels per unit are infinite
    axis = ValueAxis.of([*np.linspace(0.8, 0.9, 30), -50.0], good_is_high=True)
    assert axis.n_hidden == 1
    assert (axis.best, axis.worst) == (0.9, 0.8)
    assert 0.7 < axis.low < axis.edge < 0.8 < 0.9 < axis.high
    assert [text for _, text in axis.ticks()] == ["0.8", "0.82", "0.84", "0.86", "0.88", "0.9"]


def test_an_axis_of_the_smallest_floats_is_not_too_short() -> None:
    low, high = plots.slices(ODD["smallest"]).layout.xaxis.range
    assert high - low > 1e-300


def test_losses_that_gather_at_the_good_end_have_a_logarithmic_axis() -> None:
    rows = [row(n, 0.01 + 0.001 * n, x=n) for n in range(30)] + [row(30 + n, 0.9, x=n) for n in range(10)]
    known = Table(rows)
    figure = plots.any_time(known)
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.range[0] < -2 < 0.9 < 10 ** figure.layout.yaxis.range[1]
    assert plots.slices(known).layout.yaxis.type == "log"
    best = plots.parallel_coordinates(known).data[-1]
    assert best.y[1] == 0.0
    assert not ValueAxis.of([-1.0, *range(1, 90)]).is_log
    assert not ValueAxis.of([0.01, 0.02, 0.5, 0.9, 0.95, 1.0]).is_log


# -- several searchers ------------------------------------------------------------------------


def test_searchers_are_compared_by_mean_and_deviation() -> None:
    studies = {
        "tpe": [Table([row(0, 2.0), row(1, 1.0)]), Table([row(0, 4.0), row(1, 1.0)])],
        "random": Table([row(0, 5.0), row(1, None, FAILED), row(2, 3.0)]),
    }
    figure = plots.any_time(studies)
    lines = {t.name: t for t in figure.data if t.line.width and t.xaxis == "x"}
    assert list(lines["tpe"].y) == [3.0, 1.0, 1.0]
    assert list(lines["random"].y) == [5.0, 5.0, 3.0]
    assert lines["tpe"].line.dash != lines["random"].line.dash
    assert lines["tpe"].line.color != lines["random"].line.color
    upper, lower = [t for t in figure.data if t.name == "tpe" and not t.line.width and t.xaxis == "x"]
    assert upper.y[0] - lower.y[0] == pytest.approx(2 * np.std([2, 4], ddof=1))
    assert "2 repetitions" in figure.layout.title.subtitle.text


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        plots.any_time({"tpe": []})
    with pytest.raises(ValueError, match=r"auc \(max\), loss \(min\)"):
        plots.any_time({"a": ODD["maximized"], "b": ODD["ten"]})
    assert "no trial has ended" in plots.any_time({"a": ODD["none"]}).layout.annotations[0].text


# -- learning curves --------------------------------------------------------------------------


def test_learning_curves_mark_what_was_terminated() -> None:
    known = table(120)
    figure = plots.learning_curves(known)
    stopped = [r for r in known.rows if r.state is TrialState.EARLY_TERMINATED]
    ends = next(t for t in figure.data if t.name == "terminated early" and t.mode == "markers")
    assert list(ends.x) == [len(r.reports) for r in stopped]
    assert ends.marker.symbol == LOOKS[TrialState.EARLY_TERMINATED].symbol
    assert f"{len(stopped)} of 120 trials were terminated early" in figure.layout.title.subtitle.text
    line = trace(figure, "best trial")
    assert known.best is not None
    assert list(line.y)[:-1] == list(known.best.reports)


def test_trials_whose_reports_were_not_read_count_as_terminated_too() -> None:
    stopped = TrialState.EARLY_TERMINATED
    read = [Row(n, stopped, 1.0, {}, reports=[2.0, 1.0]) for n in range(3)]
    known = Table([*read, *(Row(n, stopped, 1.0) for n in range(3, 10))], reports_left_out=7)
    subtitle = plots.learning_curves(known).layout.title.subtitle.text
    assert "10 of 10 trials were terminated early" in subtitle
    assert "3 of 10 curves drawn" in subtitle


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    reports = list(np.linspace(1, 0, 50_000))
    rows = [Row(n, COMPLETED, 0.0, {}, reports=reports) for n in range(3)]
    figure = plots.learning_curves(Table(rows))
    assert sum(len(t.x) for t in figure.data) < 3 * learning.MAX_VALUES
    assert "one in" in figure.layout.title.subtitle.text


def test_without_reports_it_says_how_to_report() -> None:
    assert "sparktune.report(value)" in plots.learning_curves(ODD["all equal"]).layout.annotations[0].text


# -- parallel coordinates ---------------------------------------------------------------------


def test_the_best_trial_is_there_and_on_top() -> None:
    known = table(80)
    figure = plots.parallel_coordinates(known)
    assert known.best is not None
    last = figure.data[-1]
    assert last.name == f"best (trial {known.best.number})"
    assert last.line.width > max(t.line.width for t in figure.data[:-1])
    assert len(last.x) == len(known.axes) + 2  # the value's axis, and the gap behind
    assert last.y[-2] == pytest.approx(0.0)  # the best value is the lowest


def test_inactive_parameters_have_a_place_of_their_own() -> None:
    known = table(80)
    figure = plots.parallel_coordinates(known, ["model", "C", "depth"])
    best = known.best
    assert best is not None
    heights = figure.data[-1].y
    assert (heights[2] == parallel.INACTIVE) == ("depth" not in best.params)
    texts = [note.text for note in figure.layout.annotations]
    assert {
        "<b>model</b>",
        "<b>C</b>",
        "<b>depth</b>",
        "<b>loss</b>",
        "svm",
        "forest",
        "boosting",
        "not active",
    } <= set(texts)


def test_lines_are_in_groups_by_rank() -> None:
    known = table(200)
    figure = plots.parallel_coordinates(known)
    groups = {t.name: (np.array(t.x, float) == 0).sum() for t in figure.data if t.showlegend is None}
    n = len(known.with_loss)
    assert groups["best 10 %"] == round(0.1 * n) - 1
    assert sum(groups[name] for _, name, *_ in parallel.GROUPS) == n - 1
    assert trace(figure, "no loss").visible == "legendonly"


def test_trials_without_a_loss_that_are_not_drawn_are_told() -> None:
    rows = [row(n, 1.0 if n < 100 else None, COMPLETED if n < 100 else FAILED, x=n) for n in range(2000)]
    figure = plots.parallel_coordinates(Table(rows))
    assert sum(x is None for x in trace(figure, "no loss").x) == parallel.MAX_LINES // 4 == 150
    assert "150 of 1,900 without a loss drawn" in figure.layout.title.subtitle.text
    few = plots.parallel_coordinates(Table(rows[:250]))
    assert "without a loss" not in few.layout.title.subtitle.text


def test_of_many_parameters_the_most_important_are_drawn() -> None:
    figure = plots.parallel_coordinates(ODD["40 parameters"])
    assert f"{parallel.MAX_AXES} of 40 parameters" in figure.layout.title.subtitle.text


# -- points and slices ------------------------------------------------------------------------


def test_points_are_coloured_by_value() -> None:
    known = table(60)
    figure = plots.scatter(known, "gamma", "C")
    points = trace(figure, "succeeded")
    assert list(points.marker.color) == [
        r.loss for r in known.rows if r.state is COMPLETED and "C" in r.params and r is not known.best
    ]
    assert (figure.layout.xaxis.type, figure.layout.xaxis.title.text) == ("log", "gamma")
    assert figure.layout.coloraxis.colorbar.title.text == "loss"
    assert "do not have them all" in figure.layout.title.subtitle.text
    assert trace(figure, "best trial").marker.symbol == "star"


def test_three_parameters() -> None:
    figure = plots.scatter_3d(table(60), z="momentum")
    assert {t.type for t in figure.data} == {"scatter3d"}
    assert figure.layout.scene.zaxis.title.text == "momentum"


def test_parameters_that_are_chosen_vary_together() -> None:
    figure = plots.scatter(table(200))
    names = figure.layout.xaxis.title.text, figure.layout.yaxis.title.text
    assert "model" not in names  # C and gamma are active with one model alone


def test_a_slice_for_each_parameter() -> None:
    known = table(60)
    figure = plots.slices(known)
    titles = [figure.layout[f"xaxis{n or ''}"].title.text for n in ("", 2, 3, 4, 5, 6)]
    assert {title.removeprefix("<b>").removesuffix("</b>") for title in titles} == set(known.axes)
    assert sorted(figure.layout.xaxis.ticktext or figure.layout.xaxis2.ticktext)
    n_drawn = sum(len(t.x) for t in figure.data)
    assert n_drawn == sum(len(r.params) for r in known.with_loss)


@pytest.mark.parametrize("draw", [plots.parallel_coordinates, plots.slices], ids=lambda draw: draw.__name__)
def test_unknown_parameters_are_refused(draw: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no parameter 'Z'; the trials have 'model', 'C'"):
        draw(table(20), ["C", "Z"])
    with pytest.raises(ValueError, match="params is empty"):
        draw(table(20), [])
    with pytest.raises(ValueError, match="no parameter 'Z'"):
        plots.scatter(table(20), "Z")


# -- importance -------------------------------------------------------------------------------


def test_importance_has_a_bar_for_each_parameter() -> None:
    known = table(200)
    (bars,) = plots.param_importance(known).data
    shares = plots.param_importances(known)
    assert list(bars.x) == list(reversed(shares.values()))
    assert "PED-ANOVA" in plots.param_importance(known).layout.title.subtitle.text


# -- timeline ---------------------------------------------------------------------------------


def test_slots_are_given_to_trials_that_overlap() -> None:
    spans = [(0, 10), (0, 4), (4, 8), (5, 6), (20, 20)]
    rows = [Row(n, COMPLETED, 1.0, {}, float(a), float(b)) for n, (a, b) in enumerate(spans)]
    plan = timeline.schedule(Table(rows))
    assert [bar.slot for bar in plan.bars] == [0, 1, 1, 2, 0]
    assert (plan.n_slots, plan.length_s) == (3, 20.0)
    assert plan.utilisation == pytest.approx((10 + 4 + 4 + 1) / 60)


@pytest.mark.parametrize("seed", range(5))
def test_no_two_trials_share_a_slot_at_a_time(seed: int) -> None:
    plan = timeline.schedule(table(300, seed, slots=7))
    assert plan.n_slots == 7
    by_slot: dict[int, list[timeline.Bar]] = {}
    for bar in plan.bars:
        by_slot.setdefault(bar.slot, []).append(bar)
    for bars in by_slot.values():
        assert all(a.end_s <= b.begin_s for a, b in itertools.pairwise(bars))


def test_the_title_tells_the_utilisation_and_failures_are_told_apart() -> None:
    known = table(60)
    figure = plots.timeline(known)
    plan = timeline.schedule(known)
    assert f"4 slots, {plan.utilisation:.0%} utilised" in figure.layout.title.text
    failed = trace(figure, "failed")
    assert len(failed.x) == known.counts[FAILED]
    assert failed.marker.pattern.shape == "x"
    assert failed.marker.color == LOOKS[FAILED].colour


def test_a_running_trial_reaches_to_now() -> None:
    rows = [Row(0, COMPLETED, 1.0, {}, 0.0, 8.0), Row(1, TrialState.RUNNING, None, {}, 2.0)]
    figure = plots.timeline(Table(rows))
    assert list(trace(figure, "running").x) == [6.0]


def test_of_very_many_trials_neighbours_are_one_bar() -> None:
    n = 4000
    rows = [Row(k, COMPLETED, 1.0, {}, float(k), k + 1.0) for k in range(n)]
    figure = plots.timeline(Table(rows))
    (bars,) = [t for t in figure.data if t.type == "bar"]
    assert len(bars.x) == 1
    assert f"<b>{n:,} trials</b>" in bars.hovertext[0]
    assert "one bar" in figure.layout.title.subtitle.text
