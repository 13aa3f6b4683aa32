"""``fmin`` on sparktune's trials: prepare, drive, conclude."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sparktune.errors import CannotRecord, CannotResume, StudyTakenOver
from sparktune.search import suggestion, tpe
from sparktune.study import interrupts, progress, randomness
from sparktune.study.backend import Backend, Reported
from sparktune.study.driver import Chore, Driver, Observer
from sparktune.study.reasons import OUTER_ENDED
from sparktune.study.spec import algorithm_name
from sparktune.study.tracker import NullTracker, Tracker, UnrecordableError
from sparktune.trials import (
    conclude,
    live_plot,
    observers,
    prepare,
    reports,
    resume as resuming,
    savefile,
    summary,
)
from sparktune.trials.base import StudyTrials
from sparktune.trials.memory import StudyMemory
from sparktune.trials.prepare import Call, Prepared
from sparktune.worker import reporting

logger = logging.getLogger("sparktune")

LOOK_S, LOOK_FOR_RUN_S = 5.0, 1.0
"""Seconds between checks whether another driver has taken the study over; whether the parent run exists."""


@dataclass(frozen=True)
class _Running:
    """A study that has begun: where its trials run, what records it, what shows it.

    Attributes:
        backend: runs its trials.
        tracker: records it.
        ending: brings it to its end.
        shown: the progress bar and the live plot.
        bar: the progress bar's context.
        began_s: when the call began, by the backend's clock.
        spent_s: seconds of the call that preparing took.
    """

    backend: Backend
    tracker: Tracker
    ending: conclude.Ending
    shown: Sequence[Any]
    bar: Any
    began_s: float
    spent_s: float


class RunnableTrials(StudyTrials):
    """Trials that have ``fmin``; the base of ``SparkTrials``, ``DriverTrials`` and ``SimulatedTrials``."""

    def fmin(
        self,
        fn: Callable[..., Any],
        space: Any,
        algo: Any = None,
        max_evals: int | None = None,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        max_queue_len: int = 1,
        rstate: Any = None,
        verbose: bool = False,
        pass_expr_memo_ctrl: bool | None = None,
        catch_eval_exceptions: bool = False,
        return_argmin: bool = True,
        show_progressbar: Any = True,
        early_stop_fn: Any = None,
        trials_save_file: Any = "",
        points_to_evaluate: Any = None,
        *,
        resume: str | None = None,
        take_over: bool = False,
        warm_start: Sequence[str] = (),
        study_name: str | None = None,
        noisy: bool = False,
    ) -> Any:
        """Run a study on these trials; ``hyperopt.fmin(trials=...)`` calls it. See ``sparktune.fmin``."""
        # With True and False alike an exception in an objective fails only its trial.
        del catch_eval_exceptions
        began = time.monotonic()
        call = Call(
            fn=fn,
            space=space,
            algo=algo or tpe.suggest,
            max_evals=max_evals,
            timeout=timeout,
            loss_threshold=loss_threshold,
            max_queue_len=max_queue_len,
            rstate=rstate,
            pass_expr_memo_ctrl=pass_expr_memo_ctrl,
            early_stop_fn=early_stop_fn,
            points_to_evaluate=points_to_evaluate,
            resume=resume,
            take_over=take_over,
            warm_start=warm_start,
            study_name=study_name,
            noisy=noisy,
        ).checked(self)
        with (
            interrupts.Brief(),
            interrupts.raised(),
            self._claimed(),
            savefile.opened(trials_save_file, self) as save,
            prepare.Undo(self) as undo,
        ):
            problem = prepare.Problem.of(call)
            prepared = prepare.prepared(self, call, problem, save, undo)
            if prepared.is_needed:
                self._space = problem.space
                self.memory.stop_reason = self.elapsed_s = None
                reporter = progress.reporter(show_progressbar, verbose)
                ending = self._drive(call, prepared, save, reporter, began)
                ending.show(on_console=bool(show_progressbar and verbose))
            elif self._space is None:
                self._space = problem.space
        reporting.check_ending()
        return conclude.answer(prepared.study, problem.space, len(self), return_argmin=return_argmin)

    def _drive(
        self,
        call: Call,
        prepared: Prepared,
        save: savefile.SaveFile | None,
        reporter: Callable[..., Any],
        began: float,
    ) -> conclude.Ending:
        """Run the trials; the study is concluded whatever ends it."""
        study, stream = prepared.study, prepared.stream
        with contextlib.ExitStack() as stack:
            with interrupts.held():
                running = self._begin(stack, call, prepared, save, reporter, began)
            progress.begin(running.bar)
            outer = reporting.ending()
            if outer is not None and self._keeps_real_time:  # a simulated backend does not wait
                stack.enter_context(outer.calling(lambda: _wake(running.backend)))
            deadline_s = None
            if call.timeout is not None:
                left_s = call.timeout - prepared.used_s
                deadline_s = running.began_s + max(left_s, running.spent_s)
            Driver(
                study,
                running.backend,
                running.tracker,
                observers=[self] if save is None else [self, save],
                keeper=save,
                listeners=self._listeners(prepared, running),
                chores=self._chores(save, running),
                parallelism=self.asked_parallelism,
                deadline_s=deadline_s,
                trial_timeout_s=self.trial_timeout,
                seed_of=randomness.seeds(stream.began_with),
                document_of=self.memory.documents.get,
                stop_request=_outer_has_ended,
            ).run()
            self.elapsed_s = running.backend.now() - running.began_s
        return running.ending

    def _begin(
        self,
        stack: contextlib.ExitStack,
        call: Call,
        prepared: Prepared,
        save: savefile.SaveFile | None,
        reporter: Callable[..., Any],
        began: float,
    ) -> _Running:
        """Open the backend, the displays and the record; ``stack`` closes them, and concludes the study."""
        memory, study, problem = self.memory, prepared.study, prepared.problem
        objective = problem.objective(self.metric, self.goal)
        backend = stack.enter_context(contextlib.closing(self._backend(objective)))
        display = stack.enter_context(contextlib.ExitStack())
        bar = display.enter_context(reporter(prepared.n_earlier, prepared.total))
        live = display.enter_context(live_plot.shown(self.live_plot, self, prepared.earlier))
        tracker = self._tracker()
        report = reports.Reporter(self.snapshot, tracker, self.report_every, wanted=self.log_report)
        memory.stream, memory.used_s = prepared.stream, prepared.used_s
        spent_s = time.monotonic() - began if self._keeps_real_time else 0.0
        began_s = backend.now() - spent_s
        slots = backend.slots()
        self._log_parallelism(slots)
        _warn_of_parallelism(call.algo, self._concurrency(slots), prepared.max_new)
        info = prepared.info(call, self)
        if not isinstance(tracker, NullTracker):
            progress.show(bar, "opening MLflow")
        try:
            tracker.begin(info)
        except UnrecordableError as error:  # no study has begun
            raise CannotRecord(str(error)) from error
        prepared.undo.begun()
        ending = conclude.Ending(self, study, problem.space, tracker, save, report, began)
        stack.enter_context(ending.ensured())
        stack.push(display)  # closed before the study's end is shown
        memory.is_unfinished, memory.is_cut_off, memory.saved_by = True, False, None
        _record_missing(memory, tracker, prepared)
        if self.early_termination is not None:
            tracker.watch(self.watch_interval, _poster(backend))
        memory.joined(tracker.run_id, tracker.study_id)
        logger.info("%s", summary.opening_line(self, backend.slots()))
        report.start()
        if save is not None:
            save.begin(lambda: prepared.used_s + backend.now() - began_s)
        return _Running(
            backend, tracker, ending, [observers.Progress(bar, study), live], bar, began_s, spent_s
        )

    def _listeners(self, prepared: Prepared, running: _Running) -> list[Observer]:
        """The observers of an end, in their order; called once it is in documents and save file."""
        study, tracker, has_policy = prepared.study, running.tracker, self.early_termination is not None
        listening: list[Observer] = [observers.Recorder(tracker, self.memory)]
        if self.metric != "loss":
            listening.append(observers.ResultCheck(self.metric, self.goal, study, has_policy=has_policy))
        if has_policy:
            listening.append(observers.MetricCheck(self.metric, tracker, study))
        if prepared.stopper is not None:
            listening.append(prepared.stopper)
        return [*listening, *running.shown]

    def _chores(self, save: savefile.SaveFile | None, running: _Running) -> list[Chore]:
        chores: list[Chore] = [*running.shown] if self._keeps_real_time else []
        if save is not None:
            chores.append(save)
        if running.tracker.study_id:
            chores.append(_Possession(self.memory, save, running.tracker))
        return chores

    @classmethod
    def from_mlflow(cls, run_id: str, **options: Any) -> Self:
        """The trials of a study that MLflow has recorded; nothing else is needed.

        ``fmin(..., trials=...)`` with them continues that study, under the same parent run. What is
        recorded as JSON is read; nothing is executed. Entries of results that JSON cannot hold, and
        attachments, are not recorded.

        Args:
            run_id: the study's parent run; ``"last"`` for the latest unfinished study of the experiment.
            **options: of the constructor; ``metric`` and ``goal`` are those that were recorded.

        Raises:
            CannotResume: there is no such study, or MLflow does not answer.
        """
        study = resuming.find(run_id)
        if study is None:
            raise CannotResume("the experiment has no unfinished study")
        spec = study.record.spec
        trials = cls(**{"metric": spec.metric, "goal": spec.goal, **options})
        resuming.fill(trials, study)
        trials.refresh()
        return trials


def _outer_has_ended() -> str | None:
    """Why a study stops that runs inside a trial of ``DriverTrials``: that trial is to end."""
    outer = reporting.ending()
    return OUTER_ENDED if outer is not None and outer.is_due else None


def _wake(backend: Backend) -> None:
    """Have the backend return from its wait: the report of a trial that does not exist changes nothing."""
    backend.post(Reported(-1, backend.now(), 0.0, 0, "tracker"))


def _record_missing(memory: StudyMemory, tracker: Tracker, prepared: Prepared) -> None:
    """Record trials whose end is missing in the record of their study: it was written elsewhere."""
    continues = prepared.continues
    if continues is None and not memory.is_unrecorded:
        return
    memory.is_unrecorded = False
    known = set() if continues is None else {trial.trial_id for trial in continues.trials}
    for trial_id, trial in memory.records.items():
        if trial.state.is_final and trial_id not in known and memory.is_of_latest(trial_id):
            document = memory.documents[trial_id]
            tracker.launched(trial, document)
            tracker.ended(trial, document)


class _Possession:
    """Notes the parent run once it exists, and ends the study when another driver has taken it over.

    The driver's ``Chore``.
    """

    def __init__(self, memory: StudyMemory, save: savefile.SaveFile | None, tracker: Tracker) -> None:
        self._memory, self._save, self._tracker = memory, save, tracker
        self._look_at = 0.0

    @property
    def _has_new_run(self) -> bool:
        return self._memory.latest.run_id is None and self._tracker.run_id is not None

    def due_in_s(self) -> float | None:
        return 0.0 if self._has_new_run else self._look_at - time.monotonic()

    def do(self) -> None:
        if self._has_new_run:
            self._memory.joined(self._tracker.run_id, self._memory.latest.study_id)
            if self._save is not None:
                self._save.renew()
        self._look_at = time.monotonic() + (LOOK_S if self._memory.latest.run_id else LOOK_FOR_RUN_S)
        owner = self._tracker.taken_over_by()
        if owner is not None:
            raise StudyTakenOver(
                f"another driver has taken this study over ({owner}); this one has ended, and its trials "
                "that ended are recorded"
            )


def _poster(backend: Backend) -> Callable[[int, float, int], None]:
    """Passes metrics read in MLflow to the driver's event loop."""

    def post(trial_id: int, value: float, step: int) -> None:
        backend.post(Reported(trial_id, backend.now(), value, step, "tracker"))

    return post


def _warn_of_parallelism(algo: Any, together: int, max_new: int | None) -> None:
    """Warn where all trials run at the same time (``together``), so that none can learn from results."""
    if max_new is not None and 1 < max_new <= together and suggestion.is_adaptive(algo):
        logger.warning(
            "all %d trials run at the same time (parallelism %d), so %s has no result to learn from and "
            "searches at random: use less parallelism, such as %d, or more trials",
            max_new,
            together,
            algorithm_name(algo),
            max(1, max_new // 4),
        )
