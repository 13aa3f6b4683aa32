"""What observes a running study (the driver's ``Observer``), in the driver's thread."""

from __future__ import annotations

import difflib
import logging
import math
import numbers
import time
from collections.abc import Callable
from typing import Any

from hyperopt.base import JOB_STATE_DONE

from sparktune.private import of_hyperopt
from sparktune.study import interrupts, progress
from sparktune.study.outcome import times_of
from sparktune.study.study import Study
from sparktune.study.tracker import Tracker
from sparktune.study.trial import Trial, TrialState, reported_metric
from sparktune.trials.base import StudyTrials
from sparktune.trials.memory import StudyMemory

logger = logging.getLogger("sparktune")

SILENT_TRIALS = 3
"""After so many trials without a report a warning states that the policy has nothing to act on."""


class Recorder:
    """Passes trials that ended to the tracker."""

    def __init__(self, tracker: Tracker, memory: StudyMemory) -> None:
        self._tracker, self._memory = tracker, memory

    def changed(self, trial: Trial) -> None:
        """Record a trial that ended."""
        if trial.state.is_final:
            self._tracker.ended(trial, dict(self._memory.documents[trial.trial_id]))


class MetricCheck:
    """Warns, once, that the metric a policy waits for never appears."""

    def __init__(self, metric: str, tracker: Tracker, study: Study) -> None:
        self._metric, self._tracker, self._study = metric, tracker, study
        self._names: set[str] = set()
        self._n_ended = 0

    def changed(self, trial: Trial) -> None:
        """Check whether the metric was reported, once enough trials have ended."""
        if not trial.state.is_final or self._study.curves or self._n_ended >= SILENT_TRIALS:
            return
        self._n_ended += 1
        numeric = {str(key) for key, value in (trial.result or {}).items() if isinstance(value, numbers.Real)}
        self._names |= numeric
        if self._n_ended == SILENT_TRIALS:
            seen = sorted(self._names | self._tracker.watched_names())
            logger.warning(
                "%d trials have ended, and none reported the metric %r while it ran, so early termination "
                "cannot act: call sparktune.report(value) or mlflow.log_metric(%r, value, step) in the "
                "objective, or name another with SparkTrials(metric=...). Metrics seen: %s",
                SILENT_TRIALS,
                self._metric,
                self._metric,
                ", ".join(seen) or "none",
            )


class ResultCheck:
    """Warns, once, that results do not match the metric and the goal.

    It warns of a metric with another name where there is no policy; with one, ``MetricCheck`` does.
    """

    def __init__(self, metric: str, goal: str, study: Study, *, has_policy: bool) -> None:
        self._metric, self._goal, self._study = metric, goal, study
        self._has_policy = has_policy
        self._is_silent = False

    def changed(self, trial: Trial) -> None:
        """Check the result of a trial that completed."""
        if self._is_silent or trial.state is not TrialState.COMPLETED or trial.loss is None:
            return
        if reported_metric(trial.result, self._metric) is not None:
            self._is_silent = True  # as intended
            return
        curve = self._study.curves.get(trial.trial_id)
        if curve is not None:
            last = curve.values[-1]
            if self._goal == "maximize" and last == trial.loss != 0:
                self._warn(
                    f"{trial.describe} reported {last:.6g} and returned {trial.loss:.6g}: what an objective "
                    f"returns is the loss, which is minimized, so this study looks for the lowest "
                    f"{self._metric}, although the goal is to maximize it. Remedy: return "
                    f"{{'status': 'ok', {self._metric!r}: value}}, or -value"
                )
            return
        if self._has_policy:
            return
        others = [
            str(key)
            for key, value in (trial.result or {}).items()
            if key != "loss" and isinstance(value, numbers.Real) and not isinstance(value, bool)
        ]
        for name in difflib.get_close_matches(self._metric, others, n=1):
            self._warn(
                f"the metric {self._metric!r} is not in the result of {trial.describe}, which has {name!r}: "
                f"what is shown under its name is made of the loss. Remedy: metric={name!r}"
            )

    def _warn(self, text: str) -> None:
        self._is_silent = True
        logger.warning("%s", text)


def answering_pairs(early_stop_fn: Any) -> Callable[..., tuple[Any, Any]]:
    """The user's ``early_stop_fn``, with an error that shows its answer where it is not a pair."""

    def checked(*args: Any) -> tuple[Any, Any]:
        answer = early_stop_fn(*args)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise TypeError(
                f"early_stop_fn returned {answer!r}; it must return (stop, args), such as (True, []): "
                "whether to stop, and what it is called with the next time, after the trials"
            )
        return answer[0], answer[1]

    return checked


def _finished_view(trials: StudyTrials) -> StudyTrials:
    """These trials with the finished ones only, in the order in which they finished."""
    finished = [d for d in of_hyperopt.documents(trials) if d["state"] == JOB_STATE_DONE]
    # Those without a time were inserted by the user, before this study.
    return of_hyperopt.view_of(trials, sorted(finished, key=lambda d: times_of(d)[1] or -math.inf))


class EarlyStop:
    """Calls the user's ``early_stop_fn`` with the finished trials, the newest last."""

    def __init__(self, early_stop_fn: Any, trials: StudyTrials) -> None:
        self._function = answering_pairs(early_stop_fn)
        self._trials = trials
        self._view = _finished_view(trials)
        self._arguments: Any = []

    def changed(self, trial: Trial) -> None:
        """Add a finished trial to the view that ``early_stop_fn`` sees."""
        document = self._trials.memory.documents[trial.trial_id]
        is_news = trial.state.is_final and document["state"] == JOB_STATE_DONE
        if is_news and self._view is not self._trials:
            of_hyperopt.show(self._view, document)

    def __call__(self, trial: Trial) -> bool:
        """Whether the study is to stop (``Study``'s ``should_stop``).

        After a failed trial it is asked with the finished trials as they are, unless the newest has no loss,
        which functions such as ``no_progress_loss`` read.
        """
        if trial.state is TrialState.FAILED:
            newest = self._view.trials[-1:]
            if not newest or newest[0]["result"].get("loss") is None:
                return False
        with interrupts.admitted():
            stop, self._arguments = self._function(self._view, *self._arguments)
        return bool(stop)


class Progress:
    """Advances the progress bar, with the state of the study behind it (an ``Observer`` and a ``Chore``).

    The user's own reporter, which has only ``update``, is called at ends only.
    """

    def __init__(self, context: Any, study: Study) -> None:
        self._context, self._study = context, study
        self._every_s = getattr(context, "refresh_every_s", None)
        self._refreshed_s = -math.inf  # immediately: the first trial may take long
        self._n_ended = 0
        self._shown_running = -1

    def changed(self, trial: Trial) -> None:
        """Count an ended trial."""
        if trial.state.is_final:
            self._n_ended += 1
            self._context.postfix = self._text()
            self._context.update(1)

    def due_in_s(self) -> float | None:
        """Seconds until the bar may be refreshed."""
        if self._every_s is None:
            return None
        is_news = self._study.n_running != self._shown_running
        wait_s = min(self._every_s, progress.CHANGED_AFTER_S) if is_news else self._every_s
        return self._refreshed_s + float(wait_s) - time.monotonic()

    def do(self) -> None:
        """Refresh the bar."""
        self._refreshed_s = time.monotonic()
        progress.show(self._context, self._text())

    def _text(self) -> str:
        study = self._study
        self._shown_running = study.n_running
        name, best = study.shown_best
        is_ours = self._every_s is not None
        return progress.postfix(
            best, study.counts, study.n_running, self._n_ended, name=name, is_short=is_ours
        )
