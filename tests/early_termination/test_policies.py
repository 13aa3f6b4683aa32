"""Hand-worked examples, the arguments' ranges, and rules that hold over random curves."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sparktune.early_termination import (
    AshaPolicy,
    BanditPolicy,
    Curve,
    EarlyTerminationPolicy,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
    bandit,
)
from sparktune.early_termination.asha import asha_cutoff, rungs
from sparktune.early_termination.bandit import amount_cutoff, best_at, factor_cutoff
from sparktune.early_termination.base import Goal, Schedule
from sparktune.early_termination.median import median_cutoff
from sparktune.early_termination.truncation import truncation_cutoff

pytestmark = pytest.mark.unit

GOALS: list[Goal] = ["maximize", "minimize"]


def curve(values: list[float], goal: Goal = "maximize", *, is_over: bool = False) -> Curve:
    made = Curve.empty()
    for value in values:
        made.add(value, goal)
    made.is_over = is_over
    return made


def study(*series: list[float], goal: Goal = "maximize") -> dict[int, Curve]:
    return {trial_id: curve(values, goal) for trial_id, values in enumerate(series)}


def mirrored(curves: dict[int, Curve]) -> dict[int, Curve]:
    return {i: curve([-v for v in c.values], "minimize", is_over=c.is_over) for i, c in curves.items()}


class TestBandit:
    def test_the_ratio_of_the_documentation(self) -> None:
        assert factor_cutoff(0.8, 0.2, "maximize") == pytest.approx(0.667, abs=1e-3)
        assert factor_cutoff(0.8, 0.2, "minimize") == pytest.approx(0.96)

    @pytest.mark.parametrize(("mine", "ends"), [(0.66, True), (0.667, False), (0.8, False)])
    def test_factor(self, mine: float, ends: bool) -> None:
        decision = BanditPolicy(slack_factor=0.2).decide(1, study([0.8], [mine]), "maximize")
        assert (decision is not None) == ends

    @pytest.mark.parametrize(("mine", "ends"), [(0.97, True), (0.95, False)])
    def test_factor_to_minimize(self, mine: float, ends: bool) -> None:
        curves = study([0.8], [mine], goal="minimize")
        assert (BanditPolicy(slack_factor=0.2).decide(1, curves, "minimize") is not None) == ends

    @pytest.mark.parametrize(("mine", "ends"), [(0.69, True), (0.71, False)])
    def test_amount(self, mine: float, ends: bool) -> None:
        decision = BanditPolicy(slack_amount=0.1).decide(1, study([0.8], [mine]), "maximize")
        assert (decision is not None) == ends

    def test_the_best_so_far_counts_not_the_newest(self) -> None:
        assert BanditPolicy(slack_amount=0.1).decide(1, study([0.5, 0.8], [0.75, 0.1]), "maximize") is None

    def test_only_the_same_interval_is_compared(self) -> None:
        assert best_at([curve([0.1, 0.9]), curve([0.3])], 1, "maximize") == 0.3

    @pytest.mark.parametrize("best", [0.0, -1.0])
    @pytest.mark.parametrize("goal", GOALS)
    def test_a_ratio_to_a_best_below_zero_is_not_used(
        self, best: float, goal: Goal, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = best - 5 if goal == "maximize" else best + 5
        curves = study([best], [other], goal=goal)
        assert BanditPolicy(slack_factor=0.2).decide(1, curves, goal) is None
        assert "slack_amount" in caplog.text
        assert amount_cutoff(best, 1.0, "maximize") == best - 1

    def test_each_policy_says_once_that_it_does_not_act(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[float] = []  # not caplog, whose records would keep the policies alive
        monkeypatch.setattr(bandit.logger, "warning", lambda message, policy, best: told.append(best))
        curves = study([-1.0], [-2.0])
        for n in range(1, 5):
            policy = BanditPolicy(slack_factor=0.2)
            for _ in range(2):
                policy.decide(1, curves, "maximize")
            assert len(told) == n
            del policy  # the next one may get its address

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"slack_factor": 0.1, "slack_amount": 0.1},
            {"slack_factor": 0},
            {"slack_factor": -1},
            {"slack_amount": 0},
            {"slack_amount": "0.1"},
            {"slack_amount": True},
            {"slack_factor": float("nan")},
            {"slack_factor": 0.1, "evaluation_interval": -1},
            {"slack_factor": 0.1, "delay_evaluation": 1.5},
        ],
    )
    def test_bad_arguments(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"slack_|evaluation"):
            BanditPolicy(**arguments)


class TestMedian:
    def test_by_hand(self) -> None:
        # Running averages at interval 2: 0.5, 0.3 and 0.15; their median is 0.3; the third's best is 0.2.
        curves = study([0.4, 0.6], [0.2, 0.4], [0.1, 0.2])
        assert median_cutoff(curves.values(), 2) == pytest.approx(0.3)
        decision = MedianStoppingPolicy().decide(2, curves, "maximize")
        assert decision is not None
        assert (decision.interval, decision.value) == (2, 0.2)
        assert MedianStoppingPolicy().decide(1, curves, "maximize") is None

    def test_trials_that_have_not_come_so_far_do_not_count(self) -> None:
        assert median_cutoff([curve([0.1, 0.5]), curve([0.9])], 2) == pytest.approx(0.3)

    def test_alone_a_trial_goes_on(self) -> None:
        assert MedianStoppingPolicy().decide(0, study([0.5, 0.4, 0.3]), "maximize") is None


class TestTruncation:
    @pytest.mark.parametrize(("n", "percentage", "n_cut"), [(10, 20, 2), (4, 20, 0), (5, 20, 1), (3, 99, 2)])
    def test_how_many(self, n: int, percentage: int, n_cut: int) -> None:
        values = [float(i) for i in range(n)]
        cutoff = truncation_cutoff(values, percentage, "maximize")
        assert sum(cutoff is not None and value <= cutoff for value in values) == n_cut

    def test_equal_values_stay_together(self) -> None:
        assert truncation_cutoff([1.0] * 10, 50, "maximize") is None
        assert truncation_cutoff([0.0, 1.0, 1.0, 1.0], 50, "maximize") == 0.0

    def test_finished_trials_can_be_left_out(self) -> None:
        curves = study([0.9], [0.8], [0.7], [0.1])
        curves[3].is_over = True
        assert TruncationSelectionPolicy(30).decide(2, curves, "maximize") is None
        policy = TruncationSelectionPolicy(34, exclude_finished_jobs=True)
        assert policy.decide(2, curves, "maximize") is not None

    @pytest.mark.parametrize("percentage", [0, 100, 20.0, "20", True, -5])
    def test_bad_percentage(self, percentage: Any) -> None:
        with pytest.raises(ValueError, match="from 1 to 99"):
            TruncationSelectionPolicy(percentage)


class TestAsha:
    def test_rungs(self) -> None:
        assert rungs(3, 1, 27) == [1, 3, 9]
        assert rungs(3, 1, 28) == [1, 3, 9, 27]
        assert rungs(2, 4, 5) == [4]
        assert rungs(1.2, 1, 4) == [1, 2, 3]

    def test_by_hand(self) -> None:
        assert asha_cutoff([0.1, 0.2], 3, "maximize") is None
        assert asha_cutoff([0.1, 0.2, 0.3], 3, "maximize") == 0.3
        assert asha_cutoff([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 3, "minimize") == 0.2

    def test_only_at_rungs(self) -> None:
        policy = AshaPolicy(reduction_factor=2, min_step=2, max_step=8)
        assert policy.decide(1, study([0.9], [0.1]), "maximize") is None
        assert policy.decide(1, study([0.9, 0.9], [0.1, 0.1]), "maximize") is not None
        assert policy.decide(1, study([0.9] * 3, [0.1] * 3), "maximize") is None

    @pytest.mark.parametrize(
        "arguments",
        [
            {"reduction_factor": 1},
            {"reduction_factor": "3"},
            {"min_step": 0},
            {"min_step": 5, "max_step": 5},
            {"max_step": 1.5},
        ],
    )
    def test_bad_arguments(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(reversed(arguments)))):
            AshaPolicy(**arguments)


POLICIES = st.one_of(
    st.builds(
        BanditPolicy,
        slack_amount=st.floats(0.01, 2),
        evaluation_interval=st.integers(0, 4),
        delay_evaluation=st.integers(0, 6),
    ),
    st.builds(
        BanditPolicy,
        slack_factor=st.floats(0.01, 2),
        evaluation_interval=st.integers(0, 4),
        delay_evaluation=st.integers(0, 6),
    ),
    st.builds(
        MedianStoppingPolicy, evaluation_interval=st.integers(0, 4), delay_evaluation=st.integers(0, 6)
    ),
    st.builds(
        TruncationSelectionPolicy,
        truncation_percentage=st.integers(1, 99),
        evaluation_interval=st.integers(0, 4),
        delay_evaluation=st.integers(0, 6),
        exclude_finished_jobs=st.booleans(),
    ),
)
VALUES = st.lists(st.floats(-10, 10) | st.sampled_from([math.inf, -math.inf]), min_size=1, max_size=8)
STUDIES = st.lists(VALUES, min_size=1, max_size=8)


@given(POLICIES, STUDIES, st.sampled_from(GOALS))
def test_never_before_the_delay_nor_between_intervals(
    policy: Any, series: list[list[float]], goal: Goal
) -> None:
    curves = study(*series, goal=goal)
    for trial_id, one in curves.items():
        t = len(one.values)
        acts = t >= policy.delay_evaluation and t % (policy.evaluation_interval or 1) == 0
        decision = policy.decide(trial_id, curves, goal)
        assert decision is None or (acts and decision.interval == t)


@given(POLICIES, STUDIES, st.sampled_from(GOALS))
def test_the_best_trial_at_an_interval_is_never_stopped(
    policy: Any, series: list[list[float]], goal: Goal
) -> None:
    if isinstance(policy, TruncationSelectionPolicy):
        return
    curves = study(*series, goal=goal)
    for trial_id, one in curves.items():
        t = len(one.values)
        rivals = [c.bests[t - 1] for c in curves.values() if len(c.bests) >= t]
        best = max(rivals) if goal == "maximize" else min(rivals)
        if one.bests[-1] == best:
            assert policy.decide(trial_id, curves, goal) is None


@given(POLICIES, STUDIES)
def test_both_goals_mirror_each_other(policy: Any, series: list[list[float]]) -> None:
    if isinstance(policy, BanditPolicy) and policy.slack_factor is not None:
        return  # a ratio is not symmetric
    curves = study(*series)
    for trial_id in curves:
        up = policy.decide(trial_id, curves, "maximize")
        down = policy.decide(trial_id, mirrored(curves), "minimize")
        assert (up is None) == (down is None)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.integers(1, 99), st.sampled_from(GOALS))
def test_truncation_cuts_no_more_than_its_share(values: list[float], percentage: int, goal: Goal) -> None:
    cutoff = truncation_cutoff(values, percentage, goal)
    n_cut = sum(cutoff is not None and (v <= cutoff if goal == "maximize" else v >= cutoff) for v in values)
    assert n_cut <= len(values) * percentage / 100


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.sampled_from(GOALS))
def test_a_curve_keeps_its_best_and_its_mean(values: list[float], goal: Goal) -> None:
    made = curve(values, goal)
    best = max if goal == "maximize" else min
    for t in range(1, len(values) + 1):
        assert made.bests[t - 1] == best(values[:t])
        assert made.means[t - 1] == pytest.approx(sum(values[:t]) / t, abs=1e-9)


@pytest.mark.parametrize("infinity", [math.inf, -math.inf])
def test_an_infinite_report_stays_in_the_mean(infinity: float) -> None:
    made = curve([1.0, infinity, 2.0, infinity, 3.0])
    assert made.means == [1.0, *[infinity] * 4]


@given(st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=3, max_size=8))
def test_a_trial_that_reported_nan_leaves_the_median_of_the_others_sound(series: list[list[float]]) -> None:
    """The study hands on a NaN as the worst value there is."""
    sick = [0.0, -math.inf, 0.0]
    for at in (0, len(series)):
        curves = study(*series[:at], sick, *series[at:])
        means = sorted([-math.inf, *(curve(values).means[2] for values in series)])
        middle = len(means) // 2
        expected = means[middle] if len(means) % 2 else (means[middle - 1] + means[middle]) / 2
        assert median_cutoff(curves.values(), 3) == expected


def test_an_interval_of_zero_means_one() -> None:
    assert all(Schedule(0, 0).acts_at(t) for t in range(1, 5))


def test_a_policy_of_ones_own_is_one_small_class() -> None:
    class Never:
        def decide(self, trial_id: int, curves: Any, goal: Goal) -> None:
            return None

    assert isinstance(Never(), EarlyTerminationPolicy)


@pytest.mark.parametrize(
    "policy",
    [BanditPolicy(slack_factor=0.1), MedianStoppingPolicy(), TruncationSelectionPolicy(20), AshaPolicy()],
)
def test_policies_are_values(policy: Any) -> None:
    assert policy == dataclasses.replace(policy)
    assert type(policy).__name__ in str(policy)
