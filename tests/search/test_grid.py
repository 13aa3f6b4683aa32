"""Grid search: every configuration once, in order, and only where they can be counted."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from hypothesis import HealthCheck, assume, given, settings

import sparktune
from sparktune.errors import InvalidSpace
from sparktune.search import grid
from sparktune.space.search_space import SearchSpace
from tests.search.conformance import SuggestConformance, domain_of, end
from tests.search.spaces import CONDITIONAL, FINITE, FINITE_SIZE, config_of, nested_spaces

pytestmark = pytest.mark.unit


class TestGrid(SuggestConformance):
    suggest = staticmethod(grid.suggest)
    name = "sparktune.search.grid:suggest"
    finite_only = True
    uses_seed = False


def key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=float)


def test_fmin_ends_by_itself() -> None:
    trials = hyperopt.Trials()
    hyperopt.fmin(lambda p: p["width"], FINITE, grid.suggest, None, trials=trials, show_progressbar=False)
    assert len({key(config_of(document)) for document in trials.trials}) == len(trials) == FINITE_SIZE


@pytest.mark.parametrize("parallelism", [1, 7])
def test_sparktunes_fmin_ends_by_itself(parallelism: int) -> None:
    trials = sparktune.SimulatedTrials(parallelism=parallelism)

    def loss(point: Any) -> float:
        if point["seed"] == 5:
            raise RuntimeError("failed trials are not tried again")
        return float(point["width"])

    sparktune.fmin(loss, FINITE, grid.suggest, trials=trials, show_progressbar=False)
    documents = trials._dynamic_trials
    assert len({key(config_of(document)) for document in documents}) == len(documents) == FINITE_SIZE


def test_it_goes_on_where_it_stopped() -> None:
    domain, trials = domain_of(FINITE), hyperopt.Trials()
    trials.insert_trial_docs(hyperopt.rand.suggest(trials.new_trial_ids(30), domain, trials, 0))
    before = {key(config_of(document)) for document in trials._dynamic_trials}
    rest = grid.suggest(trials.new_trial_ids(200), domain, trials, 0)
    found = {key(config_of(document)) for document in rest}
    assert len(found) == len(rest) == FINITE_SIZE - len(before)
    assert not found & before


def test_trials_cancelled_with_their_study_come_again_and_those_out_of_time_do_not() -> None:
    space = {"x": hp.randint("x", 6)}
    domain, trials = domain_of(space), hyperopt.Trials()
    trials.insert_trial_docs(grid.suggest(trials.new_trial_ids(4), domain, trials, 0))
    for document, outcome in zip(
        trials._dynamic_trials, ["good", "cancelled", "timed out", "raised"], strict=True
    ):
        end(document, outcome)

    def asked(n: int) -> list[int]:
        documents = grid.suggest(trials.new_trial_ids(n), domain, trials, 0)
        trials.insert_trial_docs(documents)
        return [config_of(document)["x"] for document in documents]

    assert asked(1) == [4]
    assert asked(9) == [5, 1]
    assert asked(9) == []


def test_points_that_are_not_on_the_grid_are_left_alone() -> None:
    space = {"x": hp.quniform("x", 0, 1, 0.1)}
    trials = sparktune.SimulatedTrials()
    points = [{"x": 0.3}, {"x": 0.55}]
    sparktune.fmin(
        lambda p: p["x"],
        space,
        grid.suggest,
        trials=trials,
        points_to_evaluate=points,
        show_progressbar=False,
    )
    assert len(trials) == 12  # 0.3 was one of the 11


@pytest.mark.parametrize(
    ("node", "values"),
    [
        (hp.quniform("x", 0.15, 0.35, 0.1), [0.2, 0.3]),
        (hp.quniform("x", 0.1, 0.3, 0.1), [0.1, 0.2, 0.3]),
        (hp.quniform("x", -1, 1, 1), [-1, 0, 1]),
        (hp.quniform("x", 0, 10, 4), [0, 4, 8]),
        (hp.quniform("x", 0.2, 0.4, 1), [0]),
        (hp.qloguniform("x", math.log(1), math.log(8), 2), [2, 4, 6, 8]),
        (hp.qloguniform("x", -5, 0, 1), [0, 1]),
        (hp.uniformint("x", 2, 4), [2, 3, 4]),
        (hp.randint("x", 20_000, 20_003), [20_000, 20_001, 20_002]),
        (hp.randint("x", 3), [0, 1, 2]),
        (hp.pchoice("x", [(0.5, "a"), (0, "b"), (0.5, "c")]), [0, 2]),
    ],
)
def test_values_are_those_that_hyperopt_can_give(node: Any, values: list[float]) -> None:
    the_grid = grid.Grid(SearchSpace({"x": node}))
    assert [the_grid.row(i)[0] for i in range(len(the_grid))] == pytest.approx(values)
    _, drawn = hyperopt.rand.suggest_batch(list(range(800)), domain_of({"x": node}), hyperopt.Trials(), 0)
    assert sorted({float(value) for value in drawn["x"]}) == pytest.approx(values)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(space=nested_spaces(finite=True))
def test_every_configuration_has_one_number(space: Any) -> None:
    compiled = SearchSpace(space)
    try:
        the_grid = grid.Grid(compiled)
    except InvalidSpace:
        assume(False)
    assume(len(the_grid) < 3000)
    rows = [the_grid.row(i) for i in range(len(the_grid))]
    assert [the_grid.number(compiled.config(row)) for row in rows] == list(range(len(the_grid)))
    random = compiled.sample(200, np.random.default_rng(0))
    assert None not in {the_grid.number(compiled.config(row)) for row in random}
    if len(the_grid) < 12:
        random = compiled.sample(4000, np.random.default_rng(1))
        weights = [weight for p in compiled.parameters for weight in p.probabilities]
        if all(weight > 0.2 for weight in weights):
            drawn = {the_grid.number(compiled.config(row)) for row in random}
            assert len(drawn) >= len(the_grid) - sum(p.q is not None for p in compiled.parameters) * 2


@pytest.mark.parametrize(
    "text", ["uniform(0, 1)", "loguniform(-5, 0)", "normal(0, 1)", "qnormal(0, 1, 1)", "qlognormal(0, 1, 1)"]
)
def test_infinite_spaces_are_refused_by_name(text: str) -> None:
    name, _, arguments = text.rstrip(")").partition("(")
    node = getattr(hp, name)("lr", *map(float, arguments.split(",")))
    message = (
        f"grid search needs finitely many values; 'lr' is hp.{text}: use hp.quniform, hp.choice, or "
        "algo=sobol.suggest"
    )
    with pytest.raises(InvalidSpace) as error:
        grid.suggest([0], domain_of({"lr": node}), hyperopt.Trials(), 0)
    assert str(error.value) == message


def test_they_are_refused_before_the_first_trial() -> None:
    trials = sparktune.SimulatedTrials()
    with pytest.raises(InvalidSpace, match=r"'lr' is hp\.loguniform"):
        sparktune.fmin(
            lambda p: 0.0, {"lr": CONDITIONAL["lr"]}, grid.suggest, trials=trials, show_progressbar=False
        )
    assert not trials._dynamic_trials


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({k: hp.randint(k, 1000) for k in "abc"}, r"the grid has 1,000,000,000 configurations .*'c': 1,000"),
        ({"x": hp.quniform("x", 0, 1, 1e-12)}, r"the grid has 1,000,000,000,001 configurations"),
        ({"x": hp.qloguniform("x", 0, 690, 1)}, "the grid has"),
        ({"x": hp.qloguniform("x", 0, 690, 1e-300)}, "'x'.*more values than can be counted"),
        (
            {"c": hp.choice("c", [{"x": hp.randint("x", 2_000_000)}, "no"])},
            "the grid has more than 1,000,000 configurations .*'x': 2,000,000",
        ),
        (
            {f"c{i}": hp.choice(f"c{i}", [hp.randint(f"x{i}", 2), 0]) for i in range(30)},
            "more than 1,000,000",
        ),
    ],
)
def test_grids_too_large_are_refused_with_their_size(space: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        grid.suggest([0], domain_of(space), hyperopt.Trials(), 0)


def test_ten_thousand_trials_of_a_grid_of_a_hundred_thousand() -> None:
    space = {"a": hp.randint("a", 100), "b": hp.quniform("b", 0, 999, 1)}
    domain, trials = domain_of(space), hyperopt.Trials()
    began = time.process_time()
    for trial_id in range(10_000):
        trials._dynamic_trials += grid.suggest([trial_id], domain, trials, 0)
    assert time.process_time() - began < 10
    assert len({key(config_of(document)) for document in trials._dynamic_trials}) == 10_000
