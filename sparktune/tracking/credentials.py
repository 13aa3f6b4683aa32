"""Which of the driver's environment variables travel to the workers, and which of them a worker takes.

The driver sends (``travelling_env``), inside of each trial's task; the worker decides (``fitting``), because
only there it is known what it has already: an identity, a proxy, a file. Pure functions; the table in
``docs/mlflow.md`` is made of the same names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

_DRIVER_ONLY = re.compile(
    r"MLFLOW_(RUN_ID|TRACKING_URI|REGISTRY_URI|EXPERIMENT_(ID|NAME)|TRACKING_DIR|REGISTRY_DIR)"
    r"|MLFLOW_.*(SERVER_SECRET|AUTH_ADMIN|AUTH_CONFIG|BACKEND_STORE|WEBHOOK|GATEWAY|CRYPTO).*"
    r"|DATABRICKS_RUNTIME_VERSION"
)


class Group(NamedTuple):
    """Variables that make sense together: a worker takes all or none of the driver's.

    Attributes:
        names: those that travel.
        own: others by which a worker shows that it has its own.
        secrets: without one of these, a group whose file is not on the worker is worth nothing there.
    """

    names: tuple[str, ...]
    own: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
GROUPS: Mapping[str, Group] = {
    "AWS": Group(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        (
            "AWS_PROFILE",
            "AWS_ROLE_ARN",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_CONFIG_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ),
    ),
    "AWS region": Group(("AWS_REGION", "AWS_DEFAULT_REGION")),  # it is a place, not an identity
    "Azure": Group(
        (
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_CLIENT_CERTIFICATE_PATH",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_TENANT_ID",
        ),
        secrets=(
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_CLIENT_SECRET",
            "AZURE_CLIENT_CERTIFICATE_PATH",
            "AZURE_FEDERATED_TOKEN_FILE",
        ),
    ),
    "Google": Group(("GOOGLE_APPLICATION_CREDENTIALS",)),
    "proxy": Group((*_PROXIES, *(name.lower() for name in _PROXIES))),
}
FILES = frozenset(
    (
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_FEDERATED_TOKEN_FILE",
        "CURL_CA_BUNDLE",
        "DATABRICKS_CONFIG_FILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH",
        "MLFLOW_TRACKING_SERVER_CERT_PATH",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
    )
)
"""Variables that hold a path: they mean something only where the file is."""
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_SENT = frozenset((*_CERTIFICATES, *(name for group in GROUPS.values() for name in group.names)))


def travelling_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the driver that MLflow may need in the workers.

    All of ``MLFLOW_*`` and ``DATABRICKS_*``, except those that describe the driver itself (its run, its
    experiment, its runtime) or belong to a tracking server that happens to run there; the credentials of
    artifact stores, because ``mlflow.log_artifact`` writes to them from the worker; proxies and the
    certificates that requests are checked with.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _SENT or (name.startswith(("MLFLOW_", "DATABRICKS_")) and not _DRIVER_ONLY.fullmatch(name))
    }


def fitting(
    sent: Mapping[str, str],
    environ: Mapping[str, str],
    exists: Callable[[str], bool] = os.path.exists,
) -> dict[str, str]:
    """What a worker takes of the variables that it was sent.

    - A path is left out where there is no such file, or where the worker has set its own.
    - Of a group nothing is taken where the worker has its own (``AWS_PROFILE``, a file that exists, ...), or
      where the file that it rests on is not there.

    Args:
        sent: of ``travelling_env``.
        environ: the worker's.
        exists: whether there is such a file on the worker.
    """
    lacking = {name for name in FILES & sent.keys() if not exists(sent[name])}
    own = {name for name in environ if name not in FILES or exists(environ[name])}
    taken = {name: sent[name] for name in sent.keys() - lacking - (FILES & own)}
    for group in GROUPS.values():
        is_hollow = not lacking.isdisjoint(group.names) and taken.keys().isdisjoint(group.secrets)
        if is_hollow or not own.isdisjoint(group.names + group.own):
            for name in group.names:
                taken.pop(name, None)
    return taken
