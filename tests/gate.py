"""A gate in front of a real MLflow server: it may ask for a token, and may fail requests."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

Trouble = Literal["403", "429", "500", "lost answer", "silence"]


class Gate(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Passes requests on to an MLflow server.

    Attributes:
        target: that server's port.
        token: requests without it are refused; None lets all pass.
        trouble: the number of a request -> what becomes of it, or None.
        delay_s: number and path of a request -> how long it waits before it is passed on, seconds.
        refused: how many requests lacked the token.
        path: of the latest request.
        seen: how many requests came.
        troubled: how many requests met trouble.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: int, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.token = target, token
        self.refused = 0
        self.path = ""
        self.closed = threading.Event()
        self.quiet()
        self.restart()

    def quiet(self) -> None:
        """No trouble from now on."""
        self.trouble: Callable[[int], Trouble | None] = lambda _number: None
        self.delay_s: Callable[[int, str], float] = lambda _number, _path: 0.0

    def restart(self) -> None:
        """The next request has the number 1."""
        self.numbers = itertools.count(1)
        self.seen = self.troubled = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that did not wait for its answer is no error of the gate's."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Gate

    def _pass(self) -> None:
        gate = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if gate.token is not None and self.headers.get("Authorization") != f"Bearer {gate.token}":
            gate.refused += 1
            self.send_error(401)
            return
        number, gate.path = next(gate.numbers), self.path
        gate.seen += 1
        gate.closed.wait(gate.delay_s(number, self.path))
        trouble = gate.trouble(number)
        if trouble is not None:
            gate.troubled += 1
        if trouble == "silence":
            gate.closed.wait(30)
            return
        if trouble in ("403", "429", "500"):
            self.send_error(int(trouble))
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("authorization", "host")}
        onward = http.client.HTTPConnection("127.0.0.1", gate.target, timeout=60)
        onward.request(self.command, self.path, body, headers)
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        if trouble == "lost answer":
            self.send_error(500)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


for _verb in ("GET", "POST", "PATCH", "PUT", "DELETE"):
    setattr(_Handler, f"do_{_verb}", _Handler._pass)


@contextlib.contextmanager
def gate_to(target: int, token: str | None = None) -> Iterator[Gate]:
    """A gate until the end of the block."""
    gate = Gate(target, token)
    threading.Thread(target=gate.serve_forever, daemon=True).start()
    try:
        yield gate
    finally:
        gate.closed.set()
        gate.shutdown()
        gate.server_close()
