"""Search by a Gaussian process."""

from __future__ import annotations

from functools import partial
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp

from sparktune.search import gp
from sparktune.search.gaussian import model
from sparktune.search.history import History
from sparktune.space.search_space import SearchSpace
from tests.search.conformance import SuggestConformance

pytestmark = pytest.mark.unit


class TestGp(SuggestConformance):
    suggest = staticmethod(gp.suggest)
    name = "sparktune.search.gp:suggest"
    uses_blas = True


LINE = SearchSpace(hp.uniform("x", 0, 1))


def history(values: Any, losses: Any, weak: Any = (), pending: Any = ()) -> History:
    return History(
        values=np.array(values, float).reshape(-1, 1),
        losses=np.array(losses, float),
        is_weak=np.isin(np.arange(len(losses)), weak),
        pending=np.array(pending, float).reshape(-1, 1),
    )


def proposed(history: History, n: int = 1, seed: int = 0) -> np.ndarray:
    return gp.propose(LINE, history, n, np.random.default_rng(seed))[:, 0]


GRID = np.linspace(0.02, 0.98, 12)
VALLEY = history(GRID, (GRID - 0.3) ** 2)


def test_it_finds_the_bottom_of_a_valley() -> None:
    assert proposed(VALLEY)[0] == pytest.approx(0.3, abs=0.01)


def test_running_trials_push_the_next_ones_away() -> None:
    at = proposed(VALLEY)[0]
    running = history(VALLEY.values, VALLEY.losses, pending=[at])
    assert abs(proposed(running)[0] - at) > 1e-4


@pytest.mark.parametrize("loss", [-9.0, np.inf])
def test_terminated_and_failed_trials_are_never_good(loss: float) -> None:
    weak = history([*GRID, 0.9, 0.91], [*(GRID - 0.3) ** 2, loss, loss], weak=[12, 13])
    assert abs(proposed(weak)[0] - 0.3) < 0.1


def test_noise_is_not_mistaken_for_a_good_place() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(np.linspace(0.05, 0.95, 10), 5)
    y = (x - 0.3) ** 2 + 0.05 * rng.standard_normal(50)
    y[-1] = y.min() - 0.02  # a lucky one, far away
    # Points are not repeated, so these are next to each other.
    noisy = history(x + 1e-3 * rng.random(50), y)
    assert np.median([proposed(noisy, seed=seed)[0] for seed in range(5)]) == pytest.approx(0.3, abs=0.2)


def test_the_order_in_which_trials_ended_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(12)
    shuffled = history(VALLEY.values[order], VALLEY.losses[order], pending=[0.5, 0.1])
    same = history(VALLEY.values, VALLEY.losses, pending=[0.1, 0.5])
    assert proposed(shuffled, 3).tolist() == proposed(same, 3).tolist()


def test_many_at_once_are_different() -> None:
    rows = proposed(VALLEY, 16)
    assert len(set(rows)) == 16


def test_long_and_short_length_scales_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[bool] = []
    fitted = model.fitted

    def noted(*args: Any) -> Any:
        is_long, *trend = args[5:]
        if not trend:
            kinds.append(is_long)
        return fitted(*args)

    monkeypatch.setattr(model, "fitted", noted)
    for seed in range(12):
        proposed(VALLEY, seed=seed)
    assert 2 <= sum(kinds) <= 10
    kinds.clear()
    proposed(VALLEY, 12)
    assert sorted(kinds) == [False, True]  # one process of each for many suggestions


def test_nothing_is_tried_twice_until_all_is_tried() -> None:
    space, trials = {"a": hp.randint("a", 6), "b": hp.choice("b", [0, 1])}, hyperopt.Trials()
    hyperopt.fmin(
        lambda p: p["a"] - p["b"],
        space,
        algo=partial(gp.suggest, n_startup_jobs=3),
        max_evals=14,
        trials=trials,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
    )
    points = [(d["misc"]["vals"]["a"][0], d["misc"]["vals"]["b"][0]) for d in trials.trials]
    assert len(set(points[:12])) == 12


def test_a_smooth_function_takes_few_trials() -> None:
    space = {"x": hp.uniform("x", -5, 10), "y": hp.uniform("y", 0, 15)}

    def branin(p: dict[str, float]) -> float:
        x, y = p["x"], p["y"]
        bowl = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
        return float(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)

    trials = hyperopt.Trials()
    rng = np.random.default_rng(0)
    hyperopt.fmin(branin, space, gp.suggest, 40, trials=trials, rstate=rng, show_progressbar=False)
    assert min(trials.losses()) < 0.3979 + 0.01


def test_very_many_trials() -> None:
    space = SearchSpace({f"x{i}": hp.uniform(f"x{i}", 0, 1) for i in range(4)})
    values = space.sample(700, np.random.default_rng(0))
    losses = ((values - 0.4) ** 2).sum(1)
    many = History(values, losses, np.zeros(700, bool), np.empty((0, 4)))
    row = gp.propose(space, many, 1, np.random.default_rng(0))[0]
    assert np.abs(row - 0.4).max() < 0.1


@pytest.mark.parametrize("value", [0, 2.5, True])
def test_bad_parameters_are_refused(value: Any) -> None:
    algo = partial(gp.suggest, n_startup_jobs=value)
    with pytest.raises(ValueError, match=f"n_startup_jobs of gp is {value}"):
        hyperopt.fmin(lambda x: x, hp.uniform("x", 0, 1), algo, 1, show_progressbar=False)
