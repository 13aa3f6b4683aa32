"""One ``fmin`` call on sparktune's trials: check, set up, run the driver, hand back the result."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import numbers
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import hyperopt
from hyperopt.base import JOB_STATE_DONE, validate_loss_threshold, validate_timeout

from sparktune import documents, progress, randomness, savefile
from sparktune.backends.base import Backend, Reported
from sparktune.distributions import as_space
from sparktune.driver import Driver
from sparktune.errors import AllTrialsFailed, SaveFileError
from sparktune.objective import Objective
from sparktune.search import compiling, tpe
from sparktune.space import SpaceView
from sparktune.study import Study
from sparktune.tracking.base import StudyInfo, StudySummary, Tracker
from sparktune.trial import Trial, TrialState

if TYPE_CHECKING:
    from sparktune.trials import StudyTrials

logger = logging.getLogger("sparktune")
# Lines that unattended jobs look for in their logs, under the name they know.
familiar = logging.getLogger("hyperopt-spark")

SILENT_TRIALS = 3
"""After so many trials without a report it is said that the policy has nothing to act on."""
NOTHING_TO_RETURN = "There are no evaluation tasks, cannot return argmin of task losses."


def run_study(
    trials: StudyTrials,
    fn: Callable[..., Any],
    space: Any,
    *,
    algo: Any = None,
    max_evals: Any = None,
    timeout: Any = None,
    loss_threshold: Any = None,
    max_queue_len: Any = 1,
    rstate: Any = None,
    verbose: bool = True,
    pass_expr_memo_ctrl: bool | None = None,
    catch_eval_exceptions: bool = False,
    return_argmin: bool = True,
    show_progressbar: Any = True,
    early_stop_fn: Any = None,
    trials_save_file: Any = "",
    points_to_evaluate: Any = None,
) -> Any:
    """See ``sparktune.fmin``."""
    del catch_eval_exceptions  # an exception in an objective fails its own trial, with True and False alike
    began = time.monotonic()
    limit = _checked_max_evals(max_evals)
    _check_arguments(fn, timeout, loss_threshold, max_queue_len, early_stop_fn, points_to_evaluate)
    algo = algo or tpe.suggest
    if trials.timeout is not None and timeout is not None:
        logger.warning("the timeout of %s goes before that of fmin", type(trials).__name__)
    timeout = timeout if trials.timeout is None else trials.timeout
    loss_threshold = trials.loss_threshold if loss_threshold is None else loss_threshold
    with trials._claimed(), _interrupts_raise():
        space = as_space(space)
        compiling.check(hyperopt.pyll.as_apply(space))
        domain = hyperopt.Domain(fn, space, pass_expr_memo_ctrl=pass_expr_memo_ctrl)
        view = SpaceView(domain.expr)
        if trials_save_file:
            _adopt_saved(trials, trials_save_file)
        rng, began_with = randomness.continued(rstate, trials._rng, trials._rng_began_with)
        earlier, queued = trials._join(view)
        # As in hyperopt, the user's own points come on top of max_evals; trials of earlier calls count.
        n_before = len(trials)
        queued += _points(trials, domain, view, points_to_evaluate or [])
        save = savefile.SaveFile(trials_save_file, trials) if trials_save_file else None
        stopper = _EarlyStop(early_stop_fn, trials) if early_stop_fn is not None else None
        study = Study(
            functools.partial(_suggest, algo, domain, trials, view),
            rng,
            max_new=None if limit is None else max(0, limit - n_before),
            queued=queued,
            earlier=earlier,
            loss_threshold=loss_threshold,
            max_queue_len=int(max_queue_len),
            should_stop=stopper,
            policy=trials.early_termination,
            goal=trials.goal,
            metric=trials.metric,
        )
        trials._fmin_cancelled, trials._fmin_cancelled_reason = False, None
        low_level = bool(domain.pass_expr_memo_ctrl)
        objective = Objective(domain.fn, domain.expr, low_level, trials.metric, trials.goal)
        backend = trials._backend(objective)
        try:
            tracker = trials._tracker()
            trials._rng, trials._rng_began_with = rng, began_with
            spent = time.monotonic() - began if trials._keeps_real_time else 0.0
            deadline = None if timeout is None else backend.now() + max(0.0, timeout - spent)
            parallelism = trials.parallelism
            _warn_of_slots(trials, parallelism, backend.slots())
            tracker.begin(_info(algo, limit, parallelism, timeout, max_queue_len, view, trials))
            if trials.early_termination is not None:
                tracker.watch(trials.watch_interval, _poster(backend))
            trials.run_id = tracker.run_id
        except BaseException:
            backend.close()
            raise
        failure: BaseException | None = None
        try:
            with progress.reporter(show_progressbar, verbose)(
                sum(trial.state.is_final for trial in earlier), sys.maxsize if limit is None else limit
            ) as context:
                observers: list[Any] = [trials, _Recorder(tracker, trials)]
                if trials.early_termination is not None:
                    observers.append(_MetricCheck(trials.metric, tracker, study))
                observers += [observer for observer in (save, stopper) if observer is not None]
                observers.append(_Progress(context, study))
                Driver(
                    study,
                    backend,
                    tracker,
                    observers=observers,
                    parallelism=_asked(trials),
                    deadline_s=deadline,
                    trial_timeout_s=trials.trial_timeout,
                ).run()
        except BaseException as error:
            failure = error
            raise
        finally:
            _conclude(trials, study, tracker, save, failure)
    return _answer(trials, study, space, return_argmin)


# -- before the first trial ----------------------------------------------------------------------------


def _checked_max_evals(max_evals: Any) -> int | None:
    if max_evals is None or max_evals == sys.maxsize or max_evals == math.inf:
        return None
    is_number = isinstance(max_evals, numbers.Real) and not isinstance(max_evals, bool)
    if not is_number or not float(max_evals).is_integer():
        raise TypeError(f"max_evals is {max_evals!r}; it must be a whole number, or None for no limit")
    if max_evals < 0:
        raise ValueError(f"max_evals is {max_evals}; it must be at least 0")
    return int(max_evals)


def _check_arguments(
    fn: Any, timeout: Any, loss_threshold: Any, max_queue_len: Any, early_stop_fn: Any, points: Any
) -> None:
    validate_timeout(timeout)
    validate_loss_threshold(loss_threshold)
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; it must be a function of one point of the search space")
    if (
        isinstance(max_queue_len, bool)
        or not isinstance(max_queue_len, numbers.Integral)
        or max_queue_len < 1
    ):
        raise ValueError(f"max_queue_len is {max_queue_len!r}; it must be a whole number, at least 1")
    if early_stop_fn is not None and not callable(early_stop_fn):
        raise TypeError(
            f"early_stop_fn is {early_stop_fn!r}; it must be a function (trials, *args) -> (stop, args)"
        )
    if points is not None and not isinstance(points, list | tuple):
        raise TypeError(f"points_to_evaluate is {points!r}; it must be a list of dicts of label -> value")


def _adopt_saved(trials: StudyTrials, path: Any) -> None:
    """Go on from a save file when the trials object given is empty."""
    saved = savefile.read(path)
    if saved is None or saved is trials:
        return
    n_saved, n_given = len(saved._dynamic_trials), len(trials._dynamic_trials)
    if n_given == 0:
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
    queued: list[Trial] = []
    checked = [config for config in map(view.checked_point, points) if config not in known]
    ids = trials.new_trial_ids(len(checked))
    for trial_id, config in zip(ids, checked, strict=True):
        misc = {
            "tid": trial_id,
            "cmd": domain.cmd,
            "workdir": domain.workdir,
            "idxs": {label: [trial_id] if label in config else [] for label in view.labels},
            "vals": {label: [config[label]] if label in config else [] for label in view.labels},
        }
        new = trials.new_trial_docs([trial_id], [None], [domain.new_result()], [misc])
        trial = documents.queued_trial(trials._add_suggested(new)[0], view)
        trials._records[trial_id] = trial
        queued.append(trial)
    return queued


def _asked(trials: StudyTrials) -> int | None:
    """The parallelism that the user asked for; None for every slot there is, also those that join later."""
    asked = trials.user_specified_parallelism
    return asked if asked is not None and asked > 0 else None


def _warn_of_slots(trials: StudyTrials, parallelism: int, slots: int) -> None:
    if parallelism > slots and not trials._warned_of_slots:
        trials._warned_of_slots = True
        logger.warning(
            "parallelism is %d, but Spark has %d slots now: %d trials run at a time until slots join",
            parallelism,
            slots,
            slots,
        )


def _info(
    algo: Any,
    limit: int | None,
    parallelism: int,
    timeout: Any,
    max_queue_len: int,
    view: SpaceView,
    trials: StudyTrials,
) -> StudyInfo:
    while isinstance(algo, functools.partial):
        algo = algo.func
    name = f"{getattr(algo, '__module__', '')}.{getattr(algo, '__qualname__', type(algo).__name__)}"
    return StudyInfo(
        study_id=uuid.uuid4().hex,
        algo=name.removeprefix("."),
        max_evals=limit,
        parallelism=parallelism,
        timeout_s=timeout,
        max_queue_len=max_queue_len,
        space=str(view.expression),
        labels=view.labels,
        metric=trials.metric,
        goal=trials.goal,
        policy=None if trials.early_termination is None else str(trials.early_termination),
    )


def _poster(backend: Backend) -> Callable[[int, float, int], None]:
    """Takes metrics read in MLflow to the driver's event loop."""

    def post(trial_id: int, value: float, step: int) -> None:
        backend.post(Reported(trial_id, backend.now(), value, step, "mlflow"))

    return post


