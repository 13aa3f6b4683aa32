"""The worker's end of an encrypted control connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

CHUNK_BYTES = 2**18


class EncryptedConnection:
    """TLS 1.3 over a socket, to the holder of one certificate's key.

    OpenSSL's objects are not safe in two threads, and here one thread waits for the driver while another
    sends: so the socket is read and written without a lock, and only the encryption itself has one. Only one
    thread may receive, and one at a time may send.

    Args:
        connection: connected; stays the caller's to close.
        certificate: PEM text; no other is trusted.

    Raises:
        OSError: the peer does not hold the certificate's key (``ssl.SSLError``), or Python lacks ssl.
    """

    def __init__(self, connection: socket.socket, certificate: str) -> None:
        try:
            import ssl
        except ImportError as error:
            raise OSError(f"this Python has no ssl, and the driver wants encryption: {error}") from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is known, whatever the host is called
        context.load_verify_locations(cadata=certificate)
        self._wants_more = ssl.SSLWantReadError
        self._connection = connection
        self._lock = threading.Lock()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._shake_hands()

    def sendall(self, data: bytes) -> None:
        """As a socket's."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            with self._lock:
                self._tls.write(view[start : start + CHUNK_BYTES])
                sealed = self._outgoing.read()
            self._connection.sendall(sealed)

    def recv(self, n: int) -> bytes:
        """As a socket's."""
        while True:
            with self._lock, contextlib.suppress(self._wants_more):
                return self._tls.read(n)
            if not self._feed():
                return b""

    def _shake_hands(self) -> None:
        try:
            while not self._is_done(self._tls.do_handshake):
                self._flush()
                if not self._feed():
                    raise OSError("the driver closed the study's control connection")
        finally:
            self._flush()  # also why the handshake was refused

    def _is_done(self, step: Callable[[], Any]) -> bool:
        with contextlib.suppress(self._wants_more):
            step()
            return True
        return False

    def _flush(self) -> None:
        self._connection.sendall(self._outgoing.read())

    def _feed(self) -> bool:
        sealed = self._connection.recv(CHUNK_BYTES)
        with self._lock:
            self._incoming.write(sealed)
        return bool(sealed)
