"""What every policy shares: learning curves, decisions, and when a policy acts.

A curve holds one value of the primary metric per interval (one interval = one report), as it was reported;
for a NaN the study passes the worst infinity. Rules and terms are those of Azure Machine Learning's early
termination policies (its documentation "Hyperparameter tuning a model", section "Specify early termination
policy").
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

Goal = Literal["maximize", "minimize"]


@dataclass(slots=True)
class Curve:
    """The reports of one trial.

    Attributes:
        values: the primary metric at intervals 1, 2, ...; as reported.
        bests: the best of ``values`` up to each interval, for the study's goal.
        means: the running average of ``values`` over intervals 1..t; infinite from the first infinite one on.
        is_over: whether the trial has ended, in whatever way.
    """

    values: list[float]
    bests: list[float]
    means: list[float]
    is_over: bool = False

    @classmethod
    def empty(cls) -> Curve:
        """A curve before its first report."""
        return cls([], [], [])

    def add(self, value: float, goal: Goal) -> None:
        """Append a report."""
        better = max if goal == "maximize" else min
        n = len(self.values)
        self.bests.append(better(self.bests[-1], value) if n else value)
        mean = self.means[-1] if n else 0.0
        self.means.append(mean + (value - mean) / (n + 1) if math.isfinite(mean) else mean)
        self.values.append(value)


@dataclass(frozen=True, slots=True)
class Decision:
    """Stop this trial, and why.

    Attributes:
        policy: the policy, with its arguments.
        interval: the interval at which it was decided.
        value: what the policy compared, of the trial.
        cutoff: what it was compared with.
    """

    policy: str
    interval: int
    value: float
    cutoff: float

    def __str__(self) -> str:
        at = f"{self.policy} at interval {self.interval}"
        if self.value == self.cutoff and is_infinite(self.value):  # see ``decision_on``
            return f"{at}: the report is NaN or infinite"
        return f"{at}: {self.value:.6g} against {self.cutoff:.6g}"


@runtime_checkable
class EarlyTerminationPolicy(Protocol):
    """Decides at each report whether the trial that reported continues. Does not keep state.

    A policy of your own is one class with this method.
    """

    def decide(self, trial_id: int, curves: Mapping[int, Curve], goal: Goal) -> Decision | None:
        """Whether to stop ``trial_id``, which has just reported its newest value.

        Args:
            trial_id: the trial.
            curves: of every trial of the study that has reported, this one too.
            goal: what is good in the primary metric.

        Returns:
            The decision to stop, or None to continue.
        """


def decision_on(
    policy: EarlyTerminationPolicy, trial_id: int, curves: Mapping[int, Curve], goal: Goal
) -> Decision | None:
    """Whether a trial ends at its newest report: what the policy decides, unless the trial has diverged.

    A trial whose newest value is as bad as can be (infinite; so is NaN in a curve) ends whatever the policy,
    its schedule and the others' values are: policies compare the best so far, which may have been good, and
    none of them separates equally bad trials.
    """
    value = curves[trial_id].values[-1]
    worst = -math.inf if goal == "maximize" else math.inf
    if is_infinite(value) and (value < 0) == (worst < 0):
        return Decision(str(policy), len(curves[trial_id].values), worst, worst)
    return policy.decide(trial_id, curves, goal)


def is_infinite(value: float) -> bool:
    """Whether a value is an infinity, or what MLflow's SQL stores keep of one: the largest float."""
    return abs(value) >= sys.float_info.max


@dataclass(frozen=True)
class Schedule:
    """When a policy acts: at multiples of ``evaluation_interval``, not below ``delay_evaluation``."""

    evaluation_interval: int = 1
    delay_evaluation: int = 0

    def acts_at(self, interval: int) -> bool:
        """Whether the policy acts at this interval (1, 2, ...); an ``evaluation_interval`` of 0 means 1."""
        return interval % (self.evaluation_interval or 1) == 0 and interval >= self.delay_evaluation


def is_worse(value: float, other: float, goal: Goal) -> bool:
    """Whether ``value`` is strictly worse than ``other``."""
    return value < other if goal == "maximize" else value > other


def check_int(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number in its range.

    Raises:
        ValueError: naming the argument, the value and the range.
    """
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {value!r}; it must be a whole number {allowed}")
