"""``fmin`` on sparktune's trials: check, set up, run the driver, hand back the result."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import hyperopt

from sparktune.errors import AllTrialsFailed, SaveFileError
from sparktune.private import of_hyperopt
from sparktune.search import suggestion, tpe
from sparktune.space import compiling
from sparktune.space.distributions import as_space
from sparktune.space.view import SpaceView
from sparktune.study import interrupts, progress, randomness
from sparktune.study.backend import Backend, Reported
from sparktune.study.driver import Driver, Observer
from sparktune.study.study import INTERRUPTED, Study
from sparktune.study.tracker import StudyInfo, StudySummary, Tracker, algorithm_name
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import arguments, observers, savefile, summary
from sparktune.trials.base import StudyTrials
from sparktune.worker.objective import Objective

logger = logging.getLogger("sparktune")
# Lines that unattended jobs look for in their logs, under the name they know.
familiar = logging.getLogger("hyperopt-spark")

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
    ) -> Any:
        """Run a study on these trials; ``hyperopt.fmin(trials=...)`` calls it. See ``sparktune.fmin``."""
        # With True and False alike an exception in an objective fails its own trial.
        del catch_eval_exceptions
        began = time.monotonic()
        limit = arguments.checked_max_evals(max_evals)
        arguments.check_fmin(
            fn, algo, timeout, loss_threshold, max_queue_len, early_stop_fn, points_to_evaluate
        )
        algo = algo or tpe.suggest
        if self.timeout is not None:
            if timeout is not None:
                logger.warning("the timeout of %s goes before that of fmin", type(self).__name__)
            timeout = self.timeout
        with interrupts.raised(), self._claimed(), savefile.opened(trials_save_file, self) as save:
            space = as_space(space)
            compiling.check(hyperopt.pyll.as_apply(space))
            domain = hyperopt.Domain(fn, space, pass_expr_memo_ctrl=pass_expr_memo_ctrl)
            if not domain.pass_expr_memo_ctrl:
                arguments.check_objective(fn)
            view = SpaceView(domain.expr)
            if save is not None:
                _adopt_saved(self, save.path)
            before_s = self._used_s if self._unfinished else 0.0
            stream = randomness.continued(rstate, self._stream)
            earlier, queued = self._join(view)
            # As in hyperopt, the user's own points come on top of max_evals; trials of earlier calls count.
            max_new = None if limit is None else max(0, limit - len(self))
            queued += _points(self, domain, view, points_to_evaluate or [])
            stopper = observers.EarlyStop(early_stop_fn, self) if early_stop_fn is not None else None
            study = Study(
                functools.partial(_suggest, algo, domain, self, view),
                stream,
                max_new=max_new,
                queued=queued,
                earlier=earlier,
                loss_threshold=self.loss_threshold if loss_threshold is None else loss_threshold,
                max_queue_len=int(max_queue_len),
                should_stop=stopper,
                policy=self.early_termination,
                goal=self.goal,
                metric=self.metric,
                max_failures=self.max_failures,
                hopeless_after=_hopeless_after(self),
            )
            self._fmin_cancelled_reason = self.elapsed_s = None
            low_level = bool(domain.pass_expr_memo_ctrl)
            objective = Objective(domain.fn, domain.expr, low_level, self.metric, self.goal)
            with contextlib.ExitStack() as stack:
                with interrupts.held():
                    backend = stack.enter_context(contextlib.closing(self._backend(objective)))
                    tracker = self._tracker()
                    stack.enter_context(_concluded(self, study, tracker, save))
                    self._stream = stream
                    self._unfinished, self._used_s, self._saved_by = True, before_s, None
                    spent_s = time.monotonic() - began if self._keeps_real_time else 0.0
                    began_s = backend.now() - spent_s
                    if save is not None:
                        save.begin(lambda: before_s + backend.now() - began_s)
                    self._warn_of_slots(backend.slots())
                    _warn_of_parallelism(algo, self._asked_parallelism, backend.slots(), max_new)
                    tracker.begin(_info(algo, limit, timeout, max_queue_len, view, self))
                    if self.early_termination is not None:
                        tracker.watch(self.watch_interval, _poster(backend))
                    self.run_id = tracker.run_id
                n_earlier = sum(trial.state.is_final for trial in earlier)
                total = sys.maxsize if limit is None else limit
                bar = stack.enter_context(progress.reporter(show_progressbar, verbose)(n_earlier, total))
                Driver(
                    study,
                    backend,
                    tracker,
                    observers=[self] if save is None else [self, save],
                    keeper=save,
                    listeners=_listeners(self, study, tracker, stopper, bar),
                    chores=[save] if save is not None else [],
                    parallelism=self._asked_parallelism,
                    deadline_s=None if timeout is None else began_s + max(timeout - before_s, spent_s),
                    trial_timeout_s=self.trial_timeout,
                    seed_of=randomness.seeds(stream.began_with),
                ).run()
                self.elapsed_s = backend.now() - began_s
            lines = summary.lines(study.best, self, time.monotonic() - began, tracker.link())
            for line in lines:
                logger.info("%s", line)
            if show_progressbar and verbose and progress.someone_watches():
                print("\n".join(lines), file=sys.stderr)
        return _answer(self, study, space, return_argmin)


# -- before the first trial ----------------------------------------------------------------------------


def _adopt_saved(trials: StudyTrials, path: Any) -> None:
    """Go on from a save file when the trials object given is empty, or the beginning of what is in it."""
    saved = savefile.read(path)
    if saved is None or saved is trials:
        return
    n_saved, n_given = (len(of_hyperopt.documents(each)) for each in (saved, trials))
    # hyperopt.fmin gives what the file's pickle holds, without the journal behind it.
    is_beginning = trials._saved_by is not None and trials._saved_by == getattr(saved, "_saved_by", None)
    if n_given == 0 or is_beginning:
        trials._adopt(saved)
    elif n_saved > n_given:
        raise SaveFileError(
            f"trials_save_file {str(path)!r} holds {n_saved} trials, more than the {n_given} of the "
            "trials object given, and would be overwritten: pass an empty trials object to go on from "
            "the file, or give another name"
        )


def _points(trials: StudyTrials, domain: Any, view: SpaceView, points: Any) -> list[Trial]:
    """Queue the user's own points, but those that an earlier call has evaluated."""
    known = [dict(trial.config) for trial in trials._records.values()]
    checked = [config for config in map(view.checked_point, points) if config not in known]
    return [
        trials._enqueue(suggestion.new_document(trial_id, config, view.labels, domain, trials), view)
        for trial_id, config in zip(trials.new_trial_ids(len(checked)), checked, strict=True)
    ]


