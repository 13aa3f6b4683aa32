"""The background writer over a store that fails in every way."""

from __future__ import annotations

import itertools
import logging
import math
import queue
import random
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sparktune.tracking import writer as module
from sparktune.tracking.records import Content, RefusedError, RunRecord, StoreBusyError
from sparktune.tracking.schema import Point
from sparktune.tracking.writer import Writer

pytestmark = pytest.mark.unit


class Memory:
    """A store in memory. ``fail`` is asked before and after every request, and may raise."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.lock = threading.Lock()
        self.under_way: set[str] = set()
        self.together = 0

    def fail(self, what: str, name: str) -> None:
        """Overridden by tests."""

    def create(self, record: RunRecord, tags: dict[str, str]) -> str:
        self.fail("create", record.name)
        with self.lock:
            run_id = f"id{len(self.runs)}"
            run = {"name": record.name, "tags": dict(tags), "params": {}, "metrics": [], "status": None}
            run["parent"] = record.parent.run_id if record.parent else None
            self.runs[run_id] = run
            self.order.append(f"create {record.name}")
        self.fail("created", record.name)
        return run_id

    def create_whole(self, runs: Sequence[tuple[RunRecord, Content]]) -> list[str]:
        for record, _ in runs:
            self.fail("whole", record.name)
        run_ids = []
        with self.lock:
            for record, content in runs:
                run_ids.append(f"id{len(self.runs)}")
                run = {"name": record.name, "tags": content.tags, "params": content.params}
                run |= {"metrics": content.metrics, "status": content.status}
                run["parent"] = record.parent.run_id if record.parent else None
                self.runs[run_ids[-1]] = run
                content.params, content.tags, content.metrics, content.status = {}, {}, [], None
            self.order.append("whole " + " ".join(record.name for record, _ in runs))
        return run_ids

    def find(self, record: RunRecord) -> str | None:
        self.fail("find", record.name)
        with self.lock:
            found = [key for key, run in self.runs.items() if record.identity.items() <= run["tags"].items()]
        return found[0] if found else None

    def write(self, run_id: str, content: Content) -> None:
        with self.lock:
            assert run_id not in self.under_way
            self.under_way.add(run_id)
        try:
            run = self.runs[run_id]
            self.fail("write", run["name"])
            run["params"] |= content.params
            run["tags"] |= content.tags
            content.params, content.tags = {}, {}
            self.fail("half", run["name"])
            run["metrics"] += content.metrics
            content.metrics = []
            if content.status is not None:
                run["status"] = content.status
                content.status = None
            run["artifacts"], content.artifacts = content.artifacts, {}
            self.order.append(f"write {run['name']}")
        finally:
            with self.lock:
                self.under_way.discard(run_id)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_RETRY_S", 0.01)


@pytest.fixture(params=[0, 3])
def store(request: pytest.FixtureRequest) -> Memory:
    """Without transactions, and with some."""
    store = Memory()
    store.together = request.param
    return store


@pytest.fixture(params=[1, 4])
def writer(store: Memory, request: pytest.FixtureRequest) -> Iterator[Writer]:
    writer = Writer(store, request.param)
    yield writer
    writer.close()


def record(name: str, parent: RunRecord | None = None) -> RunRecord:
    identity = {"id": name}
    return RunRecord(name, 0, identity=identity, tags=dict(identity), parent=parent)


def test_what_comes_while_a_run_waits_goes_into_one_write(store: Memory, writer: Writer) -> None:
    parent, child = record("parent"), None
    child = record("child", parent)
    writer.put(child, within_s=60)
    with writer.lock:
        child.params["a"] = "1"
    writer.put(parent)
    assert writer.wait_created(child, 5, 5) is not None
    with writer.lock:
        child.status = "FINISHED"
        child.metrics.append(Point("m", 1.0, 0))
    writer.put(child)
    assert writer.flush(None, 5)
    run = store.runs[child.run_id or ""]
    assert run["parent"] == parent.run_id
    assert (run["params"], run["status"], len(run["metrics"])) == ({"a": "1"}, "FINISHED", 1)
    assert store.order == ["create parent", "create child", "write child"]
    assert writer.unwritten() == []


def test_runs_are_created_before_others_are_filled(store: Memory) -> None:
    writer = Writer(store, 1)
    old = [record(f"old{n}") for n in range(3)]
    for one in old:
        writer.put(one)
    assert writer.flush(None, 5)
    gate, begun = threading.Event(), threading.Event()

    def fail(what: str, name: str) -> None:
        begun.set()
        gate.wait(5)

    store.fail = fail  # type: ignore[method-assign]
    for one in old:
        with writer.lock:
            one.params["a"] = "1"
        writer.put(one)
    assert begun.wait(5)
    writer.put(record("new"))
    gate.set()
    assert writer.flush(None, 5)
    assert store.order[3:] == ["write old0", "create new", "write old1", "write old2"]
    writer.close()


def test_runs_of_trials_that_are_over_are_written_whole(store: Memory) -> None:
    writer = Writer(store, 1)
    parent = record("parent")
    with writer.lock:
        for n in range(5):
            child = record(f"r{n}", parent)
            writer.put(child, create_in_s=60)
            child.status = "FINISHED"
            child.artifacts = {"a.txt": "a"} if n == 0 else {}
            writer.put(child)
        long = record("long", parent)
        writer.put(long)
        writer.put(parent)
    assert writer.flush(None, 5)
    rest = {
        0: [line for n in range(5) for line in (f"create r{n}", f"write r{n}")],
        3: ["whole r0 r1 r2", "whole r3 r4", "write r0"],
    }[store.together]
    assert sorted(store.order[2:]) == sorted(rest)
    assert store.order[:2] == ["create parent", "create long"]
    assert {run["status"] for run in store.runs.values()} == {None, "FINISHED"}
    writer.close()


def test_a_transaction_that_fails_is_tried_in_parts(store: Memory, writer: Writer) -> None:
    def fail(what: str, name: str) -> None:
        if name == "bad" and what != "find":
            raise RefusedError("no")

    store.fail = fail  # type: ignore[method-assign]
    parent = record("parent")
    with writer.lock:
        for name in ("r0", "bad", "r1", "r2"):
            child = record(name, parent)
            child.status = "FINISHED"
            writer.put(child)
        writer.put(parent)
    assert not writer.flush(None, 5)
    assert [one.name for one in writer.unwritten()] == ["bad"]
    assert sorted(run["name"] for run in store.runs.values()) == ["parent", "r0", "r1", "r2"]
    assert not writer.in_trouble


def told(writer: Writer, one: RunRecord, *, hurry: bool) -> queue.SimpleQueue[str | None]:
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    writer.when_created(one, answer.put, hurry=hurry)
    return answer


def test_a_run_that_is_waited_for_comes_first(store: Memory) -> None:
    writer = Writer(store, 1)
    parent = record("parent")
    writer.put(parent)
    assert writer.flush(None, 5)
    records = [record(f"r{n}", parent) for n in range(4)]
    with writer.lock:
        for one in records[:2]:
            writer.put(one)
        for one in records[2:]:
            writer.put(one, create_in_s=60)
        answers = [told(writer, one, hurry=True) for one in records[1:3]]
        patient = told(writer, records[3], hurry=False)
    ids = [answer.get(timeout=5) for answer in answers]
    assert writer.flush(None, 5)
    assert [store.runs[run_id or ""]["name"] for run_id in ids] == ["r1", "r2"]
    assert store.order[1:] == ["create r2", "create r1", "create r0", "create r3"]
    assert patient.get(timeout=5) == records[3].run_id == told(writer, records[3], hurry=True).get(timeout=5)
    writer.close()


def test_who_cannot_wait_is_told_of_trouble_and_who_can_is_told_of_the_run(
    store: Memory, writer: Writer
) -> None:
    parent = record("parent")
    writer.put(parent)
    assert writer.flush(None, 5)
    away = threading.Event()
    away.set()

    def fail(what: str, name: str) -> None:
        if away.is_set():
            raise ConnectionError("refused")

    store.fail = fail  # type: ignore[method-assign]
    first, second = record("first", parent), record("second", parent)
    writer.put(second, create_in_s=60)
    patient, pressed = told(writer, second, hurry=False), told(writer, first, hurry=True)
    assert pressed.get(timeout=5) is None
    assert writer.in_trouble
    assert told(writer, second, hurry=True).get(timeout=5) is None
    assert first.uncertain
    assert second.uncertain
    claimed = store.runs["claimed"] = {"name": "second", "tags": {"id": "second"}, "params": {}}
    claimed |= {"metrics": [], "status": None, "parent": parent.run_id}
    away.clear()
    assert writer.flush(None, 5)
    assert patient.get(timeout=5) == second.run_id == "claimed"
    assert len(store.runs) == 3


def test_a_run_that_a_worker_may_have_created_is_looked_for(store: Memory, writer: Writer) -> None:
    parent = record("parent")
    child = record("child", parent)
    store.runs["claimed"] = {"name": "child", "tags": {"id": "child"}, "params": {}, "metrics": []}
    child.claimable_s = writer.now()
    child.status = "FINISHED"
    writer.put(child)
    writer.put(parent)
    assert writer.flush(None, 5)
    assert child.run_id == "claimed"
    assert store.runs["claimed"]["status"] == "FINISHED"


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_doubled_or_out_of_order(store: Memory, writer: Writer, seed: int) -> None:
    rng = random.Random(seed)
    outage = threading.Event()

    def fail(what: str, name: str) -> None:
        if outage.is_set() or rng.random() < 0.15:
            raise rng.choice([ConnectionError("away"), TimeoutError()])
        if what in ("create", "write") and rng.random() < 0.1:
            raise StoreBusyError("busy", 0.001)

    store.fail = fail  # type: ignore[method-assign]
    parent = record("parent")
    writer.put(parent)
    children = [record(f"child{n}", parent) for n in range(20)]
    for child in children:
        writer.put(child, within_s=rng.choice([0, 0.001]))
    for step in range(5):
        for child in rng.sample(children, len(children)):
            with writer.lock:
                child.metrics.append(Point("m", float(step), 0, step))
                child.tags["step"] = str(step)
                if step == 4:
                    child.status = "FINISHED"
            writer.put(child, within_s=rng.choice([0, 0.002]))
        outage.set() if step == 2 else outage.clear()
    assert writer.flush(None, 5)
    assert len(store.runs) == 21
    for child in children:
        run = store.runs[child.run_id or ""]
        assert run["name"] == child.name
        assert run["parent"] == parent.run_id
        assert [point.step for point in run["metrics"]] == [0, 1, 2, 3, 4]
        assert run["tags"] == child.identity | {"step": "4"}
        assert run["status"] == "FINISHED"


def test_an_outage_is_told_once_and_its_end_too(
    store: Memory, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sparktune")
    away = threading.Event()
    away.set()

    def fail(what: str, name: str) -> None:
        if away.is_set():
            raise ConnectionError("refused")

    store.fail = fail  # type: ignore[method-assign]
    records = [record(f"r{n}") for n in range(6)]
    for one in records:
        writer.put(one)
    assert writer.wait_created(records[0], 60, 60) is None
    assert writer.in_trouble
    assert writer.wait_created(records[5], 60, 60) is None
    assert not writer.flush(None, 0.05)
    assert len(writer.unwritten()) == 6
    away.clear()
    assert writer.flush(None, 5)
    assert [line.levelname for line in caplog.records] == ["WARNING", "INFO"]
    assert "refused" in caplog.text


def test_one_failure_is_no_outage(store: Memory, writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    failures = iter([ConnectionError("reset")])

    def fail(what: str, name: str) -> None:
        for error in failures:
            raise error

    store.fail = fail  # type: ignore[method-assign]
    one = record("one")
    writer.put(one)
    assert writer.wait_created(one, 5, 5) is not None
    assert not caplog.records


@pytest.mark.parametrize("error", [RefusedError("deleted"), RuntimeError("a bug")])
def test_a_record_that_never_works_is_set_aside(
    store: Memory,
    writer: Writer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(what: str, name: str) -> None:
        if name == "bad":
            raise error

    monkeypatch.setattr(module, "LONGEST_FAILING_S", 0.0)
    store.fail = fail  # type: ignore[method-assign]
    parent = record("parent")
    writer.put(parent)
    bad = record("bad", parent)
    writer.put(bad)
    others = [record(f"r{n}", parent) for n in range(30)]
    for one in others:
        writer.put(one)
    writer.flush(others, 5)
    for n in range(100_000):  # others succeed until the last attempt at this one
        for one in others:
            with writer.lock:
                one.params[f"p{n}"] = "1"
            writer.put(one)
        writer.flush(others, 5)
        if bad.set_aside:
            break
    assert not writer.flush(None, 5)
    assert writer.unwritten() == [bad]
    written = {f"p{i}": "1" for i in range(n + 1)}
    assert all(store.runs[one.run_id or ""]["params"] == written for one in others)
    assert "does not take the run 'bad'" in caplog.text


def refusing(store: Memory, writer: Writer, times: float) -> tuple[RunRecord, RunRecord, list[str]]:
    """Two records, of which the store refuses the first so many times, and a list of the refusals."""
    refused: list[str] = []

    def fail(what: str, name: str) -> None:
        if name == "unlucky" and len(refused) < times:
            refused.append(what)
            raise ConnectionError("reset")

    store.fail = fail  # type: ignore[method-assign]
    parent = record("parent")
    unlucky, other = record("unlucky", parent), record("other", parent)
    for one in (parent, unlucky, other):
        writer.put(one)
    return unlucky, other, refused


def test_a_record_that_fails_often_in_a_short_time_is_written(store: Memory, writer: Writer) -> None:
    """A server that fails every third request may fail the same record again and again."""
    unlucky, other, refused = refusing(store, writer, module.MAX_FAILURES + 2)
    for n in itertools.count():  # the other succeeds meanwhile
        with writer.lock:
            other.params[f"p{n}"] = "1"
        writer.put(other)
        if writer.flush([other], 5) and writer.flush([unlucky], 0.01):
            break
        assert unlucky.set_aside is None
    assert len(refused) == module.MAX_FAILURES + 2
    assert store.runs[unlucky.run_id or ""]["name"] == "unlucky"


def test_an_attempt_waits_although_others_are_written_and_more_is_to_be_written(
    store: Memory, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 60.0)
    monkeypatch.setattr(module, "LONGEST_RETRY_S", 60.0)
    monkeypatch.setattr(module.random, "uniform", lambda least, longest: longest)
    unlucky, other, refused = refusing(store, writer, math.inf)
    assert writer.flush([other], 5)
    assert not writer.flush([unlucky], 0.01)
    for n in range(20):
        for one in (other, unlucky):
            with writer.lock:
                one.params[f"p{n}"] = "1"
            writer.put(one)
        assert writer.flush([other], 5)
    assert len(refused) == 2
    with writer.lock:
        store.fail = lambda what, name: None  # type: ignore[method-assign]
        unlucky.not_before = 0.0
    writer.put(unlucky)
    assert writer.flush([unlucky], 5)


def test_waiting_ends_when_the_store_is_stuck(store: Memory, writer: Writer) -> None:
    gate = threading.Event()
    store.fail = lambda what, name: gate.wait(5)  # type: ignore[method-assign, assignment]
    one = record("one")
    writer.put(one)
    assert writer.wait_created(one, 0.05, 5) is None
    assert not writer.flush(None, 0.05)
    assert one.uncertain
    gate.set()
    assert writer.flush(None, 5)


def test_what_a_stuck_request_holds_is_not_lost(store: Memory, writer: Writer) -> None:
    parent, gate, begun = record("parent"), threading.Event(), threading.Event()
    writer.put(parent)
    assert writer.flush(None, 5)

    def fail(what: str, name: str) -> None:
        begun.set()
        gate.wait(60)

    store.fail = fail  # type: ignore[method-assign]
    child = record("child", parent)
    child.params, child.metrics, child.status = {"a": "1"}, [Point("m", 1.0, 0)], "FINISHED"
    writer.put(child)
    assert begun.wait(60)
    assert not writer.flush(None, 0.05)
    writer.close()
    (left,) = writer.unwritten()
    expected = ({"a": "1"}, {"id": "child"}, [Point("m", 1.0, 0)], "FINISHED")
    assert (left.params, left.tags, left.metrics, left.status) == expected
    gate.set()
    for thread in writer._threads:
        thread.join(60)
    assert left.metrics == [Point("m", 1.0, 0)]


def test_a_store_that_asks_for_patience_for_long_is_in_trouble(
    store: Memory, writer: Writer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_PATIENCE_S", 0.02)
    busy = threading.Event()
    busy.set()

    def fail(what: str, name: str) -> None:
        if busy.is_set():
            raise StoreBusyError("too many requests", 0.001)

    store.fail = fail  # type: ignore[method-assign]
    one = record("one")
    writer.put(one)
    assert told(writer, one, hurry=True).get(timeout=30) is None
    assert writer.in_trouble
    busy.clear()
    assert writer.flush(None, 30)
    assert caplog.text.count("too many requests") == 1


def test_a_flush_goes_on_with_the_patience_of_another(store: Memory, writer: Writer) -> None:
    gate = threading.Event()
    store.fail = lambda what, name: gate.wait(60)  # type: ignore[method-assign, assignment]
    one = record("one")
    writer.put(one)
    began = writer.now()
    assert not writer.flush(None, 0.05)
    assert not writer.flush([one], 1.0, since=began - 1.0)
    gate.set()
    assert writer.flush([one], 5.0)


def test_many_refusals_are_said_once(store: Memory, writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    def fail(what: str, name: str) -> None:
        if name:
            raise RefusedError("the experiment was deleted")

    store.fail = fail  # type: ignore[method-assign]
    parent = record("")
    writer.put(parent)
    assert writer.flush(None, 5)
    for n in range(9):
        writer.put(record(f"r{n}", parent))
    assert not writer.flush(None, 5)
    assert len(writer.unwritten()) == 9
    assert len(caplog.records) == 1
    # Which of them is the first depends on the writer's threads.
    assert re.search(r"does not take the run 'r\d': the experiment was deleted", caplog.text)


def test_children_of_a_parent_that_is_refused_do_not_wait(store: Memory, writer: Writer) -> None:
    def fail(what: str, name: str) -> None:
        raise RefusedError("no such experiment")

    store.fail = fail  # type: ignore[method-assign]
    parent = record("parent")
    child = record("child", parent)
    writer.put(parent)
    writer.put(child)
    assert writer.wait_created(child, 60, 60) is None
    assert not writer.flush(None, 60)
    assert writer.unwritten() == [parent, child]


def test_children_of_a_parent_that_was_deleted_are_written(store: Memory, writer: Writer) -> None:
    """Its run is there, and theirs can be: only its own record is given up."""
    parent = record("parent")
    writer.put(parent)
    assert writer.flush(None, 5)

    def fail(what: str, name: str) -> None:
        if name == "parent":
            raise RefusedError("deleted")

    store.fail = fail  # type: ignore[method-assign]
    with writer.lock:
        parent.params["a"] = "1"
    writer.put(parent)
    assert not writer.flush([parent], 5)
    child = record("child", parent)
    writer.put(child, create_in_s=60)
    assert told(writer, child, hurry=True).get(timeout=5) is not None
    with writer.lock:
        child.status = "FINISHED"
        writer.put(child, within_s=60)
    assert not writer.flush(None, 5)
    assert writer.unwritten() == [parent]
    assert store.runs[child.run_id or ""]["status"] == "FINISHED"


def test_requests_that_take_long_do_not_hold_up_the_others(
    store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    stuck, go_on = threading.Semaphore(0), threading.Event()

    def fail(what: str, name: str) -> None:
        if what == "create" and name.startswith("slow"):
            stuck.release()
            go_on.wait(30)

    store.fail = fail  # type: ignore[method-assign]
    store.together = 0
    writer = Writer(store, 2)
    try:
        for n in range(3):  # more than the limit are stuck in the end
            quick = record(f"quick{n}")
            with writer.lock:
                writer.put(record(f"slow{n}"))
                writer.put(quick)
            assert stuck.acquire(timeout=30)
            assert writer.wait_created(quick, 30, 30) is not None
            writer.put(after := record(f"after{n}"))
            assert writer.wait_created(after, 30, 30) is not None
        # A server of which nothing comes any more gets no more requests.
        while len(writer._threads) > len(writer._began):
            writer.put(record(f"slow, the last, {len(writer._began)}"))
            assert stuck.acquire(timeout=30)
        n_threads = len(writer._threads)
        writer.put(record("too many"))
        assert len(writer._threads) == n_threads
    finally:
        go_on.set()
        assert writer.flush(None, 30)
        writer.close()


@pytest.mark.parametrize(("took_s", "is_outage"), [(31.0, True), (5.0, False)])
def test_long_silence_is_an_outage_after_one_request(took_s: float, is_outage: bool, store: Memory) -> None:
    now_s = [0.0]

    def fail(_what: str, _name: str) -> None:
        if not now_s[0]:
            now_s[0] = took_s
            raise TimeoutError

    store.fail = fail  # type: ignore[method-assign]
    writer = Writer(store, 4, lambda: now_s[0])
    one = record("one")
    pressed = told(writer, one, hurry=True)
    writer.put(one)
    assert (pressed.get(timeout=30) is None) is is_outage
    assert writer.in_trouble is is_outage
    writer.close()


def test_a_store_that_fails_now_and_then_is_not_in_trouble(
    store: Memory, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = itertools.count(1)

    def fail(what: str, name: str) -> None:
        if next(numbers) % 3 == 0:
            raise ConnectionError("now and then")

    parent = record("parent")
    writer.put(parent)
    assert writer.flush(None, 30)
    store.fail = fail  # type: ignore[method-assign]
    for n in range(50):
        writer.put(record(f"r{n}", parent))
    assert writer.flush(None, 30)
    assert len(store.runs) == 51
    assert not caplog.records
