"""The table of what people have of a study."""

from __future__ import annotations

from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp

from sparktune import plots
from sparktune.plots.sources import table_of
from sparktune.study.trial import TrialState

pytestmark = pytest.mark.unit


def objective(x: float) -> Any:
    if x < -0.5:
        raise ValueError("negative")
    return {"status": "fail"} if x > 0.5 else x


def searched(exp_key: str | None = None) -> hyperopt.Trials:
    trials = hyperopt.Trials(exp_key)
    hyperopt.fmin(
        objective,
        hp.uniform("x", -1, 1),
        hyperopt.rand.suggest,
        20,
        trials=trials,
        rstate=np.random.default_rng(0),
        catch_eval_exceptions=True,
        show_progressbar=False,
    )
    return trials


def test_hyperopts_failed_trials_are_drawn() -> None:
    rows = table_of(searched()).rows
    assert [row.number for row in rows] == list(range(len(rows)))
    raised = [row for row in rows if row.params["x"] < -0.5]
    refused = [row for row in rows if row.params["x"] > 0.5]
    assert raised
    assert refused
    assert {(row.state, row.loss, row.error) for row in raised} == {
        (TrialState.FAILED, None, "ValueError: negative")
    }
    assert {row.error for row in refused} == {"ReportedFailure: status 'fail'"}
    for row in rows:
        assert row.duration_s == row.ended_s - row.started_s >= 0  # type: ignore[operator]
        if row not in raised and row not in refused:
            assert (row.state, row.loss) == (TrialState.COMPLETED, row.params["x"])


def test_hyperopts_trials_that_wait_and_run() -> None:
    trials = searched()
    new = trials.new_trial_docs([90, 91], [None] * 2, [{"status": "new"}] * 2, [_misc(90), _misc(91)])
    new[1] |= {"state": hyperopt.JOB_STATE_RUNNING}
    trials.insert_trial_docs(new)
    queued, running = table_of(trials).rows[-2:]
    assert (queued.state, queued.ended_s) == (TrialState.QUEUED, None)
    assert (running.state, running.error) == (TrialState.RUNNING, None)


def test_trials_of_another_experiment_are_left_out() -> None:
    trials = searched("mine")
    n = len(table_of(trials).rows)
    other = trials.view("other")
    assert table_of(trials).rows
    misc = _misc(90)
    other.insert_trial_docs(other.new_trial_docs([90], [None], [{"status": "new"}], [misc]))
    assert len(table_of(trials).rows) == n
    other.refresh()
    assert [row.number for row in table_of(other).rows] == [90]


def test_hyperopts_trials_have_a_report() -> None:
    trials = searched()
    n_failed = sum(row.state is TrialState.FAILED for row in table_of(trials).rows)
    assert f"<b>{n_failed}</b><span>failed</span>" in plots.report(trials)
    assert table_of(hyperopt.Trials()).rows == []


def _misc(tid: int) -> dict[str, Any]:
    return {"tid": tid, "cmd": None, "workdir": None, "idxs": {"x": [tid]}, "vals": {"x": [0.5]}}
