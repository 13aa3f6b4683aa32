"""Each distribution, algorithm and policy of the file is the one that it is said to be."""

from __future__ import annotations

import math
from typing import get_args

import pytest

import sparktune
from sparktune import (
    AshaPolicy,
    BanditPolicy,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
    early_termination,
)
from sparktune.sweeps import algorithms, policies
from sparktune.sweeps.model import EarlyTermination, SweepFile
from sparktune.sweeps.policies import policy_of
from sparktune.sweeps.space import space_of
from tests.sweeps.files import data

pytestmark = pytest.mark.unit


def model(**changes) -> SweepFile:
    return SweepFile.model_validate(data(**changes))


def values(**distribution) -> list:
    found = space_of(model(search_space={"x": distribution}).search_space)
    return sparktune.sample(found, 400)["x"].tolist()


@pytest.mark.parametrize(
    ("distribution", "low", "high", "kind"),
    [
        ({"type": "randint", "upper": 4}, 0, 3, int),
        ({"type": "uniform", "min_value": -1, "max_value": 2}, -1, 2, float),
        ({"type": "loguniform", "min_value": -6, "max_value": -1}, math.exp(-6), math.exp(-1), float),
        ({"type": "reverseloguniform", "min_value": 0, "max_value": 0.99}, 0, 0.99, float),
        ({"type": "auto", "min_value": 1e-4, "max_value": 1}, 1e-4, 1, float),
        ({"type": "quniform", "min_value": 10, "max_value": 50, "q": 10}, 10, 50, int),
        ({"type": "quniform", "min_value": 0, "max_value": 1, "q": 0.25}, 0, 1, float),
        ({"type": "qloguniform", "min_value": 0, "max_value": 5, "q": 2}, 0, 148, int),
        ({"type": "normal", "mu": 3, "sigma": 0.1}, 2, 4, float),
        ({"type": "lognormal", "mu": 0, "sigma": 0.1}, 0.5, 2, float),
        ({"type": "qnormal", "mu": 30, "sigma": 2, "q": 5}, 15, 45, int),
        ({"type": "qlognormal", "mu": 3, "sigma": 0.1, "q": 0.5}, 10, 40, float),
    ],
)
def test_distributions(distribution, low, high, kind) -> None:
    found = values(**distribution)
    assert low <= min(found) <= max(found) <= high
    assert max(found) > min(found)
    assert all(isinstance(value, kind) for value in found)
    if "q" in distribution:
        assert all(
            math.isclose(value / distribution["q"], round(value / distribution["q"])) for value in found
        )


def test_values_of_a_choice_are_what_they_are() -> None:
    options = ["a", 1, 0.5, True, [1, 2], {"k": "v"}]
    found = values(type="choice", values=options)
    assert all(value in options for value in found)
    assert {repr(value) for value in found} == {repr(option) for option in options}


def test_algorithms() -> None:
    assert algorithms.suggest("bayesian") is sparktune.tpe.suggest
    assert algorithms.suggest("random") is sparktune.rand.suggest
    assert algorithms.suggest("random", "random") is sparktune.rand.suggest
    assert algorithms.suggest("random", "sobol") is sparktune.sobol.suggest
    assert all(callable(algorithms.suggest(name)) for name in algorithms.ALGORITHMS)


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        (
            {"type": "bandit", "slack_factor": 0.2, "delay_evaluation": 5},
            BanditPolicy(0.2, delay_evaluation=5),
        ),
        (
            {"type": "bandit", "slack_amount": 1, "evaluation_interval": 2},
            BanditPolicy(slack_amount=1, evaluation_interval=2),
        ),
        ({"type": "median_stopping"}, MedianStoppingPolicy()),
        (
            {"type": "truncation_selection", "truncation_percentage": 20, "exclude_finished_jobs": True},
            TruncationSelectionPolicy(20, exclude_finished_jobs=True),
        ),
        ({"type": "asha", "reduction_factor": 4, "min_step": 2, "max_step": 50}, AshaPolicy(4, 2, 50)),
    ],
)
def test_policies(fields, policy) -> None:
    assert policy_of(model(early_termination=fields).early_termination) == policy


def test_no_policy() -> None:
    assert policy_of(model().early_termination) is None


def test_sweep_files_know_every_policy() -> None:
    kinds = get_args(get_args(EarlyTermination)[0])
    names = {name for kind in kinds for name in get_args(kind.model_fields["type"].annotation)}
    assert names == policies._POLICIES.keys()
    exported = {name for name in early_termination.__all__ if name.endswith("Policy")}
    assert exported - {"EarlyTerminationPolicy"} == {kind.__name__ for kind in policies._POLICIES.values()}
