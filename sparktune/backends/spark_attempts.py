"""The attempts at one trial: the states of its Spark job and of its objective, and how often each began.

Neither Spark nor a clock is used here. What arrives from workers may come in any order, and after the trial's
end; a transition that no order can bring raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

UNBEGUN_LOSSES = 10
"""After so many workers lost before its objective had begun, a trial fails."""


class Job(Enum):
    """The state of the one Spark job that a trial has at a time."""

    NEW = "not handed to the thread that runs it"
    WAITING = "waits for a slot, as far as is known"
    RUNNING = "a worker of it has begun, or is presumed to have"
    OVER = "over"


class Objective(Enum):
    """The state of a trial's objective, over all its jobs."""

    NOT_BEGUN = "not begun, or its worker was lost"
    RUNNING = "a worker runs it"
    ENDED = "ended: how was reported to the driver"


JOB_TRANSITIONS: Mapping[Job, frozenset[Job]] = {
    # A job that was pending before it had a trial may have a worker already.
    Job.NEW: frozenset({Job.WAITING, Job.RUNNING, Job.OVER}),
    Job.WAITING: frozenset({Job.RUNNING, Job.OVER}),
    Job.RUNNING: frozenset({Job.OVER}),
    Job.OVER: frozenset({Job.NEW}),
}
OBJECTIVE_TRANSITIONS: Mapping[Objective, frozenset[Objective]] = {
    Objective.NOT_BEGUN: frozenset({Objective.RUNNING, Objective.ENDED}),
    Objective.RUNNING: frozenset({Objective.NOT_BEGUN, Objective.ENDED}),
    Objective.ENDED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Losses:
    """What is known of a trial whose worker was lost.

    Attributes:
        begun: how often its objective had begun.
        most: how often it may begin.
        unbegun: how many workers were lost before it began.
        in_objective: whether the last one was lost in the objective; None where that is not known.
        where: which one that was (``pid 123 on host``); empty where it is not known.
    """

    begun: int = 0
    most: int = 1
    unbegun: int = 0
    in_objective: bool | None = None
    where: str = ""

    def __str__(self) -> str:
        """For the log: ``its worker was lost (pid 123 on host) in attempt 1 of 2``."""
        if self.in_objective is False:
            return "its worker was lost before the objective had begun"
        where = f" ({self.where})" if self.where else ""
        return f"its worker was lost{where} in attempt {self.begun} of {self.most}"


@dataclass(eq=False, slots=True)
class Attempts:
    """The attempts at one trial.

    Spark's attempts are numbered over all jobs of the trial: those up to ``tried`` belong to former jobs, and
    ``heard`` is the latest whose start was reported.

    Attributes:
        most: how often the objective may begin.
        job: the state of its latest Spark job.
        objective: the state of its objective.
        is_left: a worker still runs the objective, which has ended.
        tried, heard: see above.
        begun: how often the objective began.
        unbegun: how many workers were lost before it began.
        where: the worker that began it last.
        stopping_since, terminating_since: when the trial was stopped, or was to end by itself; None before.
    """

    most: int
    job: Job = Job.NEW
    objective: Objective = Objective.NOT_BEGUN
    is_left: bool = False
    tried: int = 0
    heard: int = 0
    begun: int = 0
    unbegun: int = 0
    where: str = ""
    stopping_since: float | None = None
    terminating_since: float | None = None

    def to_job(self, state: Job) -> None:
        """Change the job's state.

        Raises:
            ValueError: the transition is not in ``JOB_TRANSITIONS``.
        """
        if state not in JOB_TRANSITIONS[self.job]:
            raise ValueError(f"a job that is {self.job.name} cannot become {state.name}")
        self.job = state

    def to_objective(self, state: Objective) -> None:
        """Change the objective's state.

        Raises:
            ValueError: the transition is not in ``OBJECTIVE_TRANSITIONS``.
        """
        if state not in OBJECTIVE_TRANSITIONS[self.objective]:
            raise ValueError(f"an objective that is {self.objective.name} cannot become {state.name}")
        self.objective = state

    # -- what is known -----------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether the trial's end was reported to the driver."""
        return self.objective is Objective.ENDED

    @property
    def has_worker(self) -> bool:
        """Whether a worker runs the objective, also one whose outcome is not needed any more."""
        return self.objective is Objective.RUNNING or self.is_left

    @property
    def is_over(self) -> bool:
        """Whether nothing can arrive any more that matters."""
        return self.has_ended and self.job is Job.OVER and not self.is_left

    @property
    def is_to_end(self) -> bool:
        """Whether the trial was stopped, or is to end by itself, and has not ended yet."""
        return not self.has_ended and (self.stopping_since or self.terminating_since) is not None

    @property
    def may_begin(self) -> bool:
        """Whether the objective may begin once more, after a worker was lost."""
        is_left = self.begun < self.most and self.unbegun < UNBEGUN_LOSSES
        return is_left and self.terminating_since is None

    @property
    def last(self) -> int:
        """The last of Spark's attempts at the job that may run the objective."""
        return self.tried + self.most - self.begun

    def losses(self, *, in_objective: bool | None) -> Losses:
        """What is known of the workers that were lost."""
        return Losses(self.begun, self.most, self.unbegun, in_objective, self.where)

    # -- what happens ------------------------------------------------------------------------------------

    def presume_begun(self) -> None:
        """Its job runs, though no worker has reported its start."""
        self.to_job(Job.RUNNING)

    def began(self, attempt: int, where: str) -> list[Losses]:
        """A worker begins the objective.

        Returns:
            The workers that were lost before: where it is not the first attempt at the job.
        """
        if self.job in (Job.NEW, Job.WAITING):
            self.to_job(Job.RUNNING)
        if self.has_ended:
            self.is_left = True
        elif self.objective is Objective.NOT_BEGUN:
            self.to_objective(Objective.RUNNING)
        lost: list[Losses] = []
        last = max(self.heard, self.tried)
        if self.heard > self.tried:
            lost.append(self.losses(in_objective=True))
        for _ in range(last + 1, attempt):
            self.unbegun += 1
            lost.append(self.losses(in_objective=False))
        self.begun += 1
        self.heard = max(self.heard, attempt)
        self.where = where
        return lost

    def began_unreported(self, attempt: int, *, is_reached: bool) -> None:
        """The outcome of an attempt is here; its start may not have been reported.

        Unless workers reach the driver, the attempts before it count as begun.
        """
        if attempt != self.heard:
            self.begun += 1 if is_reached else attempt - max(self.heard, self.tried)
            self.heard = attempt

    def worker_over(self) -> None:
        """The worker does not run the objective any more: it sent the outcome, was killed or abandoned."""
        self.is_left = False
        if self.objective is Objective.RUNNING:
            self.to_objective(Objective.NOT_BEGUN)

    def arrived(self, attempt: int) -> bool:
        """An outcome came from a worker.

        Returns:
            Whether it is that of the attempt which began last: else others were begun that are not needed.
        """
        is_latest = attempt == self.heard > self.tried
        if is_latest:
            self.worker_over()
        return is_latest

    def lost(self, n_lost: int, *, is_reached: bool) -> Losses:
        """Its job is over without an outcome, after ``n_lost`` attempts by Spark.

        Where workers reach the driver (``is_reached``), those that did not report their start had not begun.
        """
        last = max(self.heard, self.tried)
        self.tried = max(self.tried + n_lost, self.heard)
        if not is_reached:
            self.begun += n_lost
            return self.losses(in_objective=None)
        self.unbegun += self.tried - last
        return self.losses(in_objective=self.tried == last)

    def end(self) -> None:
        """The trial's end is reported; once.

        Raises:
            ValueError: it was reported before.
        """
        is_left = self.objective is Objective.RUNNING
        self.to_objective(Objective.ENDED)
        self.is_left = is_left
