"""Sweeps from a file: any program, tuned on Spark, from a YAML file after Azure ML's sweep schema."""
