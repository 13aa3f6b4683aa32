"""One account of a study, wherever it is told."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sparktune import AllTrialsFailed, SimulatedTrials, fmin, grid, hp, rand, tpe
from sparktune.search.suggestion import is_adaptive
from sparktune.study import words
from sparktune.study.trial import TrialState
from sparktune.tracking.location import where_to_look
from tests.conftest import needs_classic
from tests.test_demo import in_a_terminal

SPACE = hp.uniform("x", 0, 1)


def tune(fn: Any, n: int, trials: Any, algo: Any = rand.suggest, **options: Any) -> Any:
    return fmin(fn, SPACE, algo, n, trials=trials, rstate=0, show_progressbar=False, **options)


def test_each_trial_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    def objective(x: float) -> Any:
        if x < 0.3:
            return {"status": "fail", "error": "not here"}
        if x < 0.5:
            raise ValueError("no")
        return x

    trials = SimulatedTrials(duration_s=lambda c, _: 1000 * c["x"] ** 8, trial_timeout=300.0)
    # hyperopt's own tests leave its logger at a level of their own.
    with caplog.at_level(logging.INFO, "hyperopt-spark"), caplog.at_level(logging.INFO, "sparktune"):
        tune(objective, 30, trials)
    counts = trials.counts()
    assert sum(counts.values()) == trials.count_total_trials() == 30
    assert counts[TrialState.COMPLETED] == trials.count_successful_trials()
    assert counts[TrialState.FAILED] == trials.count_failed_trials() > 5
    assert counts[TrialState.TIMED_OUT] == trials.count_timed_out_trials() > 0
    assert counts[TrialState.CANCELLED] == trials.count_cancelled_trials() == 0
    by_state = trials.to_dataframe()["state"].value_counts().to_dict()
    assert by_state == {state.value: n for state, n in counts.items() if n}
    assert f"Total Trials: {words.counted(counts)}." in caplog.text
    assert "best loss" in caplog.text


def test_hyperopts_line_stays_where_nothing_else_happened() -> None:
    counts = dict.fromkeys((s for s in TrialState if s.is_final), 0) | {TrialState.COMPLETED: 4}
    assert words.counted(counts) == "4: 4 succeeded, 0 failed, 0 cancelled"
    counts[TrialState.EARLY_TERMINATED] = 2
    assert words.counted(counts) == "6: 4 succeeded, 0 failed, 0 cancelled, 2 terminated early"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.0035, "3.5 ms"),
        (1.25, "1.2 s"),
        (42.4, "42 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert words.in_words(seconds) == text


def test_numbers_of_trials_in_words() -> None:
    assert [words.n_trials(n) for n in (0, 1, 5000)] == ["0 trials", "1 trial", "5,000 trials"]
    assert words.n_of(1, "slot") == "1 slot"


def test_the_link_leads_to_the_trials_best_first() -> None:
    link = where_to_look("http://host:5000/", "7", "abc")
    assert link.startswith("http://host:5000/#/experiments/7/runs?searchFilter=tags.mlflow.parentRunId%20%3D")
    assert "orderByKey=metrics.%60loss%60&orderByAsc=true&workflowType=machine_learning" in link
    assert "mlflow ui --backend-store-uri sqlite:////a.db" in where_to_look("sqlite:////a.db", "7", "abc")
    assert "workspace" in where_to_look("databricks", "7", "abc")


def test_a_short_name_for_trials() -> None:
    trials = SimulatedTrials()
    assert repr(trials) == str(trials) == "SimulatedTrials(0 trials)"
    tune(lambda x: 1 / 0 if x > 0.6 else x, 12, trials)
    counts = trials.counts()
    failed = counts[TrialState.FAILED]
    best = min(loss for loss in trials.losses() if loss is not None)
    assert (
        repr(trials)
        == f"SimulatedTrials(12 trials: {12 - failed} completed, {failed} failed; best loss {best:.6g})"
    )


# -- studies that cannot succeed ---------------------------------------------------------------------------


def test_a_study_whose_trials_all_fail_alike_ends() -> None:
    trials = SimulatedTrials()
    with pytest.raises(AllTrialsFailed, match=r"the first 20 trials all failed with one cause.*KeyError"):
        tune(lambda x: {}["missing"], 500, trials)
    assert len(trials.to_dataframe()) == 20
    assert "one cause" in (trials.fmin_cancelled_reason or "")


def alternating(x: float) -> float:
    return 1 / 0 if x > 0.5 else {}["missing"]


def in_a_scratch_folder(x: float) -> float:
    raise FileNotFoundError(
        f"no 'tran.py' in /tmp/trial-{hex(int(x * 1e9))}/code, {tempfile.gettempprefix()}{x.hex()[4:12]}"
    )


@pytest.mark.parametrize(
    ("fn", "n", "causes"),
    [
        (alternating, 20, "2 causes"),
        (in_a_scratch_folder, 20, "one cause"),
        (lambda x: {"status": "fail"}, 100, "one cause"),
        (lambda x: {"status": "fail", "error": "abcdefghijklm"[int(13 * x)]}, 100, "one cause"),
    ],
    ids=["alternating", "paths", "status fail", "status fail with words"],
)
def test_a_study_that_is_as_hopeless_ends_too(fn: Any, n: int, causes: str) -> None:
    trials = SimulatedTrials()
    with pytest.raises(AllTrialsFailed, match=f"the first {n} trials all failed with {causes}"):
        tune(fn, 500, trials)
    assert len(trials.to_dataframe()) == n


def of_many_causes(x: float) -> float:
    raise KeyError("abcdefgh"[int(x * 8)])


def test_one_success_or_many_causes_let_it_go_on() -> None:
    for fn in (lambda x: x if x > 0.9 else 1 / 0, of_many_causes):
        trials = SimulatedTrials()
        with contextlib.suppress(AllTrialsFailed):
            tune(fn, 60, trials)
        assert len(trials.to_dataframe()) == 60


def test_points_that_the_objective_calls_failures_let_it_go_on() -> None:
    trials = SimulatedTrials()
    tune(lambda x: x if x > 0.97 else {"status": "fail"}, 60, trials)
    assert len(trials.to_dataframe()) == 60


def test_max_failures_ends_the_study_and_infinity_never_does() -> None:
    trials = SimulatedTrials(max_failures=3)
    tune(lambda x: x if x < 0.5 else 1 / 0, 100, trials)
    assert trials.count_failed_trials() == 3
    assert trials.fmin_cancelled_reason == "3 trials failed (max_failures=3)"
    endless = SimulatedTrials(max_failures=math.inf)
    with pytest.raises(AllTrialsFailed):
        tune(lambda x: 1 / 0, 60, endless)
    assert len(endless.to_dataframe()) == 60


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (2.5, ValueError), ("3", TypeError), (True, TypeError)]
)
def test_max_failures_that_make_no_sense(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_failures"):
        SimulatedTrials(max_failures=value)


# -- hints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("n_trials", "max_evals"),
        ("max_eval", "max_evals"),
        ("n_jobs", r"SparkTrials\(parallelism"),
        ("direction", "goal='maximize'"),
        ("objective", "fn"),
    ],
)
def test_an_argument_of_another_library_is_told(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"no argument '{name}'; use .*{meant}"):
        fmin(abs, SPACE, **{name: 3})
    with pytest.raises(TypeError, match=r"no argument 'zzzz'$"):
        fmin(abs, SPACE, zzzz=1)


@pytest.mark.parametrize("trials", [SimulatedTrials, __import__("hyperopt").Trials])
def test_an_objective_with_keyword_arguments_is_told_before_the_first_trial(trials: Any) -> None:
    def objective(lr: float, depth: int) -> float:
        return lr

    with pytest.raises(
        TypeError, match=r"one argument, the point, and objective\(.*lambda point: objective\(\*\*point\)"
    ):
        fmin(objective, {"lr": SPACE, "depth": hp.randint("depth", 3)}, rand.suggest, 2, trials=trials())


@pytest.mark.parametrize(
    "call", [lambda: hp.uniform(0, 1), lambda: hp.choice(["a", "b"]), lambda: hp.normal(0, 1, 2)]
)
def test_a_forgotten_label_is_told(call: Any) -> None:
    with pytest.raises(TypeError, match=r"has no label .*the first argument is the parameter's name"):
        call()


def test_adaptive_algorithms() -> None:
    import functools

    import hyperopt

    assert is_adaptive(tpe.suggest)
    assert is_adaptive(functools.partial(hyperopt.tpe.suggest, gamma=0.2))
    assert not is_adaptive(functools.partial(rand.suggest))
    assert not is_adaptive(grid.suggest)
    assert not is_adaptive(hyperopt.rand.suggest)
    assert is_adaptive(lambda *_: [])


@pytest.mark.parametrize(("algo", "n", "slots", "warns"), [
    (tpe.suggest, 8, 8, True), (tpe.suggest, 9, 8, False), (rand.suggest, 8, 8, False),
    (tpe.suggest, 1, 1, False),
])  # fmt: skip
def test_all_trials_at_once_leave_nothing_to_learn_from(
    algo: Any, n: int, slots: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tune(lambda x: x, n, SimulatedTrials(slots=slots), algo)
    assert ("no result to learn from" in caplog.text) is warns


def test_a_metric_that_is_to_be_maximized_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def objective(x: float) -> dict[str, Any]:
        return {"loss": 1 - x, "accuracy": x, "status": "ok"}

    trials = SimulatedTrials(metric="accuracy", goal="maximize")
    with caplog.at_level(logging.INFO, "sparktune"):
        fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 5, trials=trials, show_progressbar=False)
    best = max(document["result"]["accuracy"] for document in trials.trials)
    assert f"best accuracy {best:.6g} (trial" in caplog.text
    assert "best loss" not in caplog.text


SCRIPT = """
import logging, sys
exec(sys.argv[1])
import hyperopt, sparktune
from sparktune import hp, rand
from sparktune.study import console
from tests.recorded_trials import RecordedTrials
exec(sys.argv[2])
fmin = hyperopt.fmin if sys.argv[3] == "hyperopt" else sparktune.fmin
console.announce("a beginning", logging.getLogger("sparktune"))
fmin(abs, hp.uniform("x", -1, 1), rand.suggest, 3, trials=RecordedTrials(1))
"""
CONFIGURED = "logging.basicConfig(level=logging.INFO, format='LOG %(message)s')"
INTO_A_FILE = "logging.basicConfig(level=logging.INFO, filename='log.txt')"


@needs_classic  # a client alone ends a process that has no file, as this one
@pytest.mark.parametrize("fmin_of", ["hyperopt", "sparktune"])
@pytest.mark.parametrize(
    ("before", "after"), [("", ""), (CONFIGURED, ""), ("", CONFIGURED), ("", INTO_A_FILE)]
)
@pytest.mark.parametrize("place", ["terminal", "script"])
def test_the_end_is_told_once(
    place: str,
    before: str,
    after: str,
    fmin_of: str,
    subprocess_env: dict[str, str],
    run: Any,
    mlflow_store: str,
    tmp_path: Path,
) -> None:
    """Where logging is configured before or after hyperopt gave its logger a handler, or not at all.

    The store is there: MLflow 2 configures logging anew where it makes the tables of one.
    """
    env = subprocess_env | {"MLFLOW_TRACKING_URI": mlflow_store}
    command = [sys.executable, "-c", SCRIPT, before, after, fmin_of]
    if place == "terminal":
        seen, _ = in_a_terminal(command, env, tmp_path / "work")
    else:
        done = run(command, env=env)
        assert (done.returncode, done.stdout) == (0, "")
        seen = done.stderr
    for text in ("Total Trials: 3: 3 succeeded", "best loss 0.", "runs in MLflow: mlflow ui"):
        assert seen.count(text) == 1, seen
    is_told = place == "terminal" or CONFIGURED in (before, after)
    assert seen.count("a beginning") == is_told
    log = tmp_path / "work" / "log.txt"
    if after == INTO_A_FILE:
        assert [log.read_text().count(text) for text in ("Total Trials: 3", "best loss 0.")] == [1, 1]


def test_a_quiet_call_stays_quiet_at_its_end(run: Any) -> None:
    code = SCRIPT.replace("RecordedTrials(1)", "sparktune.SimulatedTrials(), show_progressbar=False")
    done = run([sys.executable, "-c", code, "", "", "sparktune"])
    assert "best loss" not in done.stderr
