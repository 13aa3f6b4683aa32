"""Where values stand on a parameter's axis, and which ticks it has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sparktune.plots.axes import Axis, as_number, looks_logarithmic, nice_ticks, short, value_text
from sparktune.plots.style import labels_of
from sparktune.plots.table import Row, Table
from sparktune.study.trial import TrialState

pytestmark = pytest.mark.unit

NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_every_value_stands_between_the_ends(values: list[float]) -> None:
    axis = Axis.of("x", values, len(values))
    shares = [axis.share(value) for value in values]
    assert all(share is not None and -1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert all(-1e-6 <= share <= 1 + 1e-6 for share, _ in axis.ticks())


@given(NUMBERS, st.floats(1e-9, 1e9))
def test_ticks_are_a_few_round_numbers(low: float, width: float) -> None:
    if low + width > low + abs(low) * 1e-9:
        ticks = nice_ticks(low, low + width)
        assert 1 <= len(ticks) <= 12


@pytest.mark.parametrize(
    ("values", "text", "kind"),
    [
        ([0.1, 0.2], "", "number"),
        ([1e-5, 1e-3, 1e-1, 1.0], "", "log"),
        ([1e-5, 1e-3, 1e-1, 1.0], "hp.uniform(0, 1)", "number"),
        ([0.1, 0.2], "hp.loguniform(-3, -1)", "log"),
        ([0, 5], "hp.qloguniform(0, 2, 5)", "number"),  # 0 has no logarithm
        ([16, 64, 256, 2048], "hp.randint(0, 4) of 16, 64, 256, 2048", "log"),
        ([True, False], "", "category"),
        (["a", 1], "", "category"),
        ([math.nan, 1.0], "", "category"),
        ([10**400, 1], "", "category"),
        ([[1, 2], {"a": 1}], "", "category"),
        ([np.float64(0.5), np.int64(3)], "", "number"),
    ],
)
def test_kinds(values: list[Any], text: str, kind: str) -> None:
    assert Axis.of("x", values, 4, text).kind == kind


def test_categories_are_in_order_and_have_a_place_each() -> None:
    axis = Axis.of("x", ["b", 10, 2, "a", None, True], 7)
    assert axis.categories == ("2", "10", "None", "True", "a", "b")
    assert [axis.coordinate(value) for value in (2, "b", "unknown")] == [0, 5, None]
    assert axis.is_conditional
    # Trials of one category do not cover each other, and stay next to its place.
    places = [axis.drawn("a", number) for number in range(50)]
    assert len(set(places)) == 50
    assert all(place is not None and abs(place - 4) <= 0.25 for place in places)


def test_logarithms_are_even() -> None:
    axis = Axis.of("lr", [1e-4, 1e-2, 1.0], 3, "hp.loguniform(-9, 0)")
    assert axis.share(1e-2) == pytest.approx(0.5)
    assert [text for _, text in axis.ticks()] == ["1e-4", "0.001", "0.01", "0.1", "1"]
    assert axis.coordinate(0.0) is None


def test_one_value_stands_in_the_middle() -> None:
    axis = Axis.of("x", [3.0, 3.0], 2)
    assert (axis.share(3.0), axis.ticks()) == (0.5, [(0.5, "3")])


def test_values_without_a_text_are_named() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    assert Axis.of("x", [Odd(), "a"], 2).categories == ("<Odd: RuntimeError>", "a")


def test_even_numbers_do_not_look_logarithmic() -> None:
    assert not looks_logarithmic(list(np.linspace(0.001, 1, 50)))
    assert looks_logarithmic(list(np.geomspace(0.001, 1, 50)))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1e-5, "1e-5"), (0.25, "0.25"), (12000, "12,000"), (2.5e7, "2.5e7"), (-3, "-3")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_what_is_a_number() -> None:
    assert [as_number(value) for value in (1, True, np.bool_(True), "1", math.inf, None)] == [
        1.0,
        *[None] * 5,
    ]


ALIKE = [
    f"/dbfs/mnt/warehouse/team/features/2026/train_{kind}.parquet" for kind in ("raw", "clean", "joined")
]


@pytest.mark.parametrize(
    "values",
    [
        ALIKE,
        [f"{'x' * 40}{i}{'y' * 40}" for i in range(3)],
        [0.1234567, 0.1234568, "auto"],
        ["a" * 100, "a" * 101],
        [1, "1", None, "None", "auto", "", "''"],
    ],
)
def test_options_that_look_alike_are_categories_apart(values: list[Any]) -> None:
    axis = Axis.of("data", values, len(values))
    assert len({axis.coordinate(value) for value in values}) == len(axis.categories) == len(values)
    for chars in (12, 18):
        names = labels_of(axis.categories, chars)
        assert len(set(names)) == len(names)
    assert all(len(value_text(value)) <= 40 for value in values)


def test_importance_tells_options_with_a_common_beginning_apart() -> None:
    rows = [
        Row(
            i,
            TrialState.COMPLETED,
            loss=float(i % 3) + i / 1000,
            params={"data": ALIKE[i % 3], "x": i * 7 % 11},
        )
        for i in range(60)
    ]
    shares = Table(rows).importances
    assert shares["data"] > 0.9
