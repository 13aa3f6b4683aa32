"""URIs and environment variables, as they travel to the workers."""

from __future__ import annotations

import pytest

from sparktune.tracking.location import (
    absolute_uri,
    is_local_store,
    is_remote,
    scheme_of,
    warn_if_store_is_local,
    where_to_look,
)

VENDORS = [
    "arn:aws:sagemaker:us-east-1:123456789012:mlflow-app/app-X",
    "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/x",
    "sds://onelakejp.pbidedicated.windows.net/webapi/capacities",
    "azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/1",
    "databricks",
    "databricks://profile",
    "uc:https://host",
]


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
        ("sqlite+pysqlite:///m.db", "sqlite+pysqlite:////data/m.db"),
        *((uri, uri) for uri in VENDORS),
    ],
)
def test_absolute_uri(uri: str, absolute: str) -> None:
    assert absolute_uri(uri, "/data") == absolute
    assert absolute_uri(absolute, "/elsewhere") == absolute


@pytest.mark.parametrize("uri", VENDORS)
def test_a_vendors_store_is_a_service(uri: str) -> None:
    assert is_remote(uri)
    assert not is_local_store(uri)
    assert warn_if_store_is_local(uri, "yarn") is None
    place = where_to_look(uri, "7", "abc")
    assert "mlflow ui" not in place
    assert f"{uri}/#" not in place
    assert "experiment 7" in place


@pytest.mark.parametrize(
    "uri", [*VENDORS, "sqlite:///m.db", "mysql+pymysql://u@h/d", "http://h", "file:///x", "x/y"]
)
def test_the_scheme_is_that_of_mlflows_registry(uri: str) -> None:
    from mlflow.utils.uri import get_uri_scheme

    scheme = uri if uri in ("databricks", "databricks-uc", "uc") else get_uri_scheme(uri)
    assert scheme_of(uri).partition("+")[0] == scheme


def test_what_is_remote() -> None:
    assert is_remote("https://x")
    assert is_remote("databricks")
    assert not is_remote("sqlite:///x")
    assert not is_remote("postgresql://x")


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
