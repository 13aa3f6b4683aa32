"""Trials of earlier studies inform the search of a new one, and are no trials of it."""

from __future__ import annotations

from typing import Any

import hyperopt
import mlflow
import numpy as np
import pytest

from sparktune import BanditPolicy, anneal, hp, local, rand, tpe
from sparktune.errors import CannotResume, WarmStartRefused
from tests.recorded_trials import PARENT, SPACE, RecordedTrials, facts, tune

WIDE = {f"x{n}": hp.uniform(f"x{n}", -5, 5) for n in range(4)}


def bowl(point: Any) -> float:
    return float(sum((value - 1) ** 2 for value in point.values()))


def study(n: int, seed: int, **options: Any) -> Any:
    return tune(n, fn=bowl, space=WIDE, rstate=np.random.default_rng(seed), **options)


def losses(trials: Any) -> list[float]:
    return trials.to_dataframe()["loss"].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("algo", [tpe.suggest, anneal.suggest, local.suggest, hyperopt.tpe.suggest])
def test_they_inform_the_search_and_are_no_trials_of_it(mlflow_store: str, algo: Any) -> None:
    earlier = study(60, 0)
    assert all(isinstance(loss, float) for loss in losses(earlier))
    warm = [study(8, seed, warm_start=[earlier.run_id], algo=algo) for seed in range(3)]
    cold = [study(8, seed, algo=algo) for seed in range(3)]
    if algo is not hyperopt.tpe.suggest:
        assert np.mean([losses(t) for t in warm]) < 0.7 * np.mean([losses(t) for t in cold])
    else:  # it learns little from 60 trials, but draws none at random any more
        assert not {t["misc"]["vals"]["x0"][0] for t in warm[0]} & {
            t["misc"]["vals"]["x0"][0] for t in cold[0]
        }
    for trials in warm:
        assert trials.to_dataframe()["trial"].tolist() == list(range(8))
        assert len(trials) == trials.count_total_trials() == 8
        assert trials.best_trial["tid"] >= 0
        children = mlflow.search_runs(filter_string=f"tags.`{PARENT}` = '{trials.run_id}'")
        assert len(children) == 8


def test_several_studies_and_their_failed_and_early_terminated_trials(
    mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tune(8), tune(10, rstate=np.random.default_rng(9))
    n_failed = sum(trials.count_failed_trials() for trials in (first, second))
    with caplog.at_level("INFO", "sparktune"):
        warm = tune(5, warm_start=[first.run_id, second.run_id])
    assert n_failed > 0
    assert f"warm_start: {18 - n_failed} trials of 2 studies inform the search" in caplog.text
    assert len(warm.memory.latest.warm) == 18 - n_failed
    policy = BanditPolicy(slack_amount=1.0)
    assert tune(2, warm_start=[first.run_id], trials=RecordedTrials(early_termination=policy))


def test_the_study_is_resumed_with_what_informed_it(mlflow_store: str) -> None:
    earlier = study(20, 0)
    whole = study(9, 1, warm_start=[earlier.run_id])
    begun = study(5, 1, warm_start=[earlier.run_id])
    assert facts(study(9, 1, resume=begun.run_id)) == facts(whole)
    other = study(3, 2)
    with pytest.raises(CannotResume, match="warm_start was .*" + earlier.run_id):
        study(12, 1, resume=begun.run_id, warm_start=[other.run_id])


def test_trials_outside_of_todays_ranges_are_left_out(
    mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = study(20, 0)
    narrow = {**WIDE, "x0": hp.uniform("x0", 0, 2)}
    warm = tune(3, fn=bowl, space=narrow, warm_start=[earlier.run_id])
    n = sum(not 0 <= trial["misc"]["vals"]["x0"][0] <= 2 for trial in earlier.trials)
    assert n > 0
    assert f"{n} trials of run {earlier.run_id} are left out" in caplog.text
    assert len(warm.memory.latest.warm) == 20 - n


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"x": SPACE["x"]}, "'kind' was .* is not there now; the parameter 'degree' was"),
        ({**SPACE, "y": hp.uniform("y", 0, 1)}, "'y' was not there and is hp.uniform"),
        ({**SPACE, "kind": hp.choice("kind", ["a", "b", "c"])}, "the options of 'kind' differ"),
        ({**SPACE, "x": hp.reverseloguniform("x", 0.5, 0.9)}, "parameter 'x' of trial . was"),
    ],
)
def test_other_parameters_are_refused_one_by_one(space: Any, message: str, mlflow_store: str) -> None:
    earlier = tune(6)
    with pytest.raises(WarmStartRefused, match=message):
        tune(2, space=space, warm_start=[earlier.run_id])
    assert len(mlflow.search_runs()) == 7, "nothing was begun"


def test_a_study_of_another_name_informs_with_a_warning(
    mlflow_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = tune(3, study_name="job A")
    tune(2, warm_start=[earlier.run_id], study_name="job A")
    assert "was begun as" not in caplog.text
    tune(2, warm_start=[earlier.run_id], study_name="job B")
    said = f"the study of run {earlier.run_id} was begun as 'job A', and this call is 'job B'"
    assert caplog.text.count(said) == 1
    assert "leave it out of warm_start" in caplog.text


@pytest.mark.parametrize("none", [None, (), []])
def test_without_studies_nothing_informs(mlflow_store: str, none: Any) -> None:
    trials = tune(2, warm_start=none)
    assert trials.memory.spec.warm_start == ()
    assert trials.count_total_trials() == 2


def test_what_is_no_study_is_refused(mlflow_store: str) -> None:
    earlier = tune(3)
    with pytest.raises(WarmStartRefused, match="the metric was loss and is double"):
        tune(2, trials=RecordedTrials(metric="double"), warm_start=[earlier.run_id])
    with pytest.raises(TypeError, match=r"it must be a list of parent run ids: \[trials.run_id\]"):
        tune(2, warm_start=earlier.run_id)
    with pytest.raises(CannotResume, match="warm_start='nothing'"):
        tune(2, warm_start=["nothing"])


def test_an_algorithm_that_looks_at_no_results(mlflow_store: str, caplog: pytest.LogCaptureFixture) -> None:
    earlier = tune(3)
    warm = tune(3, warm_start=[earlier.run_id], algo=rand.suggest)
    assert "warm_start has no effect: sparktune.search.rand.suggest does not use results" in caplog.text
    assert facts(warm) == facts(tune(3, algo=rand.suggest))
