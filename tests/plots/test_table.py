"""The table that pictures are drawn from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sparktune.plots.table import Row, Table, thinned
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.trial import Trial, TrialError, TrialState
from tests.plots_studies import table

pytestmark = pytest.mark.unit


def trial(number: int, loss: float | None, state: TrialState = TrialState.COMPLETED, **more: object) -> Trial:
    return Trial(number, {}, {"x": number}, state, loss=loss, **more)  # type: ignore[arg-type]


def test_rows_of_a_study() -> None:
    error = TrialError("<class 'ValueError'>", "bad\nx", "Traceback ...")
    failed = trial(1, None, TrialState.FAILED, error=error, submitted_s=5.0, attempts=2)
    study = StudySnapshot([failed, trial(0, 2.0, started_s=4.0, ended_s=6.0)], {0: [3.0, 2.0]}, algo="tpe")
    first, second = Table.of(study).rows
    assert (first.number, first.loss, first.reports, first.started_s) == (0, 2.0, [3.0, 2.0], 4.0)
    assert (second.error, second.started_s, second.attempts, second.has_loss) == (
        "ValueError: bad x",
        5.0,
        2,
        False,
    )


def test_the_best_completed_before_others() -> None:
    rows = [
        Row(0, TrialState.EARLY_TERMINATED, 0.1),
        Row(1, TrialState.COMPLETED, math.inf),
        Row(2, TrialState.COMPLETED, 0.5),
        Row(3, TrialState.COMPLETED, 0.5),
    ]
    known = Table(rows)
    assert known.best is rows[2]
    assert [row.number for row in known.ranked] == [2, 3, 0]
    assert known.counts == {TrialState.COMPLETED: 3, TrialState.EARLY_TERMINATED: 1}
    assert Table(rows[:1]).best is rows[0]
    assert Table(rows[1:2]).best is None


@pytest.mark.parametrize(
    ("result", "is_metric"), [({"auc": 0.9}, True), ({"auc": 0.9, "loss": 3.0}, False), ({}, True)]
)
def test_a_metric_to_be_maximized_is_shown_as_it_is(result: dict[str, float], is_metric: bool) -> None:
    loss = result.get("loss", -0.9)
    study = StudySnapshot([trial(0, loss, result=result)], metric="auc", goal="maximize")
    known = Table.of(study)
    assert (known.value_name, known.value(known.rows[0])) == (("auc", 0.9) if is_metric else ("loss", 3.0))


def test_a_data_frame() -> None:
    frame = pd.DataFrame(
        {
            "trial": [1, 0, 2],
            "state": ["completed", "failed", "running"],
            "loss": [0.5, np.nan, np.nan],
            "duration_s": [1.5, None, None],
            "error": [None, "ValueError: no", None],
            "reports": [[1.0, 0.5], None, ()],
            "steps": [2, 0, 0],
            "C": [0.1, np.nan, 1.0],
            "kind": ["a", None, "b"],
        }
    )
    rows = Table.of_frame(frame).rows
    assert [row.number for row in rows] == [0, 1, 2]
    assert rows[0] == Row(0, TrialState.FAILED, error="ValueError: no", attempts=1)
    assert rows[1].params == {"C": 0.1, "kind": "a"}
    assert (rows[1].reports, rows[1].duration_s, rows[2].loss) == ([1.0, 0.5], 1.5, None)


def test_a_parameter_may_be_called_like_a_column() -> None:
    frame = pd.DataFrame(
        [[0, "completed", 1.0, 7.0, 9.0]], columns=["trial", "state", "loss", "loss", "trial"]
    )
    assert Table.of_frame(frame).rows[0].params == {"loss": 7.0, "trial": 9.0}


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"x": [1]}), "no column 'trial'"),
        (pd.DataFrame({"trial": [0], "loss": [1.0], "state": ["done"]}), "state is 'done'.*completed"),
    ],
)
def test_bad_frames_are_refused(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Table.of_frame(frame)


def test_an_empty_frame_has_no_trials() -> None:
    assert Table.of_frame(pd.DataFrame(columns=["trial", "state", "loss"])).rows == []


def test_thinning_keeps_the_best_and_an_even_sample() -> None:
    rows = list(table(5000).rows)
    best = sorted((r for r in rows if r.loss is not None), key=lambda r: r.loss or 0)[:50]
    kept = thinned(rows, 300, best)
    numbers = [row.number for row in kept]
    assert len(kept) == 300
    assert {row.number for row in best} <= set(numbers)
    assert numbers == sorted(numbers)
    assert max(np.diff(numbers)) <= 2 * 5000 / 250
    assert thinned(rows[:5], 10) == rows[:5]


def test_a_trial_cancelled_in_the_queue_leaves_the_order_of_ends_to_the_others() -> None:
    rows = [
        Row(0, TrialState.COMPLETED, 2.0, {}, 0.0, 9.0),
        Row(1, TrialState.COMPLETED, 1.0, {}, 0.0, 3.0),
        Row(2, TrialState.CANCELLED),
    ]
    assert [row.number for row in Table(rows).by_end] == [1, 0]
    without_times = Row(3, TrialState.COMPLETED, 0.5)  # it ran, nobody knows when
    assert [row.number for row in Table([*rows, without_times]).by_end] == [0, 1, 2, 3]
    assert [row.number for row in Table(rows[2:]).by_end] == [2]


def test_axes_are_in_the_order_of_the_space_and_know_what_is_conditional() -> None:
    axes = table(60).axes
    assert list(axes) == ["model", "C", "gamma", "depth", "learning_rate", "momentum"]
    assert [label for label, axis in axes.items() if axis.is_conditional] == [
        "C",
        "gamma",
        "depth",
        "learning_rate",
    ]
    assert axes["C"].kind == "log"
