"""hyperopt's own ``Trials``, whose trials run in this process, recorded in MLflow as the others are.

hyperopt's loop stays as it is: the objective is wrapped, and the wrapper opens and closes the trial's run.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import hyperopt
from hyperopt.base import JOB_STATE_RUNNING

from sparktune.private import of_hyperopt
from sparktune.search import auto
from sparktune.space.signature import signature
from sparktune.space.view import SpaceView
from sparktune.study import interrupts
from sparktune.study.backend import Failed, Finished
from sparktune.study.cut_off import cut_off_reason
from sparktune.study.ranking import beats
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.spec import StudySpec, algorithm_name, objective_name
from sparktune.study.study import judged
from sparktune.study.tracker import (
    StudyInfo,
    StudySummary,
    Tell,
    Tracker,
    UnrecordableError,
)
from sparktune.study.trial import Trial, TrialError, TrialState
from sparktune.tracking.driver_runs import DriverRuns
from sparktune.trials import arguments, documents, points, reports
from sparktune.worker import reporting, threads
from sparktune.worker.objective import as_result

logger = logging.getLogger("sparktune")


def is_wanted() -> bool:
    """Whether to record: where MLflow has been set up, by code, by the environment, or by Databricks.

    ``Trials()`` are for quick looks too: without a request for MLflow no database appears in the folder.
    A search inside the objective of another study is not recorded either.
    """
    if reporting.is_in_trial():
        return False
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DATABRICKS_RUNTIME_VERSION")
    if any(name in os.environ for name in names):
        return True
    mlflow: Any = sys.modules.get("mlflow")
    if mlflow is None:
        return False
    from sparktune.tracking.location import is_set_up

    return is_set_up()


def is_hyperopts_spark_trials(trials: hyperopt.Trials) -> bool:
    """Whether trials are hyperopt's ``SparkTrials``, which it has where pyspark is installed."""
    kind = getattr(hyperopt, "SparkTrials", None)
    return kind is not None and isinstance(trials, kind)


def can_record(trials: hyperopt.Trials, allow_trials_fmin: bool) -> bool:
    """Whether hyperopt's loop calls the objective in this process, trial after trial; warns once if not.

    A subclass that is asynchronous (``MongoTrials``), or has its own ``fmin``, may run trials elsewhere.

    Args:
        trials: hyperopt's, or of a subclass.
        allow_trials_fmin: of ``fmin``; False has hyperopt's loop run them in any case.
    """
    kind = type(trials)
    if trials.asynchronous:
        why = "are asynchronous: their trials run in other processes"
    elif allow_trials_fmin and kind.fmin is not hyperopt.Trials.fmin:
        why = "have their own fmin; allow_trials_fmin=False uses hyperopt's, which is recorded"
    else:
        return True
    if not is_hyperopts_spark_trials(trials) and kind not in _warned_of:  # fmin has warned of those
        _warned_of.add(kind)
        logger.warning("the trials are not recorded in MLflow, because %s %s", kind.__qualname__, why)
    return False


_warned_of: weakref.WeakSet[type] = weakref.WeakSet()
"""The classes of trials for which the warning that they are not recorded was logged."""


