"""Looking at a space before tuning: a table and histograms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sparktune
from sparktune import hp
from sparktune.plots.space import bars, plot_space

pytestmark = pytest.mark.unit

SPACE = {
    "lr": hp.loguniform("lr", -7, 0),
    "momentum": hp.reverseloguniform("momentum", 0.5, 0.999),
    "dropout": stats.uniform(0, 0.5),
    "model": hp.choice(
        "model", [{"name": "svm", "C": hp.lognormal("C", 1, 1)}, {"depth": hp.uniformint("depth", 1, 5)}]
    ),
    "flag": hp.choice("flag", [True, False]),
}


def test_a_table_of_values() -> None:
    frame = sparktune.sample(SPACE, 200, 0)
    assert set(frame.columns) == {"lr", "momentum", "dropout", "model", "C", "depth", "flag"}
    assert len(frame) == 200
    is_svm = frame["model"] == "svm"
    assert (frame["C"].notna() == is_svm).all()
    assert (frame["depth"].notna() == ~is_svm).all()
    assert set(frame["model"]) == {"svm", "option 1"}
    assert set(frame["flag"]) == {True, False}
    assert frame["momentum"].between(0.5, 0.999).all()


def test_a_seed_or_a_generator() -> None:
    pd.testing.assert_frame_equal(
        sparktune.sample(SPACE, 5, 1), sparktune.sample(SPACE, 5, np.random.default_rng(1))
    )
    assert not sparktune.sample(SPACE, 5).equals(sparktune.sample(SPACE, 5))


def test_columns_are_those_of_to_dataframe() -> None:
    trials = sparktune.SimulatedTrials()
    sparktune.fmin(
        lambda p: p["lr"], SPACE, sparktune.rand.suggest, 20, trials=trials, show_progressbar=False
    )
    ours, theirs = sparktune.sample(SPACE, 50, 0), trials.to_dataframe()
    assert set(ours.columns) <= set(theirs.columns)
    assert set(theirs["model"]) == set(ours["model"])


def test_a_space_without_parameters() -> None:
    assert sparktune.sample({"a": 1}, 3).shape == (3, 0)


def test_a_histogram_for_each_parameter() -> None:
    figure = plot_space(SPACE, 300, 0)
    assert [bar.name for bar in figure.data] == list(sparktune.sample(SPACE, 1).columns)
    heights = {bar.name: sum(bar.y) for bar in figure.data}
    assert heights["lr"] == heights["flag"] == 300
    assert heights["C"] + heights["depth"] == 300
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert any(title.startswith("C (active: ") for title in titles)
    names = [bar.name for bar in figure.data]
    axes = {name: figure.layout["xaxis" + (str(i + 1) if i else "")].type for i, name in enumerate(names)}
    assert {name for name, kind in axes.items() if kind == "log"} == {"lr", "C"}


def test_none_is_an_option_like_any_other() -> None:
    figure = plot_space({"depth": hp.choice("depth", [None, 3, 5])}, 300, 0)
    (bar,) = figure.data
    assert list(bar.x) == ["3", "5", "None"]
    assert sum(bar.y) == 300
    assert [annotation.text for annotation in figure.layout.annotations] == ["depth"]


@pytest.mark.parametrize("is_log", [True, False])
def test_bars_of_many_numbers(is_log: bool) -> None:
    values = np.exp(np.random.default_rng(0).uniform(0, 5, 500)).tolist()
    x, counts, widths = bars(values, is_log=is_log)
    assert len(x) == len(counts) == len(widths or []) == 30
    assert sum(counts) == 500
    if is_log:
        assert max(counts) < 40  # flat


def test_bars_of_options() -> None:
    assert bars(["b", None, "b"]) == (["None", "b"], [1, 2], None)
    assert bars([2, 1, 2]) == (["1", "2"], [1, 2], None)


def test_a_space_without_parameters_has_an_empty_picture() -> None:
    assert len(plot_space({"a": 1}, 3).data) == 0
