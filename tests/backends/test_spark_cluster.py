"""What is read of a Spark application; slots of real ones are counted in ``test_spark_classic``."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sparktune.backends.spark_application import UNBOUNDED_SLOTS
from sparktune.backends.spark_cluster import grown, import_path, lost, with_remedy
from sparktune.study.trial import TrialError

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
    ("task", "executor", "slots"),
    [({"cpus": 2}, {}, 20), ({"cpus": 0.5}, {"cores": 8}, 160), ({"gpu": 1}, {}, 10)],
)
def test_dynamic_allocation_grows_to_what_a_profile_leaves(
    task: dict[str, float], executor: dict[str, int], slots: int
) -> None:
    def amounts(of: dict[str, Any]) -> dict[str, Any]:
        return {name: SimpleNamespace(amount=amount) for name, amount in of.items()}

    profile = SimpleNamespace(taskResources=amounts(task), executorResources=amounts(executor))
    conf = {
        "spark.dynamicAllocation.maxExecutors": "10",
        "spark.executor.cores": "4",
        "spark.task.cpus": "3",
    }
    assert grown(3, DYNAMIC | conf, profile) == slots


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


def advice(module: str) -> list[str]:
    return [f"addPyFile('{module}.py')"]


LOCAL = SimpleNamespace(is_near=True)
CLUSTER = SimpleNamespace(is_near=False, missing_module_advice=advice)


def test_the_import_path_is_one_for_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/first", "here", "/first"])
    assert import_path(True) == (os.getcwd(), "/first", os.path.abspath("here"))
    assert import_path(False) == ()


def test_a_module_that_a_cluster_does_not_have() -> None:
    error = TrialError.of(ModuleNotFoundError("No module named 'helper.part'"))
    for text in (with_remedy(error, CLUSTER).message, with_remedy(error, CLUSTER).traceback):
        assert "No module named 'helper.part'" in text
        assert "addPyFile('helper.py')" in text
        assert "register_pickle_by_value(helper)" in text
    assert with_remedy(error, LOCAL) == error
    other = TrialError.of(ValueError("No module named 'helper'"))
    assert with_remedy(other, CLUSTER) == other
