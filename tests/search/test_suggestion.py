"""Documents of proposed configurations."""

from __future__ import annotations

import hyperopt
import numpy as np
import pytest

from sparktune.search.suggestion import new_documents, suggestions
from sparktune.space.search_space import space_of
from tests.search.conformance import domain_of
from tests.search.spaces import CONDITIONAL

pytestmark = pytest.mark.unit

DOMAIN = domain_of(CONDITIONAL)


def test_an_algorithm_may_have_fewer_points_than_ids() -> None:
    def two(space, history, n, rng):
        return space.sample(min(n, 2), rng)

    trials = hyperopt.Trials()
    documents = suggestions(two, [4, 5, 6], DOMAIN, trials, 0)
    assert [document["tid"] for document in documents] == [4, 5]


def test_marks_stand_beside_hyperopts_entries() -> None:
    space, trials = space_of(DOMAIN), hyperopt.Trials()
    rows = space.sample(2, np.random.default_rng(0))
    documents = new_documents(rows, [0, 1], space, DOMAIN, trials, [{"mine": 1}, {"mine": 2}])
    trials.insert_trial_docs(documents)
    assert [d["misc"]["mine"] for d in trials._dynamic_trials] == [1, 2]
