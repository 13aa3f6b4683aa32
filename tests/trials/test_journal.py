"""The journal's format: read up to the first byte that is not as it was written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sparktune.trials import journal

pytestmark = pytest.mark.unit

Contents = st.lists(st.binary(max_size=20), max_size=5)


def written(contents: list[bytes]) -> bytes:
    return journal.HEADER + b"".join(map(journal.record, contents))


def plain(found: journal.Contents) -> list[bytes]:
    return [bytes(record) for record in found.records]


@given(Contents)
def test_what_was_written_is_read(contents: list[bytes]) -> None:
    found = journal.parse(written(contents))
    assert (plain(found), found.left_out, found.problem) == (contents, 0, "")


def test_no_journal_at_all_is_an_empty_one() -> None:
    assert journal.parse(b"") == journal.Contents([])


@given(Contents)
def test_cut_off_anywhere(contents: list[bytes]) -> None:
    data = written(contents)
    ends = [len(written(contents[:n])) for n in range(len(contents) + 1)]
    for cut in range(1, len(data)):
        found = journal.parse(data[:cut])
        whole = sum(end <= cut for end in ends[1:])
        assert plain(found) == contents[:whole]
        read = ends[whole] if cut >= ends[0] else 0
        assert found.left_out == cut - read
        assert ("cut off" in found.problem) == (found.left_out > 0)


@given(Contents.filter(bool), st.data())
def test_a_byte_that_changed_ends_what_is_read(contents: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(written(contents))
    at = data.draw(st.integers(len(journal.HEADER), len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    found = journal.parse(bytes(whole))
    intact = sum(len(written(contents[: n + 1])) <= at for n in range(len(contents)))
    assert plain(found) == contents[:intact]
    assert found.left_out == len(whole) - len(written(contents[:intact]))
    assert found.problem


@pytest.mark.parametrize("zeros", [1, 12, 4096])
def test_zeros_that_a_crash_left_at_the_end(zeros: int) -> None:
    found = journal.parse(written([b"a"]) + bytes(zeros))
    assert (plain(found), found.left_out) == ([b"a"], zeros)


def test_something_else_behind_the_pickle() -> None:
    assert journal.parse(b"spark plugs") == journal.Contents([], 11, "they are not a journal")


def test_a_later_version() -> None:
    with pytest.raises(journal.NewerFormat) as raised:
        journal.parse(b"sparktune journal 12\n?")
    assert raised.value.version == 12


def test_appended(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open(path, "xb") as file:
        file.write(b"base" + journal.HEADER)
        file.flush()
        appended = journal.Journal(path, file, 4)
        appended.append(journal.record(b"a"), sync=True)
        appended.append(journal.record(b"b") + journal.record(b"c"), sync=False)
        assert appended.size == len(b"".join(map(journal.record, (b"a", b"b", b"c"))))
        assert plain(journal.parse(path.read_bytes()[4:])) == [b"a", b"b", b"c"]
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError):
            appended.append(journal.record(b"d"), sync=True)
        path.touch()
        with pytest.raises(FileNotFoundError, match="has become another file"):
            appended.append(journal.record(b"d"), sync=True)


NO_ROOM = """
import resource, sys
from pathlib import Path
from sparktune.trials import journal

path = Path(sys.argv[1])
with open(path, "xb") as file:
    file.write(journal.HEADER)
    file.flush()
    appended = journal.Journal(path, file, 0)
    appended.append(journal.record(b"a"), sync=True)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        appended.append(journal.record(bytes(2000)), sync=True)
    except OSError:
        print("no room")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    appended.append(journal.record(b"b"), sync=True)
"""


def test_half_a_record_on_a_full_disk_is_taken_away(tmp_path: Path, run) -> None:
    done = run([sys.executable, "-c", NO_ROOM, tmp_path / "file"])
    assert done.stdout == "no room\n", done.stderr
    assert plain(journal.parse((tmp_path / "file").read_bytes())) == [b"a", b"b"]
