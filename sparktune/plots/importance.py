"""How much each parameter matters, estimated from the trials alone.

PED-ANOVA (Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces", IJCAI 2023, arXiv 2304.10255): a parameter matters as much as the values of good trials
differ from those of all trials, measured by the Pearson divergence of the two distributions of that one
parameter. It uses only ranks of losses, so that outliers do no harm, and how values were sampled, so that an
adaptive search misleads it less than a plain correlation. Unlike fANOVA (Hutter, Hoos and Leyton-Brown, ICML
2014) it needs no forest, takes milliseconds, and is defined for conditional parameters; it does not see
interactions. Here the distributions are histograms with bins of equally many trials, and the divergence that
chance alone would give is subtracted.

A conditional parameter is evaluated among the trials that have it: it matters by its value there, times the
share of the good trials that have it. Whether it is active counts for its parent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparktune.plots.axes import Axis

if TYPE_CHECKING:
    from sparktune.plots.table import Row

GOOD_SHARE = 0.1
LEAST_GOOD = 10
MOST_GOOD = 0.5
"""Good trials are the best tenth, of few trials at least ten, but never more than half."""
MIN_TRIALS = 4
MAX_BINS = 12


def importances(ranked: Sequence[Row], axes: Mapping[str, Axis]) -> dict[str, float]:
    """Label -> its share of the importance of all parameters, the most important first.

    They add up to 1; all are 0 where no parameter stands out from chance. Empty where fewer than
    ``MIN_TRIALS`` trials have a loss.

    Args:
        ranked: the trials that have a loss, the lowest first.
        axes: label -> axis of each parameter.
    """
    if len(ranked) < MIN_TRIALS or not axes:
        return {}
    n_good = min(max(LEAST_GOOD, math.ceil(GOOD_SHARE * len(ranked))), int(MOST_GOOD * len(ranked)))
    # Trials as good as the last of them count too.
    limit = ranked[n_good - 1].loss
    good = {row.number for row in ranked if row.loss is not None and limit is not None and row.loss <= limit}
    found = {label: _divergence(axis, ranked, good) for label, axis in axes.items()}
    total = sum(found.values())
    shares = {label: value / total if total > 0 else 0.0 for label, value in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _divergence(axis: Axis, ranked: Sequence[Row], good: set[int]) -> float:
    """The Pearson divergence of the good trials' values from all, above that of chance; 0 or more."""
    active = [row for row in ranked if axis.label in row.params]
    at = [
        (place, row.number in good)
        for row in active
        if (place := axis.coordinate(row.params[axis.label])) is not None
    ]
    n, k = len(at), sum(is_good for _, is_good in at)
    if k < 2 or n - k < 1:
        return 0.0
    bins = _bins(np.array([place for place, _ in at], float), k, is_category=axis.kind == "category")
    n_bins = int(bins.max()) + 1
    if n_bins < 2:
        return 0.0
    of_all = np.bincount(bins, minlength=n_bins) / n
    of_good = np.bincount(bins, weights=np.array([is_good for _, is_good in at], float), minlength=n_bins) / k
    divergence = float(np.sum((of_good - of_all) ** 2 / of_all))
    # Of k trials drawn from n at random: the expectation of the same sum (of a hypergeometric variance).
    by_chance = (n_bins - 1) / k * (n - k) / (n - 1)
    return max(0.0, divergence - by_chance) * k / len(good)


def _bins(places: NDArray[np.float64], n_good: int, *, is_category: bool) -> NDArray[Any]:
    """The bin of each value: its own where there are few different ones, else bins of equally many values."""
    distinct, index = np.unique(places, return_inverse=True)
    n_bins = int(np.clip(round(math.sqrt(n_good) * 1.5), 2, MAX_BINS))
    if is_category or len(distinct) <= n_bins:
        return np.asarray(index).reshape(-1)
    inner = np.quantile(places, np.linspace(0, 1, n_bins + 1)[1:-1])
    _, found = np.unique(np.searchsorted(np.unique(inner), places, side="right"), return_inverse=True)
    return np.asarray(found).reshape(-1)
