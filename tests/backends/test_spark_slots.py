"""How many trials run, as a pure rule; real clusters that grow are in ``test_growing_cluster``."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from sparktune.backends import spark_slots
from sparktune.backends.spark_slots import (
    Growth,
    Kind,
    Plan,
    Size,
    explained,
    growth_of,
    limit,
    refuse_impossible,
    size_of,
    to_launch,
    to_wait,
)

pytestmark = pytest.mark.unit

DYNAMIC = {"spark.dynamicAllocation.enabled": "true"}
AUTOSCALING = {
    "spark.databricks.clusterUsageTags.clusterScalingType": "autoscaling",
    "spark.databricks.clusterUsageTags.clusterMinWorkers": "2",
    "spark.databricks.clusterUsageTags.clusterMaxWorkers": "16",
}
DYNAMICALLY, BY_DATABRICKS = "Spark's dynamic allocation", "Databricks' autoscaling"
UNLIMITED = Size(2, math.inf, DYNAMICALLY)


def profile(task: dict[str, float], executor: dict[str, int] | None = None) -> Any:
    def amounts(of: dict[str, Any]) -> dict[str, Any]:
        return {name: SimpleNamespace(amount=amount) for name, amount in of.items()}

    return SimpleNamespace(taskResources=amounts(task), executorResources=amounts(executor or {}))


# -- what settings say ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "size"),
    [
        ({}, Size(3, 3)),
        ({"spark.dynamicAllocation.maxExecutors": "10"}, Size(3, 3)),
        (DYNAMIC, Size(3, math.inf, DYNAMICALLY)),
        (DYNAMIC | {"spark.dynamicAllocation.maxExecutors": str(2**31 - 1)}, Size(3, math.inf, DYNAMICALLY)),
        (DYNAMIC | {"spark.dynamicAllocation.maxExecutors": "10"}, Size(3, 10, DYNAMICALLY)),
        (DYNAMIC | {"spark.dynamicAllocation.maxExecutors": "2"}, Size(3, 3, DYNAMICALLY)),
        (
            DYNAMIC | {"spark.dynamicAllocation.maxExecutors": "10", "spark.master": "spark://host:7077"},
            Size(3, 30, DYNAMICALLY),  # an executor takes its machine, as that one of 3 cores has
        ),
        (
            DYNAMIC
            | {
                "spark.dynamicAllocation.maxExecutors": "10",
                "spark.executor.cores": "4",
                "spark.task.cpus": "2",
            },
            Size(3, 20, DYNAMICALLY),
        ),
        (AUTOSCALING, Size(3, 48, BY_DATABRICKS)),
        (AUTOSCALING | {"spark.executor.cores": "8"}, Size(3, 128, BY_DATABRICKS)),
        (AUTOSCALING | {"spark.databricks.clusterUsageTags.clusterScalingType": "fixed_size"}, Size(3, 3)),
    ],
)
def test_what_settings_say_of_three_slots_on_one_executor(conf: dict[str, str], size: Size) -> None:
    assert size_of(3, growth_of(conf), n_executors=1) == size


def test_what_is_not_known() -> None:
    assert size_of(None, Growth()).kind is Kind.UNKNOWN
    assert size_of(None, growth_of(AUTOSCALING)).kind is Kind.UNKNOWN
    assert size_of(0, growth_of(AUTOSCALING), n_executors=0) == Size(0, math.inf, BY_DATABRICKS)


@pytest.mark.parametrize(
    ("task", "executor", "most"),
    [({"cpus": 2}, {}, 20), ({"cpus": 0.5}, {"cores": 8}, 160), ({"gpu": 1}, {}, 10)],
)
def test_a_profile_says_what_an_executor_holds(
    task: dict[str, float], executor: dict[str, int], most: int
) -> None:
    conf = DYNAMIC | {
        "spark.dynamicAllocation.maxExecutors": "10",
        "spark.executor.cores": "4",
        "spark.task.cpus": "3",
    }
    assert size_of(3, growth_of(conf, profile(task, executor))).most == most


# -- how many trials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "plan", "most", "now", "waiting"),
    [
        (Size(4, 4), Plan(None, 40), 4, 4, 0),
        (Size(4, 4), Plan(2, 40), 2, 2, 0),
        (Size(4, 4), Plan(8, 40), 4, 4, 0),  # slots that join are used then
        (Size(0, 0), Plan(8, 40), 1, 1, 0),
        (Size(1, 8, BY_DATABRICKS), Plan(6, 40), 6, 1, 4),
        (Size(3, 8, BY_DATABRICKS), Plan(6, 40), 6, 3, 3),
        (Size(6, 8, BY_DATABRICKS), Plan(6, 40), 6, 6, 0),
        (Size(8, 128, BY_DATABRICKS), Plan(64, 640), 64, 8, 8),
        (Size(8, 16, BY_DATABRICKS), Plan(64, 640), 16, 8, 8),
        (UNLIMITED, Plan(None, 40), 4, 2, 2),
        (UNLIMITED, Plan(None, 41), 5, 2, 3),
        (UNLIMITED, Plan(None, 10), 2, 2, 0),
        (UNLIMITED, Plan(None, None), 10, 2, 4),
        (Size(8, math.inf, DYNAMICALLY), Plan(None, 40), 8, 8, 0),
        (Size(0, math.inf, DYNAMICALLY), Plan(None, 40), 4, 1, 3),
        (Size(2, 3, DYNAMICALLY), Plan(None, 40), 3, 2, 1),
        (Size(None, math.inf), Plan(None, 40), 4, 4, 0),
        (Size(None, math.inf), Plan(None, 5), 1, 1, 0),
        (Size(None, math.inf), Plan(None, 5, 15), 2, 2, 0),
        (Size(None, math.inf), Plan(None, 0, 12), 12, 12, 0),  # nothing to learn
        (Size(1, 8, BY_DATABRICKS), Plan(None, 0, 12), 8, 1, 4),
        (Size(None, math.inf), Plan(16, 40), 16, 16, 0),
    ],
)
def test_how_many_trials(size: Size, plan: Plan, most: int, now: int, waiting: int) -> None:
    assert limit(size, plan) == most
    assert to_launch(size, plan) == now
    assert to_wait(size, plan, now, 1000) == waiting
    assert to_wait(size, plan, now - 1, 1000) == 0, "a free slot is used first"
    assert to_wait(size, plan, now, 0) == 0, "no more than trials are left"
    assert to_wait(size, plan, most, 1000) == 0
    if size.kind is Kind.ELASTIC:
        assert to_launch(size, plan, may_wait=False) == most


def test_a_cluster_that_follows_its_load_grows_to_the_limit_and_no_further() -> None:
    for most, parallelism, evals in [(1000, 100, 1000), (50, 100, 1000), (1000, None, 300)]:
        slots, steps = 1, 0
        plan = Plan(parallelism, evals)
        while waiting := to_wait(Size(slots, most, DYNAMICALLY), plan, slots, 1000):
            slots, steps = slots + waiting, steps + 1
        assert slots == min(most, parallelism or evals // 10)
        assert steps <= 6


@pytest.mark.parametrize(
    ("size", "plan", "says"),
    [
        (
            UNLIMITED,
            Plan(6, 40),
            "2 now, without a limit): at most 6 trials at the same time, as parallelism=6 asks",
        ),
        (
            Size(1, 4, BY_DATABRICKS),
            Plan(6, 40),
            "up to 4): at most 4 trials at the same time, of the 6 that",
        ),
        (UNLIMITED, Plan(None, 40), "at most 4 trials at the same time, a tenth of max_evals=40, so that"),
        (UNLIMITED, Plan(None, None), "at most 10 trials at the same time, as there is no max_evals"),
        (UNLIMITED, Plan(None, 20), "at most 2 trials at the same time, as many as there are slots"),
        (
            Size(2, 3, DYNAMICALLY),
            Plan(None, 40),
            "at most 3 trials at the same time, as many as slots are allowed",
        ),
        (
            UNLIMITED,
            Plan(None, 35, 5),
            "at most 4 trials at the same time, a tenth of max_evals=35 and 5 points_to_",
        ),
        (
            UNLIMITED,
            Plan(None, 0, 5),
            "at most 5 trials at the same time, as many as there are points_to_evaluate",
        ),
        (
            Size(None, math.inf),
            Plan(None, 10),
            "does not report how many slots there are: at most 1 trial at",
        ),
    ],
)
def test_what_the_log_says(size: Size, plan: Plan, says: str) -> None:
    assert says in explained(size, plan)


def test_what_is_seen_to_run_counts() -> None:
    assert UNLIMITED.at_least(5) == Size(5, math.inf, DYNAMICALLY)
    assert Size(2, 3, DYNAMICALLY).at_least(5) == Size(5, 5, DYNAMICALLY)
    assert UNLIMITED.at_least(1) is UNLIMITED


# -- what can never run --------------------------------------------------------------------------------


def test_a_local_master_has_no_resources() -> None:
    settings = {"spark.task.resource.gpu.amount": "1", "spark.executor.resource.gpu.amount": "1"}
    with pytest.raises(ValueError, match=r"spark.task.resource.gpu.amount is 1, and a local master has no"):
        refuse_impossible(settings, one_process=True)
    refuse_impossible(settings, one_process=False)
    refuse_impossible({"spark.task.resource.gpu.amount": "0"}, one_process=True)


@pytest.mark.parametrize(
    ("task", "executor", "settings", "says"),
    [
        ({"gpu": 1}, {}, {}, r"1 gpu, and an executor has 0 \(spark.executor.resource.gpu.amount\)"),
        ({"gpu": 2}, {"gpu": 1}, {}, "2 gpu, and an executor has 1"),
        ({"cpus": 5}, {}, {"spark.executor.cores": "4"}, r"5 cpus, and .* has 4 \(spark.executor.cores\)"),
        ({"cpus": 5}, {}, {}, None),  # as many as a machine has
        ({"cpus": 5}, {"cores": 8}, {"spark.executor.cores": "4"}, None),
        ({"gpu": 0.5}, {}, {"spark.executor.resource.gpu.amount": "1"}, None),
    ],
)
def test_a_profile_that_no_executor_can_serve(
    task: dict[str, float], executor: dict[str, int], settings: dict[str, str], says: str | None
) -> None:
    if says is None:
        refuse_impossible(settings, profile(task, executor))
        return
    with pytest.raises(ValueError, match=says):
        refuse_impossible(settings, profile(task, executor))


def test_the_names_of_the_kinds_are_what_the_doctor_prints() -> None:
    assert [kind.value for kind in Kind] == ["fixed", "elastic", "of a size that is not known"]
    assert spark_slots.LEARNING_SHARE == 10
