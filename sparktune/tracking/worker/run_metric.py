"""On a worker that cannot reach the driver: the trial's metric, logged to its MLflow run."""

from __future__ import annotations

from typing import Any

from sparktune.study.tracker import RunContext
from sparktune.tracking.worker.arrival import RunArrival


class RunMetric:
    """One metric of a trial's run. It is logged directly, whatever run the objective has active.

    Args:
        context: the trial's.
        arrival: knows the run.
        metric: the name.
    """

    def __init__(self, context: RunContext, arrival: RunArrival, metric: str) -> None:
        self._context, self._arrival, self._metric = context, arrival, metric
        self._client: Any = None

    def log(self, step: int, value: float) -> None:
        """Log one value.

        Raises:
            LookupError: the run is not known.
            Exception: MLflow's.
        """
        run_id = self._arrival.get()
        if run_id is None:
            raise LookupError("the trial's run is not known")
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self._context.tracking_uri)
        self._client.log_metric(run_id, self._metric, value, step=step)
