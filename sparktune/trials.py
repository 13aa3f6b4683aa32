"""``SparkTrials``: hyperopt's ``Trials`` whose trials are Spark tasks.

``StudyTrials`` holds what does not depend on where trials run: the documents, their records, going on where
an earlier call stopped. ``SparkTrials`` adds Spark, ``SimulatedTrials`` the simulation.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import numbers
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import hyperopt
from hyperopt.base import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
    JOB_VALID_STATES,
    validate_loss_threshold,
    validate_timeout,
)

from sparktune import documents, session
from sparktune.backends.base import Backend
from sparktune.backends.simulated import SimulatedBackend, one_second
from sparktune.early_termination.base import EarlyTerminationPolicy, Goal
from sparktune.errors import SparkNotAvailable, StudyInProgress
from sparktune.objective import Objective
from sparktune.space import SpaceView
from sparktune.tracking.base import NullTracker, Tracker
from sparktune.trial import Trial

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

logger = logging.getLogger("sparktune")

COLUMNS = ("trial", "state", "loss", "duration_s", "attempts", "steps", "error")
"""The columns of ``to_dataframe`` before those of the parameters."""


class StudyTrials(hyperopt.Trials):  # type: ignore[misc]
    """Trials that sparktune's driver runs; the base of ``SparkTrials``.

    Args:
        parallelism: the most trials to run at once, or None for as many as the backend has slots.
        timeout: seconds that one ``fmin`` call may take, or None.
        loss_threshold: stop when the best loss is at or below it, or None.
        metric: the primary metric: the name of what objectives report or log, and of the entry of the result
            that gives the loss where it has none.
        goal: what is good in it; to be maximized, the loss is its negative.
        early_termination: a policy that ends weak trials while they run, or None.
        trial_timeout: seconds that one trial's objective may run, from its true beginning, or None.

    Raises:
        Exception: ``timeout`` or ``loss_threshold`` is invalid (hyperopt's messages).
        TypeError: ``parallelism`` is not a whole number, ``early_termination`` is no policy.
        ValueError: ``metric``, ``goal`` or ``trial_timeout`` is invalid.
    """

    asynchronous = True
    _keeps_real_time = True
    watch_interval = 5.0

    def __init__(
        self,
        parallelism: int | None = None,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        *,
        metric: str = "loss",
        goal: Goal = "minimize",
        early_termination: EarlyTerminationPolicy | None = None,
        trial_timeout: float | None = None,
    ) -> None:
        validate_timeout(timeout)
        validate_loss_threshold(loss_threshold)
        if parallelism is not None and (
            isinstance(parallelism, bool) or not isinstance(parallelism, numbers.Integral)
        ):
            raise TypeError(
                f"parallelism is {parallelism!r}; it must be a whole number, or None for every slot there is"
            )
        _check_metric(metric, goal)
        _check_ends(early_termination, trial_timeout)
        self.metric = metric
        self.goal: Goal = goal
        self.early_termination = early_termination
        self.trial_timeout = trial_timeout
        self._reset()
        super().__init__(exp_key=None, refresh=False)
        self.user_specified_parallelism: int | None = parallelism
        self.timeout = timeout
        self.loss_threshold = loss_threshold
        self.refresh()

    def __str__(self) -> str:
        return f"{type(self).__name__}(trials={self.trials})"

    def _reset(self) -> None:
        self._records: dict[int, Trial] = {}
        self._by_id: dict[int, documents.Document] = {}
        self._rng: Any = None
        self._rng_began_with: Any = None
        self._fmin_cancelled = False
        self._fmin_cancelled_reason: str | None = None
        self._warned_of_slots = False
        self._in_use = threading.Lock()
        self.run_id: str | None = None
        """The MLflow parent run of the latest ``fmin`` call, or None."""
        self.share_saved: float | None = None
        """The share of compute that early termination saved in the latest call, judged by the reports."""

    # -- where trials run ------------------------------------------------------------------------------

    def _backend(self, objective: Objective) -> Backend:
        raise NotImplementedError

    def _tracker(self) -> Tracker:
        return NullTracker()

    def _slots_now(self) -> int:
        raise NotImplementedError

    @property
    def parallelism(self) -> int:
        """The most trials that will run at once: as asked for, or as many as there are slots now."""
        asked = self.user_specified_parallelism
        return asked if asked is not None and asked > 0 else max(1, self._slots_now())

    @parallelism.setter
    def parallelism(self, value: int | None) -> None:
        self.user_specified_parallelism = value

    @property
    def best_trial(self) -> documents.Document:
        """The document of the best trial: lowest loss, terminated early only where nothing completed.

        Raises:
            hyperopt.exceptions.AllTrialsFailed: there is none.
        """
        whole = [d for d in self.trials if "early_terminated" not in d["misc"]]
        view = hyperopt.Trials()
        view._trials = whole
        try:
            best: documents.Document = view.best_trial
        except hyperopt.exceptions.AllTrialsFailed:
            best = super().best_trial
        return best

    # -- what people ask -------------------------------------------------------------------------------

    @property
    def fmin_cancelled_reason(self) -> str | None:
        """Why the latest ``fmin`` call stopped before its ``max_evals``, or None."""
        return self._fmin_cancelled_reason

    @property
    def best_params(self) -> dict[str, Any]:
        """Label -> value of the best trial: values as the objective received them, not indices.

        Raises:
            AllTrialsFailed: no trial completed.
        """
        return dict(self._records[self.best_trial["tid"]].params)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for every trial, failed and cancelled ones too.

        Returns:
            Columns ``trial``, ``state``, ``loss``, ``duration_s`` (seconds in the objective), ``attempts``,
            ``steps`` (reports seen), ``error`` (one line), then one per parameter by its label, holding the
            values that the objective received, and missing where the parameter was not active.
        """
        import pandas as pd

        labels = list(dict.fromkeys(label for trial in self._records.values() for label in trial.params))
        rows = [
            (
                trial.trial_id,
                trial.state.value,
                trial.loss,
                trial.duration_s,
                trial.attempts,
                trial.steps,
                None if trial.error is None else trial.error.summary,
                *(trial.params.get(label) for label in labels),
            )
            for trial in self._records.values()
        ]
        # A parameter may be called like a column of ours: each keeps its place, pandas allows both.
        frame = pd.DataFrame.from_records(rows, columns=[*COLUMNS, *labels])
        for column in ("loss", "duration_s"):
            frame.isetitem(COLUMNS.index(column), pd.to_numeric(frame.iloc[:, COLUMNS.index(column)]))
        return frame

    def count_successful_trials(self) -> int:
        """How many trials returned a result (also one with status fail, as hyperopt counts)."""
        return int(self.count_by_state_unsynced(JOB_STATE_DONE))

    def count_failed_trials(self) -> int:
        """How many trials failed."""
        return int(self.count_by_state_unsynced(JOB_STATE_ERROR))

    def count_cancelled_trials(self) -> int:
        """How many trials were cancelled."""
        return int(self.count_by_state_unsynced(JOB_STATE_CANCEL))

    def count_total_trials(self) -> int:
        """How many trials have ended."""
        return int(self.count_by_state_unsynced([JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_CANCEL]))

    def delete_all(self) -> None:
        """Forget every trial and begin anew, with a new random stream."""
        self._reset()
        super().delete_all()

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
        from sparktune.run import run_study

        return run_study(
            self,
            fn,
            space,
            algo=algo,
            max_evals=max_evals,
            timeout=timeout,
            loss_threshold=loss_threshold,
            max_queue_len=max_queue_len,
            rstate=rstate,
            verbose=verbose,
            pass_expr_memo_ctrl=pass_expr_memo_ctrl,
            catch_eval_exceptions=catch_eval_exceptions,
            return_argmin=return_argmin,
            show_progressbar=show_progressbar,
            early_stop_fn=early_stop_fn,
            trials_save_file=trials_save_file,
            points_to_evaluate=points_to_evaluate,
        )

    # -- the driver's side: records and documents ------------------------------------------------------

    def changed(self, trial: Trial) -> None:
        """Write a change of a trial into its document (the driver's ``Observer``)."""
        self._records[trial.trial_id] = trial
        document = self._by_id[trial.trial_id]
        documents.update(document, trial)
        for name, value in trial.attachments.items():
            self.trial_attachments(document)[name] = value
        if document["state"] not in JOB_VALID_STATES:
            # What just ended stands near the end: cheaper than a refresh of all.
            for index in range(len(self._trials) - 1, -1, -1):
                if self._trials[index] is document:
                    del self._trials[index]
                    break

    def _add_suggested(self, suggested: list[documents.Document]) -> list[documents.Document]:
        """Insert documents of new trials, visible at once."""
        self.insert_trial_docs(suggested)
        added = self._dynamic_trials[len(self._dynamic_trials) - len(suggested) :]
        for document in added:
            self._by_id[document["tid"]] = document
            self._ids.add(document["tid"])
        self._trials.extend(added)
        return list(added)

    def _join(self, space: SpaceView) -> tuple[list[Trial], list[Trial]]:
        """The trials of earlier calls: those that ended, and those still to be run.

        A trial that was running when its study's process ended, is run again.
        """
        self.refresh()
        earlier: list[Trial] = []
        queued: list[Trial] = []
        records: dict[int, Trial] = {}
        for document in self._dynamic_trials:
            trial_id = document["tid"]
            self._by_id[trial_id] = document
            if document["state"] in (JOB_STATE_NEW, JOB_STATE_RUNNING):
                document["state"] = JOB_STATE_NEW
                records[trial_id] = documents.queued_trial(document, space)
                queued.append(records[trial_id])
            else:
                known = self._records.get(trial_id)
                is_known = known is not None and known.state.is_final
                record = known if is_known and known else documents.final_trial(document, space)
                records[trial_id] = record
                earlier.append(record)
        self._records = records
        return earlier, queued

    def _adopt(self, saved: hyperopt.Trials) -> None:
        """Take over the trials, attachments and random stream of a trials object read from a file."""
        self._dynamic_trials = list(saved._dynamic_trials)
        self._ids = {document["tid"] for document in self._dynamic_trials} | set(saved._ids)
        self.attachments = saved.attachments
        if isinstance(saved, StudyTrials):
            self._records = saved._records
            self._rng, self._rng_began_with = saved._rng, saved._rng_began_with
        self.refresh()

    def _finished_view(self) -> StudyTrials:
        """These trials with the finished ones only, in the order in which they finished."""
        view = copy.copy(self)
        finished = [d for d in self._dynamic_trials if d["state"] == JOB_STATE_DONE]
        finished.sort(key=lambda d: d["refresh_time"])
        view._dynamic_trials = finished
        view._trials = finished
        return view

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold these trials for one ``fmin`` call."""
        if not self._in_use.acquire(blocking=False):
            raise StudyInProgress(
                f"this {type(self).__name__} is in use by another fmin call; give each call its own"
            )
        try:
            yield
        finally:
            self._in_use.release()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_in_use"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._in_use = threading.Lock()


class SparkTrials(StudyTrials):
    """Trials that run as Spark tasks, one each, and are recorded as nested MLflow runs.

    The first five arguments are those of ``hyperopt.SparkTrials``, in its order.

    Args:
        parallelism: the most trials to run at once; None or a value below 1 for as many as Spark has slots.
            Never more are under way than Spark has slots at that moment.
        timeout: seconds that one ``fmin`` call may take; goes before ``fmin``'s own ``timeout``.
        loss_threshold: stop when the best loss is at or below it; ``fmin``'s own goes before it.
        spark_session: the session to use; None for the active one, or a new one on this machine.
        resource_profile: what each trial asks of Spark (stage-level scheduling); not on ``local``.
        mlflow: record the study in MLflow.
        metric: the primary metric: the name of what objectives report or log, and of the entry of the result
            that gives the loss where it has none.
        goal: what is good in it; to be maximized, the loss is its negative.
        early_termination: a policy that ends weak trials while they run, or None.
        trial_timeout: seconds that one trial's objective may run, from its true beginning, or None.
        watch_interval: seconds between two looks at what objectives log to MLflow; only with a policy.

    Raises:
        SparkNotAvailable: pyspark or Java is missing, or the session is a Spark Connect session.
    """

    def __init__(
        self,
        parallelism: int | None = None,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        spark_session: SparkSession | None = None,
        resource_profile: ResourceProfile | None = None,
        *,
        mlflow: bool = True,
        metric: str = "loss",
        goal: Goal = "minimize",
        early_termination: EarlyTerminationPolicy | None = None,
        trial_timeout: float | None = None,
        watch_interval: float = 5.0,
    ) -> None:
        super().__init__(
            parallelism,
            timeout,
            loss_threshold,
            metric=metric,
            goal=goal,
            early_termination=early_termination,
            trial_timeout=trial_timeout,
        )
        _check_seconds("watch_interval", watch_interval)
        self.mlflow = mlflow
        self.watch_interval = watch_interval
        self._spark: SparkSession | None = spark_session
        self._resource_profile = resource_profile
        spark = self._session()
        if resource_profile is not None and str(spark.sparkContext.master).startswith("local["):
            logger.warning(
                "resource_profile is left out: Spark has no stage-level scheduling on a local master"
            )
            self._resource_profile = None

    def _slots_now(self) -> int:
        from sparktune.backends.spark_classic import count_slots

        return count_slots(self._session().sparkContext, self._resource_profile)

    def _session(self) -> SparkSession:
        spark = self._spark
        if spark is None or _has_stopped(spark):
            spark = self._spark = session.get_or_create()
        if not hasattr(type(spark), "sparkContext") or type(spark).__module__.startswith(
            "pyspark.sql.connect"
        ):
            raise SparkNotAvailable(
                f"SparkTrials got a {type(spark).__module__}.{type(spark).__name__}: Spark Connect is not "
                "supported yet. Pass a classic session as spark_session, or unset SPARK_REMOTE"
            )
        return spark

    def _backend(self, objective: Objective) -> Backend:
        from sparktune.backends.spark_classic import SparkClassicBackend

        return SparkClassicBackend(self._session(), objective, self._resource_profile)

    def _tracker(self) -> Tracker:
        if not self.mlflow:
            return NullTracker()
        from sparktune.tracking.mlflow import MlflowTracker, tracking_uri, warn_if_store_is_local

        warning = warn_if_store_is_local(tracking_uri(), str(self._session().sparkContext.master))
        if warning:
            logger.warning(warning)
        return MlflowTracker()

    def __getstate__(self) -> dict[str, Any]:
        # A pickled SparkTrials finds the session of the process that reads it.
        return {**super().__getstate__(), "_spark": None, "_resource_profile": None}


class SimulatedTrials(StudyTrials):
    """Trials on a simulated cluster with a virtual clock; nothing is recorded in MLflow.

    Args:
        slots: how many trials the simulated cluster can run at once.
        duration_s: virtual seconds that a trial takes, of its config (label -> raw value) and its result.
        parallelism, timeout, loss_threshold, metric, goal, early_termination, trial_timeout: as in
            ``SparkTrials``; the timeouts are in virtual seconds.
    """

    _keeps_real_time = False

    def __init__(
        self,
        slots: int = 1,
        duration_s: Callable[[Mapping[str, Any], Mapping[str, Any]], float] = one_second,
        *,
        parallelism: int | None = None,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        metric: str = "loss",
        goal: Goal = "minimize",
        early_termination: EarlyTerminationPolicy | None = None,
        trial_timeout: float | None = None,
    ) -> None:
        super().__init__(
            parallelism,
            timeout,
            loss_threshold,
            metric=metric,
            goal=goal,
            early_termination=early_termination,
            trial_timeout=trial_timeout,
        )
        self._slots = slots
        self._duration_s = duration_s
        self.simulated_s = 0.0
        """Virtual seconds that the latest ``fmin`` call took."""

    def _slots_now(self) -> int:
        return self._slots

    def _backend(self, objective: Objective) -> Backend:
        return SimulatedBackend(objective, self._slots, self._duration_s)


def _check_metric(metric: Any, goal: Any) -> None:
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"metric is {metric!r}; it must be the name of a metric, such as 'val_accuracy'")
    if goal not in ("minimize", "maximize"):
        raise ValueError(f"goal is {goal!r}; it must be 'minimize' or 'maximize'")
    if metric == "loss" and goal == "maximize":
        raise ValueError("goal='maximize' needs a metric other than 'loss', which is what fmin minimizes")


def _check_ends(early_termination: Any, trial_timeout: Any) -> None:
    if early_termination is not None and (
        isinstance(early_termination, type) or not isinstance(early_termination, EarlyTerminationPolicy)
    ):
        raise TypeError(
            f"early_termination is {early_termination!r}; it must be a policy, such as "
            "MedianStoppingPolicy(delay_evaluation=5)"
        )
    if trial_timeout is not None:
        _check_seconds("trial_timeout", trial_timeout)


def _check_seconds(name: str, value: Any) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not value > 0:
        raise ValueError(f"{name} is {value!r}; it must be a number of seconds > 0")


def _has_stopped(spark: SparkSession) -> bool:
    context = getattr(spark, "_sc", None)
    return context is not None and (context._jsc is None or context._jsc.sc().isStopped())
