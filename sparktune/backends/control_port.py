"""The port of the driver that a study's workers connect to: which numbers it may have, how it is opened."""

from __future__ import annotations

import contextlib
import errno
import numbers
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sparktune.errors import ControlPortNotAvailable

if TYPE_CHECKING:
    from sparktune.backends.spark_application import Application

SETTING = "spark.sparktune.control.port"
VARIABLE = "SPARKTUNE_CONTROL_PORT"
MAX_RETRIES = "spark.port.maxRetries"
"""Spark's own: how many ports after the first one it tries, for each of its services."""
DEFAULT_RETRIES = 16
LAST_PORT = 65_535

ANY_PORT = range(1)
"""Port 0: the system chooses one that is free."""
ANY_ADDRESS = ("", "0.0.0.0", "::")
_TAKEN = (errno.EADDRINUSE, errno.EACCES)
_SAME_PORT_TRIES = 20

_FORMS = "a port (0: any that is free), or the first and the last of a range"


@dataclass(frozen=True)
class Ports:
    """Which ports a study may open.

    Attributes:
        numbers: they are tried in this order; ``ANY_PORT`` for one that the system chooses.
        source: what named them, for messages: ``control_port=40000``.
        is_first: only the first is named: as many more may be tried as Spark tries.
    """

    numbers: Sequence[int] = ANY_PORT
    source: str = ""
    is_first: bool = False

    def __str__(self) -> str:
        first, last = self.numbers[0], self.numbers[-1]
        return f"port {first}" if first == last else f"ports {first} to {last}"


def named(value: Any) -> Ports | None:
    """The ports that an argument ``control_port`` names; None where it names none.

    Args:
        value: a number, the first and the last of a range as a pair, a ``range``, or None.

    Raises:
        TypeError: it is something else.
        ValueError: a port is not in 0..65535 (in a range: 1..65535), or the range is empty.
    """
    if value is None:
        return None
    source = f"control_port={value!r}"
    if _is_number(value):
        return _ports(source, int(value), None)
    if isinstance(value, range):
        if not value:
            raise ValueError(f"control_port is {value!r}, which is empty; it must be {_FORMS}")
        _check(source, value[0], value[-1], least=1)
        return Ports(value, source)
    if isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value)):
        return _ports(source, int(value[0]), int(value[1]))
    raise TypeError(
        f"control_port is {value!r}; it must be {_FORMS}: 40000, (40000, 40010), range(40000, 40011), or None"
    )


def from_environment() -> Ports | None:
    """The ports that the environment variable ``SPARKTUNE_CONTROL_PORT`` names, if it is set.

    Raises:
        ValueError: it is neither a port nor a range.
    """
    return _from_text(VARIABLE, os.environ.get(VARIABLE))


def ports(wanted: Ports | None, application: Application) -> Ports:
    """The ports that a study may open: of its argument, else of Spark's setting, else of the environment.

    Where one number is given, so many ports after it may be tried as ``spark.port.maxRetries`` says.

    Args:
        wanted: what ``named`` gave.
        application: whose settings count.

    Raises:
        ValueError: the setting or the variable is neither a port nor a range.
    """
    found = wanted or _from_text(SETTING, application.setting(SETTING)) or from_environment() or Ports()
    if not found.is_first:
        return found
    retries = application.setting(MAX_RETRIES) or ""
    more = int(retries) if retries.isdecimal() else DEFAULT_RETRIES
    first = found.numbers[0]
    return replace(found, numbers=range(first, min(first + more, LAST_PORT) + 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _from_text(name: str, text: str | None) -> Ports | None:
    if text is None or not text.strip():
        return None
    found = re.fullmatch(r"\s*(\d{1,9})\s*(?:[-:]\s*(\d{1,9})\s*)?", text)
    if found is None:
        raise ValueError(f"{name} is {text!r}; it must be a port (40000) or a range of ports (40000-40010)")
    return _ports(f"{name}={text.strip()}", int(found[1]), int(found[2]) if found[2] else None)


def _ports(source: str, first: int, last: int | None) -> Ports:
    if last is None:
        _check(source, first, first, least=0)
        return Ports((first,), source, is_first=first > 0)
    _check(source, first, last, least=1)
    if first > last:
        raise ValueError(f"{source}: the first port is above the last; write the lower one first")
    return Ports(range(first, last + 1), source)


def _check(source: str, *ports: int, least: int) -> None:
    for port in ports:
        if not least <= port <= LAST_PORT:
            raise ValueError(f"{source}: {port} is not a port; it must be {least} to {LAST_PORT}")


# -- addresses ---------------------------------------------------------------------------------------------


def unbracketed(host: str) -> str:
    """A host as Python's sockets take it: Spark writes IPv6 addresses in brackets."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def listening(bind: str, wanted: Ports) -> list[socket.socket]:
    """Listening sockets of one port, on each address of this machine that ``bind`` stands for.

    A name may stand for an IPv4 and an IPv6 address: workers may try either. Where it is not an address of
    this machine (of a load balancer, say), the port is opened on all addresses; so it is for ``0.0.0.0``, of
    both kinds, as Java does it.

    Args:
        bind: a name or an address.
        wanted: the ports to try.

    Raises:
        ControlPortNotAvailable: all are taken, or may not be opened by this user; or no address can be bound.
    """
    reason: OSError | None = None
    for host in dict.fromkeys((unbracketed(bind), "")):
        try:
            places = _places(host)
        except OSError as error:  # the name is not known
            reason = reason or error
            continue
        n_taken = 0
        for port in wanted.numbers:
            try:
                return _open(places, port)
            except OSError as error:
                if error.errno not in _TAKEN:
                    reason = reason or error
                    break
                n_taken += 1
        if n_taken == len(wanted.numbers):
            raise _all_taken(bind, wanted)
    raise ControlPortNotAvailable(
        f"no port could be opened for the workers on {bind} ({reason}); is spark.driver.bindAddress right?"
    )


def _all_taken(bind: str, wanted: Ports) -> ControlPortNotAvailable:
    one = len(wanted.numbers) == 1
    return ControlPortNotAvailable(
        f"no port could be opened for the workers on {bind}: {wanted} ({wanted.source}) "
        f"{'is' if one else 'are all'} taken, or not permitted to this user. Each study that runs needs one: "
        f"name more ports or others, with SparkTrials(control_port=(first, last)), {SETTING} or {VARIABLE}"
    )


_Place = tuple[int, tuple[Any, ...]]
"""An address family, and a socket's address whose port is not chosen."""


def _places(host: str) -> list[_Place]:
    if host in ANY_ADDRESS:
        return [(socket.AF_INET6, ("::", 0, 0, 0)), (socket.AF_INET, ("0.0.0.0", 0))]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _open(places: Sequence[_Place], port: int) -> list[socket.socket]:
    """Sockets of one port on all places that this machine has.

    Raises:
        OSError: the port is taken on one of them, or the machine has none of them.
    """
    reason = OSError("it is not an address")
    for _ in range(_SAME_PORT_TRIES if port == 0 and len(places) > 1 else 1):
        with contextlib.ExitStack() as stack:
            opened: list[socket.socket] = []
            for family, address in places:
                number = opened[0].getsockname()[1] if opened else port
                try:
                    one = _bound(family, (address[0], number, *address[2:]))
                except OSError as error:
                    reason = error
                    if error.errno in _TAKEN:
                        break
                    continue
                opened.append(stack.enter_context(one))
            else:
                if opened:
                    stack.pop_all()
                    return opened
        if reason.errno not in _TAKEN:
            break
    raise reason


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    return socket.create_server(address, family=family, backlog=1024)
