"""The study: a pure state machine that owns every trial and the one random generator.

It gives the trials to launch, takes in what became of them, and decides when the study is over. It uses
neither Spark nor MLflow, no clock and no thread: times are passed in, so a test can play any order of events.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sparktune.early_termination.base import (
    Curve,
    Decision,
    EarlyTerminationPolicy,
    Goal,
    decision_on,
    is_infinite,
)
from sparktune.study.backend import Cancelled, Event, Failed, Finished, Lost, Reported, Started, Terminated
from sparktune.study.ranking import beats
from sparktune.study.reasons import EARLY_STOPPING, LOSS_THRESHOLD
from sparktune.study.trial import Trial, TrialError, TrialState, reported_metric, shown_value


class SeedSource(Protocol):
    """What the study needs of a ``numpy.random.Generator``."""

    def integers(self, low: int, /) -> Any:
        """A random integer in ``[0, low)``."""


LOOKED_AT = 5
"""How many completed trials show whether the reported metric is the loss."""
SEED_BOUND = 2**31 - 1
"""Seeds handed to suggest functions lie in ``[0, SEED_BOUND)``, as in ``hyperopt.FMinIter.run``."""

Suggest = Callable[[Any], Trial | None]
"""``suggest(seed)`` gives the next trial, queued, or None when the algorithm has no more points."""


class Study:
    """Which trials there are, which to launch next, and whether all is over.

    Args:
        suggest: makes the next trial from a seed; called only when a trial can use the suggestion
            immediately, or, with ``max_queue_len`` n > 1, up to n - 1 trials ahead.
        rng: the source of those seeds; one draw for each call of ``suggest``.
        max_new: how many trials may be suggested, or None for no limit.
        queued: trials to run before anything is suggested.
        earlier: final trials of earlier calls; they count for the best loss.
        loss_threshold: stop when the best loss is at or below it.
        max_queue_len: see ``suggest``.
        should_stop: called after every trial that completes or fails; True stops the study. What it raises
            leaves ``check_stop``.
        policy: decides at each report whether the trial continues; a NaN or infinitely bad report ends it.
        goal: what is good in the reported metric.
        metric: its name, for the results of trials that were terminated early.
        max_failures: stop when so many trials have failed; None for no limit.
        is_fatal: called with every trial that failed; True stops the study.
        hopeless_after: stop when so many trials have ended and all of them failed, with one cause or few;
            None for never.
        curves: the reports of earlier trials, by trial id; those of this study are added.
    """

    def __init__(
        self,
        suggest: Suggest,
        rng: SeedSource,
        *,
        max_new: int | None = None,
        queued: Iterable[Trial] = (),
        earlier: Sequence[Trial] = (),
        loss_threshold: float | None = None,
        max_queue_len: int = 1,
        should_stop: Callable[[Trial], bool] | None = None,
        policy: EarlyTerminationPolicy | None = None,
        goal: Goal = "minimize",
        metric: str = "loss",
        max_failures: float | None = None,
        is_fatal: Callable[[Trial], bool] | None = None,
        hopeless_after: int | None = None,
        curves: dict[int, Curve] | None = None,
    ) -> None:
        self._suggest = suggest
        self._rng = rng
        self._left_to_suggest = math.inf if max_new is None else max_new
        self._loss_threshold = loss_threshold
        self._ahead = max_queue_len - 1
        self._should_stop = should_stop
        self._policy = policy
        self._goal = goal
        self._metric = metric
        self._max_failures = math.inf if max_failures is None else max_failures
        self._is_fatal = is_fatal
        self._hopeless_after = math.inf if hopeless_after is None else hopeless_after
        self.curves: dict[int, Curve] = {} if curves is None else curves
        self._reporting: set[int] = set()
        self._doomed: dict[int, Decision | None] = {}
        self._trials: dict[int, Trial] = {}
        self._running: dict[int, Trial] = {}
        self._queue: deque[Trial] = deque()
        self._causes: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.best: Trial | None = None
        self.stop_reason: str | None = None
        self.counts: Counter[TrialState] = Counter()
        for trial in earlier:
            self._keep(trial)
        self._failed_before = self.counts[TrialState.FAILED]
        for trial in queued:
            self.curves.pop(trial.trial_id, None)  # it starts again
            self._keep(trial)
            self._queue.append(trial)

    @property
    def trials(self) -> list[Trial]:
        """Every trial as it is now, in the order in which they joined the study."""
        return list(self._trials.values())

    @property
    def running(self) -> list[int]:
        """The ids of the trials that are under way."""
        return list(self._running)

    @property
    def n_running(self) -> int:
        """How many trials are under way."""
        return len(self._running)

    @property
    def n_to_come(self) -> float:
        """How many trials may still be launched."""
        return 0 if self.is_stopping else len(self._queue) + max(0, self._left_to_suggest)

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing more will be launched."""
        return not self._running and not self._queue and (self._left_to_suggest <= 0 or self.is_stopping)

    @property
    def is_stopping(self) -> bool:
        """Whether no further trial will be launched."""
        return self.stop_reason is not None

    def commonest_error(self) -> tuple[str, int] | None:
        """The cause that failed most trials, on one line, and how many; None without failures.

        Messages that differ in numbers, identifiers or paths only count as one cause; the first of them is
        given.
        """
        if not self._causes:
            return None
        cause, count = self._causes.most_common(1)[0]
        return self._examples[cause], count

    def next_trial(self, at_s: float) -> Trial | None:
        """The trial to launch now, running from this moment; None when there is none (yet).

        Call it only while a slot is free: a suggestion made before it can run has seen fewer results.
        """
        trial = self._queue.popleft() if self._queue else self._suggested()
        if trial is None:
            return None
        trial = trial.to(TrialState.RUNNING, submitted_s=at_s)
        self._keep(trial)
        return trial

    def suggest_ahead(self) -> None:
        """Fill the queue of trials that wait for a slot (``max_queue_len`` > 1)."""
        while len(self._queue) < self._ahead and (trial := self._suggested()) is not None:
            self._keep(trial)
            self._queue.append(trial)

    def tell(self, event: Event) -> Trial | None:
        """Take in what happened; returns the changed trial, or None when the event changes nothing."""
        trial = self._running.get(event.trial_id)
        if trial is None:
            if isinstance(event, Reported) and event.source == "tracker":
                self._complete_curve(event)
            return None
        match event:
            case Started():
                if trial.attempts and event.attempt > trial.attempts:
                    trial = self._restarted(trial)
                trial = replace(
                    trial,
                    attempts=max(trial.attempts, event.attempt),
                    started_s=event.at_s,
                    host=event.host,
                    worker_pid=event.worker_pid,
                )
            case Lost():
                trial = replace(trial, started_s=None)
            case Reported():
                if event.source == "report":
                    self._reporting.add(trial.trial_id)
                elif trial.trial_id in self._reporting:
                    return None
                self._judge(trial.trial_id, event.value)
                trial = replace(trial, steps=trial.steps + 1, last_step=max(trial.last_step, event.step))
            case Finished():
                trial = judged(trial, event)
            case Failed() | Terminated() | Cancelled():
                trial = self._ended(trial, event)
        self._keep(trial)
        return trial

    def _restarted(self, trial: Trial) -> Trial:
        """The trial after its worker was lost: the objective and its reports start again.

        What the tracker reads continues instead, since the trial's run does. The curve of a trial that is to
        end stays as it was judged.
        """
        if trial.trial_id not in self._reporting or trial.trial_id in self._doomed:
            return trial
        self.curves.pop(trial.trial_id, None)
        return replace(trial, steps=0, last_step=0)

    def is_doomed(self, trial_id: int) -> bool:
        """Whether the trial is to end before its objective does: by a policy, or because its time is up."""
        return trial_id in self._doomed

    def began(self, trial_id: int) -> float | None:
        """When the objective of a running trial last began; None when it has not started, or is over."""
        trial = self._running.get(trial_id)
        return None if trial is None else trial.started_s

    def time_out(self, trial_id: int) -> None:
        """The trial has run for too long."""
        if trial_id in self._running:
            self._doomed.setdefault(trial_id, None)

    def share_saved(self) -> float | None:
        """The share of compute that early termination saved, estimated from the reports; None without any.

        A terminated trial is taken to have had as many reports before it as the longest completed one.
        """
        full = max((t.steps for t in self._trials.values() if t.state is TrialState.COMPLETED), default=0)
        ended = [t for t in self._trials.values() if t.state.is_final and t.steps]
        cut = [t for t in ended if t.state is TrialState.EARLY_TERMINATED]
        saved = sum(max(0, full - t.steps) for t in cut)
        spent = sum(t.steps for t in ended)
        return saved / (saved + spent) if cut else None

    def conclude(self, first_id: int = 0) -> list[tuple[Trial, Trial]]:
        """The study is over: decide whether the values of terminated trials are losses.

        Whether they compare is known from the trials that completed, and the first ones may have been
        terminated before any had. This is the one change of a trial that has ended, so what shows or stores
        trials must apply it.

        Args:
            first_id: of this study. Trials before it are of studies that are over, and stay.

        Returns:
            The trials that changed, as they were and as they are.
        """
        revised = []
        for trial_id, trial in self._trials.items():
            is_own = trial_id >= first_id and trial_id in self.curves
            if trial.state is TrialState.EARLY_TERMINATED and is_own:
                loss, result = self._terminated(trial_id, trial.decision)
                if (loss, result) != (trial.loss, trial.result):
                    revised.append((trial, replace(trial, loss=loss, result=result)))
        for before, now in revised:
            self._trials[now.trial_id] = now
            if self.best is before:
                self.best = now
        return revised

    def _complete_curve(self, event: Reported) -> None:
        """Add what an ended trial had logged that was not read while it ran."""
        trial = self._trials.get(event.trial_id)
        if trial is None or not trial.state.is_final or trial.trial_id in self._reporting:
            return
        self._add(trial.trial_id, event.value)
        self.curves[trial.trial_id].is_over = True
        last_step = max(trial.last_step, event.step)
        self._trials[trial.trial_id] = replace(trial, steps=trial.steps + 1, last_step=last_step)

    @property
    def shown_best(self) -> tuple[str, float | None]:
        """Name and value to show of the best trial; see ``shown_value``."""
        return shown_value(self.best, self._metric, self._goal)

    def _losses(self) -> list[float]:
        """The losses of the trials that completed."""
        done = (t for t in self._trials.values() if t.state is TrialState.COMPLETED)
        return [trial.loss for trial in done if trial.loss is not None]

    def _terminated(self, trial_id: int, decision: Decision | None) -> tuple[float | None, dict[str, Any]]:
        """Loss and result of a trial that a policy ended, from its last report and what is known now.

        A search algorithm needs a loss: where the report cannot be one, it is as bad as the worst known.
        """
        value = self.curves[trial_id].values[-1]
        if decision is not None and is_infinite(decision.value):  # what a tracker reads may lack it
            value = decision.value
        own = value if self._goal == "minimize" else -value
        compares = self._values_are_losses()
        worst = None if compares else max(self._losses(), default=None)
        result = {self._metric: value, "loss": own if worst is None else worst, "status": "ok"}
        return own if compares else None, result

    def _values_are_losses(self) -> bool:
        """Whether the reported metric is on the scale of the losses, so that a terminated trial compares.

        It is where it was so in the latest completed trials; before any has completed, where the metric is
        called loss.
        """
        latest = itertools.islice(
            (t for t in reversed(self._trials.values()) if t.state is TrialState.COMPLETED), LOOKED_AT
        )
        found = [is_loss for t in latest if (is_loss := self._is_its_loss(t)) is not None]
        return all(found) if found else self._metric == "loss"

    def _is_its_loss(self, trial: Trial) -> bool | None:
        """Whether a completed trial's loss is one of its reports, or its metric; None without either."""
        curve = self.curves.get(trial.trial_id)
        values = list(curve.values) if curve is not None else []
        if (own := reported_metric(trial.result, self._metric)) is not None:
            values.append(own)
        if not values or trial.loss is None:
            return None
        sign = 1.0 if self._goal == "minimize" else -1.0
        return any(math.isclose(trial.loss, sign * value, rel_tol=1e-6, abs_tol=1e-12) for value in values)

    def _add(self, trial_id: int, value: float) -> None:
        """A point of the trial's curve; NaN is as bad as can be."""
        if math.isnan(value):
            value = -math.inf if self._goal == "maximize" else math.inf
        self.curves.setdefault(trial_id, Curve.empty()).add(value, self._goal)

    def _judge(self, trial_id: int, value: float) -> None:
        """Take in a report and let the policy decide."""
        self._add(trial_id, value)
        if self._policy is not None and trial_id not in self._doomed:
            decision = decision_on(self._policy, trial_id, self.curves, self._goal)
            if decision is not None:
                self._doomed[trial_id] = decision

    def _ended(self, trial: Trial, event: Failed | Terminated | Cancelled) -> Trial:
        """The trial after it ended without a result: by a policy, its time, the study, or failure."""
        ended: dict[str, Any] = {
            "ended_s": event.at_s,
            "duration_s": event.duration_s if not isinstance(event, Cancelled) else _since(trial, event),
        }
        if trial.trial_id in self._doomed:
            decision = self._doomed[trial.trial_id]
            if decision is None:
                return trial.to(TrialState.TIMED_OUT, stop_reason="trial_timeout", **ended)
            loss, result = self._terminated(trial.trial_id, decision)
            return trial.to(
                TrialState.EARLY_TERMINATED,
                loss=loss,
                result=result,
                decision=decision,
                stop_reason=str(decision),
                **ended,
            )
        if isinstance(event, Failed):
            return trial.to(TrialState.FAILED, error=event.error, **ended)
        return trial.to(TrialState.CANCELLED, stop_reason=self.stop_reason or "stopped", **ended)

    def check_stop(self, trial: Trial) -> bool:
        """Whether this trial, just ended and recorded, stops the study (and stops it)."""
        if self.is_stopping:
            return False
        if trial.state is TrialState.FAILED:
            is_fatal = self._is_fatal is not None and self._is_fatal(trial)
            self.stop_reason = f"trial {trial.trial_id} failed" if is_fatal else self._too_many_failures()
            if not self.is_stopping and self._should_stop is not None and self._should_stop(trial):
                self.stop_reason = EARLY_STOPPING
            return self.is_stopping
        if trial.state is not TrialState.COMPLETED:
            return False
        if self._should_stop is not None and self._should_stop(trial):
            self.stop_reason = EARLY_STOPPING
        elif self._loss_threshold is not None and self.best is not None:
            best = self.best.loss
            if best is not None and best <= self._loss_threshold:
                self.stop_reason = LOSS_THRESHOLD
        return self.is_stopping

    def _too_many_failures(self) -> str | None:
        """Why the study cannot succeed, or None."""
        failed = self.counts[TrialState.FAILED] - self._failed_before
        if failed >= self._max_failures:
            return f"{failed} trials failed (max_failures={self._max_failures:g})"
        ended = sum(count for state, count in self.counts.items() if state.is_final)
        if ended != self.counts[TrialState.FAILED] or ended < self._hopeless_after:
            return None
        # A failure that an objective itself returns is an answer: the next point may be better.
        kinds = {REPORTED if cause.startswith(REPORTED) else cause for cause in self._causes}
        enough = self._hopeless_after * (REPORTED_FACTOR if REPORTED in kinds else 1)
        if ended >= enough and len(kinds) <= max(1, ended // TRIALS_PER_CAUSE):
            causes = "one cause" if len(kinds) == 1 else f"{len(kinds)} causes"
            return f"the first {ended} trials all failed with {causes}; max_failures=math.inf continues"
        return None

    def stop(self, reason: str) -> list[Trial]:
        """Launch nothing more; the driver stops what runs. Returns the queued trials, now cancelled."""
        self.stop_reason = self.stop_reason or reason
        # Ctrl-C may have come in the middle of a change: the records are what counts.
        self._running = {t.trial_id: t for t in self._trials.values() if t.state is TrialState.RUNNING}
        dropped = [trial.to(TrialState.CANCELLED, stop_reason=self.stop_reason) for trial in self._queue]
        self._queue.clear()
        for trial in dropped:
            self._keep(trial)
        return dropped

    def _suggested(self) -> Trial | None:
        if self.is_stopping or self._left_to_suggest <= 0:
            return None
        trial = self._suggest(self._rng.integers(SEED_BOUND))
        if trial is None:
            self._left_to_suggest = 0
            return None
        self._left_to_suggest -= 1
        return trial

    def _keep(self, trial: Trial) -> None:
        before = self._trials.get(trial.trial_id)
        if before is not None:
            self.counts[before.state] -= 1
        self.counts[trial.state] += 1
        self._trials[trial.trial_id] = trial
        if trial.state is TrialState.RUNNING:
            self._running[trial.trial_id] = trial
            return
        self._running.pop(trial.trial_id, None)
        if trial.error is not None:
            cause = _VARYING.sub("#", trial.error.summary)
            self._causes[cause] += 1
            self._examples.setdefault(cause, trial.error.summary)
        curve = self.curves.get(trial.trial_id)
        if curve is not None:
            curve.is_over = trial.state.is_final
        if beats(trial, self.best):
            self.best = trial


REPORTED = "ReportedFailure"
REPORTED_FACTOR = 5
"""So many times more trials must fail where objectives return STATUS_FAIL: few points may be feasible."""
TRIALS_PER_CAUSE = 10
"""So many failures for each cause, where all trials fail, are not an accident of some points."""
_VARYING = re.compile(
    r"(?:\w+:)?[\w.~+-]*(?:[/\\][\w.~+=@%-]+)+[/\\]?"  # paths
    r"|\btmp\w{4,}\b|\b0x[0-9a-f]+\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{8,}\b"
    r"|-?\d+(?:\.\d+)?(?:e-?\d+)?"
)
"""What differs between messages of one cause: paths, names of temporary files, identifiers and numbers."""


def _since(trial: Trial, event: Cancelled) -> float | None:
    """Seconds since the objective began; None when it never did."""
    return None if trial.started_s is None else event.at_s - trial.started_s


def judged(trial: Trial, event: Finished) -> Trial:
    """The trial after its objective returned a result: completed, or failed by its status or by NaN."""
    result = event.result
    ended: dict[str, Any] = {
        "result": result,
        "attachments": event.attachments,
        "ended_s": event.at_s,
        "duration_s": event.duration_s,
    }
    if result["status"] != "ok":
        message = _failure_text(result)
        return trial.to(TrialState.FAILED, error=TrialError(REPORTED, message, message), **ended)
    loss = float(result["loss"])
    if math.isnan(loss):
        message = (
            "the objective returned NaN as its loss; return a number, or {'status': STATUS_FAIL} for a point "
            "that cannot be judged"
        )
        kind = "<class 'hyperopt.exceptions.InvalidLoss'>"
        return trial.to(
            TrialState.FAILED, error=TrialError(kind, message, f"InvalidLoss: {message}"), **ended
        )
    return trial.to(TrialState.COMPLETED, loss=loss, **ended)


def _failure_text(result: Mapping[str, Any]) -> str:
    """Why an objective calls its trial failed: the text under ``error``, or just its status."""
    for key in ("error", "status_fail"):
        if result.get(key) is not None:
            try:
                text = str(result[key])
            except Exception as error:  # whatever the user's object raises
                text = f"{key}: a {type(result[key]).__name__} without text ({type(error).__name__})"
            if text:
                return text
    return f"status {result['status']!r}"
