"""How long a request to a tracking server may take, by how long the others took.

Three kinds of servers are told apart:

- A quick one, of which nothing is wrong: a request may take several times as long as the slowest known
  answer, and seconds at least.
- A slow one: its answers are waited for accordingly. What has timed out gets twice the time.
- One that loses requests: some are never answered, although others that were made later are. To wait for
  them is in vain, so that a request is made again after a few times what an answer usually takes; at every
  second time-out it gets twice the time.

A request that carries much gets more time, by its size. All requests but one may be made twice. A run
that was perhaps created is looked for before it is created again, and gets more time for that.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

CREATE = "CreateRun"
"""The kind of request that must not be made twice."""
KNOWN_ANSWERS = 100
"""So many answers of each kind are remembered."""
LATEST_ANSWERS = 20
"""So many of them tell what is usual where a server loses requests."""
FIRST_S = 5.0
"""The time-out before anything was answered, but for a run that is created."""
LEAST_S, LEAST_TO_CREATE_S = 3.0, 10.0
FACTOR = 4.0
"""Times the slowest of the known answers."""
LEAST_IF_LOSING_S, LEAST_TO_CREATE_IF_LOSING_S = 0.1, 0.3
FACTOR_IF_LOSING, FACTOR_TO_CREATE_IF_LOSING = 3.0, 5.0
"""Times the median of the known answers; for a run that is created, times what nine of ten took at most."""
USUAL_BYTES_PER_S, USUAL_IF_LOSING, LEAST_BYTES_PER_S = 1e6, 1e7, 5e4
"""How fast content is carried, where nothing else is known of its kind; and how fast at least: the limit on a
request is for its answer."""
OVERTAKEN = 5
"""A request is lost when so many of its kind that were made later have been answered; twice as many for each
time that it was lost before."""
LOSING_AFTER, LOST_MEMORY, LOST_MEMORY_S = 2, 20, 60.0
"""So many lost requests within so many seconds, among so many at most, make a server one that loses them."""
LATE_ANSWERS = 2
"""It is a slow one if more than one in so many of those was answered after all."""


@dataclass(eq=False)
class Request:
    """A request under way.

    Attributes:
        kind: requests of one kind take about as long.
        name: what it is, so that it is known again when it is made again.
        began: when it was made.
        n_bytes: how much content it carries, where that is much.
        overtaken: how many of its kind that were made later have been answered.
        is_late: it was answered after it had been given up.
        news: set when it was answered, or its time-out has become shorter.
    """

    kind: str
    name: str
    began: float
    n_bytes: int = 0
    overtaken: int = 0
    is_late: bool = False
    news: threading.Event = field(default_factory=threading.Event)


class Timeouts:
    """How long each request may take. Several threads may call it.

    Args:
        longest_s: the limit, seconds.
        clock: seconds that never go back.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s = float(longest_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: set[Request] = set()
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KNOWN_ANSWERS))
        self._lost: deque[tuple[float, Request]] = deque(maxlen=LOST_MEMORY)
        self._n_silent = 0  # time-outs since the last answer
        self._tries: dict[str, int] = defaultdict(int)  # request -> how often it was given up

    @property
    def is_losing(self) -> bool:
        """Whether the server loses requests."""
        since = self._clock() - LOST_MEMORY_S
        lost = [request for when, request in list(self._lost) if when > since]
        n_late = sum(request.is_late for request in lost)
        return len(lost) - n_late >= max(LOSING_AFTER, LATE_ANSWERS * n_late)

    def began(self, kind: str, name: str, n_bytes: int = 0) -> Request:
        """A request is made now."""
        with self._lock:
            request = Request(kind, name, self._clock(), n_bytes)
            self._under_way.add(request)
            return request

    def answered(self, request: Request) -> None:
        """It was answered, be it with an error."""
        with self._lock:
            self._under_way.discard(request)
            self._took[request.kind].append(self._clock() - request.began)
            self._n_silent = 0
            self._tries.pop(request.name, None)
            for other in self._under_way:
                if other.kind == request.kind and other.began < request.began:
                    other.overtaken += 1
                    if other.overtaken == self._enough(other):
                        self._note_lost(other)
                        other.news.set()

    def failed(self, request: Request) -> None:
        """The server could not be reached."""
        with self._lock:
            self._under_way.discard(request)

    def given_up(self, request: Request) -> None:
        """Its time is over."""
        with self._lock:
            self._under_way.discard(request)
            self._tries[request.name] += 1
            if request.overtaken < self._enough(request):
                self._n_silent += 1
                if request.overtaken:
                    self._note_lost(request)

    def answered_late(self, request: Request) -> None:
        """It was answered after it had been given up: it was not lost."""
        with self._lock:
            request.is_late = True
            self._n_silent = 0
            self._took[request.kind].append(self._clock() - request.began)

    def limit_s(self, request: Request) -> float:
        """The time-out for a request under way, seconds from its beginning; changes with the others' fate."""
        with self._lock:
            creates = request.kind == CREATE
            # A kind of which nothing is known may be like any other.
            took = self._took[request.kind] or [s for known in self._took.values() for s in known]
            n_silent = max(self._n_silent, self._tries.get(request.name, 0))
            is_lost = request.overtaken >= self._enough(request)
            bytes_per_s = USUAL_BYTES_PER_S
            if not took:
                usual_s = self._longest_s if creates else FIRST_S
            elif self.is_losing or is_lost:
                bytes_per_s = USUAL_IF_LOSING
                usual_s = _if_losing_s(sorted([*took][-LATEST_ANSWERS:]), creates=creates)
                n_silent = 0 if is_lost else n_silent // 2
            else:
                usual_s = max(LEAST_TO_CREATE_S if creates else LEAST_S, FACTOR * max(took))
            usual_s += request.n_bytes / bytes_per_s
            longest_s = max(self._longest_s, request.n_bytes / LEAST_BYTES_PER_S)
            return min(longest_s, usual_s * float(1 << min(n_silent, 10)))

    def _enough(self, request: Request) -> int:
        return OVERTAKEN << min(self._tries.get(request.name, 0), 10)

    def _note_lost(self, request: Request) -> None:
        was_losing = self.is_losing
        self._lost.append((self._clock(), request))
        if self.is_losing and not was_losing:
            for other in self._under_way:
                other.news.set()


def _if_losing_s(took: list[float], *, creates: bool) -> float:
    if creates:
        return max(LEAST_TO_CREATE_IF_LOSING_S, FACTOR_TO_CREATE_IF_LOSING * took[len(took) * 9 // 10])
    return max(LEAST_IF_LOSING_S, FACTOR_IF_LOSING * took[len(took) // 2])
