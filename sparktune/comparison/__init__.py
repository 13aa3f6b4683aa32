"""``compare``: search algorithms side by side, repeated, and recorded in MLflow."""
