"""Which trial is better: the one rule, for trials of any form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from sparktune.study.trial import Trial, TrialState

CAN_BE_BEST = {TrialState.COMPLETED: 0, TrialState.EARLY_TERMINATED: 1}
"""The states of trials that can be, in the order of preference."""

OfAnyForm = TypeVar("OfAnyForm")
Ranked = tuple[TrialState, float | None, int]
"""What decides: state, loss, number."""


def rank(state: TrialState, loss: float | None, number: int) -> tuple[int, float, int] | None:
    """What a trial is ordered by, the best first; None where it cannot be the best.

    One that was terminated early is never the best unless nothing completed. Of equal ones the first by
    number is, whichever ended first: as in hyperopt, and the same whenever it is read.
    """
    tier = CAN_BE_BEST.get(state)
    if tier is None or loss is None or math.isnan(loss):
        return None
    return tier, loss, number


def ranked(trials: Iterable[OfAnyForm], of: Callable[[OfAnyForm], Ranked]) -> list[OfAnyForm]:
    """The trials that can be the best, in the order of their ``rank``; ``of`` gives what decides of each."""
    places = ((rank(*of(trial)), trial) for trial in trials)
    found = [(place, trial) for place, trial in places if place is not None]
    return [trial for _, trial in sorted(found, key=lambda one: one[0])]


def first(trials: Iterable[OfAnyForm], of: Callable[[OfAnyForm], Ranked]) -> OfAnyForm | None:
    """The best of these trials; None where none can be."""
    return next(iter(ranked(trials, of)), None)


def of_trial(trial: Trial) -> Ranked:
    """What decides of a trial; its loss may be in its result alone."""
    loss = trial.loss
    if loss is None and trial.state in CAN_BE_BEST:  # else it may be anything
        loss = float((trial.result or {}).get("loss", math.inf))
    return trial.state, loss, trial.trial_id


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The best of these trials; None where none has a loss."""
    return first(trials, of_trial)


def beats(trial: Trial, best: Trial | None) -> bool:
    """Whether a trial is better than the best so far."""
    return trial is not best and best_of([trial] if best is None else [best, trial]) is trial
