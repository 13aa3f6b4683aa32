"""What ``fmin`` does after the last trial, whatever ended the study: documents, save file, MLflow, result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hyperopt

from sparktune.errors import AllTrialsFailed
from sparktune.study import console, interrupts, words
from sparktune.study.cut_off import cut_off_reason
from sparktune.study.reasons import CUT_OFF
from sparktune.study.study import Study
from sparktune.study.tracker import StudySummary, Tracker
from sparktune.study.trial import TrialState
from sparktune.trials import hyperopt_log, points, reports, savefile, summary
from sparktune.trials.base import StudyTrials

logger = logging.getLogger("sparktune")

NOTHING_TO_RETURN = "There are no evaluation tasks, cannot return argmin of task losses."


@dataclass(frozen=True)
class Ending:
    """Brings a study to its end.

    Attributes:
        trials: on which it runs.
        study: its state machine.
        space: that is searched.
        tracker: records it.
        save: the save file, or None.
        reporter: makes the report.
        began: when the call began (``time.monotonic``).
    """

    trials: StudyTrials
    study: Study
    space: Any
    tracker: Tracker
    save: savefile.SaveFile | None
    reporter: reports.Reporter
    began: float

    @contextlib.contextmanager
    def ensured(self) -> Iterator[None]:
        """Whatever ends the block: bring documents, save file and MLflow to the study's end."""
        error = None
        try:
            yield
            hyperopt_log.logger.debug("fmin thread exits normally.")
        except BaseException as raised:
            reason = cut_off_reason(raised)
            if reason is None:
                error = f"{type(raised).__name__}: {raised}"
            else:
                self.study.stop(reason)
            raise
        finally:
            try:
                with interrupts.held():
                    self._settle()
            finally:
                self._record(error)
                if self.study.stop_reason in CUT_OFF:
                    lines = [*self._lines(), summary.how_to_continue(self.trials)]
                    logger.warning("%s", "; ".join(lines))

    def show(self, *, on_console: bool) -> None:
        """Show the study's summary: on the console, or in the log."""
        for line in self._lines():
            console.announce(line, hyperopt_log.logger) if on_console else logger.info("%s", line)

    def _lines(self) -> list[str]:
        elapsed_s = time.monotonic() - self.began
        return summary.lines(self.study.best, self.trials, elapsed_s, self.tracker.link())

    def _settle(self) -> None:
        """Bring the documents, the records and the save file to the end of the study."""
        trials, study, memory = self.trials, self.study, self.trials.memory
        revised = study.conclude(memory.latest.start.first_id)
        for trial in study.trials:
            # Ctrl-C may have come between the study's change and that of the document.
            if memory.records.get(trial.trial_id) is not trial and trial.trial_id in memory.documents:
                trials.changed(trial)
        for before, trial in revised:
            self.tracker.revised(before, trial, dict(memory.documents[trial.trial_id]))
        trials.refresh()
        trials.share_saved = study.share_saved()
        reason = memory.stop_reason = study.stop_reason
        if reason is not None:
            hyperopt_log.logger.warning("fmin cancelled because of %s", reason)
            hyperopt_log.logger.warning("fmin is cancelled, so new trials will not be launched.")
        if self.save is not None:
            self.save.keep()

    def _record(self, error: str | None) -> None:
        """End the study in MLflow, in the save file and in the log."""
        trials, study, tracker, memory = self.trials, self.study, self.tracker, self.trials.memory
        try:
            tracker.finish(
                StudySummary(
                    trials=study.trials,
                    best=study.best,
                    stop_reason=study.stop_reason,
                    error=error,
                    share_saved=trials.share_saved,
                    report=self.reporter.final(),
                    best_point=points.of_best(study.best, self.space),
                )
            )
        finally:
            memory.joined(tracker.run_id, memory.latest.study_id)
            if tracker.run_id is not None:
                memory.remember_study(tracker.run_id, tracker.study_id)
            memory.note_runs(tracker.run_ids())
            memory.is_unfinished = False
            memory.is_cut_off = error is not None or study.stop_reason in CUT_OFF
            if self.save is not None:
                self.save.finish(again=True)
        hyperopt_log.logger.info("Total Trials: %s.", words.counted(trials.counts()))


def answer(study: Study, space: Any, n_trials: int, *, return_argmin: bool) -> Any:
    """The return value of ``fmin``.

    Raises:
        AllTrialsFailed: no trial completed.
    """
    if study.best is None:
        if not return_argmin and n_trials == 0:
            logger.error("%s", _nothing(study))
            return None
        raise AllTrialsFailed(_nothing(study))
    argmin = dict(study.best.config)
    return argmin if return_argmin else hyperopt.space_eval(space, argmin)


def _nothing(study: Study) -> str:
    """Why there is no best trial."""
    counts, total = study.counts, len(study.trials)
    if total == 0:
        return f"{NOTHING_TO_RETURN} No trial was run (max_evals, timeout, or an algorithm without points)."
    text = f"{NOTHING_TO_RETURN} None of {total} trials completed: {counts[TrialState.FAILED]} failed"
    if counts[TrialState.TIMED_OUT]:
        text += f", {counts[TrialState.TIMED_OUT]} ran longer than trial_timeout"
    if counts[TrialState.CANCELLED]:
        text += f", {counts[TrialState.CANCELLED]} cancelled ({study.stop_reason})"
    if study.stop_reason and counts[TrialState.FAILED] and not counts[TrialState.CANCELLED]:
        text += f"; the study was stopped: {study.stop_reason}"
    cause = study.commonest_error()
    return f"{text}. The commonest cause ({cause[1]} of {total}): {cause[0]}" if cause else f"{text}."
