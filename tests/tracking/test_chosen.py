"""Another store and experiment for a while."""

from __future__ import annotations

import os

import mlflow

from sparktune.tracking.chosen import chosen
from sparktune.tracking.store import MlflowStore


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}


def test_it_is_as_it_was_afterwards(mlflow_store, tmp_path) -> None:
    before = variables()
    with chosen(f"sqlite:///{tmp_path / 'other.db'}", "another"):
        assert mlflow.get_tracking_uri().endswith("other.db")
    assert mlflow.get_tracking_uri() == mlflow_store
    assert variables() == before


def test_an_address_that_only_the_environment_has_stays(mlflow_store, monkeypatch, tmp_path) -> None:
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    with chosen(f"sqlite:///{tmp_path / 'other.db'}", None):
        assert mlflow.get_tracking_uri().endswith("other.db")
    assert mlflow.get_tracking_uri() == mlflow_store
    assert os.environ["MLFLOW_TRACKING_URI"] == mlflow_store


def test_runs_go_to_the_experiment(mlflow_store) -> None:
    with chosen(None, "another"):
        store = MlflowStore(mlflow_store)
        store.open()
        store.use_active_experiment()
        assert mlflow.get_experiment(store.experiment_id).name == "another"
    store.use_active_experiment()
    assert mlflow.get_experiment(store.experiment_id).name == "tests"
