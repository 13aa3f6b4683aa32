"""Bandit: a trial may lie behind the best by so much and no more."""

from __future__ import annotations

import logging
import numbers
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparktune.early_termination.base import Curve, Decision, Goal, Schedule, check_int, is_worse

logger = logging.getLogger("sparktune")


def factor_cutoff(best: float, slack_factor: float, goal: Goal) -> float | None:
    """The worst value that may continue, by ratio: best / (1 + s), to be minimized best * (1 + s).

    0.8 with 0.2 gives 0.667. None where ``best`` <= 0: a ratio to it makes no sense.
    """
    if best <= 0:
        return None
    return best / (1 + slack_factor) if goal == "maximize" else best * (1 + slack_factor)


def amount_cutoff(best: float, slack_amount: float, goal: Goal) -> float:
    """The worst value that may continue, by difference: best - a, to be minimized best + a."""
    return best - slack_amount if goal == "maximize" else best + slack_amount


def best_at(curves: Iterable[Curve], interval: int, goal: Goal) -> float:
    """The best value of the primary metric over all trials at an interval that some trial has reached."""
    values = [curve.values[interval - 1] for curve in curves if len(curve.values) >= interval]
    return max(values) if goal == "maximize" else min(values)


@dataclass(frozen=True)
class BanditPolicy:
    """Stop a trial whose best so far is worse than the best trial's value at this interval, slack allowed.

    Args:
        slack_factor: the slack as a ratio, > 0; for metrics > 0. Where the best is <= 0 the policy does not
            act, and logs that once.
        slack_amount: the slack as a difference, > 0. Exactly one of the two.
        evaluation_interval: act at every n-th report; 0 means 1.
        delay_evaluation: not before this report.

    Raises:
        ValueError: naming the argument and its range.
    """

    slack_factor: float | None = None
    slack_amount: float | None = None
    evaluation_interval: int = 1
    delay_evaluation: int = 0

    def __post_init__(self) -> None:
        if (self.slack_factor is None) == (self.slack_amount is None):
            raise ValueError(
                f"BanditPolicy needs exactly one of slack_factor (is {self.slack_factor!r}) and slack_amount "
                f"(is {self.slack_amount!r})"
            )
        _check_positive("slack_factor", self.slack_factor)
        _check_positive("slack_amount", self.slack_amount)
        check_int("evaluation_interval", self.evaluation_interval, 0)
        check_int("delay_evaluation", self.delay_evaluation, 0)

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: Goal) -> Decision | None:
        """Stop a trial whose best is worse than the best trial's value with slack."""
        curve = curves[trial_id]
        interval = len(curve.values)
        if not Schedule(self.evaluation_interval, self.delay_evaluation).acts_at(interval):
            return None
        best = best_at(curves.values(), interval, goal)
        if self.slack_amount is not None:
            cutoff: float | None = amount_cutoff(best, self.slack_amount, goal)
        else:
            cutoff = factor_cutoff(best, self.slack_factor or 0.0, goal)
        if cutoff is None:
            _warn_once(self, best)
            return None
        mine = curve.bests[-1]
        return Decision(str(self), interval, mine, cutoff) if is_worse(mine, cutoff, goal) else None


_warned: weakref.WeakValueDictionary[int, BanditPolicy] = weakref.WeakValueDictionary()
"""Policies that have warned that they do not act, by identity: equal ones each warn."""


def _warn_once(policy: BanditPolicy, best: float) -> None:
    if id(policy) not in _warned:
        _warned[id(policy)] = policy
        logger.warning(
            "%s does not act: the best value is %g, and a ratio to it makes no sense; use slack_amount",
            policy,
            best,
        )


def _check_positive(name: str, value: Any) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < float("inf")):
        raise ValueError(f"{name} is {value!r}; it must be a number > 0")
