"""What is a whole number."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from sparktune.study.numeric import as_whole

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "value", [4, 4.0, np.int8(4), np.int64(4), np.float32(4), np.float64(4), np.array(4)]
)
def test_whole_numbers_of_every_type(value: Any) -> None:
    found = as_whole(value)
    assert (found, type(found)) == (4, int)


@pytest.mark.parametrize(
    "value", [None, True, np.True_, "4", 4.5, np.float64(4.5), math.nan, math.inf, Decimal(4), [4]]
)
def test_what_is_none(value: Any) -> None:
    assert as_whole(value) is None
