"""Whether a study could be recorded, asked without recording one; which version a tracking server is."""

from __future__ import annotations

import importlib
import os
import re
import tempfile
from typing import NamedTuple

from sparktune.study.tracker import UnrecordableError
from sparktune.tracking import sqlite_setup
from sparktune.tracking.http import request_once
from sparktune.tracking.location import scheme_of
from sparktune.tracking.refusals import cannot_record, in_short
from sparktune.tracking.store import MlflowStore

__all__ = ["Answer", "UnrecordableError", "ask_version", "client_version", "probe"]

ANSWER_S = 10.0


class Answer(NamedTuple):
    """A tracking server's answer to the request for its version, with the credentials that MLflow has.

    Attributes:
        status: of HTTP; 401 and 403 where it does not take the credentials.
        version: ``3.1.0``; None where it does not report it.
    """

    status: int
    version: str | None


def ask_version(uri: str) -> Answer:
    """Ask the server at ``uri`` (http, https), once.

    Raises:
        OSError: it does not answer; the first cause of that, for people to read.
    """
    credentials = importlib.import_module("mlflow.utils.credentials")
    try:
        response = request_once(credentials.get_default_host_creds(uri), "/version", "GET", ANSWER_S)
    except Exception as error:  # MLflow's own, around those of requests, urllib3 and the socket
        cause: BaseException = error
        while (deeper := cause.__cause__ or cause.__context__) is not None:
            cause = deeper
        raise OSError(f"{type(cause).__name__}: {cause}") from error
    found = re.fullmatch(r"\d+\.\d+[\w.+-]*", response.text.strip()) if response.status_code == 200 else None
    return Answer(response.status_code, found and found[0])


def probe(uri: str) -> None:
    """Open the store and find the experiment, as a study does at its start; nothing is created there.

    Whether runs may be created in the experiment is not known before one is.

    Args:
        uri: absolute tracking URI.

    Raises:
        UnrecordableError: a study would raise it.
        OSError: the store does not answer now; as text.
    """
    try:
        _open(uri)
    except Exception as error:
        why = cannot_record(error, uri)
        if why is not None:
            raise why from error
        raise OSError(in_short(error)) from error


def _open(uri: str) -> None:
    import mlflow

    store = MlflowStore(uri)
    if not sqlite_setup.is_new(uri):
        store.open()
        active = mlflow.active_run()
        joined = active.info.run_id if active is not None else os.environ.get("MLFLOW_RUN_ID")
        store.snapshot(joined) if joined else store.use_active_experiment(create=False)
        return
    sqlite_setup.check(uri)
    if scheme_of(uri) == "file":  # MLflow may refuse all folders
        with tempfile.TemporaryDirectory() as folder:
            MlflowStore(f"file://{folder}/mlruns").open()


def client_version() -> str:
    """Of the MLflow in this process."""
    import mlflow

    return str(mlflow.__version__)
