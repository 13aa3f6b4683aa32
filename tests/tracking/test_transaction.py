"""Several calls of MLflow's SQL store that happen together or not at all."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import _get_store

from sparktune.tracking.transaction import Transaction


@pytest.fixture
def transaction(sqlite_uri: str) -> Transaction:
    transaction = Transaction.of(_get_store(sqlite_uri))
    assert transaction is not None
    return transaction


def write(store: Any, name: str) -> str:
    run_id: str = store.create_run("0", "me", 1, [RunTag("colour", "red")], name).info.run_id
    store.log_batch(run_id, [Metric("m", 1.0, 1, 0)], [Param("p", "1")], [RunTag("t", "1")])
    store.update_run_info(run_id, RunStatus.FINISHED, 2, None)
    return run_id


def count() -> int:
    return len(MlflowClient().search_runs(["0"]))


def test_calls_are_one_commit(transaction: Transaction) -> None:
    commits: list[int] = []
    counts: list[int] = []
    sqlalchemy.event.listen(
        transaction.store.engine, "commit", lambda _: commits.append(threading.get_ident())
    )
    with transaction.begun():
        run_ids = [write(transaction.store, name) for name in ("a", "b")]
        another = threading.Thread(target=lambda: counts.append(count()))
        another.start()
        another.join()
    assert commits.count(threading.get_ident()) == 1
    assert counts == [0]
    for run_id, name in zip(run_ids, ("a", "b"), strict=True):
        run = MlflowClient().get_run(run_id)
        assert (run.info.run_name, run.info.status, run.info.end_time) == (name, "FINISHED", 2)
        assert (run.data.params, run.data.metrics) == ({"p": "1"}, {"m": 1.0})
        assert (run.data.tags["colour"], run.data.tags["t"]) == ("red", "1")


@pytest.mark.parametrize("error", [KeyError("mine"), MlflowException("theirs")])
def test_nothing_is_left_of_a_transaction_that_fails(transaction: Transaction, error: Exception) -> None:
    def fail() -> None:
        with transaction.begun():
            write(transaction.store, "a")
            raise error

    with pytest.raises(MlflowException, match=r"mine|theirs"):
        fail()
    assert count() == 0
    write(transaction.store, "alone")
    assert count() == 1


def test_a_part_cannot_be_rolled_back(transaction: Transaction) -> None:
    """MLflow does so where two writers meet, and would go on without the other parts."""

    def fail() -> None:
        with transaction.begun():
            write(transaction.store, "a")
            with transaction.store.ManagedSessionMaker(read_only=False) as session:
                session.rollback()

    with pytest.raises(MlflowException, match="cannot be taken back"):
        fail()
    assert count() == 0


def test_the_store_given_is_not_touched(transaction: Transaction, sqlite_uri: str) -> None:
    assert _get_store(sqlite_uri).ManagedSessionMaker != transaction.store.ManagedSessionMaker


def test_a_server_has_no_transactions() -> None:
    assert Transaction.of(_get_store("http://127.0.0.1:1")) is None
