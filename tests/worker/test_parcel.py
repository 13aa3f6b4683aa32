"""Every trial gets the objective as it was sent."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest
from hyperopt import hp, pyll

from sparktune.worker import parcel
from sparktune.worker.objective import Objective
from sparktune.worker.parcel import Original, Parcel, Part


def arrived(fn: Any, path: tuple[str, ...] = ()) -> Original:
    """The objective of a function as a worker receives it."""
    objective = Objective(fn, pyll.as_apply(hp.uniform("x", 0, 1)))
    original = pickle.loads(pickle.dumps(Parcel.of(objective, path), protocol=5))
    assert isinstance(original, Original)
    return original


def call(original: Original) -> Any:
    return original.copy().fn(0.5)


@pytest.mark.parametrize("size", [3, parcel.LARGE_BYTES])
def test_what_a_trial_writes_into_an_array_no_other_sees(size: int) -> None:
    array = np.zeros(size)

    def fn(_x: float) -> float:
        array[0] += 1
        return float(array[0])

    original = arrived(fn)
    assert [call(original), call(original)] == [1.0, 1.0]
    assert array[0] == 0.0


def test_copies_that_live_at_the_same_time_share_nothing() -> None:
    array = np.zeros(parcel.LARGE_BYTES)

    def fn(_x: float) -> Any:
        return array

    original = arrived(fn)
    first, second = call(original), call(original)
    first[0] = 1.0
    assert second[0] == 0.0
    assert call(original)[0] == 0.0


def test_a_column_added_to_a_data_frame_is_gone_for_the_next_trial() -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(parcel.LARGE_BYTES), "word": "w"})

    def fn(_x: float) -> list[str]:
        before = list(frame.columns)
        frame["label"] = 1
        return before

    original = arrived(fn)
    assert call(original) == call(original) == ["x", "word"]


def test_closures_globals_classes_and_defaults_are_new() -> None:
    class Counter:
        n = 0

    seen: list[float] = []

    def fn(x: float, default: list[float] = []) -> Any:  # noqa: B006 - the point of it
        Counter.n += 1
        Counter.more = getattr(Counter, "more", 0) + 1  # type: ignore[attr-defined]
        seen.append(x)
        default.append(x)
        fn.calls = getattr(fn, "calls", 0) + 1  # type: ignore[attr-defined]
        return Counter.n, Counter.more, len(seen), len(default), fn.calls  # type: ignore[attr-defined]

    original = arrived(fn)
    assert call(original) == call(original) == (1, 1, 1, 1, 1)


def test_large_buffers_travel_beside_the_pickle_in_their_order_and_readonly_ones_stay_so() -> None:
    arrays = [np.full(parcel.LARGE_BYTES // 4, n, dtype=np.int64) for n in range(3)]
    arrays[1].setflags(write=False)
    transposed = np.asfortranarray(np.arange(parcel.LARGE_BYTES, dtype=float).reshape(4, -1))
    strided = np.arange(2 * parcel.LARGE_BYTES)[::2]

    def fn(_x: float) -> Any:
        return [*arrays, transposed, strided]

    packed = Parcel.of(Objective(fn, pyll.as_apply(hp.uniform("x", 0, 1))))
    assert len(packed.parts) == 4
    back = call(arrived(fn))
    for sent, received in zip([*arrays, transposed, strided], back, strict=True):
        np.testing.assert_array_equal(sent, received)
        assert sent.flags.writeable == received.flags.writeable


def test_where_the_system_has_no_files_in_memory_a_temporary_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(parcel.os, "memfd_create", raising=False)
    array = np.arange(parcel.LARGE_BYTES)

    def fn(_x: float) -> Any:
        array[0] += 5
        return array.sum(), array[0]

    original = arrived(fn)
    assert call(original) == call(original) == (array.sum() + 5, 5)


def test_an_empty_and_a_large_buffer() -> None:
    assert Original(pickle.dumps(None))._buffers() == []
    views = Original(pickle.dumps(None), [Part(b"", True), Part(b"abc", False)])._buffers()
    assert [bytes(view) for view in views] == [b"", b"abc"]


def test_folders_of_modules_are_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/one"])
    for _ in range(2):
        arrived(abs, ("/one", "/two"))
    assert sys.path == ["/one", "/two"]
