"""The study's state machine, by hand and under every order of events that hypothesis thinks of."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sparktune import (
    AshaPolicy,
    BanditPolicy,
    MedianStoppingPolicy,
    SimulatedTrials,
    TruncationSelectionPolicy,
    fmin,
    hp,
    rand,
)
from sparktune.early_termination.base import Curve, Decision
from sparktune.study.backend import Cancelled, Event, Failed, Finished, Lost, Reported, Started, Terminated
from sparktune.study.ranking import best_of
from sparktune.study.study import EARLY_STOPPING, LOSS_THRESHOLD, SEED_BOUND, Study
from sparktune.study.trial import Trial, TrialError, TrialState

pytestmark = pytest.mark.unit

ERROR = TrialError("<class 'ValueError'>", "no", "no")


class Suggestions:
    """Suggests trials 0, 1, 2, ... and keeps the seeds; None after ``n`` of them."""

    def __init__(self, n: float = math.inf, first: int = 0) -> None:
        self.seeds: list[Any] = []
        self.n = n
        self.first = first

    def __call__(self, seed: Any) -> Trial | None:
        if len(self.seeds) >= self.n:
            return None
        self.seeds.append(seed)
        number = self.first + len(self.seeds) - 1
        return Trial(number, {"x": number}, {"x": number})


def study(suggest: Any = None, **options: Any) -> Study:
    return Study(suggest or Suggestions(), np.random.default_rng(0), **options)


def finished(trial_id: int, loss: float = 0.0, **result: Any) -> Finished:
    return Finished(trial_id, 1.0, {"status": "ok", "loss": loss} | result)


def run_one(study: Study, loss: float) -> Trial:
    """Launch a trial, complete it, and ask whether to stop."""
    trial = study.next_trial(0.0)
    assert trial is not None
    done = study.tell(finished(trial.trial_id, loss))
    assert done is not None
    study.check_stop(done)
    return done


# -- any order of events ---------------------------------------------------------------------------------

IDS = st.integers(0, 12)
LOSSES = st.floats(allow_nan=False)
EVENTS = st.one_of(
    st.builds(Started, IDS, st.just(1.0), st.integers(1, 4)),
    st.builds(finished, IDS, LOSSES | st.just(math.nan)),
    st.builds(lambda i: Finished(i, 1.0, {"status": "fail"}), IDS),
    st.builds(Failed, IDS, st.just(1.0), st.just(ERROR)),
    st.builds(Cancelled, IDS, st.just(1.0)),
)
ACTIONS = st.lists(st.one_of(st.just("launch"), st.just("ahead"), EVENTS, st.just("stop")), max_size=60)


@given(ACTIONS, st.none() | st.integers(0, 8), st.integers(1, 4), st.none() | LOSSES)
def test_any_order_of_events(
    actions: list[Any], max_new: int | None, max_queue_len: int, loss_threshold: float | None
) -> None:
    suggest = Suggestions()
    study_ = study(suggest, max_new=max_new, max_queue_len=max_queue_len, loss_threshold=loss_threshold)
    launched: set[int] = set()
    final: dict[int, Trial] = {}
    for action in actions:
        was_stopping = study_.is_stopping
        if action == "launch":
            trial = study_.next_trial(0.0)
            if trial is not None:
                assert not was_stopping
                assert trial.trial_id not in launched
                launched.add(trial.trial_id)
        elif action == "ahead":
            study_.suggest_ahead()
        elif action == "stop":
            study_.stop("enough")
        else:
            trial = study_.tell(action)
            assert (trial is None) == (action.trial_id not in launched - set(final))
            if trial is not None and trial.state.is_final:
                study_.check_stop(trial)
        check_invariants(study_, launched, final)
    assert max_new is None or len(suggest.seeds) <= max_new
    study_.stop("the end")
    for trial_id in study_.running:
        study_.tell(Cancelled(trial_id, 2.0))
    check_invariants(study_, launched, final)
    assert study_.is_over
    assert len(final) == len(suggest.seeds)


def check_invariants(study: Study, launched: set[int], final: dict[int, Trial]) -> None:
    """``final`` holds the trials that had ended before, and is brought up to date."""
    trials = {trial.trial_id: trial for trial in study.trials}
    assert len(trials) == len(study.trials)
    assert all(trials[trial_id] is trial for trial_id, trial in final.items()), "finished is final"
    final.update((i, trial) for i, trial in trials.items() if trial.state.is_final)
    assert set(study.running) == {i for i, t in trials.items() if t.state is TrialState.RUNNING}
    assert study.n_running <= len(launched)
    for state in TrialState:
        assert study.counts[state] == sum(trial.state is state for trial in trials.values())
    losses = [t.loss for t in trials.values() if t.state is TrialState.COMPLETED and t.loss is not None]
    assert all(not math.isnan(loss) for loss in losses)
    assert (None if study.best is None else study.best.loss) == min(losses, default=None)


# -- one by one ------------------------------------------------------------------------------------------


def test_a_late_cancel_never_overwrites_a_success() -> None:
    study_ = study()
    done = run_one(study_, 0.5)
    study_.stop("too late")
    assert study_.tell(Cancelled(0, 9.0)) is None
    assert study_.tell(Failed(0, 9.0, ERROR)) is None
    assert study_.trials == [done]


def test_max_evals_counts_suggestions_and_ends_the_study() -> None:
    suggest = Suggestions()
    study_ = study(suggest, max_new=3)
    for loss in (3.0, 1.0, 2.0):
        assert not study_.is_over
        run_one(study_, loss)
    assert study_.next_trial(0.0) is None
    assert study_.is_over
    assert study_.stop_reason is None
    assert study_.best is not None
    assert study_.best.loss == 1.0
    assert len(suggest.seeds) == 3


def test_an_algorithm_without_further_points_ends_the_study() -> None:
    study_ = study(Suggestions(2))
    run_one(study_, 0)
    run_one(study_, 0)
    assert not study_.is_over
    assert study_.next_trial(0.0) is None
    assert study_.is_over


def test_without_a_queue_nothing_is_suggested_ahead() -> None:
    suggest = Suggestions()
    study_ = study(suggest)
    study_.next_trial(0.0)
    study_.suggest_ahead()
    assert len(suggest.seeds) == 1


def test_queue_ahead_is_bounded_and_launched_first() -> None:
    suggest = Suggestions()
    study_ = study(suggest, max_queue_len=3, max_new=4)
    first = study_.next_trial(0.0)
    study_.suggest_ahead()
    assert first is not None
    assert [trial.state for trial in study_.trials] == ["running", "queued", "queued"]
    assert [study_.next_trial(0.0).trial_id for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
    study_.suggest_ahead()
    assert len(suggest.seeds) == 4


def test_given_points_come_first_and_need_no_suggestion() -> None:
    suggest = Suggestions(first=2)
    given_points = [Trial(0, {"x": 5}, {"x": 5}), Trial(1, {"x": 6}, {"x": 6})]
    study_ = study(suggest, queued=given_points, max_new=1)
    assert [run_one(study_, 0).config["x"] for _ in range(3)] == [5, 6, 2]
    assert study_.is_over


def test_seeds_are_hyperopts() -> None:
    """One draw of ``integers(2**31 - 1)`` for each suggestion, as in ``hyperopt.FMinIter.run``."""
    suggest = Suggestions()
    study_ = study(suggest)
    for _ in range(5):
        run_one(study_, 0)
    rng = np.random.default_rng(0)
    assert suggest.seeds == [rng.integers(2**31 - 1) for _ in range(5)]
    assert SEED_BOUND == 2**31 - 1


def test_loss_threshold_is_reached_at_or_below() -> None:
    study_ = study(loss_threshold=1.0)
    run_one(study_, 1.5)
    assert not study_.is_stopping
    run_one(study_, 1.0)
    assert (study_.stop_reason, study_.is_over) == (LOSS_THRESHOLD, True)


def test_of_equal_trials_the_first_by_number_is_the_best_whichever_ends_first() -> None:
    tied = study(max_new=3)
    trials = [tied.next_trial(0.0) for _ in range(3)]
    best = []
    for trial in (trials[1], trials[2], trials[0]):
        assert trial is not None
        tied.tell(finished(trial.trial_id, -0.97))
        assert tied.best is not None
        best.append(tied.best.trial_id)
    assert best == [1, 1, 0]
    assert best_of(reversed(tied.trials)) == tied.best


def test_earlier_trials_count_for_the_best_loss() -> None:
    earlier = Trial(0, {}, {}, TrialState.COMPLETED, loss=0.5)
    study_ = study(Suggestions(first=1), earlier=[earlier])
    run_one(study_, 1.0)
    assert study_.best is earlier


def test_stopping_drops_the_queue_and_leaves_what_runs() -> None:
    study_ = study(max_queue_len=3)
    running = study_.next_trial(0.0)
    study_.suggest_ahead()
    dropped = study_.stop("enough")
    assert [trial.trial_id for trial in dropped] == [1, 2]
    assert {trial.stop_reason for trial in dropped} == {"enough"}
    assert not study_.is_over
    assert study_.next_trial(0.0) is None
    assert running is not None
    cancelled = study_.tell(Cancelled(running.trial_id, 5.0))
    assert cancelled is not None
    assert (cancelled.state, cancelled.stop_reason) == (TrialState.CANCELLED, "enough")
    assert study_.is_over


def test_the_first_reason_to_stop_stays() -> None:
    study_ = study()
    study_.stop("first")
    study_.stop("second")
    assert study_.stop_reason == "first"


def test_early_stop_is_asked_after_completed_and_failed_trials() -> None:
    asked: list[int] = []

    def should_stop(trial: Trial) -> bool:
        asked.append(trial.trial_id)
        return len(asked) == 4

    study_ = study(should_stop=should_stop)
    for event in (finished(0, 1.0), Failed(1, 1.0, ERROR), finished(2, math.nan), finished(3, 2.0)):
        study_.next_trial(0.0)
        trial = study_.tell(event)
        assert trial is not None
        study_.check_stop(trial)
    assert asked == [0, 1, 2, 3]
    assert study_.stop_reason == EARLY_STOPPING


def test_a_failure_that_is_fatal_stops_the_study() -> None:
    study_ = study(is_fatal=lambda trial: not trial.result)
    for event in (finished(0), finished(1, math.nan), Failed(2, 1.0, ERROR)):
        assert study_.stop_reason is None
        study_.next_trial(0.0)
        trial = study_.tell(event)
        assert trial is not None
        study_.check_stop(trial)
    assert study_.stop_reason == "trial 2 failed"


def test_what_early_stop_raises_leaves_check_stop() -> None:
    def should_stop(_trial: Trial) -> bool:
        raise LookupError("no such column")

    with pytest.raises(LookupError, match="no such column"):
        run_one(study(should_stop=should_stop), 0.0)


@pytest.mark.parametrize(
    ("result", "summary"),
    [
        ({"status": "ok", "loss": math.nan}, "InvalidLoss: the objective returned NaN as its loss"),
        ({"status": "fail"}, "ReportedFailure: status 'fail'"),
        ({"status": "fail", "error": "singular matrix"}, "ReportedFailure: singular matrix"),
        ({"status": "suspended"}, "ReportedFailure: status 'suspended'"),
    ],
)
def test_results_that_fail_their_trial(result: dict[str, Any], summary: str) -> None:
    study_ = study()
    study_.next_trial(0.0)
    trial = study_.tell(Finished(0, 1.0, result))
    assert trial is not None
    assert trial.error is not None
    assert trial.state is TrialState.FAILED
    assert trial.error.summary.startswith(summary)
    assert trial.result == result
    assert study_.best is None


def test_a_retried_trial_counts_its_attempts() -> None:
    study_ = study()
    study_.next_trial(0.0)
    study_.tell(Started(0, 1.0, 1, "a", 10))
    trial = study_.tell(Started(0, 2.0, 2, "b", 11))
    assert trial is not None
    assert (trial.attempts, trial.started_s, trial.host, trial.worker_pid) == (2, 2.0, "b", 11)


def test_a_lost_trial_has_not_begun_until_it_begins_anew() -> None:
    study_ = study()
    study_.next_trial(0.0)
    study_.tell(Started(0, 1.0, 1, "a", 10))
    trial = study_.tell(Lost(0, 2.0))
    assert trial is not None
    assert (trial.state, trial.attempts, study_.began(0)) == (TrialState.RUNNING, 1, None)
    study_.tell(Started(0, 3.0, 2, "a", 11))
    assert study_.began(0) == 3.0


@pytest.mark.parametrize(
    ("source", "curve", "steps", "last_step"),
    [("report", [3.0], 1, 1), ("tracker", [1.0, 2.0, 3.0], 3, 9)],
)
def test_a_retried_trial_reports_from_its_beginning(
    source: Any, curve: list[float], steps: int, last_step: int
) -> None:
    """What is read in MLflow is read of one run, which goes on."""
    study_ = study()
    study_.next_trial(0.0)
    study_.tell(Started(0, 1.0, 1))
    study_.tell(Reported(0, 2.0, 1.0, 8, source))
    study_.tell(Reported(0, 3.0, 2.0, 9, source))
    study_.tell(Started(0, 4.0, 2))
    trial = study_.tell(Reported(0, 5.0, 3.0, 1, source))
    assert trial is not None
    assert study_.curves[0].values == curve
    assert (trial.steps, trial.last_step) == (steps, last_step)


def test_a_trial_that_is_to_end_and_is_retried_ends_by_what_was_judged() -> None:
    class Always:
        def decide(self, *_: Any) -> Decision:
            return Decision("always", 1, 1.0, 0.0)

    study_ = study(policy=Always())
    study_.next_trial(0.0)
    study_.tell(Started(0, 1.0, 1))
    study_.tell(Reported(0, 2.0, 1.0, 1))
    study_.tell(Started(0, 3.0, 2))
    assert study_.is_doomed(0)
    trial = study_.tell(Cancelled(0, 4.0))
    assert trial is not None
    assert (trial.state, trial.loss, trial.steps) == (TrialState.EARLY_TERMINATED, 1.0, 1)


def test_a_diverged_trial_stays_so_where_its_report_is_not_recorded() -> None:
    """MLflow has no infinities, so that the curve of a resumed study lacks it."""
    study_ = study(policy=MedianStoppingPolicy())
    study_.next_trial(0.0)
    for value in (0.5, math.nan):
        study_.tell(Reported(0, 1.0, value, 1))
    ended = study_.tell(Terminated(0, 2.0))
    assert ended is not None
    curve = Curve.empty()
    curve.add(0.5, "minimize")
    again = study(earlier=[ended], curves={0: curve})
    assert again.conclude() == []
    assert again.trials[0].loss == math.inf


POLICIES = [
    BanditPolicy(slack_amount=0.5, delay_evaluation=9),
    BanditPolicy(slack_factor=0.5),
    MedianStoppingPolicy(),
    TruncationSelectionPolicy(20),
    AshaPolicy(3, 1, 100),
]


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_with_a_policy_a_trial_that_diverges_ends_and_healthy_ones_go_on(
    policy: Any, goal: Literal["minimize", "maximize"]
) -> None:
    """Its best so far is as good as the others', and there are as many that diverge as healthy ones."""
    worst = math.inf if goal == "minimize" else -math.inf
    bad = [math.nan, worst, math.copysign(sys.float_info.max, worst)]  # the last: of MLflow's SQL stores
    study_ = study(policy=policy, goal=goal, metric="m")
    ids = range(2 * len(bad))
    for _ in ids:
        study_.next_trial(0.0)
    for trial_id in ids:
        study_.tell(Reported(trial_id, 0.5, 1.0, 1))
    assert not any(map(study_.is_doomed, ids))
    for trial_id, value in enumerate(bad):
        study_.tell(Reported(trial_id, 1.0, value, 2))
        study_.tell(Reported(trial_id + len(bad), 1.0, 1.0, 2))
    assert [study_.is_doomed(trial_id) for trial_id in ids] == [True] * len(bad) + [False] * len(bad)
    ended = study_.tell(Terminated(0, 2.0))
    assert ended is not None
    assert ended.state is TrialState.EARLY_TERMINATED
    assert ended.stop_reason == f"{policy} at interval 2: the report is NaN or infinite"


