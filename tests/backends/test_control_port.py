"""The driver's port for the workers: which numbers, on which addresses, what is raised where none is free."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sparktune import SparkTrials
from sparktune.backends import control_port
from sparktune.backends.channel_server import ControlServer
from sparktune.backends.control_port import Ports, listening, named, ports
from sparktune.errors import ControlPortNotAvailable
from sparktune.worker.channel_client import ControlClient

pytestmark = pytest.mark.unit

HAS_IPV6 = socket.has_dualstack_ipv6()
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


class Settings:
    """What ``ports`` asks of an application."""

    def __init__(self, **settings: str) -> None:
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}

    def setting(self, key: str) -> str | None:
        return self._settings.get(key)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


# -- which -------------------------------------------------------------------------------------------------


def numbers(value: Any, **settings: str) -> list[int]:
    return list(ports(named(value), Settings(**settings)).numbers)  # type: ignore[arg-type]


def test_an_argument_names_ports() -> None:
    assert numbers(None) == numbers(0) == [0]
    assert numbers((40000, 40003)) == numbers([40000, 40003]) == [40000, 40001, 40002, 40003]
    assert numbers(range(40000, 40010, 5)) == [40000, 40005]
    assert numbers((40000, 40000), spark_port_maxRetries="9") == [40000]


def test_a_number_begins_as_many_as_spark_tries() -> None:
    assert numbers(40000) == list(range(40000, 40017))
    assert numbers(40000, spark_port_maxRetries="2") == [40000, 40001, 40002]
    assert numbers(65535) == [65535]


def test_the_argument_goes_before_the_setting_and_that_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARKTUNE_CONTROL_PORT", "30000 - 30001")
    setting = {"spark_sparktune_control_port": "20000:20001"}
    assert numbers((10000, 10000), **setting) == [10000]
    assert numbers(None, **setting) == [20000, 20001]
    assert numbers(None) == [30000, 30001]
    assert numbers(0) == [0]


@pytest.mark.parametrize("wrong", [True, False, 1.5, "40000", (1, 2, 3), (True, 2), {}])
def test_what_names_no_ports(wrong: Any) -> None:
    with pytest.raises(TypeError, match="control_port is "):
        named(wrong)


@pytest.mark.parametrize(
    "wrong", [-1, 65536, (0, 5), (5, 70000), (5, 4), range(0), range(3), range(65000, 70000)]
)
def test_ports_that_there_are_not(wrong: Any) -> None:
    with pytest.raises(ValueError, match="control_port"):
        named(wrong)


@pytest.mark.parametrize("wrong", ["x", "70000", "5-4", "1-2-3", "-4"])
def test_a_setting_that_names_none(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"spark\.sparktune\.control\.port"):
        numbers(None, spark_sparktune_control_port=wrong)
    monkeypatch.setenv("SPARKTUNE_CONTROL_PORT", wrong)
    with pytest.raises(ValueError, match="SPARKTUNE_CONTROL_PORT"):
        numbers(None)


# -- opened ------------------------------------------------------------------------------------------------


def closing(sockets: list[socket.socket]) -> Any:
    stack = contextlib.ExitStack()
    for one in sockets:
        stack.enter_context(one)
    return stack


def test_the_first_that_is_free(taken: int) -> None:
    (one,) = listening("127.0.0.1", Ports(range(taken, taken + 20)))
    with one:
        assert taken < one.getsockname()[1] < taken + 20


def test_where_all_are_taken_the_error_names_them_and_the_remedy(taken: int) -> None:
    with pytest.raises(ControlPortNotAvailable) as raised:
        listening("127.0.0.1", Ports((taken,), f"control_port=({taken}, {taken})"))
    message = str(raised.value)
    assert f"port {taken} (control_port=({taken}, {taken})) is taken" in message
    assert "SparkTrials(control_port=(first, last))" in message
    assert isinstance(raised.value, OSError)


def test_an_address_of_another_machine_opens_the_port_on_all() -> None:
    with closing(listening("192.0.2.77", Ports())) as _, closing(listening("no-such-host.invalid", Ports())):
        pass
    opened = listening("192.0.2.77", Ports())
    with closing(opened):
        socket.create_connection(("127.0.0.1", opened[0].getsockname()[1])).close()


@needs_ipv6
@pytest.mark.parametrize(
    ("bind", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("[::1]", ["::1"]),
        ("0.0.0.0", ["127.0.0.1", "::1"]),
        ("[::]", ["127.0.0.1", "::1"]),
    ],
)
@pytest.mark.parametrize("is_fixed", [False, True])
def test_addresses_of_both_kinds(bind: str, reached: list[str], is_fixed: bool) -> None:
    wanted = Ports()
    if is_fixed:
        with closing(listening(bind, Ports())), socket.create_server(("127.0.0.1", 0)) as free:
            wanted = Ports((free.getsockname()[1],))
    opened = listening(bind, wanted)
    with closing(opened):
        (port,) = {one.getsockname()[1] for one in opened}
        assert port in wanted.numbers or not is_fixed
        for host in ("127.0.0.1", "::1"):
            with contextlib.ExitStack() as stack:
                if host not in reached:
                    stack.enter_context(pytest.raises(OSError, match=r"refused|unreachable"))
                socket.create_connection((host, port), timeout=5).close()


@needs_ipv6
def test_a_name_of_both_kinds_is_opened_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def resolved(host: str, *rest: Any, **more: Any) -> Any:
        if host != "driver.example":
            return known(host, *rest, **more)
        return [*known("::1", *rest, **more), *known("127.0.0.1", *rest, **more)]

    monkeypatch.setattr(control_port.socket, "getaddrinfo", resolved)
    signals: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with contextlib.closing(ControlServer(signals.put, "driver.example", "driver.example")) as server:
        for host in ("::1", "127.0.0.1"):
            socket.create_connection((host, server.endpoint.port), timeout=5).close()
        with contextlib.closing(ControlClient(server.endpoint)) as client:
            client.begin(1, 1, "h")
            assert signals.get(timeout=30).trial_id == 1


@needs_ipv6
def test_an_endpoint_with_an_ipv6_address_is_without_brackets() -> None:
    with contextlib.closing(ControlServer(lambda _: None, "[::1]", "[::1]")) as server:
        assert server.endpoint.host == "::1"
        assert str(server.endpoint) == f"Endpoint([::1]:{server.endpoint.port})"
        ControlClient(server.endpoint).close()


def test_a_port_is_free_again_when_its_study_has_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        wanted = Ports((free.getsockname()[1],))
    for _ in range(3):
        with (
            contextlib.closing(ControlServer(lambda _: None, "127.0.0.1", "127.0.0.1", wanted)) as server,
            contextlib.closing(ControlClient(server.endpoint)),
            pytest.raises(ControlPortNotAvailable),
        ):
            ControlServer(lambda _: None, "127.0.0.1", "127.0.0.1", wanted)


def test_spark_trials_refuse_before_spark_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparktune.backends.session.alive", lambda *_: pytest.fail("Spark was started"))
    with pytest.raises(TypeError, match="control_port is True"):
        SparkTrials(control_port=True)
    with pytest.raises(ValueError, match="control_port=70000: 70000 is not a port"):
        SparkTrials(control_port=70000)
    monkeypatch.setenv("SPARKTUNE_CONTROL_PORT", "http")
    with pytest.raises(ValueError, match="SPARKTUNE_CONTROL_PORT is 'http'"):
        SparkTrials()
