"""Which answers of a store are refusals, that will be given again, and which are trouble that may pass.

Two questions. ``is_refusal``: at any time, whether the store will never take one record. ``cannot_record``:
at the start of a study, whether it can take none of it: no permission, no login, no driver, no such scheme,
an experiment that is not there, a folder that cannot be written. A study then raises instead of running
unrecorded. The same answers later on, when it is known that the store worked, are trouble: a login that has
run out is renewed, and a gateway that restarts answers 404 for a moment. A server that does not answer, an
HTTP status of 429 or 5xx, a database that is locked are trouble always.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from sparktune.study.tracker import UnrecordableError
from sparktune.tracking import location
from sparktune.tracking.records import RefusedError, UnusableError
from sparktune.tracking.schema import cut

STATUS = "sparktune_http_status"
"""The attribute of an error with its HTTP status: MLflow's own errors do not always have it."""

_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")
_POOL_IS_EMPTY = "QueuePool limit"
"""A server whose connections to its database are all in use answers BAD_REQUEST too."""
_NO_LOGIN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_BAD_FILE = ("readonly database", "unable to open database file", "file is not a database")
"""SQLite's messages for a file that it cannot write; for one that is locked, or a full disk, it has other
things."""
_PACKAGES = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Module -> the package that has it, where that is called otherwise."""
_NO_DATABRICKS_LOGIN = ("credential configuration failed", "malformed Databricks CLI profile")
"""The messages of MLflow 3 and MLflow 2."""
_OAUTH = ("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET", "ARM_CLIENT_ID")
"""With these Databricks is asked for a token; MLflow hides whether it refused, or did not answer."""
_WITHOUT = "To record nothing: SparkTrials(mlflow=False)"


def in_short(error: Exception) -> str:
    """What went wrong, in one line: SQLAlchemy adds the whole statement, and a link."""
    text = str(error)
    for rest in ("\n[SQL:", "\n(Background on this error", " Response body: '<"):
        text = text.partition(rest)[0]
    text = location.without_password(" ".join(text.split()))
    return cut(text if isinstance(error, RefusedError) else f"{type(error).__name__}: {text}", 500)


def is_refusal(error: Exception) -> bool:
    """Whether the store answered, and will answer the same again.

    In a file store keys are paths: there ``model`` and ``model/C`` cannot both be.
    """
    cause = error.__cause__ or error.__context__
    is_bad_path = isinstance(cause, IsADirectoryError | NotADirectoryError | FileExistsError)
    is_refused = getattr(error, "error_code", None) in _REFUSALS
    return is_bad_path or (is_refused and _POOL_IS_EMPTY not in str(error))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Raise ``RefusedError`` where the store refuses; all else that it raises passes as it is."""
    try:
        yield
    except Exception as error:
        if is_refusal(error):
            raise RefusedError(str(error)) from error
        raise


@contextlib.contextmanager
def at_start(uri: str) -> Iterator[None]:
    """Raise ``UnusableError`` where the store cannot take a study at all."""
    try:
        yield
    except Exception as error:
        why = cannot_record(error, uri)
        if why is None:
            raise
        raise UnusableError(why) from error


def cannot_record(error: Exception, uri: str) -> UnrecordableError | None:
    """What to raise at the start of a study; None where the trouble may pass.

    Args:
        error: what opening the store, or the first request, raised.
        uri: absolute tracking URI.
    """
    remedy = _remedy(error, uri)
    if remedy is None:
        return None
    shown = location.without_password(uri)
    known = getattr(error, "supported_uri_schemes", None)  # MLflow's text speaks of its model registry
    reason = (
        in_short(error) if known is None else f"no such store; there are {', '.join(filter(None, known))}"
    )
    why = UnrecordableError(f"MLflow cannot record into {shown} ({reason}). Remedy: {remedy}. {_WITHOUT}")
    why.__cause__ = error
    return why


def _remedy(error: Exception, uri: str) -> str | None:
    found = _of_address(error, uri) or _of_answer(error, uri)
    if found is None and (isinstance(error, RefusedError) or is_refusal(error)):
        return (
            "choose an experiment that is there (mlflow.set_experiment(name) creates one), and unset "
            "MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME or MLFLOW_RUN_ID where they name one that is gone"
        )
    return found


def _of_address(error: Exception, uri: str) -> str | None:
    """What to do where there is no such store, or it cannot be opened here."""
    text, kind = str(error), type(error).__name__
    if kind == "UnsupportedModelRegistryStoreURIException" or location.scheme_of(uri) in (
        "uc",
        "databricks-uc",
    ):
        return (
            "correct MLFLOW_TRACKING_URI (or mlflow.set_tracking_uri), or install the package that brings "
            "this kind of address to MLflow (arn: sagemaker-mlflow, azureml: azureml-mlflow, sds: "
            "synapseml-mlflow), on the workers too"
        )
    if isinstance(error, ImportError):
        missing: Any = error.name or "the missing package"
        return f"pip install {_PACKAGES.get(missing, missing)}, or correct the tracking address"
    if kind == "NoSuchModuleError":  # SQLAlchemy's
        return "correct the driver in the tracking address, as in postgresql+psycopg2://, or install it"
    if "out-of-date database schema" in text:
        return (
            "take a backup of the database, then `mlflow db upgrade <its address>`; or install the "
            "version of MLflow that laid it out"
        )
    if location.is_local_store(uri):
        is_path = isinstance(error, OSError) and error.errno in _UNWRITABLE
        if is_path or any(part in text for part in _BAD_FILE):
            return (
                "record elsewhere, with MLFLOW_TRACKING_URI or mlflow.set_tracking_uri "
                "('sqlite:////<a folder that can be written>/mlflow.db', or the address of a server); the "
                "default of MLflow is in the working directory, so a cd to another one helps too"
            )
        if "MLFLOW_ALLOW_FILE_STORE" in text:
            return (
                "use a database, 'sqlite:////<folder>/mlflow.db', or a server; or set "
                "MLFLOW_ALLOW_FILE_STORE=true"
            )
    return None


def _of_answer(error: Exception, uri: str) -> str | None:
    """What to do where a server answers, but not as MLflow's, or not to us."""
    code, status = getattr(error, "error_code", None), getattr(error, STATUS, None)
    cause: Any = error.__cause__
    if isinstance(error, RefusedError) and cause is not None:
        code, status = getattr(cause, "error_code", None), getattr(cause, STATUS, None)
    if location.is_databricks(uri) and any(part in str(error) for part in _NO_DATABRICKS_LOGIN):
        if any(name in os.environ for name in _OAUTH):
            return None
        return (
            "log in (`databricks auth login`), or set DATABRICKS_HOST and DATABRICKS_TOKEN, or name "
            "a profile that is there: databricks://<profile>"
        )
    if code in _NO_LOGIN or status in (401, 403):
        return (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of someone "
            "who may write to this experiment, or choose another one with mlflow.set_experiment; sparktune "
            "gives them to the workers"
        )
    if status == 200 or (status == 404 and code not in _REFUSALS):
        return "check that this is the address of an MLflow server, with its path if it has one"
    return None
