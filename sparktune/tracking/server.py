"""One question to a tracking server: whether it answers this process, and which version it is."""

from __future__ import annotations

import importlib
import re
from typing import NamedTuple

ANSWER_S = 10.0


class Answer(NamedTuple):
    """What a tracking server says when it is asked for its version, with the credentials that MLflow has.

    Attributes:
        status: of HTTP; 401 and 403 where it does not take the credentials.
        version: ``3.1.0``; None where it does not say.
    """

    status: int
    version: str | None


def ask_version(uri: str) -> Answer:
    """Ask the server at ``uri`` (http, https), once.

    Raises:
        OSError: it does not answer; the first cause of that, for people to read.
    """
    rest, credentials = (
        importlib.import_module(f"mlflow.utils.{name}") for name in ("rest_utils", "credentials")
    )
    try:
        response = rest.http_request(
            credentials.get_default_host_creds(uri),
            "/version",
            "GET",
            max_retries=0,
            retry_codes=(),
            raise_on_status=False,
            timeout=ANSWER_S,
        )
    except Exception as error:  # MLflow's own, around those of requests, urllib3 and the socket
        cause: BaseException = error
        while (deeper := cause.__cause__ or cause.__context__) is not None:
            cause = deeper
        raise OSError(f"{type(cause).__name__}: {cause}") from error
    found = re.fullmatch(r"\d+\.\d+[\w.+-]*", response.text.strip()) if response.status_code == 200 else None
    return Answer(response.status_code, found and found[0])


def client_version() -> str:
    """Of the MLflow in this process."""
    import mlflow

    return str(mlflow.__version__)
