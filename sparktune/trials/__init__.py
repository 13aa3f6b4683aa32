"""Trials objects: hyperopt's documents beside our records, running a study on them, their save file."""
