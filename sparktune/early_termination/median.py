"""Median stopping: a trial ends when its best is worse than what the others achieve on average."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sparktune.early_termination.base import Curve, Decision, Goal, Schedule, check_int, is_worse


def median_cutoff(curves: Iterable[Curve], interval: int) -> float:
    """The median, over the trials that reached the interval, of their running averages over 1..interval."""
    return statistics.median(c.means[interval - 1] for c in curves if len(c.means) >= interval)


@dataclass(frozen=True)
class MedianStoppingPolicy:
    """Stop a trial whose best so far is worse than the median of all trials' running averages.

    Source: Golovin et al. 2017, Google Vizier, section 3.2.2 (median stopping rule); terms of Azure ML.

    Args:
        evaluation_interval: act at every n-th report; 0 means 1.
        delay_evaluation: not before this report.

    Raises:
        ValueError: naming the argument and its range.
    """

    evaluation_interval: int = 1
    delay_evaluation: int = 0

    def __post_init__(self) -> None:
        check_int("evaluation_interval", self.evaluation_interval, 0)
        check_int("delay_evaluation", self.delay_evaluation, 0)

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: Goal) -> Decision | None:
        """Stop a trial whose best is worse than the median of running averages."""
        curve = curves[trial_id]
        interval = len(curve.values)
        if not Schedule(self.evaluation_interval, self.delay_evaluation).acts_at(interval):
            return None
        cutoff = median_cutoff(curves.values(), interval)
        mine = curve.bests[-1]
        return Decision(str(self), interval, mine, cutoff) if is_worse(mine, cutoff, goal) else None
