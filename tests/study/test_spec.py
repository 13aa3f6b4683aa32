"""What a study is, and why a call cannot go on with one."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest

from sparktune.study.spec import StudySpec, algorithm_name

pytestmark = pytest.mark.unit

SPEC = StudySpec(
    objective="train",
    name="nightly",
    algo="sparktune.search.tpe.suggest",
    parameters={"x": "hp.uniform(0, 1)"},
    max_evals=10,
)


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({}, []),
        ({"objective": "other", "name": "other", "max_evals": None, "timeout_s": 1.0}, []),
        ({"metric": "f1"}, ["the metric was loss and is f1"]),
        ({"goal": "maximize"}, ["the goal was minimize and is maximize"]),
        ({"algo": "f"}, ["the algorithm was sparktune.search.tpe.suggest and is f"]),
        ({"warm_start": ("run",)}, ["the warm_start was [] and is ['run']"]),
        (
            {"parameters": {"x": "hp.uniform(0, 2)"}},
            ["the parameter 'x' was hp.uniform(0, 1) and is hp.uniform(0, 2)"],
        ),
        (
            {"parameters": {"x": "hp.uniform(0, 1)", "y": "hp.normal(0, 1)"}},
            ["the parameter 'y' was not there and is hp.normal(0, 1)"],
        ),
        (
            {"parameters": {"z": "hp.uniform(0, 1)"}},
            [
                "the parameter 'x' was hp.uniform(0, 1) and is not there now",
                "the parameter 'z' was not there and is hp.uniform(0, 1)",
            ],
        ),
    ],
)
def test_differences(changes: dict[str, Any], differences: list[str]) -> None:
    assert SPEC.differences(replace(SPEC, **changes)) == differences


class Window:
    """Its text holds its address."""

    def __repr__(self) -> str:
        return f"<{super().__repr__()}>"


def suggest(window: Any = None) -> None:
    """Stands for a suggest function."""


def test_an_algorithm_has_one_name_in_every_process() -> None:
    names = {algorithm_name(functools.partial(suggest, window=Window())) for _ in range(9)}
    assert names == {f"{__name__}.suggest(window=<<{__name__}.Window object>>)"}
