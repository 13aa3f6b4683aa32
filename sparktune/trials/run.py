"""``fmin`` on sparktune's trials: check, set up, run the driver, hand back the result."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import hyperopt

from sparktune.errors import AllTrialsFailed, CannotRecord, CannotResume, SaveFileError, StudyTakenOver
from sparktune.private import of_hyperopt
from sparktune.search import auto, finite, suggestion, tpe
from sparktune.space import compiling
from sparktune.space.distributions import as_space
from sparktune.space.signature import differences, signature
from sparktune.space.view import SpaceView
from sparktune.study import console, interrupts, progress, randomness, words
from sparktune.study.backend import Backend, Reported
from sparktune.study.cut_off import cut_off_reason
from sparktune.study.driver import Chore, Driver, Observer
from sparktune.study.reasons import CUT_OFF
from sparktune.study.study import Study
from sparktune.study.tracker import (
    Continued,
    NullTracker,
    StudyInfo,
    StudySummary,
    Tracker,
    UnrecordableError,
    algorithm_name,
    default_study_name,
    objective_name,
)
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import arguments, familiar, live_plot, observers, points, reports, savefile, summary
from sparktune.trials import resume as resuming
from sparktune.trials import warm_start as warming
from sparktune.trials.base import StudyStart, StudyTrials
from sparktune.worker.objective import Objective

if TYPE_CHECKING:
    from sparktune.tracking.reader import RecordedStudy

logger = logging.getLogger("sparktune")

_OF_A_STUDY = (
    *("_study", "run_id", "_study_id", "_algo", "_parameters", "_objective_name", "_study_name"),
    *("_space", "_warm", "_warm_from"),
)
"""What trials keep of the study that ran on them last."""
NOTHING_TO_RETURN = "There are no evaluation tasks, cannot return argmin of task losses."


class RunnableTrials(StudyTrials):
    """Trials that have ``fmin``; the base of ``SparkTrials`` and ``SimulatedTrials``."""

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
        # With True and False alike an exception in an objective fails its own trial.
        del catch_eval_exceptions
        began = time.monotonic()
        limit = arguments.checked_max_evals(max_evals)
        max_queue_len = arguments.checked_queue_len(max_queue_len)
        arguments.check_fmin(fn, algo, timeout, loss_threshold, early_stop_fn, points_to_evaluate)
        arguments.check_study_name(study_name)
        arguments.check_flag("noisy", noisy)
        name = study_name or default_study_name(fn)
        algo = algo or tpe.suggest
        if self.timeout is not None:
            if timeout is not None:
                logger.warning("the timeout of %s goes before that of fmin", type(self).__name__)
            timeout = self.timeout
        timeout = arguments.limit_of(timeout)
        with (
            interrupts.Brief(),
            interrupts.raised(),
            self._claimed(),
            savefile.opened(trials_save_file, self) as save,
        ):
            space = as_space(space)
            compiling.check(hyperopt.pyll.as_apply(space), constants="warn")
            before = {name: getattr(self, name) for name in _OF_A_STUDY}
            self._space = space
            domain = hyperopt.Domain(fn, space, pass_expr_memo_ctrl=pass_expr_memo_ctrl)
            if not domain.pass_expr_memo_ctrl:
                arguments.check_objective(fn)
            view = SpaceView(domain.expr)
            is_adopted = save is not None and _adopt_saved(self, save.path, view, name)
            if is_adopted:
                before = {name: getattr(self, name) for name in _OF_A_STUDY}
            else:
                resuming.warn_of_name(self._study_name, name, self.run_id)
            if warm_start:
                self._warm_from = warming.checked(warm_start)
            recorded = self._to_resume(resume, view, algo, name, has_file=save is not None)
            is_same = self._unfinished or recorded is not None
            before_s = self._used_s if is_same else 0.0
            if warm_start or (self._warm_from and not self._warm):
                self._warm = warming.documents(self._warm_from, view, self.metric, self.goal, name)
            # A study that goes on has the stream that it had, whatever rstate says.
            stream = randomness.continued(None if is_same else rstate, self._stream)
            # What MLflow says was cancelled with its study is run again; a killed driver cancels nothing.
            earlier, queued = self._join(view, recorded is not None and not self._unfinished)
            if not is_same:
                n_documents = len(of_hyperopt.documents(self))
                self._study = StudyStart(len(self), stream.draws, n_documents)
                self.run_id = self._study_id = None
            self._algo, self._parameters = algorithm_name(algo), signature(view)
            self._objective_name, self._study_name = objective_name(fn), name
            continues = None
            if recorded is not None:
                logger.info("%s", resuming.told(recorded, self._records.values()))
                continues = resuming.claim(recorded, self, before_s, take_over=take_over)
            # As in hyperopt, the user's own points come on top of max_evals; trials of earlier calls count.
            n_suggested = stream.draws - self._study.draws
            max_new = None if limit is None else max(0, limit - self._study.counted - n_suggested)
            again = noisy and not is_same
            queued += _points(self, domain, view, points_to_evaluate or [], again=again)
            suggest, n_new = finite.prepared(algo, domain.expr, self, max_new, noisy=noisy)
            stopper = observers.EarlyStop(early_stop_fn, self) if early_stop_fn is not None else None
            study = Study(
                functools.partial(_suggest, suggest, domain, self, view, _informed(self, algo)),
                stream,
                max_new=n_new,
                queued=queued,
                earlier=earlier,
                loss_threshold=self.loss_threshold if loss_threshold is None else loss_threshold,
                max_queue_len=max_queue_len,
                should_stop=stopper,
                policy=self.early_termination,
                goal=self.goal,
                metric=self.metric,
                max_failures=self.max_failures,
                is_fatal=self._is_fatal,
                hopeless_after=_hopeless_after(self),
                curves=self._curves,
            )
            is_recorded = before["run_id"] is not None and (save is None or is_adopted)
            if n_new == 0 and not queued and not is_same and is_recorded:
                for attribute, value in before.items():
                    if value is not None:  # what a pickle does not hold is known now
                        setattr(self, attribute, value)
                logger.info("nothing to run: %d trials are there, and max_evals=%s", len(self), limit)
                return _answer(self, study, space, return_argmin)
            self._fmin_cancelled_reason = self.elapsed_s = None
            self._max_evals, self._n_given = limit, len(queued)
            n_earlier = sum(trial.state.is_final for trial in earlier)
            total = sys.maxsize if n_new is None else n_earlier + len(queued) + n_new
            low_level = bool(domain.pass_expr_memo_ctrl)
            objective = Objective(domain.fn, domain.expr, low_level, self.metric, self.goal)
            with contextlib.ExitStack() as stack:
                with interrupts.held():
                    backend = stack.enter_context(contextlib.closing(self._backend(objective)))
                    display = stack.enter_context(contextlib.ExitStack())
                    reporter = progress.reporter(show_progressbar, verbose)
                    bar = display.enter_context(reporter(n_earlier, total))
                    live = display.enter_context(live_plot.shown(self.live_plot, self, earlier))
                    tracker = self._tracker()
                    report = reports.Reporter(
                        self.snapshot, tracker, self.report_every, wanted=self.log_report
                    )
                    self._stream, self._used_s = stream, before_s
                    spent_s = time.monotonic() - began if self._keeps_real_time else 0.0
                    began_s = backend.now() - spent_s
                    self._say_parallelism(backend.slots())
                    _warn_of_parallelism(algo, self._at_once(backend.slots()), max_new)
                    info = _info(fn, algo, limit, timeout, max_queue_len, view, self, stream, continues)
                    info = replace(info, name=name, is_named=study_name is not None)
                    if not isinstance(tracker, NullTracker):
                        progress.show(bar, "opening MLflow")
                    try:
                        tracker.begin(info)
                    except UnrecordableError as error:  # no study has begun
                        raise CannotRecord(str(error)) from error
                    stack.enter_context(_concluded(self, study, tracker, save, report, began))
                    stack.push(display)  # closed before the study's end is told
                    self._unfinished, self._saved_by = True, None
                    self._is_cut_off = False
                    _record_missing(self, tracker, continues)
                    if self.early_termination is not None:
                        tracker.watch(self.watch_interval, _poster(backend))
                    self.run_id, self._study_id = tracker.run_id, tracker.study_id
                    logger.info("%s", summary.first_words(self, backend.slots()))
                    report.start()
                    if save is not None:
                        save.begin(lambda: before_s + backend.now() - began_s)
                progress.begin(bar)
                shown = observers.Progress(bar, study)
                Driver(
                    study,
                    backend,
                    tracker,
                    observers=[self] if save is None else [self, save],
                    keeper=save,
                    listeners=_listeners(self, study, tracker, stopper, [shown, live]),
                    chores=_chores(self, save, tracker, [shown, live] if self._keeps_real_time else []),
                    parallelism=self._asked_parallelism,
                    deadline_s=None if timeout is None else began_s + max(timeout - before_s, spent_s),
                    trial_timeout_s=self.trial_timeout,
                    seed_of=randomness.seeds(stream.began_with),
                    document_of=self._by_id.get,
                ).run()
                self.elapsed_s = backend.now() - began_s
            lines = summary.lines(study.best, self, time.monotonic() - began, tracker.link())
            is_aloud = bool(show_progressbar and verbose)
            for line in lines:
                console.tell(line, familiar.logger) if is_aloud else logger.info("%s", line)
        return _answer(self, study, space, return_argmin)

    def _to_resume(
        self, resume: str | None, view: SpaceView, algo: Any, name: str, *, has_file: bool
    ) -> RecordedStudy | None:
        """The recorded study that this call goes on with; these trials then hold what was recorded of it."""
        if resume is not None:
            if not getattr(self, "mlflow", False):
                raise ValueError(
                    f"resume={resume!r} reads a study from MLflow, where these {type(self).__name__} record "
                    "nothing: use SparkTrials() or DriverTrials() without mlflow=False"
                )
            if of_hyperopt.documents(self):
                is_of_file = has_file and resume in (resuming.LAST, self.run_id)
                if not is_of_file:
                    raise ValueError(
                        f"resume={resume!r} reads the trials from MLflow, and these {type(self).__name__} "
                        f"hold {len(of_hyperopt.documents(self))} already: give new ones, or leave resume out"
                    )
                # The save file has the same study, and more of it.
                return resuming.of_same(self, view, algo, is_finished_too=resume != resuming.LAST)
            if resume == resuming.LAST:
                found = resuming.find_last(name, view, algo, self)
            else:
                found = resuming.find(resume)
            if found is None:
                return None
            resuming.check(found, view, algo, self)
            resuming.warn_of_name(found.record.name, name, found.run_id)
            resuming.fill(self, found)
        elif self._recorded is not None:
            resuming.check(self._recorded, view, algo, self)
        elif self._unfinished and self._study_id and getattr(self, "mlflow", False):
            return resuming.of_file(self)
        elif self._is_cut_off and getattr(self, "mlflow", False):
            return resuming.of_same(self, view, algo)
        recorded, self._recorded = self._recorded, None
        return recorded

    @classmethod
    def from_mlflow(cls, run_id: str, **options: Any) -> Self:
        """The trials of a study that MLflow has recorded; nothing else is needed.

        ``fmin(..., trials=...)`` with them goes on with that study, under the same parent run. What is
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
        record = study.record
        trials = cls(**{"metric": record.metric, "goal": record.goal, **options})
        resuming.fill(trials, study)
        trials.refresh()
        return trials


