"""Encryption of the control channel: a certificate that is made for one study, and whose key stays here."""

from __future__ import annotations

import datetime
import logging
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("sparktune")

MISSING = (
    "Spark encrypts its connections here, and the package cryptography is not installed on the driver: no "
    "unencrypted port is opened. Results come with Spark's own answers, reports by MLflow or when a trial "
    "ends, and a stop takes seconds. Remedy: pip install cryptography"
)
_VALID = datetime.timedelta(days=20 * 365)
"""Before and after now: the worker trusts this one certificate for one study, whatever its clock says."""


@dataclass(frozen=True)
class Encryption:
    """What the driver's end of a study needs.

    Attributes:
        context: for the server's side of a connection.
        certificate: PEM text; workers trust it and no other.
    """

    context: ssl.SSLContext
    certificate: str


def is_possible() -> bool:
    """Whether a certificate can be made here."""
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        return False
    return True


def for_study() -> Encryption:
    """A new key (NIST P-256) and its self-signed certificate, for TLS 1.3.

    Python's ssl reads keys from files alone: for a moment there is one, readable by this user, encrypted
    with a password that only this process knows.

    Raises:
        ImportError: cryptography is not installed.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sparktune study")])
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _VALID,
        not_valid_after=now + _VALID,
    ).sign(key, hashes.SHA256())
    certificate = built.public_bytes(serialization.Encoding.PEM)
    password = secrets.token_hex(32).encode()
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a worker connects once
    with tempfile.TemporaryDirectory(prefix="sparktune-") as folder:
        path = Path(folder, "study.pem")
        path.write_bytes(certificate + sealed)
        context.load_cert_chain(path, password=password)
    return Encryption(context, certificate.decode("ascii"))
