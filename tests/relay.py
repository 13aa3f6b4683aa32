"""A TCP relay between a study's worker and its driver: it records what passes, and can fall silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

LATEST: list[Relay] = []
"""For objectives: they are pickled, and a relay is not."""


class Relay:
    """Passes bytes on between its own port and another, in both directions.

    Attributes:
        port: where it listens, on 127.0.0.1.
        passed: all that has passed, in either direction.
        n_connections: how many it has accepted.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.passed = b""
        self.n_connections = 0
        self._silent: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        LATEST[:] = [self]
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Swallow what comes on the connections that are open now; none of them ends."""
        self._silent.update(self._open)

    def close(self) -> None:
        """End the connections."""
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
                self.n_connections += 1
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._silent:
                    self.passed += data
                    sink.sendall(data)
        if source not in self._silent:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay_to(host: str, port: int) -> Iterator[Relay]:
    """A relay that ends with the block."""
    with contextlib.closing(Relay((host, port))) as relay:
        yield relay
