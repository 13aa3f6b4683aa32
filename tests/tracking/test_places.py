"""URIs and environment variables, as they travel to the workers."""

from __future__ import annotations

import pytest

from sparktune.tracking.places import absolute_uri, is_remote, travelling_env, warn_if_store_is_local


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:////data/mlflow.db"),
        ("sqlite:///../m.db?timeout=5", "sqlite:////m.db?timeout=5"),
        ("sqlite:////data/m.db", "sqlite:////data/m.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("mlruns", "file:///data/mlruns"),
        ("./mlruns", "file:///data/mlruns"),
        ("", "file:///data/mlruns"),
        ("/data/mlruns", "file:///data/mlruns"),
        ("file:mlruns", "file:///data/mlruns"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("http://server:5000", "http://server:5000"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
    ],
)
def test_absolute_uri(uri: str, absolute: str) -> None:
    assert absolute_uri(uri, "/data") == absolute
    assert absolute_uri(absolute, "/elsewhere") == absolute


def test_what_is_remote() -> None:
    assert is_remote("https://x")
    assert is_remote("databricks")
    assert not is_remote("sqlite:///x")
    assert not is_remote("postgresql://x")


def test_what_travels() -> None:
    travels = {
        "MLFLOW_TRACKING_TOKEN": "a",
        "MLFLOW_S3_ENDPOINT_URL": "b",
        "DATABRICKS_HOST": "c",
        "AWS_ACCESS_KEY_ID": "d",
        "GOOGLE_APPLICATION_CREDENTIALS": "e",
    }
    stays = dict.fromkeys(
        (
            "MLFLOW_RUN_ID",
            "MLFLOW_TRACKING_URI",
            "MLFLOW_EXPERIMENT_NAME",
            "MLFLOW_EXPERIMENT_ID",
            "MLFLOW_FLASK_SERVER_SECRET_KEY",
            "MLFLOW_AUTH_ADMIN_PASSWORD",
            "DATABRICKS_RUNTIME_VERSION",
            "AWS_PROFILE",
            "HOME",
        ),
        "x",
    )
    assert travelling_env(travels | stays) == travels


@pytest.mark.parametrize("uri", ["sqlite:////x/m.db", "file:///x", "mlruns"])
def test_a_local_store_and_a_cluster(uri: str) -> None:
    for master in ("local[4]", "local", "local-cluster[2,1,1024]"):
        assert warn_if_store_is_local(uri, master) is None
    warning = warn_if_store_is_local(uri, "spark://host:7077")
    assert warning is not None
    assert uri in warning
    assert "mlflow server" in warning


@pytest.mark.parametrize("uri", ["http://x", "databricks", "postgresql://h/db"])
def test_a_store_that_everybody_sees(uri: str) -> None:
    assert warn_if_store_is_local(uri, "yarn") is None