def _info(
    algo: Any,
    limit: int | None,
    timeout: Any,
    max_queue_len: int,
    view: SpaceView,
    trials: StudyTrials,
) -> StudyInfo:
    return StudyInfo(
        study_id=uuid.uuid4().hex,
        algo=algorithm_name(algo),
        max_evals=limit,
        parallelism=trials.parallelism,
        timeout_s=timeout,
        max_queue_len=max_queue_len,
        space=str(view.expression),
        metric=trials.metric,
        goal=trials.goal,
        policy=None if trials.early_termination is None else str(trials.early_termination),
    )


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


def _warn_of_parallelism(algo: Any, asked: int | None, slots: int, max_new: int | None) -> None:
    """Say that an algorithm which learns from results will not have any."""
    together = slots if asked is None else min(asked, slots)
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


def _suggest(algo: Any, domain: Any, trials: StudyTrials, view: SpaceView, seed: Any) -> Trial | None:
    new_ids = trials.new_trial_ids(1)
    suggested = algo(new_ids, domain, trials, seed)
    if not suggested:
        return None
    if len(suggested) > 1:
        raise ValueError(f"the algorithm was asked for 1 trial and suggested {len(suggested)}")
    return trials._enqueue(suggested[0], view)


def _listeners(
    trials: StudyTrials,
    study: Study,
    tracker: Tracker,
    stopper: observers.EarlyStop | None,
    bar: Any,
) -> list[Observer]:
    """Who hears of an end, in their order, when it is in the documents and in the save file."""
    listening: list[Observer | None] = [observers.Recorder(tracker, trials)]
    if trials.early_termination is not None:
        listening.append(observers.MetricCheck(trials.metric, tracker, study))
    listening += [stopper, observers.Progress(bar, study)]
    return [listener for listener in listening if listener is not None]


# -- after the last trial ------------------------------------------------------------------------------


@contextlib.contextmanager
def _concluded(
    trials: StudyTrials, study: Study, tracker: Tracker, save: savefile.SaveFile | None
) -> Iterator[None]:
    """Whatever ends the study: bring documents, save file and MLflow to its end."""
    error = None
    try:
        yield
        familiar.debug("fmin thread exits normally.")
    except KeyboardInterrupt:
        study.stop(INTERRUPTED)
        raise
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        try:
            with interrupts.held():
                _settle(trials, study, save)
        finally:
            _record_end(trials, study, tracker, error, save)


def _settle(trials: StudyTrials, study: Study, save: savefile.SaveFile | None) -> None:
    """Bring the documents and the save file to the end of the study."""
    study.conclude()
    for trial in study.trials:
        # Ctrl-C may have come between the study's word and the document.
        if trials._records.get(trial.trial_id) is not trial and trial.trial_id in trials._by_id:
            trials.changed(trial)
    trials.refresh()
    trials.share_saved = study.share_saved()
    reason = trials._fmin_cancelled_reason = study.stop_reason
    if reason is not None:
        familiar.warning("fmin cancelled because of %s", reason)
        familiar.warning("fmin is cancelled, so new trials will not be launched.")
    trials._unfinished = False
    if save is not None:
        save.finish()


def _record_end(
    trials: StudyTrials, study: Study, tracker: Tracker, error: str | None, save: savefile.SaveFile | None
) -> None:
    """End the study in MLflow and in the log."""
    tracker.finish(
        StudySummary(
            trials=study.trials,
            best=study.best,
            stop_reason=study.stop_reason,
            error=error,
            share_saved=trials.share_saved,
        )
    )
    trials.run_id = tracker.run_id
    if trials._note_runs(tracker.run_ids()) and save is not None:
        save.finish(anew=True)
    familiar.info("Total Trials: %s.", summary.counted(trials.counts()))


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
