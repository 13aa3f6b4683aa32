"""``SimulatedTrials``: trials on a simulated cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sparktune.backends.simulated import SimulatedBackend, one_second
from sparktune.early_termination.base import EarlyTerminationPolicy, Goal
from sparktune.study.backend import Backend
from sparktune.trials.run import RunnableTrials
from sparktune.worker.objective import Objective


class SimulatedTrials(RunnableTrials):
    """Trials on a simulated cluster with a virtual clock; nothing is recorded in MLflow.

    Args:
        slots: how many trials the simulated cluster can run at the same time.
        duration_s: virtual seconds that a trial takes, of its config (label -> raw value) and its result.
        parallelism, timeout, loss_threshold, metric, goal: as in ``SparkTrials``.
        early_termination, trial_timeout, max_failures, live_plot: as in ``SparkTrials``; the timeouts are in
            virtual seconds.
    """

    _keeps_real_time = False

    def __init__(
        self,
        slots: int = 1,
        duration_s: Callable[[Mapping[str, Any], Mapping[str, Any]], float] = one_second,
        *,
        parallelism: int | None = None,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        metric: str = "loss",
        goal: Goal = "minimize",
        early_termination: EarlyTerminationPolicy | None = None,
        trial_timeout: float | None = None,
        max_failures: float | None = None,
        live_plot: bool = False,
    ) -> None:
        super().__init__(
            parallelism,
            timeout,
            loss_threshold,
            metric=metric,
            goal=goal,
            early_termination=early_termination,
            trial_timeout=trial_timeout,
            max_failures=max_failures,
            live_plot=live_plot,
        )
        self._slots = slots
        self._duration_s = duration_s

    def _slots_now(self) -> int:
        return self._slots

    def _backend(self, objective: Objective) -> Backend:
        return SimulatedBackend(objective, self._slots, self._duration_s)
