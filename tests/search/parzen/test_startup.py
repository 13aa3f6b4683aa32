"""The first configurations fill every stratum."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import hp
from hypothesis import given, settings, strategies as st

from sparktune.search.parzen.startup import spread_out
from sparktune.space.search_space import SearchSpace

pytestmark = pytest.mark.unit

BRANCHES = SearchSpace(
    hp.choice(
        "model",
        [
            {"a": hp.uniform("a", 0, 1)},
            {"b": hp.loguniform("b", -4, 0), "c": hp.choice("c", ["x", "y"])},
            {"d": hp.normal("d", 0, 1)},
        ],
    )
)


@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_no_two_points_share_a_stratum_more_than_they_must(n: int, seed: int) -> None:
    space = SearchSpace({"x": hp.uniform("x", 0, 1), "y": hp.normal("y", 0, 1)})
    unit = space.to_unit(spread_out(space, np.empty((0, 2)), n, np.random.default_rng(seed)))
    for column in unit.T:
        # The last point found an empty one of n strata; halves are filled evenly but for a few.
        assert len(set((column * n).astype(int))) > n / 2
        assert abs((column < 0.5).sum() - n / 2) <= 1 + n / 8


def test_every_branch_gets_its_share() -> None:
    rows = spread_out(BRANCHES, np.empty((0, len(BRANCHES))), 12, np.random.default_rng(0))
    models = rows[:, BRANCHES.column["model"]]
    assert np.bincount(models.astype(int)).tolist() == [4, 4, 4]
    inner = rows[models == 1, BRANCHES.column["c"]]
    assert np.bincount(inner.astype(int)).tolist() == [2, 2]
    assert np.isnan(rows[models != 1, BRANCHES.column["c"]]).all()


def test_options_get_what_their_probabilities_say() -> None:
    space = SearchSpace(hp.pchoice("p", [(0.7, 0), (0.2, 1), (0.1, 2)]))
    rows = spread_out(space, np.empty((0, 1)), 20, np.random.default_rng(0))
    assert np.bincount(rows[:, 0].astype(int)).tolist() == [14, 4, 2]


@pytest.mark.parametrize("known", [0.1, 0.9])
def test_what_is_there_already_counts(known: float) -> None:
    space = SearchSpace(hp.uniform("x", 0, 1))
    added = spread_out(space, np.array([[known]]), 1, np.random.default_rng(0))[0, 0]
    assert (added < 0.5) != (known < 0.5)
