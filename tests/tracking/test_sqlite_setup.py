"""A new SQLite store is laid out quickly, and is as durable as any afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from sparktune.tracking import sqlite_setup
from sparktune.tracking.store import MlflowStore

FULL, OFF = 2, 0


def level(connection: Any) -> int:
    return int(connection.exec_driver_sql("PRAGMA synchronous").scalar())


def test_only_while_a_new_file_is_laid_out(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new.db'}"
    ours, others = (
        sqlalchemy.create_engine(uri),
        sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other.db'}"),
    )
    with sqlite_setup.quick(uri):
        with ours.connect() as connection:
            assert level(connection) == OFF
            connection.exec_driver_sql("CREATE TABLE t (a)")
        with others.connect() as connection:
            assert level(connection) == FULL
    with ours.connect() as connection:
        assert level(connection) == FULL, "the same connection, out of the pool"
    ours.dispose()
    with sqlite_setup.quick(uri), ours.connect() as connection:
        assert level(connection) == FULL, "the file exists"
    for engine in (ours, others):
        engine.dispose()


def test_a_connection_that_was_closed_meanwhile(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new.db'}"
    engine = sqlalchemy.create_engine(uri)
    with sqlite_setup.quick(uri):
        engine.connect().close()
        engine.dispose()
    with engine.connect() as connection:
        assert level(connection) == FULL
    engine.dispose()


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=ro",
            "databricks", "file:///tmp/runs", "sqlite:::", ""]
)  # fmt: skip
def test_other_stores_are_left_alone(uri: str) -> None:
    assert sqlite_setup._new_file(uri) is None


def test_a_store_of_mlflows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}")
    store.open()
    inner = store._store
    with inner.engine.connect() as connection:
        assert level(connection) == FULL
    inner.engine.dispose()
    with sqlite3.connect(tmp_path / "mlflow.db") as found:
        assert found.execute("SELECT count(*) FROM experiments").fetchone()[0] == 1
    found.close()
