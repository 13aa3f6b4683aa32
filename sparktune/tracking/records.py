"""What is still to be written to each run, and what the writer asks of a store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sparktune.study.tracker import UnrecordableError
from sparktune.tracking.schema import Point

TAGS_AT_FIRST = 90
"""How many tags a run is created with; MLflow takes 100, and adds some."""


class StoreBusyError(Exception):
    """The store asks to wait (HTTP 429). Not an outage."""

    def __init__(self, message: str, pause_s: float) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class RefusedError(Exception):
    """The store answers, and will never take this record: its run was deleted, say. Not an outage."""


class UnusableError(RefusedError):
    """The store can take nothing of the study. Not logged: the caller that opened it raises ``why``."""

    def __init__(self, why: UnrecordableError) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass
class Turn:
    """When a record is written. Guarded by ``Writer.lock``.

    Attributes:
        is_queued: it is in line.
        is_busy: a thread is writing it.
        due: the writer's clock at which it is taken, or None.
        fill_due: the same for its content, while its run is to be created first.
        is_alone: it is not created in one transaction with others any more.
        created: set once its run exists, or cannot be created for now; None while nobody waits.
        waiting: called with the run's id once it exists; and whether that is urgent.
    """

    is_queued: bool = False
    is_busy: bool = False
    due: float | None = None
    fill_due: float | None = None
    is_alone: bool = False
    created: threading.Event | None = None
    waiting: list[tuple[Callable[[str | None], None], bool]] = field(default_factory=list)


@dataclass(eq=False)
class RunRecord:
    """One run: what it is, and what is still to be written to it. Guarded by ``Writer.lock``.

    Attributes:
        name: the run's name, ``trial 17``.
        start_ms: its start, milliseconds since 1970.
        identity: tags that no other run has; a run created by a request whose answer was lost is found by
            them.
        parent: the run that must exist before this one.
        prepare: creates or joins the run in its own way and returns its id; called again when it failed.
        run_id: once the run exists.
        uncertain: the run may exist although ``run_id`` is None: look for it before creating it.
        params, tags, metrics, artifacts: still to be written; artifacts are file name -> text.
        removed: tags that the run is not to have any more.
        status, end_ms: how and when the run ended; still to be written.
        claimable_s: the writer's time from which on a worker may create the run itself, or None: from then on
            it is looked for before it is created.
        failures: attempts in a row that failed, except during an outage.
        failed_at: the writer's clock at the latest of them but the second in a row.
        failing_since: the writer's clock at the first of them.
        not_before: the writer's clock when the next attempt may be made; 0 for immediately.
        set_aside: the reason why writing it was abandoned.
        root_run_id: the run at the root of the tree that the run is in, where that is not the run itself.
        turn: when it is written; for the writer and its agenda.
    """

    name: str
    start_ms: int
    identity: dict[str, str] = field(default_factory=dict)
    parent: RunRecord | None = None
    prepare: Callable[[], str] | None = None
    run_id: str | None = None
    uncertain: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Point] = field(default_factory=list)
    artifacts: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    status: str | None = None
    end_ms: int | None = None
    claimable_s: float | None = None
    failures: int = 0
    failed_at: float = 0.0
    failing_since: float = 0.0
    not_before: float = 0.0
    set_aside: str | None = None
    root_run_id: str | None = None
    turn: Turn = field(default_factory=Turn)

    @property
    def dirty(self) -> bool:
        """Whether anything is still to be written."""
        content = self.params or self.tags or self.metrics or self.artifacts or self.removed or self.status
        return bool(content) or self.run_id is None


@dataclass
class Content:
    """What one write takes out of a record; goes back into it when the write fails."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Point]
    artifacts: dict[str, str]
    status: str | None
    end_ms: int | None
    removed: list[str] = field(default_factory=list)

    @classmethod
    def take(cls, record: RunRecord) -> Content:
        """Empty the record."""
        content = cls(
            record.params,
            record.tags,
            record.metrics,
            record.artifacts,
            record.status,
            record.end_ms,
            record.removed,
        )
        record.params, record.tags, record.metrics, record.artifacts, record.removed = {}, {}, [], {}, []
        record.status = record.end_ms = None
        return content

    def give_back(self, record: RunRecord) -> None:
        """Undo ``take``; what the record received meanwhile is newer and stays."""
        record.params = self.params | record.params
        record.tags = self.tags | record.tags
        record.metrics = self.metrics + record.metrics
        record.artifacts = self.artifacts | record.artifacts
        record.removed = self.removed + record.removed
        if record.status is None:
            record.status, record.end_ms = self.status, self.end_ms


class Store(Protocol):
    """What the writer asks of a tracking store. Every method may raise anything, and may take its time.

    Attributes:
        together: how many runs ``create_whole`` takes; 0 where the store has no transactions.
    """

    together: int

    def create_whole(self, runs: Sequence[tuple[RunRecord, Content]]) -> list[str]:
        """Create new runs with all their content but artifacts: all of them, or none.

        Returns their ids, and removes from the contents what is written.
        """

    def create(self, record: RunRecord, tags: dict[str, str]) -> str:
        """Create the run with the first ``tags``, and return its id."""

    def find(self, record: RunRecord) -> str | None:
        """The id of the run that bears the record's identity."""

    def latest(self, run_id: str) -> dict[str, Point]:
        """Metric -> its latest value, of those that the run has."""

    def write(self, run_id: str, content: Content) -> None:
        """Write everything in ``content``, and remove from it what is written."""
