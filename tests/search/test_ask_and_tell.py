"""Ask and tell."""

from __future__ import annotations

import functools
import logging
import math
import pickle
import sys
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt.pyll import scope
from scipy import stats

import sparktune
from sparktune import Searcher, hp
from sparktune.errors import NoMorePoints

pytestmark = pytest.mark.unit

SPACE = {
    "lr": hp.loguniform("lr", -7, 0),
    "model": hp.choice(
        "model", [{"name": "svm", "C": hp.normal("C", 1, 1)}, {"depth": hp.randint("depth", 5)}]
    ),
}
ALGORITHMS: dict[str, Any] = {
    "default": None,
    "rand": sparktune.rand.suggest,
    "sobol": sparktune.sobol.suggest,
    "anneal": sparktune.anneal.suggest,
    "local": functools.partial(sparktune.local.suggest, num_init_random=2),
    "hyperopt.tpe": functools.partial(hyperopt.tpe.suggest, n_startup_jobs=3),
    "hyperopt.anneal": hyperopt.anneal.suggest,
    "hyperopt.rand": hyperopt.rand.suggest,
}


def loss(candidate: sparktune.Candidate) -> float:
    return float((math.log(candidate.point["lr"]) + 3) ** 2 + len(candidate.params))


def play(searcher: Searcher, n: int) -> list[dict[str, Any]]:
    asked = []
    for _ in range(n):
        candidate = searcher.ask()
        asked.append(candidate.params)
        searcher.tell(candidate, loss(candidate))
    return asked


@pytest.mark.parametrize("name", ALGORITHMS)
def test_any_algorithm(name: str) -> None:
    searcher = Searcher(SPACE, ALGORITHMS[name], seed=1)
    play(searcher, 10)
    several = searcher.ask(5)
    assert [candidate.id for candidate in several] == [10, 11, 12, 13, 14]
    assert [candidate.id for candidate in searcher.pending] == [10, 11, 12, 13, 14]
    for candidate in reversed(several):
        searcher.tell(candidate.id, loss(candidate))
    assert not searcher.pending
    assert searcher.best is not None
    assert searcher.best.loss == min(loss(candidate) for candidate in searcher.candidates)
    assert play(Searcher(SPACE, ALGORITHMS[name], seed=1), 10) == [c.params for c in searcher.candidates[:10]]


def test_a_candidate_is_a_point_and_its_parameters() -> None:
    searcher = Searcher(
        {"x": stats.uniform(0, 1), "n": scope.int(hp.quniform("n", 3, 4, 1)), "c": "text"}, seed=0
    )
    candidate = searcher.ask()
    assert candidate.loss is None
    assert set(candidate.point) == {"x", "n", "c"}
    assert candidate.params == {label: candidate.point[label] for label in ("x", "n")}
    assert type(candidate.point["n"]) is int


def test_the_best_is_the_first_of_the_lowest() -> None:
    searcher = Searcher(SPACE, sparktune.rand.suggest, seed=0)
    assert searcher.best is None
    first, second, third, fourth = searcher.ask(4)
    searcher.fail(first)
    assert searcher.best is None
    searcher.tell(second, math.inf)
    searcher.tell(third, 1)
    searcher.tell(fourth, 1.0)
    assert searcher.best is not None
    assert (searcher.best.id, searcher.best.loss) == (third.id, 1.0)
    assert [candidate.loss for candidate in searcher.candidates] == [None, math.inf, 1.0, 1.0]


@pytest.mark.parametrize("value", [1, 1.5, np.float32(2), np.int64(3), np.array(4.0), -math.inf])
def test_numbers(value: Any) -> None:
    searcher = Searcher(SPACE, seed=0)
    searcher.tell(searcher.ask(), value)
    assert searcher.best is not None
    assert searcher.best.loss == float(value)
    assert type(searcher.best.loss) is float


@pytest.mark.parametrize("value", ["1", True, [1.0], {"loss": 1}, np.array([1.0, 2.0]), object()])
def test_what_is_no_number(value: Any) -> None:
    searcher = Searcher(SPACE, seed=0)
    candidate = searcher.ask()
    with pytest.raises(
        TypeError, match=r"the loss of trial 0 is .*; it must be a number, or None for a failure"
    ):
        searcher.tell(candidate, value)
    searcher.tell(candidate, 1)


def test_nan_counts_as_failed(caplog: pytest.LogCaptureFixture) -> None:
    searcher = Searcher(SPACE, seed=0)
    with caplog.at_level(logging.WARNING, "sparktune"):
        searcher.tell(searcher.ask(), math.nan)
    assert "the loss of trial 0 is NaN: it counts as failed" in caplog.text
    assert searcher.best is None
    assert not searcher.pending


def test_wrong_trials_are_told() -> None:
    searcher = Searcher(SPACE, seed=0)
    with pytest.raises(ValueError, match=r"trial 7 was not asked for here.*so far: 0 trials"):
        searcher.tell(7, 1.0)
    good, bad = searcher.ask(2)
    searcher.tell(good, 0.5)
    searcher.tell(bad, None)
    with pytest.raises(ValueError, match=r"trial 0 has its result already \(its loss is 0.5\)"):
        searcher.tell(good, 0.4)
    with pytest.raises(ValueError, match=r"trial 1 has its result already \(it failed\)"):
        searcher.fail(1)


def test_what_is_no_trial_is_told() -> None:
    searcher = Searcher(SPACE, seed=0)
    candidate = searcher.ask()
    for wrong in (candidate.point, [candidate], "0", True, 0.0, None):
        with pytest.raises(TypeError, match="it takes a candidate that ask gave, or its id"):
            searcher.tell(wrong, 1.0)
    searcher.tell(np.int64(0), 1.0)


def test_ids_have_no_holes_where_an_algorithm_gives_less_than_was_asked_for() -> None:
    def one_at_a_time(ids: Any, *args: Any) -> Any:
        return sparktune.rand.suggest(ids[:1], *args)

    searcher = Searcher(SPACE, one_at_a_time, seed=0)
    assert [candidate.id for candidate in searcher.ask(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("n", [-1, 1.5, True, "3"])
def test_wrong_numbers_of_candidates(n: Any) -> None:
    with pytest.raises(ValueError, match="ask was given n="):
        Searcher(SPACE).ask(n)


def test_the_grid_ends() -> None:
    searcher = Searcher({"x": hp.randint("x", 5)}, sparktune.grid.suggest)
    assert searcher.ask(0) == []
    assert [candidate.point["x"] for candidate in searcher.ask(3)] == [0, 1, 2]
    assert len(searcher.ask(10)) == 2
    assert searcher.ask(1) == []
    with pytest.raises(NoMorePoints, match="no more points: 5 have been asked for"):
        searcher.ask()
    assert [candidate.id for candidate in searcher.pending] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_goes_on_after_pickling(name: str) -> None:
    searcher = Searcher(SPACE, ALGORITHMS[name], seed=3)
    play(searcher, 8)
    pending = searcher.ask()
    restored = pickle.loads(pickle.dumps(searcher))
    for each in (searcher, restored):
        each.tell(pending.id, 0.25)
    assert play(restored, 6) == play(searcher, 6)
    assert restored.best is not None
    assert searcher.best is not None
    assert restored.best.params == searcher.best.params


def test_it_needs_no_spark_and_no_mlflow(run: Any) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pyspark', 'mlflow', 'pandas', 'plotly'])); "
        "from sparktune import Searcher, hp; s = Searcher(hp.uniform('x', 0, 1)); s.tell(s.ask(), 1.0)"
    )
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