# -- before the first trial ----------------------------------------------------------------------------


def _adopt_saved(trials: StudyTrials, path: Any, view: SpaceView, name: str) -> bool:
    """Go on from a save file when the trials object given is empty, or the beginning of what is in it.

    Returns:
        Whether it does.
    """
    saved = savefile.read(path)
    if saved is None or saved is trials:
        return False
    n_saved, n_given = (len(of_hyperopt.documents(each)) for each in (saved, trials))
    # hyperopt.fmin gives what the file's pickle holds, without the journal behind it.
    is_beginning = trials._saved_by is not None and trials._saved_by == getattr(saved, "_saved_by", None)
    if n_given == 0 or is_beginning:
        trials._adopt(saved)
        _warn_of_another_study(trials, path, view, name)
        return True
    if n_saved > n_given:
        raise SaveFileError(
            f"trials_save_file {str(path)!r} holds {n_saved} trials, more than the {n_given} of the "
            "trials object given, and would be overwritten: pass an empty trials object to go on from "
            "the file, or give another name"
        )
    return False


def _warn_of_another_study(trials: StudyTrials, path: Any, view: SpaceView, name: str) -> None:
    """Say what a save file's study had that this call has otherwise. Ranges may be changed."""
    differs = [f"the parameter {text}" for text in differences(trials._parameters, signature(view))]
    if trials._study_name not in ("", name):
        differs.append(f"the study was {trials._study_name!r} and is {name!r}")
    if differs and trials._parameters:
        logger.warning(
            "the trials in trials_save_file %r are of another study: %s. They count in this one; if they "
            "should not, give another file",
            str(path),
            "; ".join(differs),
        )


