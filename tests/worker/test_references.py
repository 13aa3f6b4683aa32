"""Pickles that refer to what was sent before."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sparktune.worker import references

pytestmark = pytest.mark.unit

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(VALUES)
def test_without_references_it_is_a_pickle(value: Any) -> None:
    assert references.loads(references.dumps(value, []), []) == value


def test_objects_that_were_sent_are_the_receivers_own() -> None:
    ours, theirs = [bytearray(100_000), {"a": 1}], [bytearray(1), {"b": 2}]
    data = references.dumps({"data": ours[0], "again": [ours[0]], "other": (ours[1], 3)}, ours)
    assert len(data) < 200
    found = references.loads(data, theirs)
    assert found == {"data": theirs[0], "again": [theirs[0]], "other": (theirs[1], 3)}
    assert found["data"] is found["again"][0] is theirs[0]


def test_what_cannot_be_imported_travels_by_value() -> None:
    class Local:
        pass

    local = Local()
    data = references.dumps([local, lambda: local], [local])
    found = pickle.loads(pickle.dumps(data))
    received, function = references.loads(found, ["theirs"])
    assert received == function() == "theirs"