@pytest.mark.parametrize(
    ("policy", "value"), [(None, math.nan), (None, math.inf), (MedianStoppingPolicy(), -math.inf)]
)
def test_a_report_that_is_infinitely_good_and_a_study_without_a_policy_end_nothing(
    policy: Any, value: float
) -> None:
    study_ = study(policy=policy)
    study_.next_trial(0.0)
    study_.tell(Reported(0, 0.5, value, 1))
    assert not study_.is_doomed(0)


def test_commonest_error() -> None:
    study_ = study()
    assert study_.commonest_error() is None
    events: list[Event] = [
        Failed(i, 1.0, TrialError("<class 'E'>", text, "")) for i, text in enumerate("abb")
    ]
    for event in events:
        study_.next_trial(0.0)
        study_.tell(event)
    assert study_.commonest_error() == ("E: b", 2)


@pytest.mark.parametrize("loss", [None, "bad", [1, 2]])
def test_a_trial_that_reports_its_failure_may_have_any_loss(loss: object) -> None:
    def objective(x: float) -> object:
        return {"status": "fail", "loss": loss} if x < 0 else x

    trials = SimulatedTrials()
    options: Any = {"points_to_evaluate": [{"x": 0.5}, {"x": -0.5}], "show_progressbar": False}
    assert fmin(objective, hp.uniform("x", -1, 1), rand.suggest, 0, trials=trials, **options) == {"x": 0.5}
    assert trials.to_dataframe()["state"].tolist() == ["completed", "failed"]
