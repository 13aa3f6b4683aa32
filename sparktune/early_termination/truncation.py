"""Truncation selection: at every evaluation the worst share of the trials ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparktune.early_termination.base import Curve, Decision, Goal, Schedule, check_int


def truncation_cutoff(values: Sequence[float], percentage: int, goal: Goal) -> float | None:
    """The best value that is still cut: of n values the floor(n p / 100) worst; None when that is none.

    Equal values stay or end together, and stay when not all of them belong to the worst.
    """
    n_cut = math.floor(len(values) * percentage / 100)
    if n_cut == 0:
        return None
    worst_first = sorted(values, reverse=goal == "minimize")
    if worst_first[n_cut : n_cut + 1] == [worst_first[n_cut - 1]]:
        worst_first = [value for value in worst_first[:n_cut] if value != worst_first[n_cut]]
        return worst_first[-1] if worst_first else None
    return worst_first[n_cut - 1]


@dataclass(frozen=True)
class TruncationSelectionPolicy:
    """Stop a trial whose value at this interval is among the worst p % of all trials'.

    Args:
        truncation_percentage: p, a whole number from 1 to 99.
        evaluation_interval: act at every n-th report; 0 means 1.
        delay_evaluation: not before this report.
        exclude_finished_jobs: leave trials that have ended out of the ranking.

    Raises:
        ValueError: naming the argument and its range.
    """

    truncation_percentage: int
    evaluation_interval: int = 1
    delay_evaluation: int = 0
    exclude_finished_jobs: bool = False

    def __post_init__(self) -> None:
        check_int("truncation_percentage", self.truncation_percentage, 1, 99)
        check_int("evaluation_interval", self.evaluation_interval, 0)
        check_int("delay_evaluation", self.delay_evaluation, 0)

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: Goal) -> Decision | None:
        """Stop a trial whose value is among the worst p % of all trials'."""
        mine = curves[trial_id].values
        interval = len(mine)
        if not Schedule(self.evaluation_interval, self.delay_evaluation).acts_at(interval):
            return None
        ranked = [
            curve.values[interval - 1]
            for curve in curves.values()
            if len(curve.values) >= interval and not (self.exclude_finished_jobs and curve.is_over)
        ]
        cutoff = truncation_cutoff(ranked, self.truncation_percentage, goal)
        if cutoff is None:
            return None
        is_cut = mine[-1] <= cutoff if goal == "maximize" else mine[-1] >= cutoff
        return Decision(str(self), interval, mine[-1], cutoff) if is_cut else None
