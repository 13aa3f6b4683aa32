"""Optuna's samplers on hyperopt's trials: what ``optuna_sampler`` is made of."""
