"""Which worker runs a trial, where Spark may start a copy of its task on another machine (speculation)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("sparktune")

Worker = TypeVar("Worker")


class Claims(Generic[Worker]):
    """One worker runs a trial; another one waits until that is lost, or the trial has ended.

    Spark numbers the attempts of a task in the order in which it starts them, copies too. Here the numbers
    are those of the objective's beginnings, so that a second attempt means that the first was lost.

    Args:
        answer: sends a worker the attempt of the trial that it runs; 0 when it is to run none.
    """

    def __init__(self, answer: Callable[[Worker, int, int], None]) -> None:
        self._answer = answer
        self._holders: dict[int, Worker] = {}
        self._begun: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[Worker, int]]] = {}
        self._ended: set[int] = set()

    def ask(self, trial_id: int, first: int, worker: Worker) -> None:
        """A worker is to run this trial; it is answered when no other one does, or the trial has ended.

        Args:
            trial_id: the trial.
            first: the number of the first attempt of the trial's Spark job.
            worker: the asking worker.
        """
        if trial_id in self._ended:
            self._answer(worker, trial_id, 0)
        elif self._holders.setdefault(trial_id, worker) is worker:
            self._answer(worker, trial_id, max(first, self._begun.get(trial_id, 0) + 1))
        else:
            logger.info(
                "trial %d: Spark has copied its task; the copy waits, and runs it if needed", trial_id
            )
            self._waiting.setdefault(trial_id, []).append((worker, first))

    def begin(self, trial_id: int, attempt: int) -> None:
        """A trial's objective begins."""
        if trial_id in self._holders:  # else there is no claim
            self._begun[trial_id] = attempt

    def end(self, trial_id: int) -> None:
        """The trial has ended, or is to end: no other worker is to run it."""
        if self._holders.pop(trial_id, None) is None:
            return
        self._ended.add(trial_id)
        self._begun.pop(trial_id, None)
        for worker, _ in self._waiting.pop(trial_id, []):
            self._answer(worker, trial_id, 0)

    def lose(self, worker: Worker) -> None:
        """A worker is gone: what it ran is for the one that has waited longest."""
        for waiting in self._waiting.values():
            waiting[:] = [one for one in waiting if one[0] is not worker]
        for trial_id in [trial_id for trial_id, holder in self._holders.items() if holder is worker]:
            del self._holders[trial_id]
            if waiting := self._waiting.get(trial_id, []):
                another, first = waiting.pop(0)
                self.ask(trial_id, first, another)
