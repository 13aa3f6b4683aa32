"""The tracking port: what the driver passes to a recorder of studies, and what it asks of it.

An implementation works in its own threads. No method may block the driver for longer than its docstring
states, and none may raise because the tracking server is in trouble: ``begin`` alone raises, where recording
cannot work at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparktune.study.spec import StudyRecord, StudySpec, StudyStart
from sparktune.study.trial import Trial


@dataclass(frozen=True)
class StudyInfo:
    """What is known of a study, and of one call for it, before its first trial.

    Attributes:
        study_id: the same on all runs of one study (``fmin_uuid``).
        spec: what the study is.
        start: where it began.
        parallelism: the most trials that may run at the same time.
        max_queue_len: as given to ``fmin``.
        space: the search space as text.
        algo_reason: why the algorithm does what it does in this space, where it chooses; else None.
        policy: the early termination policy as text, or None.
        stream: the random stream, see ``SeedStream.as_json``; None where it cannot be restored.
        earlier: (parent run, study id) of the studies whose trials it continues.
        used_s: seconds that earlier calls for this same study took.
        continues: the recorded part of this same study, or None.
        best: the best trial of earlier calls on the same trials object, or None.
        is_named: the name was given, and is that of its run too.
    """

    study_id: str
    spec: StudySpec
    start: StudyStart = field(default_factory=StudyStart)
    parallelism: int = 1
    max_queue_len: int = 1
    space: str = ""
    algo_reason: str | None = None
    policy: str | None = None
    stream: str | None = None
    earlier: tuple[tuple[str, str], ...] = ()
    used_s: float = 0.0
    continues: Continued | None = None
    best: Trial | None = None
    is_named: bool = False


@dataclass(frozen=True)
class Continued:
    """A study of which a part is recorded, and that continues in the same runs.

    Attributes:
        run_id: its parent run.
        record: what is recorded of it.
        ends: the parent run ends with it: it was created for it, or the process that had it open is gone.
        lease: which driver has it now, in the tracker's form; None for none yet.
        trials: those of it that ended, and whose end is recorded.
        runs: trial id -> its run, of those, and of trials that are to be completed in the run they have.
        to_end: runs that its driver left running -> MLflow's status for them; None for those of trials that
            it did not see the end of, and the runs below them.
        marked: runs that are marked as the best trial's.
        last_seen_s: Unix time of that driver's last sign of life.
    """

    run_id: str
    record: StudyRecord
    ends: bool
    lease: Any = None
    trials: Sequence[Trial] = ()
    runs: Mapping[int, str] = field(default_factory=dict)
    to_end: Mapping[str, str | None] = field(default_factory=dict)
    marked: Sequence[str] = ()
    last_seen_s: float | None = None


@dataclass(frozen=True)
class StudySummary:
    """How a study ended.

    Attributes:
        trials: every trial of the study, also of earlier calls on the same trials object, in their order.
        best: the completed trial with the lowest loss, or None.
        stop_reason: why the study stopped before ``max_evals``, or None.
        error: the one-line cause when ``fmin`` raises, or None.
        share_saved: the share of compute that early termination saved, or None.
        report: returns the study's report as HTML, or None without one; waits for it, in bounded time.
        best_point: the point of ``best`` as the objective received it, or None.
    """

    trials: Sequence[Trial]
    best: Trial | None
    stop_reason: str | None = None
    error: str | None = None
    share_saved: float | None = None
    report: Callable[[], str | None] | None = None
    best_point: Any = None


@dataclass(frozen=True)
class RunContext:
    """What a worker needs so that MLflow calls in the objective land on the trial's child run.

    Travels to the worker inside the task. ``env`` may hold credentials: its repr does not show it.

    Attributes:
        run_id: the child run, or None where it does not exist yet: the worker asks for it when the objective
            needs it (``Tracker.ask_run``).
        tracking_uri: for ``mlflow.set_tracking_uri``.
        registry_uri: for ``mlflow.set_registry_uri``, or None.
        experiment_id: the experiment of the child run.
        env: environment variables of the driver that MLflow reads (``MLFLOW_TRACKING_TOKEN``, ...).
        claim: what the run is to look like (JSON), for a worker that has to create it itself; None where
            ``run_id`` is known.
    """

    run_id: str | None
    tracking_uri: str
    registry_uri: str | None
    experiment_id: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    claim: str | None = None


RUN_PATIENCE_S = 30.0
"""How long a worker waits for its trial's run, before it looks for it and creates it itself."""

Tell = Callable[[str | None], None]
"""Takes a run id, or None: the run cannot be created for now. Called from any thread; must not block."""