def _points(trials: StudyTrials, domain: Any, view: SpaceView, given: Any, *, again: bool) -> list[Trial]:
    """Queue the user's own points, but those that an earlier call has a result of, or has queued.

    Args:
        trials: what earlier calls have tried.
        domain: of the objective.
        view: of its space.
        given: the points, label -> raw value.
        again: whether points with a result are evaluated once more.
    """
    tried = [points.Tried(trial.config, trial.trial_id, trial.state) for trial in trials._records.values()]
    wanted = points.to_run(map(view.checked_point, given), tried, again=again)
    return [
        trials._enqueue(suggestion.new_document(trial_id, config, view.labels, domain, trials), view)
        for trial_id, config in zip(trials.new_trial_ids(len(wanted)), wanted, strict=True)
    ]


def _info(
    fn: Any,
    algo: Any,
    limit: int | None,
    timeout: Any,
    max_queue_len: int,
    view: SpaceView,
    trials: StudyTrials,
    stream: randomness.SeedStream,
    continues: Continued | None,
) -> StudyInfo:
    return StudyInfo(
        study_id=uuid.uuid4().hex if continues is None else continues.study_id,
        algo=algorithm_name(algo),
        max_evals=limit,
        parallelism=trials.parallelism,
        timeout_s=timeout,
        max_queue_len=max_queue_len,
        space=view.text,
        algo_reason=auto.reason(algo, view.expression),
        metric=trials.metric,
        goal=trials.goal,
        policy=None if trials.early_termination is None else str(trials.early_termination),
        parameters=trials._parameters,
        stream=stream.as_json(),
        n_before=trials._study.counted,
        draws_before=trials._study.draws,
        first_id=trials._study.first_id,
        earlier=tuple(
            study for study in trials._earlier_studies if continues is None or study[1] != continues.study_id
        ),
        warm_start=trials._warm_from,
        used_s=trials._used_s,
        continues=continues,
        objective=objective_name(fn),
    )


