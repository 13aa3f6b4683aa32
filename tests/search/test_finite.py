"""Finite spaces: each configuration once with sparktune's algorithms, whatever trials there are."""

from __future__ import annotations

from typing import Any

import hyperopt
import pytest

import sparktune
from sparktune import SimulatedTrials, anneal, auto, gp, grid, hp, rand, sobol, tpe
from sparktune.search import finite
from tests.test_fmin import points, tune

SPACE = {
    "a": hp.choice("a", [1, {"n": hp.randint("n", 3), "m": hp.pchoice("m", [(0.001, 0), (0.999, 1)])}]),
    "q": hp.quniform("q", 0, 1, 1),
}
SIZE = 2 * (1 + 3 * 2)
OURS = [tpe, gp, auto, anneal, sobol, rand, grid, sparktune.local]


def loss(point: Any) -> float:
    if point["a"] == 1:
        raise ArithmeticError("one")
    return float(point["a"]["n"] + point["q"])


@pytest.mark.parametrize("make", [lambda: SimulatedTrials(3), hyperopt.Trials], ids=["ours", "Trials"])
@pytest.mark.parametrize("algo", OURS, ids=lambda algo: algo.__name__)
def test_each_configuration_is_tried_once(algo: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    options = {"algo": algo.suggest, "catch_eval_exceptions": True}
    trials = tune(sparktune.fmin, loss, SPACE, 6, trials=make(), **options)
    assert caplog.text == "" or "search space" not in caplog.text
    tune(sparktune.fmin, loss, SPACE, 60, trials=trials, **options)
    found = [repr(sorted(point.items())) for point in points(trials)]
    assert len(found) == len(set(found)) == SIZE
    assert caplog.text.count(f"the search space has {SIZE} configurations, of which 8 are") == 1
    tune(sparktune.fmin, loss, SPACE, 60, trials=trials, **options)
    assert len(points(trials)) == SIZE


@pytest.mark.parametrize("options", [{"algo": tpe.suggest, "noisy": True}, {"algo": hyperopt.tpe.suggest}])
def test_they_are_repeated_where_the_objective_is_noisy_and_by_hyperopts_algorithms(
    options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trials = tune(sparktune.fmin, n=9, space=hp.randint("n", 4), **options)
    assert len(trials) == 9
    assert caplog.text.count("this algorithm repeats configurations") == ("noisy" not in options)


def test_without_max_evals_it_ends_too() -> None:
    trials = tune(sparktune.fmin, n=None, space=hp.choice("n", [1, 2, 3]), algo=tpe.suggest, max_queue_len=5)
    assert sorted(trials.losses()) == [1, 4, 9]


def test_cancelled_configurations_are_tried_after_all() -> None:
    trials = SimulatedTrials(4)
    tune(sparktune.fmin, n=4, space=hp.randint("n", 4), trials=trials, loss_threshold=100, algo=tpe.suggest)
    assert trials.count_cancelled_trials() == 3
    tune(sparktune.fmin, n=40, space=hp.randint("n", 4), trials=trials, algo=tpe.suggest)
    assert sorted(loss for loss in trials.losses() if loss is not None) == [0, 1, 4, 9]


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (SPACE, SIZE),
        ({"x": 3, "n": hp.randint("n", 2)}, 2),
        (hp.uniform("x", 0, 1), None),
        (hp.randint("x", finite.LARGEST + 1), None),
        (hp.uniform("x", 0, hp.quniform("y", 1, 2, 1)), None),
    ],
)
def test_the_size_of_a_space(space: Any, size: int | None) -> None:
    assert finite.size(space) == size
