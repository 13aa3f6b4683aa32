"""The search space: hyperopt's language and what sparktune adds, checked, read and sampled."""