def _record_missing(trials: StudyTrials, tracker: Tracker, continues: Continued | None) -> None:
    """Have trials recorded whose end the record of their study lacks: it was written elsewhere."""
    if continues is None and not trials._is_unrecorded:
        return
    trials._is_unrecorded = False
    known = set() if continues is None else {trial.trial_id for trial in continues.trials}
    for trial_id, trial in trials._records.items():
        if trial.state.is_final and trial_id not in known and trial_id >= trials._study.first_id:
            document = trials._by_id[trial_id]
            tracker.launched(trial, document)
            tracker.ended(trial, document)


class _Possession:
    """Notes the parent run once it exists, and ends the study when another driver has taken it over.

    The driver's ``Chore``.
    """

    def __init__(self, trials: StudyTrials, save: savefile.SaveFile | None, tracker: Tracker) -> None:
        self._known, self._save, self._tracker = trials, save, tracker
        self._look_at = 0.0

    def due_in_s(self) -> float | None:
        is_news = self._known.run_id is None and self._tracker.run_id is not None
        return 0.0 if is_news else self._look_at - time.monotonic()

    def do(self) -> None:
        if self._known.run_id is None and self._tracker.run_id is not None:
            self._known.run_id = self._tracker.run_id
            if self._save is not None:
                self._save.renew()
        self._look_at = time.monotonic() + (LOOK_S if self._known.run_id else LOOK_FOR_RUN_S)
        owner = self._tracker.taken_over_by()
        if owner is not None:
            raise StudyTakenOver(
                f"another driver has taken this study over ({owner}); this one has ended, and its trials "
                "that ended are recorded"
            )


