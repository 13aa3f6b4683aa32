"""The algorithm that is chosen for a space."""

from __future__ import annotations

import logging
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp

from sparktune.search import auto, gp, tpe
from sparktune.space.search_space import SearchSpace
from tests.search.conformance import SuggestConformance, config_of, domain_of, trials_with

pytestmark = pytest.mark.unit


class TestAuto(SuggestConformance):
    suggest = staticmethod(auto.suggest)
    name = "sparktune.search.auto:suggest"
    uses_blas = True


@pytest.mark.parametrize(
    ("n_params", "n_at_times", "n_choices", "first", "later", "reason"),
    [
        (2, 0, 0, ["gp"], ["tpe", "gp"], "gp: at most 20 parameters"),
        (20, 0, 19, ["gp"], ["tpe", "gp"], "gp: at most 20 parameters"),
        (0, 0, 0, ["gp"], ["tpe", "gp"], "gp: "),
        (21, 0, 0, ["tpe", "gp"], ["tpe", "gp"], "tpe and gp in turn: 21 parameters"),
        (6, 0, 6, ["tpe", "gp"], ["tpe", "gp"], "tpe and gp in turn: a space of choices alone"),
        (
            6,
            2,
            1,
            ["tpe", "gp"],
            ["tpe", "gp"],
            "tpe and gp in turn: 2 of 6 parameters are not always active",
        ),
        (36, 30, 36, ["tpe", "gp"], ["tpe", "gp"], "tpe and gp in turn: 30 of 36 parameters"),
    ],
)
def test_the_rule(
    n_params: int, n_at_times: int, n_choices: int, first: list[str], later: list[str], reason: str
) -> None:
    rule = auto.rule(n_params, n_at_times, n_choices)
    assert sorted({rule.turn(i, auto.MANY_TRIALS - 1) for i in range(4)}) == sorted(first)
    assert sorted({rule.turn(i, auto.MANY_TRIALS) for i in range(4)}) == sorted(later)
    assert rule.reason.startswith(reason)
    assert "\n" not in rule.reason


X = hp.uniform("x", 0, 1)
SPACES: dict[str, tuple[Any, str]] = {
    "numbers": ({"x": X, "n": hp.randint("n", 5)}, "gp:"),
    "choices": ({"n": hp.randint("n", 5), "c": hp.choice("c", "ab")}, "tpe and gp in turn: a space of"),
    "in a branch": (hp.choice("c", [{"x": X}, 1]), "tpe and gp in turn: 1 of 2"),
    "in every branch": (hp.choice("c", [{"x": X}, {"x": X, "y": 1}]), "gp:"),
    "in every branch that may be": (hp.pchoice("c", [(1.0, {"x": X}), (0.0, 1)]), "gp:"),
    "deeper": (hp.choice("c", [hp.choice("d", [{"x": X}, {"x": X}]), 1]), "tpe and gp in turn: 2 of 3"),
}


@pytest.mark.parametrize("name", SPACES)
def test_what_a_space_is_like(name: str) -> None:
    space, reason = SPACES[name]
    assert auto.rule_of(SearchSpace(space)).reason.startswith(reason)
    assert str(auto.reason(auto.suggest, space)).startswith(reason)
    assert str(auto.reason(hyperopt.partial(auto.suggest), space)).startswith(reason)
    assert auto.reason(tpe.suggest, space) is None


def points(suggest: Any, space: Any, ids: list[int], n: int = 30) -> list[dict[str, Any]]:
    domain = domain_of(space)
    trials = trials_with(domain, ["good", "fair"] * (n // 2))
    return [config_of(document) for document in suggest(ids, domain, trials, 3)]


def test_one_algorithm_alone_suggests_the_same_without_auto() -> None:
    assert points(auto.suggest, {"x": X}, [30, 31]) == points(gp.suggest, {"x": X}, [30, 31])


def test_in_a_conditional_space_they_take_turns() -> None:
    branches = SPACES["in a branch"][0]
    assert points(auto.suggest, branches, [30]) == points(tpe.suggest, branches, [30])
    assert points(auto.suggest, branches, [31]) == points(gp.suggest, branches, [31])


def test_they_take_turns_by_the_trials_id() -> None:
    space = {f"x{i}": hp.uniform(f"x{i}", 0, 1) for i in range(21)}
    assert points(auto.suggest, space, [30]) == points(tpe.suggest, space, [30])
    assert points(auto.suggest, space, [31]) == points(gp.suggest, space, [31])
    both = points(auto.suggest, space, [30, 31, 32])
    assert [both[0], both[2]] == points(tpe.suggest, space, [30, 32])
    assert both[1] not in (both[0], both[2])


def test_after_many_trials_they_take_turns() -> None:
    space, n = {"x": X}, auto.MANY_TRIALS
    assert points(auto.suggest, space, [n], n) == points(tpe.suggest, space, [n], n)
    assert points(auto.suggest, space, [n + 1], n) == points(gp.suggest, space, [n + 1], n)


def test_a_wide_first_batch_is_spread_evenly() -> None:
    domain = domain_of({"x": X, "y": hp.uniform("y", 0, 1)})
    found = [config_of(d) for d in auto.suggest(range(32), domain, hyperopt.Trials(), 0)]
    cells = {(int(4 * p["x"]), int(4 * p["y"])) for p in found}
    assert len(cells) >= 14  # of 16; independent points leave two of them empty on average


def test_the_reason_is_logged_once_per_study(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    for seed in range(2):
        rng = np.random.default_rng(seed)
        hyperopt.fmin(lambda x: x, X, auto.suggest, 5, rstate=rng, show_progressbar=False)
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == ["auto.suggest uses gp"] * 2