class UnrecordableError(Exception):
    """Nothing of the study can be recorded where it should be; the message has the remedy."""


class Tracker(Protocol):
    """Records one study. Called by one thread, except ``run_context`` and ``ask_run``."""

    @property
    def run_id(self) -> str | None:
        """The parent run, once it is known."""

    @property
    def study_id(self) -> str:
        """The same on all runs of the study; empty before it began."""

    def begin(self, info: StudyInfo) -> None:
        """The study begins: join or create the parent run. Blocks a few seconds at most.

        Raises:
            UnrecordableError: nothing can be recorded where it should be, and waiting would not help.
        """

    def launched(self, trial: Trial, document: Mapping[str, Any] | None = None) -> None:
        """The trial is about to be handed to the backend. Does not block.

        ``document`` is hyperopt's trial document, for the trial to be run again from it.
        """

    def run_context(self, trial_id: int) -> RunContext | None:
        """What the trial's worker needs; None where nothing is tracked.

        Called from the backend's threads. Does not block: the run may not exist yet.
        """

    def ask_run(self, trial_id: int, tell: Tell, *, hurry: bool) -> None:
        """Have ``tell`` called with the trial's run id, once; immediately where the run exists.

        Asked when a worker has begun the trial, and with ``hurry`` when its objective waits for the run: the
        run is created before all others then, and ``tell(None)`` lets the worker create it itself while the
        server is in trouble. Called from the backend's threads; does not block.
        """

    def reported(self, trial: Trial, value: float, step: int) -> None:
        """The trial reported its primary metric over ``report``. Does not block."""

    def watch(self, interval_s: float, sink: Callable[[int, float, int], None]) -> None:
        """From now on call ``sink(trial_id, value, step)`` with the primary metric as objectives log it.

        ``sink`` is called from another thread.
        """

    def watched_names(self) -> set[str]:
        """The metrics that were seen while watching."""

    def read_watched(self, timeout_s: float) -> None:
        """Wait until ``sink`` has what ended trials logged, ``timeout_s`` seconds at most."""

    def run_ids(self) -> Mapping[int, str]:
        """Trial id -> its run, of the trials whose run exists."""

    def taken_over_by(self) -> str | None:
        """Which other driver has taken the study over, as text; None while this one has it."""

    def link(self) -> str | None:
        """Where to look at the study's runs: an address, or a command; None where there is nothing."""

    def ended(self, trial: Trial, document: Mapping[str, Any]) -> None:
        """The trial reached a final state; ``document`` is hyperopt's trial document. Does not block."""

    def revised(self, before: Trial, trial: Trial, document: Mapping[str, Any]) -> None:
        """A trial that had ended has another loss, now that the study is over. Does not block."""

    def keep_report(self, text: str) -> None:
        """The study's report as it is now, HTML, in place of the one before. Does not block.

        Called from another thread; ignored once the study is over.
        """

    def finish(self, summary: StudySummary) -> None:
        """The study is over: write all that is still to be written, in bounded time, and end the parent.

        Called in every case, an exception or Ctrl-C in ``fmin`` included.
        """


class NullTracker:
    """Tracks nothing (``mlflow=False``)."""

    run_id: str | None = None
    study_id = ""

    def begin(self, info: StudyInfo) -> None:
        """Do nothing."""

    def launched(self, trial: Trial, document: Mapping[str, Any] | None = None) -> None:
        """Do nothing."""

    def run_context(self, trial_id: int) -> RunContext | None:  # noqa: ARG002
        """Nothing to hand on."""
        return None

    def ask_run(self, trial_id: int, tell: Tell, *, hurry: bool) -> None:  # noqa: ARG002
        """There is no run to wait for."""
        if hurry:
            tell(None)

    def reported(self, trial: Trial, value: float, step: int) -> None:
        """Do nothing."""

    def watch(self, interval_s: float, sink: Callable[[int, float, int], None]) -> None:
        """There is nothing to watch."""

    def watched_names(self) -> set[str]:
        """No names."""
        return set()

    def read_watched(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def run_ids(self) -> Mapping[int, str]:
        """No runs."""
        return {}

    def taken_over_by(self) -> str | None:
        """Never taken over."""
        return None

    def link(self) -> str | None:
        """Nothing to look at."""
        return None

    def ended(self, trial: Trial, document: Mapping[str, Any]) -> None:
        """Do nothing."""

    def revised(self, before: Trial, trial: Trial, document: Mapping[str, Any]) -> None:
        """Do nothing."""

    def keep_report(self, text: str) -> None:
        """Do nothing."""

    def finish(self, summary: StudySummary) -> None:
        """Do nothing."""
