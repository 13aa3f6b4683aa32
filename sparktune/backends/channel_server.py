"""The driver's end of the control channel (see ``sparktune.worker.channel``)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import pickle
import secrets
import threading
from collections.abc import Callable

from sparktune.backends.claims import Claims
from sparktune.backends.control_port import Ports, listening, unbracketed
from sparktune.backends.encryption import Encryption
from sparktune.worker.channel import (
    ACK,
    ADMIT,
    ANSWER_BODY,
    ASK,
    BEGIN,
    CLAIM,
    CLAIM_BODY,
    GIVE,
    GO_ON,
    GRANT,
    HEADER,
    HELLO_BYTES,
    ID,
    KILL,
    MAX_FRAME_BYTES,
    NONCE_BYTES,
    OUTCOME,
    OVER,
    PING,
    PONG,
    PREPARE,
    PREPARED,
    REFUSE,
    REPORT,
    REPORT_BODY,
    RUN,
    TAKE,
    TERMINATE,
    Arrived,
    Asked,
    Begun,
    Endpoint,
    Gone,
    Prepared,
    ReportArrived,
    Signal,
    Wanted,
    keep_alive,
    proof,
)

logger = logging.getLogger("sparktune")

HANDSHAKE_S = 10.0
ARRIVAL_HOPS = 5
"""Rounds of the event loop until a frame that the kernel has is a signal: read, fed, the reader woken."""


class ControlServer:
    """The driver's end. Runs an event loop in its own thread.

    Args:
        sink: takes the signals, in the loop's thread; must not block.
        bind: the address to listen on, or a name of this machine.
        advertise: the host that workers connect to.
        ports: which may be opened; by default the system chooses.
        encryption: for connections that are encrypted.

    Raises:
        ControlPortNotAvailable: see ``control_port.listening``.
    """

    def __init__(
        self,
        sink: Callable[[Signal], None],
        bind: str,
        advertise: str,
        ports: Ports | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        self._sink = sink
        self._encryption = encryption
        self._token = secrets.token_bytes(32)
        self._running: dict[int, asyncio.StreamWriter] = {}
        self._reporting: dict[int, asyncio.StreamWriter] = {}  # a child process of the worker may report too
        self._wanting: dict[int, asyncio.StreamWriter] = {}
        self._claims: Claims[asyncio.StreamWriter] = Claims(_grant)
        self._connections: set[asyncio.Task[None]] = set()
        self._workers: set[asyncio.StreamWriter] = set()
        self._stopped: set[int] = set()
        self._refused = 0
        self._sockets = listening(bind, ports or Ports())
        port = self._sockets[0].getsockname()[1]
        certificate = None if encryption is None else encryption.certificate
        self.endpoint = Endpoint(unbracketed(advertise), port, self._token, certificate)
        self._loop = asyncio.new_event_loop()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sparktune-control", daemon=True)
        self._thread.start()
        self._serving.wait()  # a loop that is stopped before it serves would leave its socket open

    def kill(self, trial_id: int) -> None:
        """End the worker process that runs this trial now, if there is one."""
        self._tell(self._running, trial_id, KILL)

    def refuse(self, trial_id: int) -> None:
        """From now on, let no worker begin this trial."""

        def end() -> None:
            self._stopped.add(trial_id)
            self._claims.end(trial_id)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(end)

    def prepare(self, trial_id: int) -> None:
        """Have the worker that runs this trial, if there is one, do what is to be done before a kill.

        ``Prepared`` reports that it is done.
        """
        self._tell(self._running, trial_id, PREPARE)

    def answer(self, trial_id: int, number: int, *, terminate: bool) -> None:
        """Answer a report, in the process that sent it: the objective continues, or ends."""
        answer = ANSWER_BODY.pack(trial_id, number)
        self._tell(self._reporting, trial_id, TERMINATE if terminate else GO_ON, answer[ID.size :])

    def send_run(self, trial_id: int, run_id: str | None) -> None:
        """Tell the worker that runs this trial, if there is one, the trial's MLflow run."""
        self._tell(self._running, trial_id, RUN, (run_id or "").encode())

    def give(self, number: int, announcement: str) -> None:
        """Send its trial to the worker that runs the job of this number, if it waits for it.

        Empty: it runs none.
        """
        self._tell(self._wanting, number, GIVE, announcement.encode("ascii"), once=True)

    def after_arrivals(self, then: Callable[[], None], *, hops: int = ARRIVAL_HOPS) -> None:
        """Call ``then`` when the signals of all that has arrived by now were taken; soon, in any thread.

        With 0 ``hops``: of all that the server has answered by now.
        """

        def hop(left: int) -> None:
            if left:
                self._loop.call_soon(hop, left - 1)
            else:
                then()

        try:
            self._loop.call_soon_threadsafe(hop, hops)
        except RuntimeError:  # the loop is closed
            then()

    def _tell(
        self,
        whom: dict[int, asyncio.StreamWriter],
        key: int,
        kind: bytes,
        more: bytes = b"",
        *,
        once: bool = False,
    ) -> None:
        def write() -> None:
            if key in whom:
                body = ID.pack(key) + more
                whom[key].write(HEADER.pack(len(body), kind) + body)
                if once:
                    del whom[key]

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(write)

    def close(self) -> None:
        """Close every connection and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            if self._refused > 1:
                logger.warning("%d connections to the study's control port were refused", self._refused)

    def _serve(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        servers = [
            loop.run_until_complete(asyncio.start_server(self._accept, sock=one)) for one in self._sockets
        ]
        loop.call_soon(self._serving.set)
        try:
            loop.run_forever()
        finally:
            for _ in range(ARRIVAL_HOPS):  # a connection just accepted gets a task, which closes it
                loop.run_until_complete(asyncio.sleep(0))
            for server in servers:
                server.close()
            self._claims = Claims(_grant)  # a waiting worker must not begin when the others are cancelled
            for writer in self._workers:
                writer.write(HEADER.pack(ID.size, OVER) + ID.pack(0))
            for task in self._connections:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        current: list[int] = []
        try:
            keep_alive(writer.get_extra_info("socket"))
            if await self._admit(reader, writer):
                self._workers.add(writer)
                await self._listen(reader, writer, current)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception:
            logger.exception("the control connection from %s broke", writer.get_extra_info("peername"))
        finally:
            self._connections.discard(task)
            self._workers.discard(writer)
            for trial_id in current:
                if self._running.get(trial_id) is writer:
                    del self._running[trial_id]
                    self._sink(Gone(trial_id))
            self._claims.lose(writer)
            for number in [number for number, one in self._wanting.items() if one is writer]:
                del self._wanting[number]
            if self._encryption is None:
                writer.close()
            else:  # a peer that is to say goodbye as well might not
                writer.transport.abort()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonce = secrets.token_bytes(NONCE_BYTES)
        writer.write(nonce)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                if self._encryption is not None:
                    await self._encrypt(writer, self._encryption)
                hello = await reader.readexactly(HELLO_BYTES)
        except (TimeoutError, asyncio.IncompleteReadError):
            hello = b""
        if not hmac.compare_digest(hello[NONCE_BYTES:], proof(self._token, nonce, b"worker")):
            self._refused += 1
            if self._refused == 1:
                logger.warning(
                    "refused a connection from %s to the study's control port: it does not hold the token. "
                    "Further ones are counted",
                    writer.get_extra_info("peername"),
                )
            return False
        writer.write(proof(self._token, hello[:NONCE_BYTES], b"driver"))
        return True

    async def _encrypt(self, writer: asyncio.StreamWriter, encryption: Encryption) -> None:
        """TLS from here on; the worker begins with it when it has the nonce, so none of it is read before.

        Raises:
            TimeoutError: the peer does something else.
        """
        try:
            await writer.start_tls(encryption.context, ssl_handshake_timeout=HANDSHAKE_S)
        except OSError as error:  # ssl.SSLError is one
            raise TimeoutError("no TLS") from error

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, current: list[int]
    ) -> None:
        while True:
            length, kind = HEADER.unpack(await reader.readexactly(HEADER.size))
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
            body = await reader.readexactly(length)
            if kind == CLAIM:
                trial_id, first = CLAIM_BODY.unpack(body)
                self._claims.ask(trial_id, first, writer)
            elif kind == BEGIN:
                begun = Begun(*pickle.loads(body))
                is_stopped = begun.trial_id in self._stopped
                writer.write(HEADER.pack(ID.size, REFUSE if is_stopped else ADMIT) + ID.pack(begun.trial_id))
                if is_stopped:
                    continue
                current[:] = [begun.trial_id]
                self._running[begun.trial_id] = writer
                self._claims.begin(begun.trial_id, begun.attempt)
                self._sink(begun)
            elif kind == REPORT:
                reported = ReportArrived(*REPORT_BODY.unpack(body))
                self._reporting[reported.trial_id] = writer
                self._sink(reported)
            elif kind == ASK:
                self._sink(Asked(*ID.unpack(body)))
            elif kind == PING:
                writer.write(HEADER.pack(len(body), PONG) + body)
            elif kind == PREPARED:
                self._sink(Prepared(*ID.unpack(body)))
            elif kind == TAKE:
                wanted = Wanted(*ID.unpack(body))
                self._wanting[wanted.number] = writer
                self._sink(wanted)
            elif kind == OUTCOME:
                trial_id = ID.unpack_from(body)[0]
                current.clear()
                if self._running.get(trial_id) is writer:  # not where it runs again on another worker
                    del self._running[trial_id]
                self._reporting.pop(trial_id, None)
                # First: the slot is free when the worker knows, and whom the sink wakes would delay it.
                writer.write(HEADER.pack(ID.size, ACK) + ID.pack(trial_id))
                self._sink(Arrived(trial_id, body[ID.size :]))
                self._claims.end(trial_id)


def _grant(writer: asyncio.StreamWriter, trial_id: int, attempt: int) -> None:
    body = CLAIM_BODY.pack(trial_id, attempt)
    writer.write(HEADER.pack(len(body), GRANT) + body)
