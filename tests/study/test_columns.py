"""Tables in which a parameter is called like another column."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sparktune import SimulatedTrials, fmin, hp
from sparktune.plots.table import Table
from sparktune.study.columns import label_of, parameter_columns

pytestmark = pytest.mark.unit

OTHERS = ("trial", "state", "loss")
LABELS = st.lists(st.sampled_from([*OTHERS, *(f"param_{n}" for n in OTHERS), "x", "param_x"]), unique=True)


@given(LABELS)
def test_every_column_has_a_name_of_its_own_and_leads_back_to_its_label(labels: list[str]) -> None:
    columns = parameter_columns(labels, OTHERS)
    assert list(columns) == labels
    names = [*OTHERS, *columns.values()]
    assert len(set(names)) == len(names)
    assert all(columns[label] == label for label in labels if label not in OTHERS)
    for label in OTHERS:
        if label in labels and f"param_{label}" not in labels:
            assert columns[label] == f"param_{label}"
            assert label_of(columns[label], OTHERS) == label


def test_hyperparameters_called_like_our_columns() -> None:
    """scikit-learn has ``loss`` in four estimators."""
    space = {
        name: hp.choice(name, [f"{name} 1", f"{name} 2"]) for name in ("loss", "state", "steps", "trial", "x")
    }
    trials = SimulatedTrials()
    fmin(
        lambda p: len(p["loss"]) + p["x"].count("2"),
        space,
        max_evals=8,
        trials=trials,
        show_progressbar=False,
    )
    frame = trials.to_dataframe()
    assert frame.columns.is_unique
    assert frame.loss.min() == trials.best_trial["result"]["loss"]
    assert set(frame["param_loss"]) <= {"loss 1", "loss 2"}
    assert len(frame.nlargest(3, "loss")) == 3
    read, own = Table.of_frame(frame), Table.of(trials.snapshot())
    assert [row.params for row in read.rows] == [dict(row.params) for row in own.rows]
    assert [row.loss for row in read.rows] == [row.loss for row in own.rows]
