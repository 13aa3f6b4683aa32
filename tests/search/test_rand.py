"""Random search draws as hyperopt's does."""

from __future__ import annotations

import hyperopt
import numpy as np
import pytest
from scipy import stats

from sparktune.search import rand
from tests.search.conformance import SuggestConformance, domain_of
from tests.search.spaces import CONDITIONAL, KINDS, config_of

pytestmark = pytest.mark.unit

N = 1500


class TestRand(SuggestConformance):
    suggest = staticmethod(rand.suggest)
    name = "sparktune.search.rand:suggest"


def hyperopts_draws(domain: hyperopt.Domain, n: int) -> dict[str, list[float]]:
    """Label -> values of ``n`` trials of hyperopt's random search, in one call."""
    _, values = hyperopt.rand.suggest_batch(list(range(n)), domain, hyperopt.Trials(), 1)
    return {label: [float(value) for value in found] for label, found in values.items()}


def our_draws(domain: hyperopt.Domain, n: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for document in rand.suggest(list(range(n)), domain, hyperopt.Trials(), 2):
        for label, value in config_of(document).items():
            found.setdefault(label, []).append(float(value))
    return found


@pytest.mark.parametrize(
    "space", [{"x": node} for node in KINDS.values()] + [CONDITIONAL], ids=[*KINDS, "all"]
)
def test_the_distributions_are_hyperopts(space: object) -> None:
    domain = domain_of(space)
    theirs, ours = hyperopts_draws(domain, N), our_draws(domain, N)
    assert set(theirs) == set(ours)
    for label, values in theirs.items():
        # How often it is active; then what it is.
        spread = 5 * np.sqrt(N * 0.25 * 2)
        assert abs(len(values) - len(ours[label])) < spread
        levels = sorted(set(values) | set(ours[label]))
        if len(levels) > 30:
            assert stats.ks_2samp(values, ours[label]).pvalue > 1e-4
        elif len(levels) > 1:
            counts = np.array([[sample.count(level) for level in levels] for sample in (values, ours[label])])
            assert stats.chi2_contingency(counts).pvalue > 1e-4


def test_the_trials_so_far_are_not_read() -> None:
    """Reading them takes longer with every trial: 20,000 trials took minutes."""
    trials = hyperopt.Trials()
    trials._dynamic_trials = None
    domain = hyperopt.Domain(lambda x: x, hyperopt.hp.uniform("x", 0, 1))
    (document,) = rand.suggest([7], domain, trials, 1)
    assert 0 <= document["misc"]["vals"]["x"][0] <= 1
