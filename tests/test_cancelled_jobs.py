"""A study whose Spark jobs others cancel, as the cancel button of a notebook does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import mlflow
import pytest

from sparktune import DriverTrials, SparkTrials, fmin, hp, rand
from sparktune.errors import StudyCancelled
from tests.backends.test_driver_threads import run_for_an_hour
from tests.conftest import ON_CONNECT

pytestmark = pytest.mark.system

GROUP = "statement 7"
POINTS = [{"x": x} for x in range(6)]


def in_group(spark: Any, call: Callable[[], Any], when: threading.Event) -> Any:
    """What the call returns or raises in the job group of a statement that Livy cancels: again and again."""
    found: list[Any] = []

    def statement() -> None:
        if ON_CONNECT:
            spark.addTag(GROUP)
        else:
            spark.sparkContext.setJobGroup(GROUP, "")
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=statement)
    thread.start()
    assert when.wait(180)
    while thread.is_alive():
        if ON_CONNECT:
            spark.interruptTag(GROUP)
        else:
            spark.sparkContext.cancelJobGroup(GROUP)
        thread.join(0.1)
    return found[0]


class Begun(SparkTrials):
    """Tells when two trials that do not end by themselves have begun."""

    def changed(self, trial: Any) -> None:
        super().changed(trial)
        if trial.started_s is not None and trial.params["x"] > 2:
            self.begun.set()

    begun = threading.Event()


def test_the_study_is_cancelled_and_goes_on(spark: Any, mlflow_store: str, tmp_path: Any) -> None:
    marker = tmp_path / "second"

    def objective(x: int) -> int:
        if x > 1 and not marker.exists():
            time.sleep(3600)
        return x

    trials = Begun(parallelism=2, spark_session=spark)
    options: Any = {"points_to_evaluate": POINTS, "show_progressbar": False}

    def study() -> Any:
        return fmin(objective, hp.randint("x", 6), rand.suggest, 0, trials=trials, **options)

    error = in_group(spark, study, trials.begun)
    assert isinstance(error, StudyCancelled), error
    assert "call fmin again with the same trials object" in str(error)
    assert trials.fmin_cancelled_reason == "fmin run cancelled with its Spark jobs"
    frame = trials.to_dataframe()
    assert frame["state"].tolist() == ["completed"] * 2 + ["cancelled"] * 4
    parent = mlflow.get_run(trials.run_id)
    assert parent.info.status == "KILLED"
    assert "sparktune.error" not in parent.data.tags

    marker.touch()
    again = SparkTrials(parallelism=2, spark_session=spark)
    fmin(objective, hp.randint("x", 6), rand.suggest, 0, trials=again, resume="last", show_progressbar=False)
    assert again.run_id == trials.run_id
    assert again.to_dataframe()["state"].tolist() == ["completed"] * 6


@pytest.mark.usefixtures("mlflow_store")
def test_objectives_with_jobs_of_their_own(spark: Any) -> None:
    begun = threading.Event()

    def objective(x: int) -> int:
        if x > 1:
            begun.set()
            run_for_an_hour(spark)
        return x

    trials = DriverTrials(2, spark_session=spark)
    options: Any = {"points_to_evaluate": POINTS, "show_progressbar": False}
    error = in_group(
        spark,
        lambda: fmin(objective, hp.randint("x", 6), rand.suggest, 0, trials=trials, **options),
        begun,
    )
    assert isinstance(error, StudyCancelled), error
    assert trials.to_dataframe()["state"].tolist() == ["completed"] * 2 + ["cancelled"] * 4
