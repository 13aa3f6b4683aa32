"""The trials as arrays: what they learn from, each document read once."""

from __future__ import annotations

import copy
import math
import time

import hyperopt
import numpy as np
import pytest
from hyperopt.base import JOB_STATE_DONE, STATUS_OK

from sparktune.search import history
from sparktune.search.history import history_of
from sparktune.space.search_space import SearchSpace, space_of
from tests.search.conformance import OUTCOMES, PENDING, domain_of, end, trials_with
from tests.search.spaces import CONDITIONAL, config_of

pytestmark = pytest.mark.unit

DOMAIN = domain_of(CONDITIONAL)
SPACE = space_of(DOMAIN)
N = len(OUTCOMES)


def test_what_each_outcome_says() -> None:
    trials = trials_with(DOMAIN, list(OUTCOMES))
    seen = history_of(trials, SPACE)
    over = [outcome for outcome in OUTCOMES if outcome not in (*PENDING, "cancelled", "timed out")]
    assert dict(zip(over, zip(seen.losses.tolist(), seen.is_weak.tolist(), strict=True), strict=True)) == {
        "good": (0.1, False),
        "fair": (2.5, False),
        "whole number": (3.0, False),
        "failed by its own word": (math.inf, True),
        "failed with a loss": (math.inf, True),
        "NaN": (math.inf, True),
        "infinite": (math.inf, False),
        "raised": (math.inf, True),
        "early terminated": (-5.0, True),
    }
    assert seen.n_finished == len(over)
    assert len(seen.pending) == 2
    assert over[seen.ranks_best_first()[0]] == "good"
    ranked = [over[i] for i in seen.ranks_best_first()]
    assert ranked[:5] == ["good", "fair", "whole number", "infinite", "early terminated"]


def test_rows_are_the_documents_points() -> None:
    trials = trials_with(DOMAIN, ["good", "running", "raised"])
    seen = history_of(trials, SPACE)
    rows = [seen.values[0], seen.pending[0], seen.values[1]]
    assert [SPACE.config(row) for row in rows] == [config_of(d) for d in trials._dynamic_trials]


def test_each_document_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = trials_with(DOMAIN, ["good"] * 50 + ["running"])
    history_of(trials, SPACE)
    read: list[int] = []
    monkeypatch.setattr(history, "config_of", lambda d: (read.append(d["tid"]), config_of(d))[1])
    history_of(trials, SPACE)
    assert read == [50]
    end(trials._dynamic_trials[50], "fair")
    assert history_of(trials, SPACE).n_finished == 51
    assert history_of(trials, SPACE).n_finished == 51
    assert read == [50, 50]


def test_replaced_and_removed_documents_are_noticed() -> None:
    trials = trials_with(DOMAIN, ["good", "fair", "raised"])
    assert history_of(trials, SPACE).losses.tolist() == [0.1, 2.5, math.inf]
    trials._dynamic_trials[0]["result"] = {"status": STATUS_OK, "loss": 7.0}
    assert history_of(trials, SPACE).losses.tolist() == [7.0, 2.5, math.inf]
    trials._dynamic_trials[1] = copy.deepcopy(trials._dynamic_trials[0])
    assert history_of(trials, SPACE).losses.tolist() == [7.0, 7.0, math.inf]
    del trials._dynamic_trials[0]
    assert history_of(trials, SPACE).losses.tolist() == [7.0, math.inf]
    trials.delete_all()
    assert history_of(trials, SPACE).n_finished == 0


def test_another_space_is_another_table() -> None:
    trials = trials_with(DOMAIN, ["good"] * 3)
    other = SearchSpace({"lr": CONDITIONAL["lr"]})
    assert history_of(trials, SPACE).values.shape == (3, len(SPACE))
    assert history_of(trials, other).values.shape == (3, 1)


def test_what_was_handed_out_does_not_change() -> None:
    trials = trials_with(DOMAIN, ["good"] * 16)
    before = history_of(trials, SPACE)
    kept = before.values.copy()
    trials.insert_trial_docs(hyperopt.rand.suggest(trials.new_trial_ids(40), DOMAIN, trials, 9))
    for document in trials._dynamic_trials[16:]:
        end(document, "fair")
    assert history_of(trials, SPACE).n_finished == 56
    assert np.array_equal(before.values, kept, equal_nan=True)


def test_five_thousand_trials_are_fast() -> None:
    trials = hyperopt.Trials()
    documents = trials_with(DOMAIN, ["good"] * 100)._dynamic_trials
    for i in range(5000):
        copied = {**documents[i % 100], "tid": i, "state": JOB_STATE_DONE}
        trials._dynamic_trials.append(copied)
        if i % 10 == 0:
            history_of(trials, SPACE)
    began = time.process_time()
    for _ in range(20):
        history_of(trials, SPACE)
    assert (time.process_time() - began) / 20 < 0.02
