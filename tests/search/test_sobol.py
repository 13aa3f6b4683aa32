"""The Sobol sequence: one over the whole study, and evener than chance."""

from __future__ import annotations

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from scipy.stats import qmc

import sparktune
from sparktune.errors import InvalidSpace
from sparktune.search import sobol
from tests.search.conformance import OUTCOMES, SuggestConformance, domain_of, end
from tests.search.spaces import CONDITIONAL, config_of

pytestmark = pytest.mark.unit

SQUARE = {"x": hp.uniform("x", 0, 1), "y": hp.uniform("y", 0, 1)}


class TestSobol(SuggestConformance):
    suggest = staticmethod(sobol.suggest)
    name = "sparktune.search.sobol:suggest"


def drawn(
    space: object, batches: list[int], seeds: list[int], outcome: str = "good"
) -> list[dict[str, float]]:
    domain, trials, points = domain_of(space), hyperopt.Trials(), []
    for n, seed in zip(batches, seeds, strict=True):
        trials.insert_trial_docs(sobol.suggest(trials.new_trial_ids(n), domain, trials, seed))
        for document in trials._dynamic_trials[-n:]:
            points.append(config_of(document))
            end(document, outcome)
        trials.refresh()
    return points


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_one_sequence_whatever_the_calls(outcome: str) -> None:
    whole = drawn(CONDITIONAL, [300], [3])
    assert drawn(CONDITIONAL, [1, 5, 250, 44], [3, 8, 3, 9], outcome) == whole


def test_it_is_scipys_scrambled_sequence() -> None:
    points = drawn(SQUARE, [64], [5])
    seed = int(np.random.default_rng(5).integers(2**31 - 1))
    expected = qmc.Sobol(2, scramble=True, seed=np.random.default_rng(seed)).random(64)
    assert np.allclose([(point["x"], point["y"]) for point in points], expected)


def test_it_is_evener_than_chance() -> None:
    points = np.array([(p["x"], p["y"]) for p in drawn(SQUARE, [128], [1])])
    chance = np.random.default_rng(0).random((128, 2))
    assert qmc.discrepancy(points) < qmc.discrepancy(chance) / 5
    # Every 1/8 by 1/16 box has one point: what makes it a (0, 7, 2)-net in base 2.
    boxes = {(int(x * 8), int(y * 16)) for x, y in points}
    assert len(boxes) == 128


def test_it_goes_on_after_points_of_the_users_own_and_in_a_second_call() -> None:
    trials = sparktune.SimulatedTrials(parallelism=3)
    options = {"algo": sobol.suggest, "trials": trials, "show_progressbar": False}
    sparktune.fmin(
        lambda p: p["x"], SQUARE, max_evals=8, points_to_evaluate=[{"x": 0.5, "y": 0.5}], rstate=1, **options
    )
    sparktune.fmin(lambda p: p["x"], SQUARE, max_evals=20, rstate=2, **options)
    marks = [d["misc"].get("sobol") for d in trials._dynamic_trials]
    assert marks[0] is None
    assert [mark["index"] for mark in marks[1:]] == list(range(len(marks) - 1))
    assert len({mark["seed"] for mark in marks[1:]}) == 1


def test_more_parameters_than_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sobol, "MAX_DIMENSIONS", 1)
    with pytest.raises(InvalidSpace, match=r"has 2 parameters.*up to 1 dimensions: use algo=rand\.suggest"):
        sobol.suggest([0], domain_of(SQUARE), hyperopt.Trials(), 0)


def test_the_table_is_scipys() -> None:
    assert qmc.Sobol.MAXDIM == sobol.MAX_DIMENSIONS
