from __future__ import annotations

import math

import pytest

from sparktune.study.ranking import beats, first, rank, ranked
from sparktune.study.trial import Trial, TrialState

pytestmark = pytest.mark.unit

Form = tuple[TrialState, float | None, int]
COMPLETED, TERMINATED = TrialState.COMPLETED, TrialState.EARLY_TERMINATED


def as_it_is(form: Form) -> Form:
    return form


def test_completed_ones_are_first_then_the_lower_loss_then_the_lower_number() -> None:
    trials: list[Form] = [
        (TERMINATED, 0.1, 0),
        (COMPLETED, math.inf, 1),
        (COMPLETED, 0.5, 3),
        (COMPLETED, 0.5, 2),
        (COMPLETED, -1.0, 4),
        (TERMINATED, 0.05, 5),
    ]
    assert [number for _, _, number in ranked(trials, as_it_is)] == [4, 2, 3, 1, 5, 0]
    assert first(trials, as_it_is) == (COMPLETED, -1.0, 4)


@pytest.mark.parametrize("state", sorted(set(TrialState) - {COMPLETED, TERMINATED}))
def test_only_trials_that_ended_well_can_be_the_best(state: TrialState) -> None:
    assert rank(state, 0.1, 0) is None
    assert first([(state, 0.1, 0)], as_it_is) is None


@pytest.mark.parametrize("loss", [None, math.nan])
def test_without_a_loss_none_is(loss: float | None) -> None:
    assert rank(COMPLETED, loss, 0) is None


def test_of_two_with_one_loss_the_first_by_number_is_better_whichever_comes_first() -> None:
    one, other = (Trial(number, {}, {}, state=COMPLETED, loss=1.0) for number in range(2))
    assert beats(one, None)
    assert beats(one, other)
    assert not beats(other, one)
    assert not beats(one, one)
    assert not beats(Trial(2, {}, {}, state=TrialState.FAILED, loss=0.0), None)
