"""The tree-structured Parzen estimator."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_RUNNING, STATUS_FAIL, STATUS_OK

from sparktune.search import tpe
from sparktune.search.history import History
from sparktune.search.parzen.candidates import rank_weights
from sparktune.space.search_space import SearchSpace
from tests.search.conformance import SuggestConformance

pytestmark = pytest.mark.unit


class TestTpe(SuggestConformance):
    suggest = staticmethod(tpe.suggest)
    name = "sparktune.search.tpe:suggest"


LINE = SearchSpace(hp.uniform("x", 0, 1))


def history(values: Any, losses: Any, weak: Any = (), pending: Any = ()) -> History:
    return History(
        values=np.array(values, float).reshape(-1, 1),
        losses=np.array(losses, float),
        is_weak=np.isin(np.arange(len(losses)), weak),
        pending=np.array(pending, float).reshape(-1, 1),
    )


def proposed(history: History, n_seeds: int = 200, **options: Any) -> np.ndarray:
    """What many seeds propose."""
    rows = [
        tpe.propose(LINE, history, 1, np.random.default_rng(seed), tpe.Options(**options))
        for seed in range(n_seeds)
    ]
    return np.concatenate(rows)[:, 0]


GRID = np.linspace(0.02, 0.98, 25)
VALLEY = history(GRID, (GRID - 0.3) ** 2)


def test_it_searches_where_good_trials_are() -> None:
    assert np.mean(np.abs(proposed(VALLEY) - 0.3) < 0.15) > 0.8


def test_running_trials_push_the_next_ones_away() -> None:
    left, right = (
        history(VALLEY.values, VALLEY.losses, pending=np.linspace(low, low + 0.1, 12)) for low in (0.2, 0.3)
    )
    assert proposed(right).mean() < proposed(VALLEY).mean() < proposed(left).mean()


def test_running_trials_do_not_make_more_trials_good() -> None:
    """hyperopt gives them an infinite loss, and so its share of good trials grows with them."""
    far = history(VALLEY.values, VALLEY.losses, pending=np.linspace(0.8, 0.99, 60))
    assert np.mean(np.abs(proposed(far) - 0.3) < 0.15) > 0.8


@pytest.mark.parametrize("loss", [-9.0, np.inf])
def test_terminated_and_failed_trials_are_never_good(loss: float) -> None:
    weak = history([*GRID, 0.9, 0.91], [*(GRID - 0.3) ** 2, loss, loss], weak=[25, 26])
    assert np.mean(np.abs(proposed(weak) - 0.9) < 0.1) < 0.1


def test_a_history_of_failures_alone_is_fled() -> None:
    failed = history(np.linspace(0, 0.5, 20), np.full(20, np.inf), weak=range(20))
    assert np.mean(proposed(failed) > 0.5) > 0.7


def test_start_up_counts_finished_trials_not_running_ones() -> None:
    """With 32 workers the first 32 points are spread evenly, not only the first few."""
    pending = tpe.propose(LINE, history([], []), 32, np.random.default_rng(0))
    assert np.abs(np.histogram(pending, bins=8, range=(0, 1))[0] - 4).max() <= 2
    waiting = history([], [], pending=pending)
    after = tpe.propose(LINE, waiting, 32, np.random.default_rng(1))
    assert np.histogram(np.concatenate([pending, after]), bins=8, range=(0, 1))[0].min() >= 6


def test_many_at_once_are_different_and_good() -> None:
    rows = tpe.propose(LINE, VALLEY, 64, np.random.default_rng(0))[:, 0]
    assert len(set(rows)) == 64
    assert np.median(np.abs(rows - 0.3)) < 0.25
    assert np.diff(np.sort(rows)).min() > 0


def test_nothing_is_tried_twice_until_all_is_tried() -> None:
    space, trials = {"a": hp.randint("a", 6), "b": hp.choice("b", [0, 1])}, hyperopt.Trials()
    hyperopt.fmin(
        lambda p: p["a"] - p["b"],
        space,
        algo=tpe.suggest,
        max_evals=14,
        trials=trials,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
    )
    points = [(d["misc"]["vals"]["a"][0], d["misc"]["vals"]["b"][0]) for d in trials.trials]
    assert len(set(points[:12])) == 12


def test_32_running_trials_give_no_duplicates() -> None:
    space = {"x": hp.uniform("x", 0, 1), "y": hp.loguniform("y", -5, 0), "z": hp.normal("z", 0, 1)}
    domain, trials = hyperopt.Domain(lambda p: 0.0, space), hyperopt.Trials()
    running: list[Any] = []
    for i in range(200):
        document = tpe.suggest([i], domain, trials, i)[0]
        document["state"] = JOB_STATE_RUNNING
        trials._dynamic_trials.append(document)
        running.append(document)
        if len(running) == 32:
            done = running.pop(0)
            x = done["misc"]["vals"]["x"][0]
            done["state"], done["result"] = JOB_STATE_DONE, {"status": STATUS_OK, "loss": (x - 0.5) ** 2}
    points = [tuple(v[0] for v in d["misc"]["vals"].values()) for d in trials._dynamic_trials]
    assert len(set(points)) == 200


def test_it_beats_random_search_on_a_conditional_space() -> None:
    space = hp.choice(
        "m",
        [
            {"m": 0, "x": hp.uniform("x", -5, 5), "y": hp.loguniform("y", -8, 0)},
            {"m": 1, "z": hp.quniform("z", 0, 100, 1)},
        ],
    )

    def fn(p: dict[str, Any]) -> Any:
        if p["m"] == 1:
            return {"status": STATUS_FAIL} if p["z"] > 95 else {"status": STATUS_OK, "loss": 2 + p["z"] / 100}
        return (p["x"] - 1) ** 2 + (np.log(p["y"]) + 5) ** 2 / 4

    def best(algo: Any, seed: int) -> float:
        trials = hyperopt.Trials()
        rng = np.random.default_rng(seed)
        hyperopt.fmin(fn, space, algo, 80, trials=trials, rstate=rng, show_progressbar=False)
        return float(trials.best_trial["result"]["loss"])

    ours = np.median([best(tpe.suggest, seed) for seed in range(5)])
    random = np.median([best(hyperopt.rand.suggest, seed) for seed in range(5)])
    assert ours < 0.3 * random


def test_weights_fall_with_the_rank() -> None:
    weights = rank_weights(10)
    assert weights.mean() == pytest.approx(1)
    assert (np.diff(weights) < 0).all()
    assert weights[-1] > 0
    assert rank_weights(0).tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": math.nan}, "gamma of tpe is nan"),
        ({"gamma": math.inf}, "gamma of tpe is inf"),
        ({"gamma": "0.25"}, "gamma of tpe is '0.25'"),
        ({"n_EI_candidates": 0}, "n_EI_candidates of tpe is 0"),
        ({"n_EI_candidates": 2.5}, "n_EI_candidates of tpe is 2.5"),
        ({"n_startup_jobs": None}, "n_startup_jobs of tpe is None"),
        ({"prior_weight": -1}, "prior_weight of tpe is -1"),
    ],
)
def test_bad_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    algo = partial(tpe.suggest, **options)
    with pytest.raises(ValueError, match=message):
        hyperopt.fmin(lambda x: x, hp.uniform("x", 0, 1), algo, 1, show_progressbar=False)


def test_hyperopts_parameters_are_understood() -> None:
    algo = partial(
        tpe.suggest, n_startup_jobs=5, n_EI_candidates=24, gamma=0.25, prior_weight=1.0, verbose=False
    )
    rng = np.random.default_rng(0)
    best = hyperopt.fmin(lambda x: x, hp.uniform("x", 0, 1), algo, 30, rstate=rng, show_progressbar=False)
    assert best["x"] < 0.1


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"gamma": 1.0}, "gamma of tpe is 1.0: as in hyperopt, 1.0 times the square root"),
        ({"gamma": 2}, "gamma of tpe is 2: as in hyperopt"),
        ({"gamma": 0}, "gamma of tpe is 0: the best trial alone counts as good"),
        ({"prior_weight": 0}, "prior_weight of tpe is 0: 0.001 is used"),
        ({"n_startup_jobs": 4.0}, None),
        ({"n_startup_jobs": 4.5}, None),
        ({"n_startup_jobs": -1}, None),
        ({"n_EI_candidates": 24.0}, None),
        ({"n_EI_candidates": np.int64(24), "gamma": np.float32(0.25)}, None),
    ],
)
def test_what_hyperopt_takes_is_taken(
    options: dict[str, Any], warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    best = hyperopt.fmin(
        lambda x: (x - 0.3) ** 2,
        hp.uniform("x", 0, 1),
        partial(tpe.suggest, **options),
        30,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
    )
    assert abs(best["x"] - 0.3) < 0.1
    logged = [record.getMessage() for record in caplog.records if record.name == "sparktune"]
    assert len(logged) == (warning is not None), logged  # once for 30 suggestions
    assert not logged or warning is None or logged[0].startswith(warning)


def test_how_many_are_good() -> None:
    assert [tpe.Options(gamma=0.25).n_good(n) for n in (0, 1, 16, 60)] == [0, 1, 4, 15]
    assert [tpe.Options(gamma=1).n_good(n) for n in (0, 1, 16, 60, 10_000)] == [0, 1, 4, 8, 25]
    assert [tpe.Options(gamma=2).n_good(n) for n in (1, 16, 60)] == [1, 8, 16]
    assert tpe.Options(gamma=-1).n_good(60) == 1
