"""MLflow on the worker: calls in an objective land on the trial's own run."""
