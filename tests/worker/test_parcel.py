"""Every trial gets the objective as it was sent."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperopt import hp, pyll

from sparktune.worker import parcel
from sparktune.worker.objective import Objective
from sparktune.worker.parcel import Original

pytestmark = pytest.mark.unit


class Broadcast:
    """As Spark's on a worker: a pickle in a file, read when its value is asked for."""

    def __init__(self, value: Any, folder: Path) -> None:
        self._path = str(folder / "broadcast")
        Path(self._path).write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))

    @property
    def value(self) -> Any:
        return pickle.loads(Path(self._path).read_bytes())


class Decrypted(Broadcast):
    """One that Spark has decrypted: there is no file to be mapped."""

    def __init__(self, value: Any, folder: Path) -> None:
        super().__init__(value, folder)
        self._value = value


Arrived = Callable[..., Original]


@pytest.fixture(params=[Broadcast, Decrypted])
def arrived(request: pytest.FixtureRequest, tmp_path: Path) -> Arrived:
    """The objective of a function as a worker receives it."""

    def send(fn: Any, path: tuple[str, ...] = ()) -> Original:
        objective = Objective(fn, pyll.as_apply(hp.uniform("x", 0, 1)))
        return parcel.opened(request.param(parcel.pack(objective, path), tmp_path))

    return send


def call(original: Original) -> Any:
    return original.copy().fn(0.5)


@pytest.mark.parametrize("size", [3, parcel.LARGE_BYTES])
def test_what_a_trial_writes_into_an_array_no_other_sees(arrived: Arrived, size: int) -> None:
    array = np.zeros(size)

    def fn(_x: float) -> float:
        array[0] += 1
        return float(array[0])

    original = arrived(fn)
    assert [call(original), call(original)] == [1.0, 1.0]
    assert array[0] == 0.0


def test_copies_that_live_at_the_same_time_share_nothing(arrived: Arrived) -> None:
    array = np.zeros(parcel.LARGE_BYTES)

    def fn(_x: float) -> Any:
        return array

    original = arrived(fn)
    first, second = call(original), call(original)
    first[0] = 1.0
    assert second[0] == 0.0
    assert call(original)[0] == 0.0


def test_a_column_added_to_a_data_frame_is_gone_for_the_next_trial(arrived: Arrived) -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(parcel.LARGE_BYTES), "word": "w"})

    def fn(_x: float) -> list[str]:
        before = list(frame.columns)
        frame["label"] = 1
        return before

    original = arrived(fn)
    assert call(original) == call(original) == ["x", "word"]


def test_closures_globals_classes_and_defaults_are_new(arrived: Arrived) -> None:
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


def test_large_buffers_travel_beside_the_pickle_in_their_order_and_readonly_ones_stay_so(
    arrived: Arrived,
) -> None:
    arrays = [np.full(parcel.LARGE_BYTES // 4, n, dtype=np.int64) for n in range(3)]
    arrays[1].setflags(write=False)
    transposed = np.asfortranarray(np.arange(parcel.LARGE_BYTES, dtype=float).reshape(4, -1))
    strided = np.arange(2 * parcel.LARGE_BYTES)[::2]

    def fn(_x: float) -> Any:
        return [*arrays, transposed, strided]

    original = arrived(fn)
    assert len(original._parts) == 4
    back = call(original)
    for sent, received in zip([*arrays, transposed, strided], back, strict=True):
        np.testing.assert_array_equal(sent, received)
        assert sent.flags.writeable == received.flags.writeable


def test_where_the_system_has_no_files_in_memory_a_temporary_one_does(
    arrived: Arrived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(parcel.os, "memfd_create", raising=False)
    array = np.arange(parcel.LARGE_BYTES)

    def fn(_x: float) -> Any:
        array[0] += 5
        return array.sum(), array[0]

    original = arrived(fn)
    assert call(original) == call(original) == (array.sum() + 5, 5)


def test_workers_map_the_file_that_spark_delivered_where_arrays_are_aligned(tmp_path: Path) -> None:
    array = np.arange(parcel.LARGE_BYTES, dtype=float)

    def fn(_x: float) -> Any:
        return array

    broadcast = Broadcast(parcel.pack(Objective(fn, pyll.as_apply(hp.uniform("x", 0, 1)))), tmp_path)
    original = Original.in_file(broadcast._path)
    assert original is not None
    mapped = call(original)
    assert mapped.ctypes.data % parcel.ALIGNMENT == 0
    assert Path("/proc/self/maps").read_text().count(broadcast._path) >= 1


def test_a_small_container_and_one_that_is_not_where_it_is_expected(tmp_path: Path) -> None:
    container = parcel.pack(Objective(abs, pyll.as_apply(hp.uniform("x", 0, 1))))
    small = Broadcast(container, tmp_path)  # a small pickle has a frame before its bytes
    assert call(parcel.opened(small)) == 0.5
    Path(small._path).write_bytes(pickle.dumps(["something", "before it" * 10, container]))
    assert Original.in_file(small._path) is None


def test_folders_of_modules_are_added_once(arrived: Arrived, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/one"])
    for _ in range(2):
        arrived(abs, ("/one", "/two")).copy()
    assert sys.path == ["/one", "/two"]
