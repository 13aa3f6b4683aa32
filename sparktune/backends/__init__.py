"""Where trials run: the Spark session, and one module per backend (their port: ``study.backend``)."""
