"""Names and descriptions of runs: pure functions, and what a real store holds in the end."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from sparktune import auto, grid, optuna_sampler, rand, tpe
from sparktune.study.ranking import best_of
from sparktune.study.spec import StudyRecord, StudySpec, StudyStart, algorithm_name, objective_name
from sparktune.study.tracker import Continued, StudySummary
from sparktune.study.trial import Trial, TrialState
from sparktune.tracking import description, schema
from sparktune.tracking.tracker import MlflowTracker
from tests.tracking.studies import completed, document, failed, info, running


def train(point: Any) -> float:
    return 0.0


class Model:
    def fit(self, point: Any) -> float:
        return 0.0

    @classmethod
    def make(cls, point: Any) -> float:
        return 0.0

    def __call__(self, point: Any) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (train, "train"),
        (lambda point: 0.0, "lambda"),
        (functools.partial(train), "train"),
        (functools.partial(functools.partial(Model(), 1)), "Model"),
        (functools.partial(lambda point: 0.0), "lambda"),
        (Model().fit, "Model.fit"),
        (Model.make, "Model.make"),
        (Model(), "Model"),
        (abs, "abs"),
    ],
)
def test_what_an_objective_is_called(fn: Any, name: str) -> None:
    assert objective_name(fn) == name


def my_algo(*_: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        (tpe.suggest, "tpe"),
        (functools.partial(tpe.suggest, gamma=0.2), "tpe"),
        (functools.partial(rand.suggest, names=["a.b(c"]), "rand"),
        (auto.suggest, "auto"),
        (grid.suggest, "grid"),
        (__import__("hyperopt").tpe.suggest, "hyperopt.tpe"),
        (my_algo, "my_algo"),
        (lambda *_: [], "lambda"),
    ],
)
def test_what_an_algorithm_is_called(algo: Any, name: str) -> None:
    assert description.short_algorithm(algorithm_name(algo)) == name


def test_an_optuna_sampler_has_a_short_name() -> None:
    optuna = pytest.importorskip("optuna")
    name = description.short_algorithm(algorithm_name(optuna_sampler(optuna.samplers.TPESampler)))
    assert "." not in name
    assert name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"objective": "train", "max_evals": 128}, "train tpe 128 trials"),
        ({"objective": "train", "max_evals": 1}, "train tpe 1 trial"),
        ({"objective": "", "max_evals": None}, "study tpe"),
        ({"objective": "f", "max_evals": None, "timeout_s": 7200}, "f tpe 2 h 0 min"),
    ],
)
def test_what_a_study_is_called(changes: dict[str, Any], name: str) -> None:
    assert description.study_name(info(algo="sparktune.search.tpe.suggest", **changes)) == name


def test_a_name_is_no_longer_than_a_run_name_may_be() -> None:
    assert len(description.study_name(info(objective="f" * 1000))) == schema.MAX_KEY


def text_of(summary: StudySummary, trials: list[Trial], **changes: Any) -> str:
    return description.of_study(
        info(objective="train", **changes),
        summary,
        trials,
        {0: "aaa", 1: "bbb"},
        elapsed_s=185.0,
        place=("7", "ppp"),
        table_name="trials.json",
    )


def test_the_description_of_a_study() -> None:
    trials = [completed(running(0), 0.5), completed(running(1), 0.25), failed(running(2))]
    text = text_of(StudySummary(trials, trials[1]), trials)
    assert text.startswith("**Best: loss 0.25** ([trial 1](#/experiments/7/runs/bbb)): C=0.1\n")
    assert "3 trials in 3 min 5 s: 2 succeeded, 1 failed." in text
    text = text.replace("\u00a0", "~")
    assert "| C~~~ | 0.1 |" in text
    best = "| [trial~1](#/experiments/7/runs/bbb)~~~ | 0.25~~~ | C=0.1 |"
    assert text.index("The 2 best trials:") < text.index(best) < text.index("[trial~0]")
    assert "Objective `train`, algorithm `hyperopt.tpe.suggest`, parallelism 4, at most 10 trials." in text
    assert "`report.html` shows them, where plotly is installed." in text


def test_a_study_without_a_result_and_one_that_was_stopped() -> None:
    assert "**No trial gave a loss**; 0 trials in 3 min 5 s." in text_of(StudySummary([], None), [])
    trials = [failed(running(0))]
    text = text_of(StudySummary(trials, None, "fmin run timeout"), trials)
    assert "It stopped early: fmin run timeout." in text
    assert "1 trial in 3 min 5 s: 1 failed" in text
    text = text_of(StudySummary(trials, None, error="ValueError: <b>*no*</b>"), trials)
    assert r"ended with an error: ValueError: &lt;b&gt;\*no\*&lt;/b&gt;" in text


def test_values_of_the_user_are_shown_as_they_are() -> None:
    odd = "<script>alert(1)</script> | [a](b)\n`x` \ud800"
    trial = completed(running(0, **{"a|b": odd}), 0.5)
    text = text_of(StudySummary([trial], trial), [trial])
    assert "<script" not in text
    (row,) = (line for line in text.splitlines() if line.startswith(r"| a\|b"))
    shown = r"&lt;script&gt;alert\(1\)&lt;/script&gt; \| \[a\]\(b\) \`x\` \\ud800"
    assert row == rf"| a\|b{3 * description.NO_BREAK} | {shown} |"


def test_a_description_fits_into_a_tag_whatever_there_is() -> None:
    trial = completed(running(0, **{f"p{n}" * 20: "v" * 4000 for n in range(200)}), 0.5)
    tags = description.note_tags(text_of(StudySummary([trial] * 9, trial), [trial] * 9), "a")
    assert len(tags[schema.NOTE_TAG]) <= schema.MAX_TAG_VALUE
    assert "170 more" in tags[schema.NOTE_TAG]


def test_only_its_own_unedited_description_is_replaced() -> None:
    ours = description.note_tags("text", "study")
    assert description.may_be_replaced({}, "study")
    assert description.may_be_replaced({schema.NOTE_TAG: " \n"}, "study")
    assert description.may_be_replaced(ours, "study")
    assert not description.may_be_replaced(ours, "another study")
    assert not description.may_be_replaced(ours | {schema.NOTE_TAG: "edited"}, "study")
    assert not description.may_be_replaced({schema.NOTE_TAG: "the user's"}, "study")


# -- in a store --------------------------------------------------------------------------------------------


def study(
    losses: list[float | None], tracker: MlflowTracker | None = None, first: int = 0, **changes: Any
) -> tuple[MlflowTracker, list[Trial]]:
    """Run a study of trials with these losses; None for one that failed."""
    tracker = tracker or MlflowTracker()
    stop, error = changes.pop("stop_reason", None), changes.pop("error", None)
    earlier = changes.pop("trials", [])
    tracker.begin(info(objective="train", **changes))
    trials = []
    for number, loss in enumerate(losses, first):
        tracker.launched(running(number))
        trial = failed(running(number)) if loss is None else completed(running(number), loss)
        tracker.ended(trial, document(trial))
        trials.append(trial)
    trials = [*earlier, *trials]
    tracker.finish(StudySummary(trials, best_of(trials), stop, error))
    return tracker, trials


def best_children(run_id: str) -> list[str]:
    client = MlflowClient()
    wanted = f"tags.mlflow.parentRunId = '{run_id}' and tags.sparktune.best = 'true'"
    return [r.info.run_name for r in client.search_runs([client.get_run(run_id).info.experiment_id], wanted)]


def note(run_id: str | None) -> str:
    assert run_id is not None
    return str(MlflowClient().get_run(run_id).data.tags.get(schema.NOTE_TAG, ""))


def test_a_created_run_has_name_description_and_one_best_child(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info(objective="train"))
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 30.0)
    running_note = note(tracker.run_id)
    assert "This study is running. It began at 20" in running_note
    trials = []
    for number, loss in enumerate([0.3, 0.1, 0.2]):
        tracker.launched(running(number))
        trials.append(completed(running(number), loss))
        tracker.ended(trials[-1], document(trials[-1]))
    tracker.finish(StudySummary(trials, trials[1]))
    assert tracker.run_id is not None
    assert MlflowClient().get_run(tracker.run_id).info.run_name == "train hyperopt.tpe 10 trials"
    assert "**Best: loss 0.1** ([trial 1](#/experiments/" in note(tracker.run_id)
    assert best_children(tracker.run_id) == ["trial 1"]


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ({"stop_reason": "fmin run timeout"}, "It stopped early: fmin run timeout."),
        ({"stop_reason": "fmin run cancelled by user"}, "It stopped early: fmin run cancelled by user."),
        ({"error": "ValueError: no"}, "fmin ended with an error: ValueError: no"),
    ],
)
def test_the_description_tells_how_a_study_was_cut_off(
    ended: dict[str, Any], told: str, sqlite_uri: str
) -> None:
    tracker, _ = study([0.3], **ended)
    assert told in note(tracker.run_id)


def test_without_a_loss_no_child_is_the_best(sqlite_uri: str) -> None:
    tracker, _ = study([None, None])
    assert tracker.run_id is not None
    assert "**No trial gave a loss**; 2 trials" in note(tracker.run_id)
    assert best_children(tracker.run_id) == []


def test_a_run_of_the_users_keeps_name_and_description(sqlite_uri: str) -> None:
    with mlflow.start_run(run_name="mine", description="my words") as run:
        study([0.3])
    assert note(run.info.run_id) == "my words"
    assert MlflowClient().get_run(run.info.run_id).info.run_name == "mine"
    with mlflow.start_run(run_name="mine") as run:
        study([0.3])
        assert "**Best: loss 0.3**" in note(run.info.run_id)
        study([0.2])
    assert "**Best: loss 0.3**" in note(run.info.run_id), "the first study's, which the second leaves"
    assert MlflowClient().get_run(run.info.run_id).info.run_name == "mine"
    assert len(best_children(run.info.run_id)) == 2, "one of each study"


def test_what_somebody_wrote_while_the_study_ran_stays(sqlite_uri: str) -> None:
    tracker = MlflowTracker()
    tracker.begin(info(objective="train"))
    assert tracker.run_id is not None
    assert tracker._writer is not None
    assert tracker._writer.flush(None, 30.0)
    MlflowClient().set_tag(tracker.run_id, schema.NOTE_TAG, "my words")
    tracker.finish(StudySummary([], None))
    assert note(tracker.run_id) == "my words"


def test_a_sweeps_own_description_stands_first(sqlite_uri: str) -> None:
    tracker = MlflowTracker(run_name="the sweep", run_tags={schema.NOTE_TAG: "my words", "team": "a"})
    study([0.3], tracker)
    assert tracker.run_id is not None
    assert note(tracker.run_id).startswith("my words\n\n**Best: loss 0.3**")
    run = MlflowClient().get_run(tracker.run_id)
    assert (run.info.run_name, run.data.tags["team"]) == ("the sweep", "a")


@pytest.mark.parametrize(("loss", "best"), [(0.05, ["trial 2"]), (0.9, ["trial 1"])])
def test_a_resumed_study_marks_its_best_anew(loss: float, best: list[str], sqlite_uri: str) -> None:
    tracker, trials = study([0.3, 0.1], stop_reason="fmin run cancelled by user")
    assert tracker.run_id is not None
    runs = tracker.run_ids()
    continues = Continued(
        run_id=tracker.run_id,
        record=StudyRecord(tracker.study_id, StudySpec(), StudyStart(), began_s=0.0),
        ends=True,
        trials=[replace(trial, run_id=runs[trial.trial_id]) for trial in trials],
        runs=runs,
        marked=[runs[1]],
    )
    study([loss], first=2, trials=trials, continues=continues, study_id=tracker.study_id, used_s=3600.0)
    assert best_children(tracker.run_id) == best
    text = note(tracker.run_id)
    assert "3 trials in 1 h 0 min: 3 succeeded." in text
    assert "stopped early" not in text


def test_a_name_and_description_are_kept_for_later_where_the_store_is_away(
    tmp_path: Any, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparktune.tracking.replay import replay
    from sparktune.tracking.store import MlflowStore

    def away(*_: Any) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patched, contextlib.suppress(Exception):
        patched.setattr(MlflowStore, "open", away)
        patched.setattr("sparktune.tracking.tracker.LOCAL_BEGIN_S", 0.2)
        study([0.3, 0.1], MlflowTracker(patience_s=0.2, directory=tmp_path))
    (file,) = tmp_path.glob("*.jsonl")
    replay(file)
    (parent,) = MlflowClient().search_runs(["0"], "tags.sparktune.role = 'study'")
    assert parent.info.run_name == "train hyperopt.tpe 10 trials"
    assert "**Best: loss 0.1** (trial 1)" in note(parent.info.run_id)
    assert best_children(parent.info.run_id) == ["trial 1"]


def test_early_terminated_trials_are_the_best_only_where_nothing_completed() -> None:
    done = completed(running(0), 0.9)
    ended = running(1).to(TrialState.EARLY_TERMINATED, loss=0.1, result={"loss": 0.1, "status": "ok"})
    assert best_of([ended, done]) == done
    assert best_of([ended]) == ended
    assert best_of([]) is None
