"""Which of the driver's variables travel, and which of them a worker takes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from sparktune.study.tracker import RunContext
from sparktune.tracking.credentials import FILES, GROUPS, fitting, travelling_env
from sparktune.tracking.worker.arrival import RunArrival
from sparktune.tracking.worker.redirect import redirect

KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
WORKLOAD = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/token"}
GOOGLE = {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}
CERTIFIED = {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/ca.pem", "MLFLOW_TRACKING_TOKEN": "t"}
PROXY = {"HTTPS_PROXY": "http://me:pw@proxy:3128", "no_proxy": "localhost,.internal"}


def test_what_travels() -> None:
    travels = {
        "MLFLOW_TRACKING_TOKEN": "a",
        "MLFLOW_S3_ENDPOINT_URL": "b",
        "DATABRICKS_HOST": "c",
        "AWS_ACCESS_KEY_ID": "d",
        "GOOGLE_APPLICATION_CREDENTIALS": "e",
        "HTTPS_PROXY": "f",
        "https_proxy": "g",
        "NO_PROXY": "h",
        "REQUESTS_CA_BUNDLE": "i",
        "AWS_REGION": "j",
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
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "KRB5CCNAME",
            "HOME",
        ),
        "x",
    )
    assert travelling_env(travels | stays) == travels


@pytest.mark.parametrize(
    ("sent", "own", "files", "taken"),
    [
        # A region says where, not who.
        (KEYS, {"AWS_REGION": "eu-west-1"}, (), KEYS),
        (KEYS | {"AWS_REGION": "us-east-1"}, {"AWS_DEFAULT_REGION": "eu-west-1"}, (), KEYS),
        (KEYS | {"AWS_REGION": "us-east-1"}, {}, (), KEYS | {"AWS_REGION": "us-east-1"}),
        # Who is somebody stays so.
        (KEYS, {"AWS_ACCESS_KEY_ID": "mine"}, (), {}),
        (KEYS, {"AWS_PROFILE": "mine"}, (), {}),
        (KEYS, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1"}, (), {}),
        (KEYS, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, ("/token",), {}),
        (KEYS, {"AWS_SHARED_CREDENTIALS_FILE": "/gone"}, (), KEYS),
        ({"AZURE_STORAGE_ACCESS_KEY": "k"}, {"AZURE_CLIENT_ID": "mine"}, (), {}),
        # A path is a credential where the file is.
        (GOOGLE, {}, (), {}),
        (GOOGLE, {}, ("/key.json",), None),
        (
            GOOGLE,
            {"GOOGLE_APPLICATION_CREDENTIALS": "/mine.json"},
            ("/key.json", "/mine.json"),
            {},
        ),
        (GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": "/gone"}, ("/key.json",), None),
        (WORKLOAD, {}, (), {}),  # an id without its token hides the worker's own identity
        (WORKLOAD, {}, ("/token",), None),
        (WORKLOAD | {"AZURE_CLIENT_SECRET": "s"}, {}, (), "AZURE_FEDERATED_TOKEN_FILE"),
        ({"AZURE_CLIENT_ID": "c"}, {}, (), None),  # which of the machine's identities
        (CERTIFIED, {}, (), "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ({"REQUESTS_CA_BUNDLE": "/ca.pem"}, {"REQUESTS_CA_BUNDLE": "/own.pem"}, ("/ca.pem", "/own.pem"), {}),
        ({"DATABRICKS_CONFIG_FILE": "/home/me/.databrickscfg"}, {}, (), {}),
        # All of the proxy, or nothing, in upper and lower case.
        (PROXY, {}, (), None),
        (PROXY, {"https_proxy": "http://other:3128"}, (), {}),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, {"MLFLOW_TRACKING_TOKEN": "old"}, (), None),
    ],
)  # fmt: skip
def test_what_a_worker_takes(
    sent: Mapping[str, str],
    own: Mapping[str, str],
    files: tuple[str, ...],
    taken: Mapping[str, str] | str | None,
) -> None:
    """``taken``: None for all, a name for all but that."""
    if taken is None or isinstance(taken, str):
        taken = {name: value for name, value in sent.items() if name != taken}
    assert fitting(sent, own, files.__contains__) == taken


def test_a_trial_has_what_fits_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*FILES, *(name for group in GROUPS.values() for name in group.names + group.own)}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    (tmp_path / "ca.pem").touch()
    sent = KEYS | PROXY | {
        "AWS_REGION": "us-east-1",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/driver/key.json",
        "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"),
    }  # fmt: skip
    before = dict(os.environ)
    with redirect(RunContext("r", "http://server", None, "7", sent), RunArrival("r")):
        during = dict(os.environ)
    assert dict(os.environ) == before
    changed = {name: during[name] for name in during if during[name] != before.get(name)}
    assert {name: value for name, value in changed.items() if not name.startswith("MLFLOW_")} == (
        KEYS | PROXY | {"REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem")}
    )


def test_the_table_of_the_documentation_is_complete() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text()
    shown = set(re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", text[text.index("## What travels") :]))
    names = {name for group in GROUPS.values() for name in group.names + group.own} | FILES
    assert {name.upper() for name in names} <= shown
