"""Names that a library does not document: looked for, and said once when they are missing."""

from __future__ import annotations

import concurrent.futures
import logging

import pytest

from sparktune.private import presence

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_messages", {})


def test_what_is_missing_is_said_once_with_the_version(caplog: pytest.LogCaptureFixture) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(presence.missing, "hyperopt", "Trials._ids", "numbers have gaps")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("sparktune", logging.WARNING)
    assert record.getMessage().endswith(
        " does not offer Trials._ids, which sparktune uses: numbers have gaps"
    )
    assert presence.said() == [record.getMessage()]


def test_a_library_without_metadata_has_no_version(caplog: pytest.LogCaptureFixture) -> None:
    presence.missing("no-such-library", "its name", "nothing")
    assert caplog.messages[0].startswith("no-such-library of this environment does not offer its name")


def test_a_worker_leaves_it_to_the_driver(caplog: pytest.LogCaptureFixture) -> None:
    with presence.left_to_driver():
        presence.missing("hyperopt", "Trials._ids", "numbers have gaps")
    assert caplog.records == []
    [said] = presence.said()
    assert "Trials._ids" in said
    presence.missing("hyperopt", "Trials._trials", "all are read")
    assert len(caplog.records) == 1
