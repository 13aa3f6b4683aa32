"""The Spark application that a study runs in, as the backend sees it: classic or Spark Connect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from sparktune.backends.spark_slots import Growth
from sparktune.worker.task import Assignment


@dataclass(frozen=True, slots=True)
class Sent:
    """What of a study has reached the cluster, or will with its tasks.

    Attributes:
        parcel: holds the objective's container on a worker; see ``parcel.opened``.
        companions: broadcast variables that the objective itself uses; they must travel with the tasks.
        discard: removes the parcel from the cluster, as far as Spark can do that.
    """

    parcel: Any
    companions: tuple[Any, ...]
    discard: Callable[[], None]


class Application(Protocol):
    """A Spark session, as one study uses it.

    Attributes:
        master: Spark's master, ``local[4]`` or a URL.
        is_near: its workers run on this machine, and see its files.
        is_fixed: it runs in one process: its slots never change.
        has_copies: Spark may run a trial's task a second time while the first attempt runs.
        slots_ttl_s: how long a number of slots is taken as known.
        may_wait: whether ``run_waiting`` works here.
        shows_tasks: whether ``mark`` sees tasks; else they run where ``slots_now`` is not 0.
    """

    master: str
    is_near: bool
    is_fixed: bool
    has_copies: bool
    slots_ttl_s: float
    may_wait: bool
    shows_tasks: bool

    @property
    def is_same_python(self) -> bool:
        """Whether its workers run this process's interpreter; False where that is not known."""

    def slots_now(self) -> int | None:
        """How many trials can run at the same time now; None where that cannot be known."""

    @property
    def growth(self) -> Growth:
        """What adds executors while tasks are pending."""

    def count_executors(self) -> int | None:
        """How many there are; None where that cannot be known."""

    def has_stopped(self, error: BaseException | None = None) -> bool:
        """Whether the session has ended; ``error`` is what a call to it raised."""

    def is_cancelled(self, error: BaseException) -> bool:
        """Whether a job failed with ``error`` because all jobs of the thread that made this were cancelled.

        That is from outside: with their job group, with a job tag, or with all jobs of the session.
        """

    def setting(self, key: str) -> str | None:
        """One of Spark's settings; None where it is not set, or not shown."""

    def is_encrypted(self) -> bool:
        """Whether Spark encrypts its own connections to the driver."""

    def driver_addresses(self) -> tuple[str, str]:
        """Where the driver is to listen, and what its workers connect to."""

    def admit(self) -> None:
        """Make the resource profile known to Spark.

        Raises:
            ValueError: Spark refuses it.
        """

    def send(self, pack: Callable[[], bytes]) -> Sent:
        """Send what ``pack`` makes to the workers, once.

        Raises:
            ObjectiveNotPicklable: of ``pack``; or the objective uses a broadcast variable that was destroyed.
        """

    def inheriting(self, body: Callable[[], None]) -> Callable[[], None]:
        """A thread's body that begins with what Spark keeps of the calling thread (properties, tags)."""

    def mark(self, tag: str, has_task: Callable[[], None] = lambda: None) -> None:
        """From now on the jobs of this thread have the tag, and are interrupted when they are cancelled.

        ``has_task`` is called, in this thread, while a task of its job runs; where Spark shows that.
        """

    def use_pool(self, name: str) -> None:
        """Give the jobs of this thread a scheduler pool, unless they have one; where Spark has pools."""

    def prepare(self, assignment: Assignment) -> Any:
        """What ``run`` takes for the trials of an assignment; made again when the assignment changes.

        No two threads share one.
        """

    def run(self, prepared: Any, announcement: str, description: str) -> list[bytes]:
        """Run a trial's job, and give the rows that it returns.

        Args:
            prepared: what ``prepare`` gave.
            announcement: ``Announcement.as_text`` of the trial.
            description: what the Spark UI shows.

        Raises:
            Exception: Spark's.
        """

    def run_waiting(self, prepared: Any, number: int) -> list[bytes] | None:
        """Run a job whose worker asks, by the job's number, which trial it runs; then as ``run``.

        None where it has run none. Not called unless ``may_wait``.
        """

    def cancel(self, tag: str) -> None:
        """Cancel the jobs with this tag that run now."""

    def ask_workers(self, question: Callable[[Any], Any], n: int) -> list[Any]:
        """What ``n`` tasks answer, each on a worker: usually on different ones.

        Args:
            question: takes anything; must travel by value. Its answer is pickled.
            n: how many tasks.
        """

    def missing_module_advice(self, file: str) -> Iterable[str]:
        """Ways to bring a module of the driver (a ``.py`` or ``.zip`` file) to the workers, as phrases."""
