"""What happens in a study, without Spark and MLflow: trials, their states, the driver, and its two ports.

``backend`` is the port to where trials run, ``tracker`` the one to where they are recorded.
"""
