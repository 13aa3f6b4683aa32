"""Recording of studies: the port in ``base``, MLflow in ``mlflow``, its part on the worker in ``worker``."""
