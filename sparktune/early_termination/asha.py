"""Asynchronous successive halving, in the form that stops trials instead of pausing them."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparktune.early_termination.base import Curve, Decision, Goal, check_int, is_worse


def rungs(reduction_factor: float, min_step: int, max_step: int) -> list[int]:
    """The intervals at which trials are compared: min_step * eta^k below max_step.

    Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934, section 3.1.
    """
    steps: list[int] = []
    step = float(min_step)
    while round(step) < max_step:
        if not steps or round(step) > steps[-1]:
            steps.append(round(step))
        step *= reduction_factor
    return steps


def asha_cutoff(values: Sequence[float], reduction_factor: float, goal: Goal) -> float | None:
    """The worst value among the best 1/eta of a rung; None while the rung holds fewer than eta values."""
    n_kept = int(len(values) / reduction_factor)
    if n_kept == 0:
        return None
    return sorted(values, reverse=goal == "maximize")[n_kept - 1]


@dataclass(frozen=True)
class AshaPolicy:
    """At each rung a trial continues only if it is among the best 1/eta of those that have reached it.

    The rungs and the best 1/eta of each are those of Li et al. 2018, arXiv 1810.05934, algorithm 2, which
    pauses the other trials and may promote them later. Here they are ended, so nothing is paused; the first
    trials of a rung, before there is a best 1/eta, continue.

    Args:
        reduction_factor: eta, > 1; the best 1/eta of each rung continue.
        min_step: the first rung, in reports.
        max_step: the reports of a full trial; no rung lies at or above it.

    Raises:
        ValueError: naming the argument and its range.
    """

    reduction_factor: float = 3
    min_step: int = 1
    max_step: int = 100

    def __post_init__(self) -> None:
        eta = self.reduction_factor
        if isinstance(eta, bool) or not isinstance(eta, numbers.Real) or not 1 < eta < float("inf"):
            raise ValueError(f"reduction_factor is {eta!r}; it must be a number > 1")
        check_int("min_step", self.min_step, 1)
        check_int("max_step", self.max_step, self.min_step + 1)

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: Goal) -> Decision | None:
        """Stop a trial at a rung that is not among the best 1/eta there."""
        curve = curves[trial_id]
        interval = len(curve.values)
        if interval not in rungs(self.reduction_factor, self.min_step, self.max_step):
            return None
        reached = [c.bests[interval - 1] for c in curves.values() if len(c.bests) >= interval]
        cutoff = asha_cutoff(reached, self.reduction_factor, goal)
        mine = curve.bests[-1]
        if cutoff is None or not is_worse(mine, cutoff, goal):
            return None
        return Decision(str(self), interval, mine, cutoff)
