"""The order of writing, without threads and without a clock."""

from __future__ import annotations

import pytest

from sparktune.tracking import write_queue as module
from sparktune.tracking.records import RunRecord
from sparktune.tracking.write_queue import WriteQueue

pytestmark = pytest.mark.unit


def existing(name: str) -> RunRecord:
    return RunRecord(name, 0, run_id=name)


def order(agenda: WriteQueue, *, fair: bool = False) -> list[str]:
    names = []
    while (record := agenda.take(fair=fair)) is not None:
        names.append(record.name)
    return names


@pytest.fixture
def parent() -> RunRecord:
    return existing("parent")


def test_runs_of_trials_under_way_come_first(parent: RunRecord) -> None:
    agenda = WriteQueue()
    over = RunRecord("over", 0, parent=parent, status="FINISHED")
    for record in (
        existing("write"),
        over,
        RunRecord("a", 0, parent=parent),
        RunRecord("b", 0, parent=parent),
    ):
        assert agenda.add(record, 0.0)
    assert len(agenda) == 4
    assert order(agenda)[:2] == ["a", "b"]


def test_children_wait_for_their_parent() -> None:
    agenda = WriteQueue()
    parent = RunRecord("parent", 0)
    agenda.add(RunRecord("child", 0, parent=parent), 0.0)
    assert agenda.take(fair=False) is None
    agenda.add(parent, 0.0)
    assert order(agenda) == ["parent"]
    parent.run_id = "id"
    assert order(agenda) == ["child"]


@pytest.mark.parametrize("why", ["asked for", "long backlog"])
def test_all_kinds_take_turns(parent: RunRecord, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    agenda = WriteQueue()
    if why == "long backlog":
        monkeypatch.setattr(module, "LONG_BACKLOG", 1)
    for n in range(2):
        agenda.add(RunRecord(f"create{n}", 0, parent=parent), 0.0)
        agenda.add(existing(f"write{n}"), 0.0)
        agenda.add(RunRecord(f"over{n}", 0, parent=parent, status="FINISHED"), 0.0)
    assert order(agenda, fair=why == "asked for")[:3] == ["create0", "over0", "write0"]


def test_a_record_is_taken_at_the_earliest_of_its_moments() -> None:
    agenda = WriteQueue()
    record = existing("a")
    assert agenda.add(record, 0.0, 5.0)
    assert not agenda.add(record, 0.0, 7.0), "it is due before"
    assert agenda.add(record, 1.0, 2.0)
    assert agenda.advance(2.0) == 1.0
    assert order(agenda) == []
    agenda.advance(3.0)
    assert order(agenda) == ["a"]
    agenda.advance(9.0)
    assert order(agenda) == [], "what it was due for later is over"


def test_who_moves_up_is_first_and_once(parent: RunRecord) -> None:
    agenda = WriteQueue()
    records = [RunRecord(name, 0, parent=parent) for name in "abc"]
    for record in records[:2]:
        agenda.add(record, 0.0)
    agenda.add(records[2], 0.0, 60.0)
    agenda.move_up(records[1], 0.0)
    agenda.move_up(records[2], 0.0)
    assert order(agenda) == ["c", "b", "a"]
    assert agenda.advance(99.0) is None
    assert order(agenda) == []


def test_what_is_set_aside_is_never_taken() -> None:
    agenda = WriteQueue()
    record = existing("a")
    record.set_aside = "deleted"
    assert not agenda.add(record, 0.0)
    assert order(agenda) == []
