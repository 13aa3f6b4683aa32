"""Which branch of a conditional space to try: a bandit over its options, apart from what is inside them.

A kernel over the whole tree locks into the branch whose untuned configurations look best. Here the options of
a choice that other parameters depend on are arms: a trial of an arm succeeds when it ends among the best of
all trials that had the choice, and an arm is drawn by Thompson sampling (Thompson 1933; Chapelle and Li
2011), so that an arm tried little is still tried, and each arm's own parameters go on improving meanwhile.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PRIOR_TRIALS = 4.0
"""The prior of an arm counts as so many trials with the average share of successes."""


def n_best(n: int) -> int:
    """How many of ``n`` trials count as successes: few, for the best one decides, not the mean."""
    return math.ceil(0.5 * math.sqrt(n))


def draw_option(
    tried: NDArray[np.intp], pending: NDArray[np.intp], n_options: int, rng: np.random.Generator
) -> int:
    """The option to try next.

    Args:
        tried: the options of the finished trials that had the choice, best trial first.
        pending: the options of those that run.
        n_options: how many options there are.
        rng: what it is drawn from.
    """
    if not len(tried):
        counts = np.bincount(pending, minlength=n_options)
        return int(rng.choice(np.flatnonzero(counts == counts.min())))
    successes = np.bincount(tried[: n_best(len(tried))], minlength=n_options)
    trials = np.bincount(tried, minlength=n_options) + np.bincount(pending, minlength=n_options)
    share = min(n_best(len(tried)) / len(tried), 0.5)
    alpha = successes + PRIOR_TRIALS * share
    beta = np.maximum(trials - successes, 0) + PRIOR_TRIALS * (1 - share)
    return int(rng.beta(alpha, beta).argmax())
