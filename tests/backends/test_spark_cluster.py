"""What is read of a Spark application; slots of real ones are counted in ``test_spark_classic``."""

from __future__ import annotations

import pytest

from sparktune.backends.spark_cluster import UNBOUNDED_SLOTS, grown, lost

DYNAMIC = {"spark.dynamicAllocation.enabled": "true"}


def test_without_dynamic_allocation_slots_stay() -> None:
    assert grown(3, {"spark.dynamicAllocation.maxExecutors": "10"}) == 3


@pytest.mark.parametrize(
    ("conf", "slots"),
    [
        ({}, UNBOUNDED_SLOTS),
        ({"spark.dynamicAllocation.maxExecutors": str(2**31 - 1)}, UNBOUNDED_SLOTS),
        ({"spark.dynamicAllocation.maxExecutors": "10"}, 10),
        ({"spark.dynamicAllocation.maxExecutors": "10", "spark.executor.cores": "4"}, 40),
        (
            {
                "spark.dynamicAllocation.maxExecutors": "10",
                "spark.executor.cores": "4",
                "spark.task.cpus": "3",
            },
            10,
        ),
        ({"spark.dynamicAllocation.maxExecutors": "2"}, 3),
    ],
)
def test_dynamic_allocation_grows_to_its_limit(conf: dict[str, str], slots: int) -> None:
    assert grown(3, DYNAMIC | conf) == slots


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ModuleNotFoundError: No module named 'sparktune'", "the Python workers cannot import 'sparktune'"),
        ("Total size of results is bigger than spark.driver.maxResultSize", "return less"),
        ("x\nPython worker exited unexpectedly (crashed)", r"the worker died .*exited unexpectedly"),
        ("", "the worker died"),
    ],
)
def test_lost(text: str, says: str) -> None:
    error = lost(Exception(text))
    assert error.type_name == "WorkerLost"
    with pytest.raises(RuntimeError, match=says):
        raise RuntimeError(error.message)
