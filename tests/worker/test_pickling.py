"""What cannot be pickled is named: the variable that holds it, its type, the remedy."""

from __future__ import annotations

import ctypes
import functools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sparktune.errors import ObjectiveNotPicklable
from sparktune.worker import pickling
from sparktune.worker.objective import Objective
from tests.conftest import ON_CONNECT

LOCK = threading.Lock()
REMEDY = "Remedy: locks and threads belong to one process: create it inside the objective"


def by_closure() -> Callable[..., Any]:
    guard = threading.Lock()
    return lambda x: guard and x


def by_global() -> Callable[..., Any]:
    def fn(x: Any) -> Any:
        return LOCK and x

    return fn


def by_default() -> Callable[..., Any]:
    def fn(x: Any, guard: Any = threading.Lock()) -> Any:  # noqa: B008
        return x

    return fn


def by_nested_function() -> Callable[..., Any]:
    def fn(x: Any) -> Any:
        def inner() -> Any:
            return LOCK

        return inner() and x

    return fn


def by_helper() -> Callable[..., Any]:
    guard = threading.Lock()

    def helper() -> Any:
        return guard

    return lambda x: helper() and x


class Trainer:
    def __init__(self) -> None:
        self.guard = threading.Lock()

    def fn(self, x: Any) -> Any:
        return x


def by_container() -> Callable[..., Any]:
    settings = {"depth": 3, "guards": [1, threading.Lock()]}
    return lambda x: settings and x


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (by_closure, "the variable 'guard'"),
        (by_global, "the global variable 'LOCK'"),
        (by_default, "the default of the argument 'guard'"),
        (by_nested_function, "the global variable 'LOCK'"),
        (by_helper, "the variable 'guard'"),
        (by_container, "the variable 'settings'['guards'][1]"),
        (lambda: Trainer().fn, "the attribute 'guard' of the object of the method 'fn'"),
        (lambda: functools.partial(max, threading.Lock()), "the partial's argument 0"),
        (lambda: functools.partial(max, key=threading.Lock()), "the partial's argument 'key'"),
    ],
)
def test_the_culprit_is_named(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(ObjectiveNotPicklable) as caught:
        pickling.dumps(make())
    message = str(caught.value)
    assert message.startswith("the objective cannot be sent to a Spark worker: ")
    assert f"{name} is a lock, which cannot be pickled" in message
    assert message.endswith(REMEDY)


def test_it_is_found_inside_an_objective() -> None:
    with pytest.raises(ObjectiveNotPicklable, match="the variable 'guard' is a lock"):
        pickling.dumps(Objective(by_closure(), None))


@pytest.fixture
def open_file(tmp_path: Any) -> Any:
    with (tmp_path / "data.txt").open("w") as file:
        yield file


def test_an_open_file(open_file: Any) -> None:
    with pytest.raises(ObjectiveNotPicklable, match=r"'open_file' is a TextIOWrapper.*pass its path"):
        pickling.dumps(lambda x: open_file.write(x))


def test_a_generator() -> None:
    numbers = (n for n in range(3))
    with pytest.raises(ObjectiveNotPicklable, match=r"'numbers' is a generator.*turn it into a list"):
        pickling.dumps(lambda x: next(numbers))


def test_an_object_of_unknown_kind() -> None:
    pointer = ctypes.pointer(ctypes.c_int())
    with pytest.raises(
        ObjectiveNotPicklable, match=r"'pointer' is a LP_c_int.*create it inside the objective"
    ):
        pickling.dumps(lambda x: pointer)


def test_spark_objects(spark: Any) -> None:
    frame = spark.range(3)
    with pytest.raises(ObjectiveNotPicklable, match=r"'frame' is a DataFrame.*df\.toPandas\(\)"):
        pickling.dumps(lambda x: frame.count())
    with pytest.raises(ObjectiveNotPicklable, match=r"'spark' is a SparkSession.*read the data before fmin"):
        pickling.dumps(lambda x: spark.range(3))


@pytest.mark.skipif(ON_CONNECT, reason="Spark Connect has no SparkContext")
def test_spark_context_and_rdds(spark: Any) -> None:
    context = spark.sparkContext
    with pytest.raises(ObjectiveNotPicklable, match=r"'context' is a SparkContext.*read the data before"):
        pickling.dumps(lambda x: context.parallelize([1]))
    rdd = context.parallelize([1])
    with pytest.raises(ObjectiveNotPicklable, match=r"'rdd' is a RDD.*collect"):
        pickling.dumps(lambda x: rdd.collect())


def test_cycles_are_survived() -> None:
    part: dict[str, Any] = {"lock": threading.Lock()}
    part["self"] = part
    with pytest.raises(ObjectiveNotPicklable, match=r"'part'\['lock'\] is a lock"):
        pickling.dumps(lambda x: part)


def test_what_can_be_pickled_is_not_changed() -> None:
    fn = pickle.loads(pickling.dumps(lambda x: x + 1))
    assert fn(1) == 2