class Recorded:
    """An objective that records its trials.

    Args:
        fn: the user's function.
        view: of its space.
        trials: hyperopt's, in which one trial runs at a time.
        tracker: records.
    """

    def __init__(
        self, fn: Callable[..., Any], view: SpaceView, trials: hyperopt.Trials, tracker: Tracker
    ) -> None:
        self._fn, self._view, self._trials, self._tracker = fn, view, trials, tracker
        functools.update_wrapper(self, fn, updated=())  # its attributes may have the names of ours
        self.best: Trial | None = None
        self.ended: list[Trial] = []
        self._runs = DriverRuns()
        # Of an earlier call with these trials that was interrupted; hyperopt leaves them running.
        self._stale = {d["tid"] for d in of_hyperopt.documents(trials) if d["state"] == JOB_STATE_RUNNING}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; its MLflow calls go to the trial's run."""
        known = of_hyperopt.documents(self._trials)
        running = (d for d in known if d["state"] == JOB_STATE_RUNNING and d["tid"] not in self._stale)
        document = next(running, None)
        if document is None:
            return self._fn(*args, **kwargs)
        began_s = time.time()
        trial = documents.queued_trial(document, self._view).to(
            TrialState.RUNNING, attempts=1, submitted_s=began_s, started_s=began_s
        )
        trial_id = trial.trial_id
        self._tracker.launched(trial)
        context = self._tracker.run_context(trial_id)
        try:
            with self._runs.trial(context, functools.partial(self._ask, trial_id)), threads.inherited():
                returned = self._fn(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, Exception):
                end = Failed(trial_id, time.time(), TrialError.of(error), time.time() - began_s)
                self._end(
                    trial.to(TrialState.FAILED, error=end.error, ended_s=end.at_s, duration_s=end.duration_s)
                )
            else:
                reason = cut_off_reason(error) or type(error).__name__
                self._end(trial.to(TrialState.CANCELLED, stop_reason=reason))
            raise
        with contextlib.suppress(Exception):  # hyperopt refuses an invalid result
            result = {key: value for key, value in as_result(returned).items() if key != "attachments"}
            self._end(
                judged(trial, Finished(trial_id, time.time(), result, duration_s=time.time() - began_s))
            )
        return returned

    def _ask(self, trial_id: int, tell: Tell) -> None:
        self._tracker.ask_run(trial_id, tell, hurry=True)

    def _end(self, trial: Trial) -> None:
        self.ended.append(trial)
        if beats(trial, self.best):
            self.best = trial
        document = next(d for d in of_hyperopt.documents(self._trials) if d["tid"] == trial.trial_id)
        self._stale.add(trial.trial_id)
        self._tracker.ended(trial, {**document, "result": dict(trial.result or {})})


@contextlib.contextmanager
def recorded(
    fn: Callable[..., Any], view: SpaceView, trials: hyperopt.Trials, algo: Any, options: dict[str, Any]
) -> Iterator[Callable[..., Any]]:
    """The objective of one ``fmin`` call, recorded as a study.

    Args:
        fn: the user's function.
        view: of its space.
        trials: hyperopt's.
        algo: the suggest function.
        options: of ``hyperopt.fmin``.
    """
    from sparktune.tracking.tracker import MlflowTracker

    tracker = MlflowTracker()
    spec = StudySpec(
        objective=objective_name(fn),
        algo=algorithm_name(algo),
        parameters=signature(view),
        max_evals=options["max_evals"],
        timeout_s=arguments.limit_of(options["timeout"]),
    )
    info = StudyInfo(
        study_id=uuid.uuid4().hex,
        spec=spec,
        max_queue_len=options["max_queue_len"],
        space=view.text,
        algo_reason=auto.reason(algo, view.expression),
    )
    try:
        tracker.begin(info)
    except UnrecordableError as error:  # hyperopt's own trials run without MLflow, too
        logger.warning("the study is not recorded: %s", error)
        yield fn
        return
    objective = Recorded(fn, view, trials, tracker)
    reporter = reports.Reporter(
        lambda: StudySnapshot(
            list(objective.ended),
            algo=spec.algo,
            parameters=spec.parameters,
            name=spec.objective,
            stop_reason=stopped,
        ),
        tracker,
    )
    problem: str | None = None
    stopped: str | None = None
    with interrupts.raised():
        try:
            yield objective
        except BaseException as error:
            stopped = cut_off_reason(error)
            problem = None if stopped else f"{type(error).__name__}: {error}"
            raise
        finally:
            tracker.finish(
                StudySummary(
                    objective.ended,
                    objective.best,
                    stopped,
                    problem,
                    report=reporter.final(),
                    best_point=points.of_best(objective.best, view.expression),
                )
            )
            run_ids = tracker.run_ids()
            objective.ended = [
                replace(trial, run_id=run_ids.get(trial.trial_id)) for trial in objective.ended
            ]
            for document in of_hyperopt.documents(trials):
                if document["tid"] in run_ids:
                    document["misc"]["run_id"] = run_ids[document["tid"]]
