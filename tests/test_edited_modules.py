"""Modules that are edited between two studies of one Spark session: the trials run them as they are now."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from sparktune import SparkTrials, fmin, hp, rand

pytestmark = pytest.mark.system

cloudpickle.register_pickle_by_value(sys.modules[__name__])

NAMES = ("edited_project", "edited_lazily")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in NAMES]:
        del sys.modules[name]


def written(folder: Path, constant: int) -> None:
    """A package of two modules, and a module; each text of another length than the one before."""
    package = folder / "edited_project"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "constants.py").write_text(f"VALUE = {constant}\n")
    core = "from edited_project.constants import VALUE\ndef value():\n    return VALUE\n"
    (package / "core.py").write_text(core)
    (folder / "edited_lazily.py").write_text(f"VALUE = {constant}\n")


def results(spark: Any, objective: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """What four trials returned."""
    trials = SparkTrials(2, spark_session=spark, mlflow=False)
    fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 4, trials=trials, show_progressbar=False)
    found: list[dict[str, Any]] = trials.results
    assert len(found) == 4
    return found


def by_reference() -> Callable[[Any], Any]:
    """An objective with a function of the package."""
    value = importlib.import_module("edited_project.core").value

    def objective(_x: float) -> dict[str, Any]:
        import os

        return {"loss": value(), "status": "ok", "pid": os.getpid()}

    return objective


def test_a_package_that_was_edited_and_reloaded(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, 1)
    monkeypatch.syspath_prepend(tmp_path)
    first = results(spark, by_reference())
    again = results(spark, by_reference())
    assert {result["loss"] for result in [*first, *again]} == {1}
    assert {result["pid"] for result in first} & {result["pid"] for result in again}, "no worker was kept"

    written(tmp_path, 22)
    for name in ("edited_project.constants", "edited_project.core"):
        importlib.reload(sys.modules[name])
    assert by_reference()(0.0)["loss"] == 22
    after = results(spark, by_reference())
    assert {result["loss"] for result in after} == {22}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], caplog.text


def test_an_edit_without_a_reload_is_warned_of_by_name(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, 1)
    monkeypatch.syspath_prepend(tmp_path)
    results(spark, by_reference())
    written(tmp_path, 22)
    after = results(spark, by_reference())
    assert {result["loss"] for result in after} == {22}, "hyperopt's workers read the file"
    assert by_reference()(0.0)["loss"] == 1
    assert (
        "edited since this process imported them, and not reloaded: edited_project.constants" in caplog.text
    )


def test_modules_that_only_the_workers_import(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def objective(_x: float) -> dict[str, Any]:
        import edited_lazily  # type: ignore[import-not-found]

        return {"loss": edited_lazily.VALUE, "status": "ok"}

    written(tmp_path / "a", 1)
    written(tmp_path / "b", 22)
    monkeypatch.syspath_prepend(tmp_path / "a")
    assert {result["loss"] for result in results(spark, objective)} == {1}
    monkeypatch.syspath_prepend(tmp_path / "b")  # another copy comes first
    assert {result["loss"] for result in results(spark, objective)} == {22}
    written(tmp_path / "b", 333)
    assert {result["loss"] for result in results(spark, objective)} == {333}
    written(tmp_path / "a", 4444)  # the one that is not used
    assert {result["loss"] for result in results(spark, objective)} == {333}
