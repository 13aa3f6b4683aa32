"""The trials of a sweep: ``SparkTrials`` whose parent run has the file's names, and that log each end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sparktune.study.trial import Trial, TrialState, metric_value
from sparktune.trials.spark import SparkTrials

logger = logging.getLogger("sparktune")


class SweepTrials(SparkTrials):
    """Trials of a sweep.

    Args:
        run_name: of the parent run; empty for one of MLflow's.
        run_tags: of the parent run.
        options: of ``SparkTrials``.
    """

    def __init__(
        self, *, run_name: str = "", run_tags: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self._run_name, self._run_tags = run_name, dict(run_tags or {})
        super().__init__(**options)

    def _tracker_options(self) -> dict[str, Any]:
        return {"run_name": self._run_name, "run_tags": self._run_tags}

    def changed(self, trial: Trial) -> None:
        """Write the change into the document, and log a trial that has ended."""
        known = self.memory.records.get(trial.trial_id)
        is_new = known is None or not known.state.is_final  # else its loss was settled
        super().changed(trial)
        if is_new and trial.state.is_final and trial.state is not TrialState.FAILED:  # those are logged
            logger.info("%s", self._log_line(trial))

    def _log_line(self, trial: Trial) -> str:
        parts = [f"{trial.describe} {trial.state.value.replace('_', ' ')}"]
        if trial.loss is not None:
            value = metric_value(trial.result, trial.loss, self.metric, self.goal)
            parts.append(f"{self.metric}={value:.6g}")
        if trial.duration_s is not None:
            parts.append(f"{trial.duration_s:.1f} s")
        if trial.stop_reason is not None:
            parts.append(trial.stop_reason)
        return ", ".join(parts)

    @property
    def best_metric(self) -> float:
        """The best trial's value of the primary metric."""
        result = self.best_trial["result"]
        value = metric_value(result, result["loss"], self.metric, self.goal)
        assert value is not None
        return value
