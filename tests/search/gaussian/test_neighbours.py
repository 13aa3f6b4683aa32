"""Moves in conditional spaces."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import hp

from sparktune.search.gaussian.branches import is_in, moved_into
from sparktune.search.gaussian.neighbours import Moves
from sparktune.search.gaussian.subset import representative
from sparktune.space.search_space import SearchSpace
from tests.search.gaussian.studies import MIXED
from tests.search.spaces import CONDITIONAL, assert_point_fits

pytestmark = pytest.mark.unit

BRANCH = np.where(np.arange(len(MIXED)) == MIXED.column["model"], 0.0, np.nan)


def moves(seed: int = 0) -> tuple[Moves, np.ndarray]:
    known = moved_into(MIXED, np.random.default_rng(1).random((12, len(MIXED))), BRANCH)
    return Moves(MIXED, BRANCH, known, np.random.default_rng(seed)), known


def test_every_move_is_a_configuration_of_the_branch() -> None:
    some, known = moves()
    rows = np.concatenate([some.perturbed(known), some.anywhere(20), some.one_step_away(known)[0]])
    assert is_in(rows, BRANCH).all()
    for row in rows:
        assert_point_fits(CONDITIONAL, MIXED.config(row))


def test_a_perturbation_changes_something_but_not_all() -> None:
    some, known = moves()
    changed = [
        ~np.isclose(a, b, rtol=1e-9, equal_nan=True)
        for a, b in zip(known, some.perturbed(known), strict=True)
    ]
    assert 0 < np.mean(changed) < 0.7


def test_neighbours_of_a_finite_space_are_all_with_one_change() -> None:
    space = SearchSpace({"c": hp.choice("c", [0, 1, 2]), "n": hp.quniform("n", 1, 5, 1)})
    row = space.row({"c": 1, "n": 3})
    anywhere = np.full(2, np.nan)
    found = Moves(space, anywhere, row[None], np.random.default_rng(0)).one_step_away(row[None])[0]
    assert len(np.unique(found, axis=0)) == 2 + 4
    assert ((found != row).sum(1) == 1).all()


def test_impossible_options_are_no_neighbours() -> None:
    space = SearchSpace(hp.pchoice("c", [(0.5, 1), (0.0, 2), (0.5, 3)]))
    row = space.row({"c": 0})
    found = Moves(space, np.full(1, np.nan), row[None], np.random.default_rng(0)).one_step_away(row[None])[0]
    assert found.tolist() == [[2.0]]


def test_of_many_trials_the_best_are_kept_and_some_of_all_others() -> None:
    kept = representative(1000, 100)
    assert len(set(kept.tolist())) == 100
    assert set(range(50)) <= set(kept.tolist())
    assert kept.max() == 999
    assert representative(5, 100).tolist() == [0, 1, 2, 3, 4]
