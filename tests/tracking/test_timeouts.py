"""How long a request may take, by how long the others took."""

from __future__ import annotations

import pytest

from sparktune.tracking.timeouts import (
    CREATE,
    FIRST_S,
    LEAST_IF_LOSING_S,
    LEAST_S,
    LEAST_TO_CREATE_IF_LOSING_S,
    LEAST_TO_CREATE_S,
    LOSING_AFTER,
    LOST_MEMORY_S,
    OVERTAKEN,
    Request,
    Timeouts,
)

pytestmark = pytest.mark.unit

BATCH = "LogBatch"


class Server:
    """Answers after a while, or never, in time that does not pass by itself."""

    def __init__(self, longest_s: float = 30) -> None:
        self.now = 0.0
        self.timeouts = Timeouts(longest_s, lambda: self.now)

    def answer(self, took_s: float, kind: str = BATCH) -> None:
        request = self.timeouts.began(kind, "it")
        self.now += took_s
        self.timeouts.answered(request)

    def begin(self, kind: str = BATCH, name: str = "that one") -> Request:
        request = self.timeouts.began(kind, name)
        self.now += 0.001
        return request

    def lose(self) -> None:
        """Never answer one, but another that is made while it waits."""
        request = self.begin(name="lost")
        self.answer(0.01)
        self.timeouts.given_up(request)

    def limit_s(self, kind: str = BATCH, name: str = "another") -> float:
        request = self.timeouts.began(kind, name)
        self.timeouts.failed(request)
        return self.timeouts.limit_s(request)


def test_nothing_is_known_at_first() -> None:
    assert Server().limit_s() == FIRST_S
    assert Server().limit_s(CREATE) == 30


def test_a_quick_server_is_not_waited_for_long() -> None:
    server = Server()
    server.answer(0.01)
    assert server.limit_s() == LEAST_S
    assert server.limit_s(CREATE) == LEAST_TO_CREATE_S
    server.answer(2.0)
    assert server.limit_s() == pytest.approx(8.0)


def test_a_server_that_has_become_slow_is_given_time() -> None:
    server = Server()
    server.answer(0.01)
    limits = []
    for _ in range(5):
        server.timeouts.given_up(server.begin())
        limits.append(server.limit_s())
    assert limits == [6, 12, 24, 30, 30]
    server.timeouts.failed(server.begin())
    assert server.limit_s() == 30
    server.answer(0.02)
    assert server.limit_s() == LEAST_S


def test_one_kind_that_is_slow_does_not_slow_the_others() -> None:
    server = Server(100)
    server.answer(0.01)
    server.answer(8.0, CREATE)
    assert server.limit_s(CREATE) == pytest.approx(32)
    assert server.limit_s() == LEAST_S


def test_a_request_that_timed_out_gets_more_time_whatever_others_take() -> None:
    server = Server()
    limits = []
    for _ in range(4):
        server.timeouts.given_up(server.begin(name="large"))
        server.answer(0.01)
        limits.append(server.limit_s(name="large"))
    assert limits == [6, 12, 24, 30]


def test_a_server_that_loses_requests_is_asked_again_soon() -> None:
    server = Server()
    for _ in range(20):
        server.answer(0.01)
    waiting, creating = server.begin(), server.begin(CREATE)
    server.lose()
    assert not server.timeouts.is_losing
    assert not waiting.news.is_set()
    server.lose()
    assert server.timeouts.is_losing
    assert waiting.news.is_set()  # those that wait already wait no longer than others
    assert server.timeouts.limit_s(waiting) == LEAST_IF_LOSING_S
    assert server.timeouts.limit_s(creating) == LEAST_TO_CREATE_IF_LOSING_S
    server.now += LOST_MEMORY_S
    server.answer(0.01)
    assert not server.timeouts.is_losing
    assert server.limit_s(CREATE) == LEAST_TO_CREATE_S


def test_what_is_overtaken_by_many_is_lost() -> None:
    server = Server()
    server.answer(0.01)
    for n_before in range(2):
        request, other_kind = server.begin(), server.begin(CREATE, "a run")
        for n in range(OVERTAKEN << n_before):
            assert not request.news.is_set()
            assert n_before or server.timeouts.limit_s(request) >= LEAST_S, n
            server.answer(0.01)
        assert request.news.is_set()
        assert server.timeouts.limit_s(request) == LEAST_IF_LOSING_S
        assert n_before or server.timeouts.limit_s(other_kind) == LEAST_TO_CREATE_S
        server.timeouts.given_up(request)
        server.timeouts.answered(other_kind)


def test_a_server_that_answers_nothing_loses_nothing() -> None:
    server = Server()
    server.answer(0.01)
    under_way = [server.begin() for _ in range(5)]
    server.now += 10
    for request in under_way:
        server.timeouts.given_up(request)
    server.answer(0.01)
    assert not server.timeouts.is_losing


def test_a_server_that_answers_late_is_slow() -> None:
    server = Server()
    given_up = []
    for _ in range(2):
        given_up.append(server.begin())
        server.answer(0.01)
        server.timeouts.given_up(given_up[-1])
    assert server.timeouts.is_losing
    server.now += 5
    server.timeouts.answered_late(given_up[0])
    assert not server.timeouts.is_losing
    assert server.limit_s() == pytest.approx(20, rel=0.1)


def test_much_content_gets_time_by_its_size() -> None:
    server = Server()
    for _ in range(10):
        server.answer(0.01)
    small, large = (server.timeouts.began("artifact", name, n) for name, n in (("a", 0), ("b", 6_000_000)))
    assert server.timeouts.limit_s(large) - server.timeouts.limit_s(small) == 6
    for _ in range(LOSING_AFTER):
        server.lose()
    assert server.timeouts.is_losing
    large = server.timeouts.began("artifact", "c", 6_000_000)
    assert server.timeouts.limit_s(large) == pytest.approx(LEAST_IF_LOSING_S + 0.6)
    for _ in range(5):
        server.timeouts.given_up(server.timeouts.began("artifact", "b", 6_000_000))
    server.now += 100
    assert server.limit_s("artifact", "a") == 30
    assert server.timeouts.limit_s(server.timeouts.began("artifact", "b", 6_000_000)) == 120


def test_the_limit_is_never_passed() -> None:
    server = Server(2)
    server.answer(1.0)
    assert server.limit_s(CREATE) == 2