# -- during the study ----------------------------------------------------------------------------------


def _suggest(algo: Any, domain: Any, trials: StudyTrials, view: SpaceView, seed: Any) -> Trial | None:
    new_ids = trials.new_trial_ids(1)
    suggested = algo(new_ids, domain, trials, seed)
    if not suggested:
        return None
    if len(suggested) > 1:
        raise ValueError(f"the algorithm was asked for 1 trial and suggested {len(suggested)}")
    trial = documents.queued_trial(trials._add_suggested(suggested)[0], view)
    trials._records[trial.trial_id] = trial
    return trial


class _Recorder:
    """Tells the tracker of trials that ended."""

    def __init__(self, tracker: Tracker, trials: StudyTrials) -> None:
        self._tracker, self._trials = tracker, trials

    def changed(self, trial: Trial) -> None:
        if trial.state.is_final:
            self._tracker.ended(trial, dict(self._trials._by_id[trial.trial_id]))


class _MetricCheck:
    """Says aloud, once, that the metric a policy waits for never appears."""

    def __init__(self, metric: str, tracker: Tracker, study: Study) -> None:
        self._metric, self._tracker, self._study = metric, tracker, study
        self._names: set[str] = set()
        self._n_ended = 0

    def changed(self, trial: Trial) -> None:
        if not trial.state.is_final or self._study.curves or self._n_ended >= SILENT_TRIALS:
            return
        self._n_ended += 1
        numeric = {str(key) for key, value in (trial.result or {}).items() if isinstance(value, numbers.Real)}
        self._names |= numeric
        if self._n_ended == SILENT_TRIALS:
            seen = sorted(self._names | self._tracker.watched_names())
            logger.warning(
                "%d trials have ended, and none told the metric %r while it ran, so early termination "
                "cannot act: call sparktune.report(value) or mlflow.log_metric(%r, value, step) in the "
                "objective, or name another with SparkTrials(metric=...). Metrics seen: %s",
                SILENT_TRIALS,
                self._metric,
                self._metric,
                ", ".join(seen) or "none",
            )


