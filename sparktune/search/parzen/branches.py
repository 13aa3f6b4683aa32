"""Which branch of a conditional space to try: a bandit over its options, apart from what is inside them.

A kernel over the whole tree locks into the branch whose untuned configurations look best. Here the options of
a choice that other parameters depend on are arms: a trial of an arm succeeds when it ends among the best of
all trials that had the choice, and an arm is drawn by Thompson sampling (Thompson 1933; Chapelle and Li
2011), so that an arm tried little is still tried, and each arm's own parameters keep improving meanwhile.

That alone is greedy: once an arm is tuned, all of the best trials are its own, and the others are drawn by
how little they were tried, no longer by how good they are. So it is *top-two* Thompson sampling (Russo 2016,
arXiv 1602.08448): sometimes the arm that holds the best trial is skipped, and the others compete among
themselves, where success is to be among the best of *their* trials. So the runner-up is tuned too.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PRIOR_TRIALS = 4.0
"""The prior of an arm counts as so many trials with the average share of successes."""

CHALLENGES = 0.4
"""The share of the suggestions that would follow the best trial in every choice, and must not."""


def challenge_rate(n_choices: int) -> float:
    """How often to challenge the leader of each of ``n_choices``, that all of them make ``CHALLENGES``.

    Else a deep tree would hardly ever come back to the leaf that leads.
    """
    return float(1 - (1 - CHALLENGES) ** (1 / max(n_choices, 1)))


def n_best(n: int) -> int:
    """How many of ``n`` trials count as successes: few, since the best one decides, not the mean."""
    return math.ceil(0.5 * math.sqrt(n))


def draw_option(
    tried: NDArray[np.intp],
    pending: NDArray[np.intp],
    possible: NDArray[np.bool_],
    rng: np.random.Generator,
    challenge: float = CHALLENGES,
) -> int:
    """The option to try next.

    Args:
        tried: the options of the finished trials that had the choice, best trial first.
        pending: the options of those that run.
        possible: which options there are that may be chosen, shape ``(n_options,)``.
        rng: what it is drawn from.
        challenge: how often an option that is drawn and holds the best trial is skipped for another one.
    """
    n_options, left = len(possible), np.flatnonzero(possible)
    while len(tried):
        drawn = int(left[_thompson(tried, pending, n_options, rng)[left].argmax()])
        leader = tried[0]
        if len(left) == 1 or drawn != leader or rng.random() >= challenge:
            return drawn
        left = left[left != leader]
        tried, pending = tried[tried != leader], pending[pending != leader]
    counts = np.bincount(pending, minlength=n_options)[left]
    return int(rng.choice(left[counts == counts.min()]))


def _thompson(
    tried: NDArray[np.intp], pending: NDArray[np.intp], n_options: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """For each option a share of successes that it may have."""
    successes = np.bincount(tried[: n_best(len(tried))], minlength=n_options)
    trials = np.bincount(tried, minlength=n_options) + np.bincount(pending, minlength=n_options)
    share = min(n_best(len(tried)) / len(tried), 0.5)
    alpha = successes + PRIOR_TRIALS * share
    beta = np.maximum(trials - successes, 0) + PRIOR_TRIALS * (1 - share)
    return np.asarray(rng.beta(alpha, beta))
