"""Functions of ``scope.define`` work where hyperopt has not heard of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hyperopt import hp, pyll

from sparktune import SparkTrials, fmin, rand
from sparktune.worker import parcel
from sparktune.worker.expression import Expression
from sparktune.worker.objective import Objective, ObjectiveSent


@pytest.fixture
def twice() -> Iterator[Any]:
    """A symbol of the user's, defined in a function: no worker can import it."""

    def sparktune_twice(x: float, plus: float = 0.0) -> float:
        return 2 * x + plus

    pyll.scope.define(sparktune_twice)
    yield pyll.scope.sparktune_twice
    if hasattr(pyll.scope, "sparktune_twice"):
        pyll.scope.undefine("sparktune_twice")


def elsewhere(space: Any) -> ObjectiveSent:
    """The objective as it arrives where the symbol is unknown."""

    class Sent:
        value = parcel.pack(Objective(lambda x: x, pyll.as_apply(space)))

    if hasattr(pyll.scope, "sparktune_twice"):
        pyll.scope.undefine("sparktune_twice")
    return parcel.opened(Sent).copy()


def test_a_symbol_travels_with_the_objective(twice: Any) -> None:
    objective = elsewhere(twice(hp.uniform("x", 0, 1), plus=1.0))
    assert objective.evaluate(0, {"x": 0.25})[0]["loss"] == 1.5


def test_each_study_has_its_own_definition(twice: Any) -> None:
    objective = elsewhere(twice(hp.uniform("x", 0, 1)))

    def sparktune_twice(x: float) -> float:
        return -x

    pyll.scope.define(sparktune_twice)
    other = elsewhere(pyll.scope.sparktune_twice(hp.uniform("x", 0, 1)))
    losses = [one.evaluate(0, {"x": 0.25})[0]["loss"] for one in (objective, other, objective)]
    assert losses == [0.5, -0.25, 0.5]


def test_hyperopts_own_symbols_do_not_travel() -> None:
    space = {
        "n": pyll.scope.int(hp.quniform("n", 1, 5, 1)),
        "c": hp.choice("c", [1, hp.normal("z", 0, 1) * 2]),
    }
    assert Expression(pyll.as_apply(space)).symbols == {}


def test_on_real_workers(spark: Any, twice: Any) -> None:
    trials = SparkTrials(2, spark_session=spark, mlflow=False)
    space = {"x": twice(hp.uniform("x", 0, 1), plus=3.0)}
    fmin(lambda p: p["x"], space, rand.suggest, 4, trials=trials, show_progressbar=False)
    assert trials.count_successful_trials() == 4
    assert all(3 <= loss <= 5 for loss in trials.losses())