LOOK_S, LOOK_FOR_RUN_S = 5.0, 1.0
"""How often it is looked whether another driver has taken the study over; whether the parent run exists."""


def _chores(
    trials: StudyTrials, save: savefile.SaveFile | None, tracker: Tracker, displays: Iterable[Chore]
) -> list[Chore]:
    chores: list[Chore] = [*displays] if save is None else [*displays, save]
    if tracker.study_id:
        chores.append(_Possession(trials, save, tracker))
    return chores


def _poster(backend: Backend) -> Callable[[int, float, int], None]:
    """Takes metrics read in MLflow to the driver's event loop."""

    def post(trial_id: int, value: float, step: int) -> None:
        backend.post(Reported(trial_id, backend.now(), value, step, "mlflow"))

    return post


HOPELESS_AFTER = 20
"""So many trials, or twice the parallelism, that all fail with one exception end a study."""


def _hopeless_after(trials: StudyTrials) -> int | None:
    if trials.max_failures is not None:
        return None
    return max(HOPELESS_AFTER, 2 * (trials._asked_parallelism or 1))


def _warn_of_parallelism(algo: Any, together: int, max_new: int | None) -> None:
    """Say that an algorithm which learns from results will not have any: ``together`` trials run at once."""
    if max_new is not None and 1 < max_new <= together and suggestion.is_adaptive(algo):
        logger.warning(
            "all %d trials run at once (parallelism %d), so %s has no result to learn from and searches at "
            "random: use less parallelism, such as %d, or more trials",
            max_new,
            together,
            algorithm_name(algo),
            max(1, max_new // 4),
        )


# -- during the study ----------------------------------------------------------------------------------


def _informed(trials: StudyTrials, algo: Any) -> warming.Informed | None:
    """The trials together with those of earlier studies, where there are any that the algorithm looks at."""
    if not trials._warm:
        return None
    if not suggestion.is_adaptive(algo):
        logger.warning("warm_start has no effect: %s does not look at results", algorithm_name(algo))
        return None
    return warming.Informed(trials, trials._warm)


def _suggest(
    algo: Any,
    domain: Any,
    trials: StudyTrials,
    view: SpaceView,
    informed: warming.Informed | None,
    seed: Any,
) -> Trial | None:
    new_ids = trials.new_trial_ids(1)
    seen = trials if informed is None else informed.for_algorithm(is_ours=suggestion.is_ours(algo))
    with interrupts.admitted():
        suggested = algo(new_ids, domain, seen, seed)
    if not suggested:
        return None
    if len(suggested) > 1:
        raise ValueError(f"the algorithm was asked for 1 trial and suggested {len(suggested)}")
    trial = trials._enqueue(suggested[0], view, None if trials._stream is None else trials._stream.draws)
    if informed is not None:
        informed.add(trials._by_id[trial.trial_id])
    return trial


def _listeners(
    trials: StudyTrials,
    study: Study,
    tracker: Tracker,
    stopper: observers.EarlyStop | None,
    displays: Iterable[Observer],
) -> list[Observer]:
    """Who hears of an end, in their order, when it is in the documents and in the save file."""
    listening: list[Observer | None] = [observers.Recorder(tracker, trials)]
    if trials.metric != "loss":
        has_policy = trials.early_termination is not None
        listening.append(observers.ResultCheck(trials.metric, trials.goal, study, has_policy=has_policy))
    if trials.early_termination is not None:
        listening.append(observers.MetricCheck(trials.metric, tracker, study))
    listening += [stopper, *displays]
    return [listener for listener in listening if listener is not None]


# -- after the last trial ------------------------------------------------------------------------------


@contextlib.contextmanager
def _concluded(
    trials: StudyTrials,
    study: Study,
    tracker: Tracker,
    save: savefile.SaveFile | None,
    reporter: reports.Reporter,
    began: float,
) -> Iterator[None]:
    """Whatever ends the study: bring documents, save file and MLflow to its end."""
    error = None
    try:
        yield
        familiar.logger.debug("fmin thread exits normally.")
    except BaseException as raised:
        reason = cut_off_reason(raised)
        if reason is None:
            error = f"{type(raised).__name__}: {raised}"
        else:
            study.stop(reason)
        raise
    finally:
        try:
            with interrupts.held():
                _settle(trials, study, tracker, save)
        finally:
            _record_end(trials, study, tracker, error, save, reporter)
            if study.stop_reason in CUT_OFF:
                lines = summary.lines(study.best, trials, time.monotonic() - began, tracker.link())
                logger.warning("%s", "; ".join([*lines, summary.how_to_go_on(trials)]))


def _settle(trials: StudyTrials, study: Study, tracker: Tracker, save: savefile.SaveFile | None) -> None:
    """Bring the documents, the record and the save file to the end of the study."""
    revised = study.conclude(trials._study.first_id)
    for trial in study.trials:
        # Ctrl-C may have come between the study's word and the document.
        if trials._records.get(trial.trial_id) is not trial and trial.trial_id in trials._by_id:
            trials.changed(trial)
    for before, trial in revised:
        tracker.revised(before, trial, dict(trials._by_id[trial.trial_id]))
    trials.refresh()
    trials.share_saved = study.share_saved()
    reason = trials._fmin_cancelled_reason = study.stop_reason
    if reason is not None:
        familiar.logger.warning("fmin cancelled because of %s", reason)
        familiar.logger.warning("fmin is cancelled, so new trials will not be launched.")
    if save is not None:
        save.keep()


def _record_end(
    trials: StudyTrials,
    study: Study,
    tracker: Tracker,
    error: str | None,
    save: savefile.SaveFile | None,
    reporter: reports.Reporter,
) -> None:
    """End the study in MLflow, in the save file and in the log."""
    try:
        tracker.finish(
            StudySummary(
                trials=study.trials,
                best=study.best,
                stop_reason=study.stop_reason,
                error=error,
                share_saved=trials.share_saved,
                report=reporter.final(),
                best_point=points.of_best(study.best, trials._space),
            )
        )
    finally:
        trials.run_id = tracker.run_id
        if tracker.run_id is not None:
            trials._remember_study(tracker.run_id, tracker.study_id)
        trials._note_runs(tracker.run_ids())
        trials._unfinished = False
        trials._is_cut_off = error is not None or study.stop_reason in CUT_OFF
        if save is not None:
            save.finish(anew=True)
    familiar.logger.info("Total Trials: %s.", words.counted(trials.counts()))


def _answer(trials: StudyTrials, study: Study, space: Any, return_argmin: bool) -> Any:
    if study.best is None:
        if not return_argmin and len(trials) == 0:
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
