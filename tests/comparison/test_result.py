"""Statistics of any-time curves; no Spark."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from sparktune.comparison import result as comparison
from sparktune.comparison.result import Comparison, at_times, best_so_far, curve
from sparktune.errors import PlotlyNotAvailable

pytestmark = pytest.mark.unit

LOSSES = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf)), max_size=20)


def curves(**by_algo: list[list[float]]) -> pd.DataFrame:
    """Losses of each repetition of each algorithm, one second a trial."""
    return pd.concat(
        [
            curve(algo, repeat, np.arange(1, len(losses) + 1), losses)
            for algo, repetitions in by_algo.items()
            for repeat, losses in enumerate(repetitions)
        ],
        ignore_index=True,
    )


@given(LOSSES)
def test_the_best_so_far_is_the_lowest_finite_loss(losses: list[float]) -> None:
    best = best_so_far(losses)
    for n in range(len(losses)):
        finite = [loss for loss in losses[: n + 1] if math.isfinite(loss)]
        assert best[n] == min(finite) if finite else math.isnan(best[n])


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e3, 1e3)), max_size=20), st.floats(-1, 101))
def test_a_curve_holds_its_latest_value(points: list[tuple[float, float]], at_s: float) -> None:
    points.sort()
    times_s, values = [time_s for time_s, _ in points], [value for _, value in points]
    before = [value for time_s, value in points if time_s <= at_s]
    (found,) = at_times(times_s, values, [at_s])
    assert found == before[-1] if before else math.isnan(found)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), min_size=1, max_size=5))
def test_means_lie_within_the_repetitions_and_never_rise(repetitions: list[list[float]]) -> None:
    table = curves(a=repetitions)
    for statistics in (comparison.by_trials(table), comparison.by_time(table, 7)):
        known = statistics[statistics["n"] == len(repetitions)]
        assert (known["mean"] >= table["best_loss"].min() - 1e-6).all()
        assert (known["mean"] <= table["best_loss"].max() + 1e-6).all()
        assert (np.diff(known["mean"]) <= 1e-6).all()
    last = comparison.by_trials(table).iloc[-1]
    finals = [min(losses) for losses in repetitions]  # a shorter repetition stays where it is
    assert last["mean"] == pytest.approx(np.mean(finals))
    if len(finals) > 1:
        assert last["std"] == pytest.approx(np.std(finals, ddof=1), abs=1e-9)
    else:
        assert math.isnan(last["std"])


def test_what_has_no_loss_yet_is_left_out_and_counted() -> None:
    table = comparison.by_trials(curves(a=[[math.nan, 4.0], [2.0, 3.0]]))
    assert table["n"].tolist() == [1, 2]
    assert math.isnan(table["mean"][0])
    assert table["mean"][1] == 3.0


@given(
    st.lists(st.lists(st.floats(0, 9) | st.just(math.nan), min_size=1, max_size=6), min_size=1, max_size=4)
)
def test_a_mean_of_bests_never_rises(losses: list[list[float]]) -> None:
    for table in (comparison.by_trials(curves(a=losses)), comparison.by_time(curves(a=losses), 9)):
        means = table["mean"].dropna().tolist()
        assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(means))


def test_by_time() -> None:
    table = comparison.by_time(curves(a=[[3.0, 1.0], [2.0]]), 5)
    assert table["time_s"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert table["n"].tolist() == [0, 0, 2, 2, 2]
    assert table["mean"].tolist()[2:] == [2.5, 2.5, 1.5]


def test_the_ranking() -> None:
    table = curves(
        rand=[[9.0, 5.0, 5.0, 5.0], [9.0, 9.0, 9.0, 7.0], [6.0, 6.0, 6.0, 6.0]],
        good=[[4.0, 1.0, 1.0, 1.0], [9.0, 6.0, 2.0, 2.0], [6.5, 3.0, 3.0, math.nan]],
        poor=[[9.0, 9.0, 9.0, 5.0], [math.nan] * 4],
    )
    ranking = comparison.ranking(table, "rand")
    assert ranking["algo"].tolist() == ["good", "rand", "poor"]
    good, rand, poor = ranking.to_dict("records")
    assert (good["mean"], good["median"], good["std"], good["mean_rank"]) == (2.0, 2.0, 1.0, 1.0)
    assert (good["best"], good["worst"], good["repeats"], good["failed_trials"]) == (1.0, 3.0, 3, 1)
    # The reference is 6, the median of random's 5, 7 and 6.
    assert (good["trials_to_reference"], good["reached"]) == (2.0, 1.0)
    assert (rand["trials_to_reference"], rand["reached"]) == (2.0, pytest.approx(2 / 3))
    assert (poor["repeats"], poor["failed_trials"], poor["reached"]) == (2, 4, 0.5)
    assert poor["trials_to_reference"] == 4.0  # as soon as half of them are there
    # Repetition 2 is not among the ranks: `poor` lacks it. In repetition 0 two tie.
    assert rand["mean_rank"] == (2.5 + 2) / 2
    assert poor["mean_rank"] == (2.5 + 3) / 2


def test_most_runs_that_never_reach_the_reference_are_infinite() -> None:
    table = curves(rand=[[1.0]] * 3, poor=[[1.0], [2.0], [2.0]])
    poor = comparison.ranking(table, "rand").set_index("algo").loc["poor"]
    assert (poor["trials_to_reference"], poor["reached"]) == (math.inf, pytest.approx(1 / 3))


def test_without_a_reference_there_is_none() -> None:
    table = curves(a=[[1.0]])
    assert "trials_to_reference" not in comparison.ranking(table)
    assert "trials_to_reference" not in comparison.ranking(table, "rand")
    assert comparison.reference_loss(curves(rand=[[math.nan]]), "rand") is None


def test_how_it_is_shown() -> None:
    result = Comparison(
        curves(tpe=[[2.0, 1.0]], rand=[[3.0, 2.0]]),
        "rand",
        {("tpe", 1): "WorkerLost: gone"},
        settings={"max_evals": 2},
    )
    for text in (repr(result), result._repr_html_()):
        assert "Best loss so far (max_evals 2); lost: tpe 1" in text
        assert "trials_to_reference" in text


def test_names_are_no_html() -> None:
    result = Comparison(curves(**{"<b>": [[1.0]]}), lost={("<i>", 0): "lost"})
    assert "<b>" not in result._repr_html_()
    assert "<i>" not in result._repr_html_()


def test_the_picture_has_two_panels_with_a_line_and_a_band_for_each() -> None:
    result = Comparison(curves(tpe=[[2.0, 1.0], [4.0, 1.0]], rand=[[3.0, 2.0], [math.nan, 2.0]]))
    figure = result.figure()
    lines = [trace for trace in figure.data if trace.line.width]
    assert [(trace.name, trace.xaxis) for trace in lines] == [
        ("tpe", "x"),
        ("rand", "x"),
        ("tpe", "x2"),
        ("rand", "x2"),
    ]
    assert list(lines[0].y) == [3.0, 1.0]
    bands = [trace for trace in figure.data if trace.fill == "tonexty"]
    assert list(bands[0].y) == [pytest.approx(3.0 - math.sqrt(2)), 1.0]
    assert figure.layout.xaxis.title.text == "trials ended"
    assert figure.layout.xaxis2.title.text == "time (s)"


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(PlotlyNotAvailable, match=r"pip install 'sparktune\[plots\]'"):
        Comparison(curves(a=[[1.0]])).figure()


def test_a_constant_curve_can_be_drawn() -> None:
    figure: Any = Comparison(curves(a=[[1.0], [1.0]])).figure()
    assert figure.layout.yaxis.range is None
