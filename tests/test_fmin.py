"""Every argument of ``fmin``, through sparktune's and hyperopt's function alike, on the simulated backend."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, anneal, hp, rand, space_eval, tpe
from hyperopt.base import JOB_STATE_DONE
from hyperopt.early_stop import no_progress_loss
from hyperopt.exceptions import InvalidAnnotatedParameter
from hyperopt.fmin import generate_trials_to_calculate
from hypothesis import HealthCheck, given, settings, strategies as st

import sparktune
from sparktune import AllTrialsFailed, DriverTrials, InvalidPoint, SimulatedTrials
from sparktune.backends.simulated import SimulatedBackend

X = hp.uniform("x", -5, 5)
CONDITIONAL = {
    "model": hp.choice(
        "model",
        [
            {
                "name": "svm",
                "C": hp.lognormal("C", 0, 1),
                "kernel": hp.pchoice("k", [(0.3, "l"), (0.7, "r")]),
            },
            {"name": "forest", "depth": hp.uniformint("depth", 1, 20), "n": hp.qloguniform("n", 0, 5, 1)},
        ],
    ),
    "seed": hp.randint("seed", 100),
}
EITHER = pytest.mark.parametrize("fmin", [sparktune.fmin, hyperopt.fmin], ids=["sparktune", "hyperopt"])
Fmin = Callable[..., Any]


def square(x: float) -> float:
    return x**2


def tune(fmin: Fmin, fn: Any = square, space: Any = X, n: int | None = 10, **options: Any) -> Any:
    """``fmin`` with what is the same in most tests; returns the trials."""
    trials = options.pop("trials", None)
    trials = SimulatedTrials() if trials is None else trials
    arguments = {"algo": rand.suggest, "rstate": np.random.default_rng(1), "show_progressbar": False}
    fmin(fn, space, max_evals=n, trials=trials, **arguments | options)
    return trials


def points(trials: Any) -> list[Any]:
    return [document["misc"]["vals"] for document in trials._dynamic_trials]


def counts(trials: Any) -> tuple[int, int, int]:
    return (
        trials.count_successful_trials(),
        trials.count_failed_trials(),
        trials.count_cancelled_trials(),
    )


# -- hyperopt's points -------------------------------------------------------------------------------------


def judge(point: Any) -> Any:
    """Depends on the point alone; sometimes fails in each of the ways that hyperopt knows."""
    number = zlib.crc32(repr(point).encode()) / 2**31 - 1
    if number > 0.8:
        raise ValueError("too high")
    return {"status": STATUS_FAIL} if number < -0.8 else {"status": STATUS_OK, "loss": number}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31 - 1),
    algo=st.sampled_from([tpe.suggest, rand.suggest, anneal.suggest]),
    space=st.sampled_from([CONDITIONAL, X, {"x": X, "y": hp.qnormal("y", 0, 3, 0.5)}]),
)
@EITHER
def test_with_one_slot_the_points_are_hyperopts_own(fmin: Fmin, seed: int, algo: Any, space: Any) -> None:
    plain = hyperopt.Trials()
    common = {"n": 25, "algo": algo, "catch_eval_exceptions": True}
    tune(hyperopt.fmin, judge, space, trials=plain, rstate=np.random.default_rng(seed), **common)
    ours = tune(fmin, judge, space, rstate=np.random.default_rng(seed), **common)
    assert points(ours) == points(plain)
    assert ours.losses() == plain.losses()
    assert ours.statuses() == plain.statuses()
    assert ours.argmin == plain.argmin
    assert [d["state"] for d in ours._dynamic_trials] == [d["state"] for d in plain._dynamic_trials]


@EITHER
def test_the_default_algorithm_is_the_tpe_of_who_is_called(fmin: Fmin) -> None:
    own = sparktune.tpe.suggest if fmin is sparktune.fmin else tpe.suggest
    assert points(tune(fmin, n=25, algo=None)) == points(tune(fmin, n=25, algo=own))


def test_it_is_so_for_hyperopts_trials_too() -> None:
    default, own = (
        tune(sparktune.fmin, n=25, algo=algo, trials=hyperopt.Trials())
        for algo in (None, sparktune.tpe.suggest)
    )
    assert points(default) == points(own)


@EITHER
@pytest.mark.parametrize("rstate", [np.random.default_rng, np.random.RandomState, int])
def test_rstate(fmin: Fmin, rstate: Callable[[int], Any]) -> None:
    first = points(tune(fmin, rstate=rstate(5)))
    assert first == points(tune(fmin, rstate=rstate(5)))
    assert first != points(tune(fmin, rstate=rstate(6)))


@EITHER
def test_the_seed_in_the_environment(fmin: Fmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPEROPT_FMIN_SEED", "5")
    assert points(tune(fmin, rstate=None)) == points(tune(fmin, rstate=np.random.default_rng(5)))


# -- when to end -------------------------------------------------------------------------------------------


@EITHER
def test_max_evals_is_a_total(fmin: Fmin) -> None:
    trials = tune(fmin, n=4)
    assert len(trials) == 4
    assert len(tune(fmin, n=4, trials=trials)) == 4
    assert len(tune(fmin, n=6, trials=trials)) == 6


@pytest.mark.parametrize("max_evals", [-1, 2.5, "ten", True, float("nan")])
def test_max_evals_that_make_no_sense(max_evals: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_evals is"):
        tune(sparktune.fmin, n=max_evals)


@EITHER
@pytest.mark.parametrize("place", ["fmin", "trials", "both"])
def test_loss_threshold(fmin: Fmin, place: str) -> None:
    own, theirs = {"fmin": (0.01, None), "trials": (None, 0.01), "both": (0.01, 1e-9)}[place]
    trials = SimulatedTrials(loss_threshold=theirs)
    tune(fmin, n=1000, trials=trials, loss_threshold=own)
    losses = trials.losses()
    assert losses[-1] <= 0.01 < min(losses[:-1])
    assert trials.fmin_cancelled_reason == "loss threshold reached"


@EITHER
@pytest.mark.parametrize("place", ["fmin", "trials", "both"])
def test_timeout(fmin: Fmin, place: str) -> None:
    own, theirs = {"fmin": (10, None), "trials": (None, 10), "both": (3, 10)}[place]
    trials = SimulatedTrials(slots=2, duration_s=lambda *_: 4.0, timeout=theirs)
    tune(fmin, n=None, trials=trials, timeout=own)
    assert counts(trials) == (4, 0, 2)
    assert trials.fmin_cancelled_reason == "fmin run timeout"


def test_the_timeout_is_fmins_own_each_time() -> None:
    trials = SimulatedTrials(timeout=3)
    tune(sparktune.fmin, n=None, trials=trials)
    n = len(trials)
    tune(sparktune.fmin, n=None, trials=trials)
    assert len(trials) == 2 * n


@EITHER
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": -1}, "timeout argument should be None or a positive value"),
        ({"timeout": True}, "timeout argument should be None or a positive value"),
        ({"loss_threshold": "a"}, "loss_threshold argument should be None or a numeric value"),
    ],
)
def test_messages_of_validation_are_hyperopts(fmin: Fmin, options: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        tune(fmin, **options)
    with pytest.raises(Exception, match=message):
        SimulatedTrials(**options)


# -- early_stop_fn -----------------------------------------------------------------------------------------


@EITHER
def test_early_stop_sees_finished_trials_only_the_newest_last(fmin: Fmin) -> None:
    seen: list[list[int]] = []

    def stop(trials: Any, *args: Any) -> tuple[bool, Any]:
        assert args == (() if not seen else (len(seen),))
        assert all(document["state"] == JOB_STATE_DONE for document in trials.trials)
        assert len(trials.losses()) == len(trials) == len(trials.trials)
        assert trials.best_trial["result"]["loss"] == min(trials.losses())
        seen.append([document["tid"] for document in trials.trials])
        return False, [len(seen)]

    def fails_at_times(x: float) -> float:
        return square(x) if x > -3 else 1 / 0

    trials = SimulatedTrials(slots=4, duration_s=lambda config, _result: 6 + config["x"])
    tune(fmin, fails_at_times, n=20, trials=trials, early_stop_fn=stop)
    ended = sorted(
        (r for r in trials.memory.records.values() if r.state == "completed"), key=lambda trial: trial.ended_s
    )
    assert seen[-1] == [trial.trial_id for trial in ended]
    n_calls = len(seen)
    seen = [ids for i, ids in enumerate(seen) if not i or ids != seen[i - 1]]
    assert seen == [seen[-1][: i + 1] for i in range(len(ended))]
    assert n_calls > len(seen), "it is called after failed trials too, as by hyperopt"
    assert seen[-1] != sorted(seen[-1])
    assert trials.count_failed_trials() > 0


@EITHER
def test_early_stop_stops_what_runs(fmin: Fmin) -> None:
    trials = SimulatedTrials(slots=4, duration_s=lambda config, _result: 6 + config["x"])
    tune(fmin, n=100, trials=trials, early_stop_fn=lambda trials: (len(trials) >= 5, []))
    assert counts(trials) == (5, 0, 3)
    assert trials.fmin_cancelled_reason == "early stopping condition"


@pytest.mark.parametrize("kind", [SimulatedTrials, hyperopt.Trials])
@pytest.mark.parametrize("answer", [True, None, (True,)])
def test_an_answer_of_early_stop_that_is_no_pair_is_named(answer: Any, kind: Any) -> None:
    with pytest.raises(TypeError, match=r"early_stop_fn returned .*; it must return \(stop, args\)"):
        tune(sparktune.fmin, n=3, trials=kind(), early_stop_fn=lambda trials: answer)


def test_early_stop_of_hyperopts_trials_stops() -> None:
    trials = hyperopt.Trials()
    tune(sparktune.fmin, n=20, trials=trials, early_stop_fn=lambda trials, n=0: (n == 3, [n + 1]))
    assert len(trials) == 4


def test_early_stop_is_asked_after_failures_where_there_is_a_loss() -> None:
    def fn(x: float) -> Any:
        return 1 / 0 if x > 0 else {"status": STATUS_FAIL} if x > -2 else x

    trials = tune(sparktune.fmin, fn, n=200, early_stop_fn=no_progress_loss(10))
    assert len(points(trials)) < 100


@EITHER
def test_no_progress_loss(fmin: Fmin) -> None:
    plain = tune(hyperopt.fmin, n=200, trials=hyperopt.Trials(), early_stop_fn=no_progress_loss(7))
    ours = tune(fmin, n=200, early_stop_fn=no_progress_loss(7))
    assert points(ours) == points(plain)
    assert len(ours) < 200


@EITHER
def test_an_exception_in_early_stop_ends_the_study_with_it(fmin: Fmin) -> None:
    def stop(trials: Any) -> Any:
        if len(trials) == 3:
            raise LookupError("no such column")
        return False, []

    trials = SimulatedTrials(slots=2)
    with pytest.raises(LookupError, match="no such column"):
        tune(fmin, n=100, trials=trials, early_stop_fn=stop)
    assert counts(trials)[0] >= 3
    assert sum(counts(trials)) == len(trials._dynamic_trials)
    tune(fmin, n=10, trials=trials)
    assert counts(trials)[0] == 10


# -- failures ----------------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("catch", [True, False])
def test_an_exception_fails_its_own_trial(fmin: Fmin, catch: bool, caplog: pytest.LogCaptureFixture) -> None:
    def fn(x: float) -> float:
        if x < 0:
            raise ValueError("negative\nvery")
        return x

    trials = tune(fmin, fn, n=20, catch_eval_exceptions=catch)
    succeeded, failed, cancelled = counts(trials)
    assert succeeded + failed == 20
    assert failed > 0
    assert cancelled == 0
    assert len(trials) == succeeded
    errors = [d["misc"]["error"] for d in trials._dynamic_trials if "error" in d["misc"]]
    assert len(errors) == failed
    assert errors[0][0] == "<class 'ValueError'>"
    assert errors[0][1].startswith("Traceback")
    lines = [r.getMessage() for r in caplog.records if r.name == "sparktune" and r.levelname == "ERROR"]
    assert len(lines) == failed
    assert lines[0].endswith("failed: ValueError: negative very")


@EITHER
def test_all_failed(fmin: Fmin) -> None:
    trials = SimulatedTrials()

    def fn(x: float) -> float:
        raise KeyError("price") if x > -4 else ValueError("rare")

    with pytest.raises(AllTrialsFailed, match=r"None of 20 trials completed: 20 failed.*KeyError: 'price'"):
        tune(fmin, fn, n=20, trials=trials)
    assert trials.count_failed_trials() == 20
    assert tune(fmin, fn, n=3, return_argmin=False).count_failed_trials() == 3


def test_nan_is_a_failure_and_never_the_best() -> None:
    trials = tune(sparktune.fmin, lambda x: float("nan") if x < 0 else x, n=20)
    assert trials.argmin["x"] >= 0
    assert trials.count_failed_trials() == 20 - len(trials)
    assert "InvalidLoss" in trials._dynamic_trials[-1]["misc"].get("error", ("InvalidLoss",))[0]


@pytest.mark.parametrize("place", ["fmin", "trials"])
@pytest.mark.parametrize("name", ["timeout", "loss_threshold"])
def test_limits_that_are_nan(place: str, name: str) -> None:
    nan = {name: float("nan")}
    with pytest.raises(ValueError, match=f"{name} is nan"):
        tune(sparktune.fmin, trials=SimulatedTrials(**nan)) if place == "trials" else tune(
            sparktune.fmin, **nan
        )


@pytest.mark.parametrize("timeout", [sys.maxsize, math.inf])
@EITHER
def test_a_timeout_longer_than_any_wait(fmin: Fmin, timeout: float) -> None:
    assert len(tune(fmin, timeout=timeout, n=3, trials=SimulatedTrials(slots=2))) == 3


class Mute:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (np.array([1, 2]), r"\[1 2\]"),
        (Mute(), r"error: a Mute without text \(ValueError\)"),
        ("", "status 'fail'"),
        (None, "status 'fail'"),
    ],
)
def test_what_an_objective_says_of_its_failure(error: Any, says: str) -> None:
    with pytest.raises(AllTrialsFailed, match=says):
        tune(sparktune.fmin, lambda x: {"status": STATUS_FAIL, "error": error}, n=2)


def test_none_completed_because_of_trial_timeout() -> None:
    trials = SimulatedTrials(trial_timeout=1.0, duration_s=lambda *_: 5.0)
    with pytest.raises(AllTrialsFailed, match="0 failed, 3 ran longer than trial_timeout"):
        tune(sparktune.fmin, n=3, trials=trials)


# -- what goes in and out ----------------------------------------------------------------------------------


@EITHER
def test_the_result(fmin: Fmin) -> None:
    trials = SimulatedTrials()
    rstate = np.random.default_rng(3)
    options: Any = {"max_evals": 10, "trials": trials, "rstate": rstate, "show_progressbar": False}
    best = fmin(lambda point: point["seed"], CONDITIONAL, rand.suggest, **options)
    assert best == trials.argmin
    point = fmin(lambda point: point["seed"], CONDITIONAL, rand.suggest, return_argmin=False, **options)
    assert point == space_eval(CONDITIONAL, best)
    assert trials.best_params["model"] == point["model"]["name"]
    assert trials.best_point == point
    assert copy.copy(trials).best_point == point
    with pytest.raises(ValueError, match=r"best_point needs the search space.*space_eval"):
        _ = pickle.loads(pickle.dumps(trials)).best_point


def test_the_best_point_is_what_the_objective_received() -> None:
    """Constants, an option that is a dict with a constant inside, numbers that the space computes."""
    space = {
        "model": hp.choice(
            "model", [{"kind": "svm", "C": hp.uniform("C", 0, 1)}, {"kind": "tree", "depth": 3}]
        ),
        "seed": 7,
        "layers": [hyperopt.pyll.scope.int(hp.quniform("width", 8, 64, 8)), 2],
    }
    received: list[Any] = []
    trials = SimulatedTrials()

    def objective(point: Any) -> float:
        received.append(point)
        return float(point["layers"][0])

    sparktune.fmin(objective, space, rand.suggest, 12, trials=trials, rstate=1, show_progressbar=False)
    best = trials.best_trial["result"]["loss"]
    assert trials.best_point == next(point for point in received if point["layers"][0] == best)
    assert trials.best_point["seed"] == 7


@EITHER
def test_low_level_objectives_and_attachments(fmin: Fmin) -> None:
    def fn(expr: Any, memo: Any, ctrl: Any) -> Any:
        x = hyperopt.pyll.rec_eval(expr, memo=memo)
        ctrl.attachments["by ctrl"] = x
        return {"status": STATUS_OK, "loss": x, "attachments": {"by result": -x}}

    decorated = hyperopt.fmin_pass_expr_memo_ctrl(lambda expr, memo, ctrl: fn(expr, memo, ctrl))
    for trials in (tune(fmin, fn, pass_expr_memo_ctrl=True), tune(fmin, decorated)):
        for document in trials.trials:
            x = document["result"]["loss"]
            attached = trials.trial_attachments(document)
            assert (attached["by ctrl"], attached["by result"]) == (x, -x)
            assert "attachments" not in document["result"]


def annotated(x: hp.uniform("x", -5, 5), kind: hp.choice("kind", ["a", "b"])) -> Any:  # type: ignore[valid-type]
    return x**2 + (kind == "b")  # type: ignore[operator]


annotated.__annotations__ = {"x": X, "kind": hp.choice("kind", ["a", "b"])}


@EITHER
def test_annotated_spaces(fmin: Fmin) -> None:
    trials = tune(fmin, annotated, "annotated")
    assert set(trials.argmin) == {"x", "kind"}


@EITHER
def test_annotations_that_are_no_space(fmin: Fmin) -> None:
    def fn(x: float) -> float:
        return x

    fn.__annotations__ = {"x": float}
    with pytest.raises(InvalidAnnotatedParameter):
        tune(fmin, fn, "annotated")


@EITHER
def test_a_progress_reporter_of_the_users(fmin: Fmin) -> None:
    seen: list[Any] = []

    class Shown:
        def __setattr__(self, name: str, value: Any) -> None:
            seen.append((name, value))

        def update(self, n: int) -> None:
            seen.append(n)

    @contextlib.contextmanager
    def reporter(initial: int, total: int) -> Iterator[Any]:
        seen.append((initial, total))
        yield Shown()
        seen.append("closed")

    trials = tune(fmin, n=2)
    best = min(trials.losses())
    tune(fmin, n=4, trials=trials, show_progressbar=reporter, verbose=True)
    assert seen[0] == (2, 4)
    assert [entry for entry in seen if entry == 1] == [1, 1]
    assert seen[-1] == "closed"
    assert ("postfix", f"best loss: {min(trials.losses())}") in seen
    assert min(trials.losses()) <= best
    seen.clear()
    tune(fmin, n=1, show_progressbar=reporter, verbose=False)
    assert seen == []


def test_the_total_of_the_progress_counts_points_earlier_trials_and_failures() -> None:
    seen: list[int] = []

    class Shown:
        def update(self, n: int) -> None:
            seen[0] += n

    @contextlib.contextmanager
    def reporter(initial: int, total: int) -> Iterator[Any]:
        seen[:] = [initial, total]
        yield Shown()

    def fn(x: float) -> float:
        return 1 / 0 if x > 0 else x

    options: dict[str, Any] = {"show_progressbar": reporter, "verbose": True}
    given = [{"x": -1.0}, {"x": -2.0}, {"x": 1.0}]
    trials = tune(sparktune.fmin, fn, n=3, points_to_evaluate=given, **options)
    assert seen == [6, 6]
    tune(sparktune.fmin, fn, n=12, trials=trials, **options)
    n_all = len(points(trials))
    assert seen == [n_all, n_all] != [12, 12]
    tune(sparktune.fmin, n=9, space=hp.randint("n", 4), algo=sparktune.tpe.suggest, **options)
    assert seen == [4, 4]


def test_a_progress_reporter_that_raises_leaves_no_backend_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[SimulatedBackend] = []
    monkeypatch.setattr(SimulatedBackend, "close", lambda self: closed.append(self))

    def reporter(initial: int, total: int) -> Any:
        raise ValueError("no bar today")

    with pytest.raises(ValueError, match="no bar today"):
        tune(sparktune.fmin, n=1, show_progressbar=reporter, verbose=True)
    assert len(closed) == 1


def test_elapsed_s_is_by_the_backends_clock() -> None:
    trials = SimulatedTrials(slots=2, duration_s=lambda config, result: 10.0)
    assert trials.elapsed_s is None
    tune(sparktune.fmin, n=6, trials=trials)
    assert trials.elapsed_s == 30.0


@EITHER
def test_max_queue_len_suggests_ahead(fmin: Fmin) -> None:
    def seen_by_suggestions(max_queue_len: int) -> list[int]:
        seen: list[int] = []

        def algo(new_ids: Any, domain: Any, trials: Any, seed: int) -> Any:
            assert len(new_ids) == 1
            seen.append(sum(loss is not None for loss in trials.losses()))
            return rand.suggest(new_ids, domain, trials, seed)

        tune(fmin, n=8, algo=algo, max_queue_len=max_queue_len)
        return seen

    assert seen_by_suggestions(1) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert seen_by_suggestions(3) == [0, 0, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("max_queue_len", [0, -1, 1.5, True, None])
def test_max_queue_len_that_makes_no_sense(max_queue_len: Any) -> None:
    with pytest.raises(ValueError, match="max_queue_len is"):
        tune(sparktune.fmin, max_queue_len=max_queue_len)


@pytest.mark.parametrize("trials", [SimulatedTrials, Trials])
@pytest.mark.parametrize("number", [float, np.int64, np.float64, np.array])
def test_whole_numbers_of_any_type(number: Callable[[int], Any], trials: type[Trials]) -> None:
    ran = trials()
    tune(sparktune.fmin, n=number(5), trials=ran, max_queue_len=number(2))
    assert len(ran) == 5


def test_parallelism_of_any_type() -> None:
    trials = [DriverTrials(number(2), mlflow=False) for number in (int, float, np.int64, np.float64)]
    assert [type(each.user_specified_parallelism) for each in trials] == [int] * 4
    with pytest.raises(TypeError, match=r"parallelism is 1\.5"):
        DriverTrials(1.5, mlflow=False)  # type: ignore[arg-type]


@EITHER
def test_running_trials_are_seen_by_the_algorithm(fmin: Fmin) -> None:
    pending: list[int] = []

    def algo(new_ids: Any, domain: Any, trials: Any, seed: int) -> Any:
        pending.append(sum(loss is None for loss in trials.losses()))
        return rand.suggest(new_ids, domain, trials, seed)

    tune(fmin, n=6, algo=algo, trials=SimulatedTrials(slots=3))
    assert pending[:3] == [0, 1, 2]
    assert max(pending) == 2


class GrowingCluster(SimulatedBackend):
    """One slot for three seconds, then four."""

    def slots(self) -> int:
        return 1 if self.now() < 3 else 4


class OnGrowingCluster(SimulatedTrials):
    def _backend(self, objective: Any) -> Any:
        return GrowingCluster(objective)


@pytest.mark.parametrize(("parallelism", "most"), [(None, 4), (3, 3), (100, 4)])
def test_slots_that_join_are_used(parallelism: int | None, most: int) -> None:
    """Executors come after the session, or again after a loss: a study that began with one slot grows."""
    under_way: list[int] = []

    def algo(new_ids: Any, domain: Any, trials: Any, seed: int) -> Any:
        under_way.append(1 + sum(loss is None for loss in trials.losses()))
        return rand.suggest(new_ids, domain, trials, seed)

    tune(sparktune.fmin, n=20, algo=algo, trials=OnGrowingCluster(parallelism=parallelism))
    assert max(under_way[:3]) == 1
    assert max(under_way) == most


def test_points_to_evaluate() -> None:
    given = [{"model": 1, "depth": 3, "n": 2.0, "seed": 7}, {"model": 0, "C": 1.0, "k": 1, "seed": 8, "n": 1}]
    trials = tune(sparktune.fmin, lambda p: p["seed"], CONDITIONAL, n=3, points_to_evaluate=given)
    configs = [{k: v[0] for k, v in vals.items() if v} for vals in points(trials)]
    assert len(configs) == 5
    assert configs[:2] == [given[0], {"model": 0, "C": 1.0, "k": 1, "seed": 8}]
    assert trials.losses()[:2] == [7.0, 8.0]
    tune(sparktune.fmin, lambda p: p["seed"], CONDITIONAL, n=6, points_to_evaluate=given, trials=trials)
    assert len(trials) == 6
    assert points(trials).count(points(trials)[0]) == 1, "a cell that is run again evaluates them once"


def test_points_that_failed_or_were_cancelled_run_again(caplog: pytest.LogCaptureFixture) -> None:
    is_down = True

    def fn(x: float) -> float:
        if is_down and x > 1:
            raise ConnectionError("the database is down")
        return x

    given = [{"x": float(n)} for n in range(6)]
    trials = tune(sparktune.fmin, fn, n=2, points_to_evaluate=given)
    assert counts(trials)[1] >= 4
    is_down = False
    with caplog.at_level("INFO", logger="sparktune"):
        tune(sparktune.fmin, fn, n=0, points_to_evaluate=given, trials=trials)
    assert [point["x"][0] for point in points(trials)[8:]] == [2.0, 3.0, 4.0, 5.0]
    assert "4 points of points_to_evaluate that were tried before are evaluated again" in caplog.text
    assert "2 points of points_to_evaluate have a result or are queued already (trials 0, 1)" in caplog.text
    tune(sparktune.fmin, fn, n=0, points_to_evaluate=given, trials=trials)
    assert len(points(trials)) == 12, "all have a result"
    tune(sparktune.fmin, fn, n=0, points_to_evaluate=given, trials=trials, noisy=True)
    assert [point["x"][0] for point in points(trials)[12:]] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_points_for_hyperopts_trials_that_hold_some(caplog: pytest.LogCaptureFixture) -> None:
    is_down = True

    def fn(x: float) -> Any:
        return {"status": STATUS_FAIL} if is_down and x > 1 else {"status": "ok", "loss": x}

    given = [{"x": float(n)} for n in range(4)]
    trials = hyperopt.Trials()
    tune(sparktune.fmin, fn, n=0, points_to_evaluate=given[:3], trials=trials)
    assert [point["x"][0] for point in points(trials)] == [0.0, 1.0, 2.0]
    is_down = False
    with caplog.at_level("INFO", logger="sparktune"):
        tune(sparktune.fmin, fn, n=5, points_to_evaluate=given, trials=trials)
    assert [point["x"][0] for point in points(trials)[3:5]] == [2.0, 3.0]
    assert trials.losses()[3:5] == [2.0, 3.0]
    assert trials.tids == list(range(7)), "the points come on top of max_evals"
    assert "2 points of points_to_evaluate have a result or are queued already (trials 0, 1)" in caplog.text
    tune(sparktune.fmin, fn, n=5, points_to_evaluate=given, trials=trials)
    assert len(trials) == 7
    tune(sparktune.fmin, fn, n=5, points_to_evaluate=given[:1], trials=trials, noisy=True)
    assert [point["x"][0] for point in points(trials)[7:]] == [0.0]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of hyperopt's
def test_points_beside_a_file_of_hyperopts_trials(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: Any = {"trials_save_file": str(tmp_path / "t.pkl"), "points_to_evaluate": [{"x": 1.0}]}
    tune(sparktune.fmin, n=2, trials=hyperopt.Trials(), **options)
    assert "are not evaluated" not in caplog.text
    tune(sparktune.fmin, n=4, trials=hyperopt.Trials(), **options)
    assert "so 1 points of points_to_evaluate are not evaluated" in caplog.text


def test_points_to_evaluate_give_hyperopts_points() -> None:
    """max_evals goes to the algorithm's own, on top of the points (``hyperopt.fmin``'s docstring)."""
    plain = generate_trials_to_calculate([{"x": 1.0}, {"x": 2.0}])
    tune(hyperopt.fmin, n=8, trials=plain)
    ours = tune(sparktune.fmin, n=8, points_to_evaluate=[{"x": 1.0}, {"x": 2.0}])
    assert points(ours) == points(plain)


def test_points_that_do_not_fit_end_it_before_the_first_trial() -> None:
    trials = SimulatedTrials()
    for wrong in ([{"y": 1.0}], [{"x": "1"}], [{}]):
        with pytest.raises(InvalidPoint):
            tune(sparktune.fmin, trials=trials, points_to_evaluate=wrong)
    with pytest.raises(TypeError, match="must be a list of dicts"):
        tune(sparktune.fmin, trials=trials, points_to_evaluate={"x": 1.0})
    assert trials._dynamic_trials == []


def test_hyperopts_own_trials_run_too() -> None:
    trials = hyperopt.Trials()
    tune(sparktune.fmin, n=4, trials=trials, points_to_evaluate=[{"x": 0.0}])
    assert len(trials) == 5
    assert trials.argmin == {"x": 0.0}


def test_hyperopts_own_loop_cannot_run_ours() -> None:
    with pytest.raises(ValueError, match="allow_trials_fmin=False"):
        tune(sparktune.fmin, allow_trials_fmin=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fn": 3}, "fn is 3"),
        ({"algo": tpe}, "algo is <module 'hyperopt.tpe'"),
        ({"trials": SimulatedTrials}, "trials is <class '.*SimulatedTrials'>"),
        ({"early_stop_fn": 3}, "early_stop_fn is 3"),
        ({"rstate": "x"}, "rstate is 'x'"),
        ({"noisy": 1}, "noisy is 1"),
    ],
)
def test_arguments_of_the_wrong_type(options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tune(sparktune.fmin, **options)


def test_what_the_algorithm_raises_leaves_fmin() -> None:
    def algo(new_ids: Any, domain: Any, trials: Any, seed: int) -> Any:
        if len(trials) == 4:
            raise ZeroDivisionError("in the algorithm")
        return rand.suggest(new_ids, domain, trials, seed)

    trials = SimulatedTrials(slots=2)
    with pytest.raises(ZeroDivisionError, match="in the algorithm"):
        tune(sparktune.fmin, algo=algo, trials=trials)
    assert sum(counts(trials)) == len(trials._dynamic_trials)


def test_to_dataframe() -> None:
    trials = SimulatedTrials(slots=2, duration_s=lambda config, _result: 1.0 + config["seed"])
    fn = lambda p: 1 / 0 if p["seed"] > 70 else p["seed"]  # noqa: E731
    tune(sparktune.fmin, fn, CONDITIONAL, n=20, trials=trials, early_stop_fn=lambda t: (len(t) > 9, []))
    frame = trials.to_dataframe()
    ours = ["trial", "state", "loss", "started_s", "ended_s", "duration_s", "attempts", "steps"]
    ours += ["error", "run_id"]
    assert list(frame.columns[:10]) == ours
    assert set(frame.columns[10:]) == {"model", "C", "k", "depth", "n", "seed"}
    assert frame["trial"].tolist() == list(range(len(frame)))
    by_state = frame["state"].value_counts().to_dict()
    assert by_state == {"completed": 10, "failed": trials.count_failed_trials(), "cancelled": 1}
    done = frame[frame["state"] == "completed"]
    assert (done["loss"] == done["seed"]).all()
    assert (done["duration_s"] == 1 + done["seed"]).all()
    assert (done["ended_s"] - done["started_s"] == done["duration_s"]).all()
    assert set(frame["model"]) == {"svm", "forest"}
    assert frame[frame["model"] == "svm"]["depth"].isna().all()
    failed = frame[frame["state"] == "failed"]
    assert set(failed["error"]) == {"ZeroDivisionError: division by zero"}


# -- trials that people put together -----------------------------------------------------------------------


def inserted(trials: Any, xs: list[float]) -> Any:
    """The recipe that people use to warm-start a study: documents without times."""
    for trial_id, x in zip(trials.new_trial_ids(len(xs)), xs, strict=True):
        misc = {
            "tid": trial_id,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "workdir": None,
            "idxs": {"x": [trial_id]},
            "vals": {"x": [x]},
        }
        (document,) = trials.new_trial_docs([trial_id], [None], [{"status": "ok", "loss": square(x)}], [misc])
        document["state"] = JOB_STATE_DONE
        trials.insert_trial_docs([document])
    trials.refresh()
    return trials


def test_inserted_documents_without_times() -> None:
    seen: list[list[float]] = []

    def stop(trials: Any) -> tuple[bool, list[Any]]:
        seen.append(trials.losses())
        return False, []

    trials = inserted(SimulatedTrials(), [0.5, 2.0])
    assert (trials.best_params, trials.best_run_id) == ({"x": 0.5}, None)
    assert list(trials.to_dataframe()["x"]) == [0.5, 2.0]
    tune(sparktune.fmin, n=4, trials=trials, early_stop_fn=stop)
    assert [losses[:2] for losses in seen] == [[0.25, 4.0]] * 2
    frame = trials.to_dataframe()
    assert list(frame["trial"]) == [0, 1, 2, 3]
    assert frame["started_s"].isna().tolist() == [True, True, False, False]


def test_trials_of_two_studies_put_together(caplog: pytest.LogCaptureFixture) -> None:
    first, second = (tune(sparktune.fmin, n=3, rstate=np.random.default_rng(seed)) for seed in (1, 2))
    wanted = [*first.losses(), *second.losses()]
    first.insert_trial_docs(second.trials)
    first.refresh()
    assert "3 of these trials had the id of another one" in caplog.text
    assert first.to_dataframe()["loss"].tolist() == first.losses() == wanted
    tune(sparktune.fmin, n=8, trials=first, early_stop_fn=lambda trials: (False, []))
    assert first.losses()[:6] == wanted
    assert first.to_dataframe()["trial"].tolist() == first.tids == list(range(8))
    assert first.snapshot().trials[3].loss == wanted[3]


def test_ids_above_a_gap_are_given_once() -> None:
    trials = tune(sparktune.fmin, n=4)
    later = SimulatedTrials()
    later.insert_trial_docs(trials.trials[2:])
    tune(sparktune.fmin, n=5, trials=later)
    assert later.tids == [2, 3, 4, 5, 6]


def test_a_view_is_a_trials_object() -> None:
    trials = tune(sparktune.fmin, n=3)
    view = trials.view()
    read = pickle.loads(pickle.dumps(view))
    for each in (view, read):
        assert (repr(each), each.best_params) == (repr(trials), trials.best_params)
        assert len(each.to_dataframe()) == len(each.snapshot().trials) == 3
    assert view.trials[0] is trials.trials[0]
    assert len(trials.view(exp_key="another")) == 0
