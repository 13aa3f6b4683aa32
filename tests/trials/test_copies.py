"""Copies of trials, which run where these do; what is pickled finds a session of its own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from sparktune import SimulatedTrials, SparkTrials, fmin, hp, rand
from tests.conftest import ON_CONNECT


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_has_the_session_and_the_profile(spark: Any, copied: Any) -> None:
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    trials = SparkTrials(mlflow=False, spark_session=spark)
    profile = None if ON_CONNECT else ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build
    trials._resource_profile = profile  # on a local master the constructor leaves it out
    made = copied(trials)
    assert made is not trials
    assert made._spark is spark
    assert made._resource_profile is profile
    read = pickle.loads(pickle.dumps(trials))
    assert read._spark is None
    assert read._resource_profile is None


def test_a_deep_copy_shares_no_trials(spark: Any) -> None:
    trials = SparkTrials(mlflow=False, spark_session=spark)
    space = {"x": hp.uniform("x", 0, 1)}
    fmin(lambda p: p["x"], space, rand.suggest, 1, trials=trials, rstate=0, show_progressbar=False)
    both = {"first": trials, "second": trials}
    made = copy.deepcopy(both)
    assert made["first"] is made["second"]
    fmin(lambda p: p["x"], space, rand.suggest, 2, trials=made["first"], rstate=0, show_progressbar=False)
    assert (len(trials), len(made["first"])) == (1, 2)


def test_the_dict_without_the_session_can_be_pickled() -> None:
    """As people do with ``SparkTrials`` of hyperopt's, whose session cannot be."""
    trials = SimulatedTrials()
    options: Any = {"rstate": 0, "show_progressbar": False}
    fmin(abs, hp.uniform("x", 0, 1), rand.suggest, 2, trials=trials, **options)
    kept = {key: value for key, value in trials.__dict__.items() if key not in ("_spark", "_spark_context")}
    read = SimulatedTrials()
    read.__dict__.update(pickle.loads(pickle.dumps(kept)))
    assert read.losses() == trials.losses()
    fmin(abs, hp.uniform("x", 0, 1), rand.suggest, 4, trials=read, **options)
    assert len(read) == 4
