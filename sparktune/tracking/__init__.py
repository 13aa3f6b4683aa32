"""Recording of studies in MLflow: the driver's side here, the worker's in ``worker``."""