class _EarlyStop:
    """Calls the user's ``early_stop_fn`` with the finished trials, the newest last."""

    def __init__(self, early_stop_fn: Any, trials: StudyTrials) -> None:
        self._function = early_stop_fn
        self._trials = trials
        self._view = trials._finished_view()
        self._arguments: Any = []

    def changed(self, trial: Trial) -> None:
        document = self._trials._by_id[trial.trial_id]
        if trial.state.is_final and document["state"] == JOB_STATE_DONE:
            self._view._dynamic_trials.append(document)
            self._view._trials = self._view._dynamic_trials

    def __call__(self, _trial: Trial) -> bool:
        stop, self._arguments = self._function(self._view, *self._arguments)
        return bool(stop)


class _Progress:
    def __init__(self, context: Any, study: Study) -> None:
        self._context, self._study = context, study

    def changed(self, trial: Trial) -> None:
        if trial.state.is_final:
            best = self._study.best
            self._context.postfix = progress.postfix(None if best is None else best.loss, self._study.counts)
            self._context.update(1)


@contextlib.contextmanager
def _interrupts_raise() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, and that alone.

    PySpark's own handler cancels every job of the session first, other people's too.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_pysparks = getattr(handler, "__module__", "") == "pyspark.core.context"
    if not is_pysparks or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


# -- after the last trial ------------------------------------------------------------------------------


def _conclude(
    trials: StudyTrials,
    study: Study,
    tracker: Tracker,
    save: savefile.SaveFile | None,
    failure: BaseException | None,
) -> None:
    for trial in study.trials:
        # Ctrl-C may have come between the study's word and the document.
        if trials._records.get(trial.trial_id) is not trial and trial.trial_id in trials._by_id:
            trials.changed(trial)
    trials.refresh()
    reason = study.stop_reason
    if reason is not None:
        trials._fmin_cancelled, trials._fmin_cancelled_reason = True, reason
        familiar.warning("fmin cancelled because of %s", reason)
        familiar.warning("fmin is cancelled, so new trials will not be launched.")
    if save is not None:
        save.finish()
    error = None
    if failure is not None and not isinstance(failure, KeyboardInterrupt):
        error = f"{type(failure).__name__}: {failure}"
    trials.share_saved = study.share_saved()
    tracker.finish(
        StudySummary(
            trials=study.trials,
            best=study.best,
            stop_reason=reason,
            error=error,
            share_saved=trials.share_saved,
        )
    )
    trials.run_id = tracker.run_id
    if failure is None:
        familiar.debug("fmin thread exits normally.")
    familiar.info(
        "Total Trials: %d: %d succeeded, %d failed, %d cancelled.",
        trials.count_total_trials(),
        trials.count_successful_trials(),
        trials.count_failed_trials(),
        trials.count_cancelled_trials(),
    )
    if trials.share_saved is not None:
        logger.info(
            "%d trials were terminated early, which saved about %.0f %% of the compute.",
            study.counts[TrialState.EARLY_TERMINATED],
            100 * trials.share_saved,
        )


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
    if counts[TrialState.CANCELLED]:
        text += f", {counts[TrialState.CANCELLED]} cancelled ({study.stop_reason})"
    cause = study.commonest_error()
    return f"{text}. The commonest cause ({cause[1]} of {total}): {cause[0]}" if cause else f"{text}."
