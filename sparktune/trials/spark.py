"""``SparkTrials``: hyperopt's ``Trials`` whose trials are Spark tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sparktune import _hyperopt_names
from sparktune.backends import control_port, session, spark_slots
from sparktune.backends.spark_application import Application
from sparktune.backends.spark_slots import Kind, Plan, Size
from sparktune.early_termination.base import EarlyTerminationPolicy, Goal
from sparktune.study.backend import Backend
from sparktune.study.tracker import NullTracker, Tracker
from sparktune.trials import arguments, reports
from sparktune.trials.run import RunnableTrials
from sparktune.worker.objective import Objective

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

logger = logging.getLogger("sparktune")

__getattr__ = _hyperopt_names.missing_from(__name__, "hyperopt.spark")
"""As ``sparktune.spark`` this module has the names of hyperopt's, such as ``FMIN_CANCELLED_REASON_USER``."""


class SparkTrials(RunnableTrials):
    """Trials that run as Spark tasks, one each, and are recorded as nested MLflow runs.

    The first five arguments are those of ``hyperopt.SparkTrials``, in its order.

    Args:
        parallelism: the most trials to run at the same time; None or a value below 1 for as many as a fixed
            cluster has slots. On one that adds executors for pending tasks (Spark's dynamic allocation,
            Databricks' autoscaling) None stands for a tenth of ``max_evals``, at least the slots that there
            are, at most those that may be added; where Spark does not report that number, for a tenth of
            ``max_evals``. Never more trials run than Spark has slots at that moment, with these exceptions:
            where the number is not known, all of them are started. While all slots of a growing cluster are
            in use, a few tasks without a trial are pending; where tasks cannot be
            (``spark.speculation.task.duration.threshold``; Spark Connect with ``fresh_worker``, or where a
            server shows workers no tags), the trials themselves are.
        timeout: seconds that one ``fmin`` call may take; has precedence over ``fmin``'s ``timeout``.
        loss_threshold: stop when the best loss is at or below it; ``fmin``'s has precedence over it.
        spark_session: the session to use; None for the active one, or a new one on this machine.
        resource_profile: what each trial requests from Spark (stage-level scheduling); not on ``local``.
        mlflow: record the study in MLflow.
        metric: the primary metric: the name of what objectives report or log, and of the entry of the result
            that gives the loss where it has none.
        goal: what is good in it; to be maximized, the loss is its negative.
        early_termination: a policy that ends weak trials while they run, or None.
        trial_timeout: seconds that one trial's objective may run, from the moment it truly starts, or None.
        max_failures: end the study when so many of its trials have failed; ``math.inf`` for never. None ends
            it only where nothing can succeed: its first trials, 20 or twice the parallelism, all failed
            with one cause or few (``STATUS_FAIL``: five times as many).
        live_plot: in a notebook, draw the best loss so far while ``fmin`` runs; updated in place, about once
            a second. Elsewhere it has no effect but a warning.
        watch_interval: seconds between two reads of what objectives log to MLflow; only with a policy.
        max_attempts: how often the objective of one trial may begin whose worker dies under it, or is lost
            with its executor or machine; Spark's own retries count. None for 4, and for 2 where Spark runs a
            task once in one process (``local``, ``local[N]``). A worker that is lost before the objective
            begins costs no attempt, but after 10 of them the trial fails. An exception of the objective is
            its result, and a Spark job cancelled from outside is meant to end: neither is tried again.
        fresh_worker: give every trial a new Python process. Without it trials share processes one after
            another: each gets its own copy of the objective, its own random seed and the process's settings
            as they were, but what imported modules keep in their own variables stays.
        report_every: log the study's report (``plots.report``) to the parent run every so many seconds while
            it runs; None for its end alone. Needs plotly.
        log_report: whether a report is logged at all; it takes about 2 MB of the artifact store.
        control_port: the driver's TCP port that workers connect to, for a firewall: a number n for the first
            that is free of n, n + 1, ... n + ``spark.port.maxRetries`` (16), (first, last) or a ``range`` for
            one of these alone, 0 for any that is free. Studies that run at the same time need one each. None
            for the Spark setting ``spark.sparktune.control.port``, else the environment variable
            ``SPARKTUNE_CONTROL_PORT`` (``40000`` or ``40000-40010``), else any. ``fmin`` raises
            ``ControlPortNotAvailable`` (an ``OSError``) before the first trial where none is free.

    Raises:
        SparkNotAvailable: pyspark or Java is missing.
        PlotlyNotAvailable: ``report_every`` is given, and plotly is missing.
        TypeError: ``fresh_worker`` or ``log_report`` is neither True nor False, or ``control_port`` is not
            valid.
        ValueError: Spark refuses the resource profile, ``max_attempts`` is not a whole number above 0,
            ``report_every`` not a number above 0, or given with ``mlflow=False`` or ``log_report=False``, or
            ``control_port`` not in 0..65535, or an empty range.
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
        max_failures: float | None = None,
        live_plot: bool = False,
        watch_interval: float = 5.0,
        max_attempts: int | None = None,
        fresh_worker: bool = False,
        report_every: float | None = None,
        log_report: bool = True,
        control_port: int | tuple[int, int] | range | None = None,
    ) -> None:
        super().__init__(
            parallelism,
            timeout,
            loss_threshold,
            metric=metric,
            goal=goal,
            early_termination=early_termination,
            trial_timeout=trial_timeout,
            max_failures=max_failures,
            live_plot=live_plot,
        )
        arguments.check_seconds("watch_interval", watch_interval)
        if report_every is not None:
            arguments.check_seconds("report_every", report_every)
        arguments.check_flag("log_report", log_report)
        reports.check(report_every, mlflow=mlflow, wanted=log_report)
        arguments.check_flag("fresh_worker", fresh_worker)
        arguments.check_control_port(control_port)
        self.mlflow = mlflow
        self.watch_interval = watch_interval
        self.report_every, self.log_report = report_every, log_report
        self.max_attempts = arguments.checked_max_attempts(max_attempts)
        self.fresh_worker = fresh_worker
        self.control_port = control_port
        self._spark: SparkSession | None = spark_session
        self._resource_profile = resource_profile
        application = self._application()
        if resource_profile is not None and application.is_fixed:
            logger.warning(
                "resource_profile is left out: Spark has no stage-level scheduling on a local master"
            )
            self._resource_profile = None
        self._application().admit()

    def _slots_now(self) -> int:
        size = spark_slots.size_of_application(self._application())
        return size.now or 0 if size.kind is Kind.FIXED else spark_slots.limit(size, self._plan())

    def _plan(self) -> Plan:
        return Plan(self.asked_parallelism, self.memory.spec.max_evals, self.memory.n_given)

    def _concurrency(self, slots: int) -> int:
        size = self._growing_size()
        return super()._concurrency(slots) if size is None else spark_slots.limit(size, self._plan())

    def _growing_size(self) -> Size | None:
        """The cluster's size where its slots are not all that a study may use; None where they are."""
        application = self._application()
        if application.is_fixed:
            return None
        size = spark_slots.size_of_application(application)
        return None if size.kind is Kind.FIXED else size

    def _log_parallelism(self, slots: int) -> None:
        """Also log what was chosen on a cluster that is not fixed, and why."""
        size = self._growing_size()
        if size is None:
            super()._log_parallelism(slots)
            return
        plan = self._plan()
        is_as_asked = self.asked_parallelism == spark_slots.limit(size, plan)
        level = logging.INFO if is_as_asked else logging.WARNING
        logger.log(level, "%s", spark_slots.explained(size, plan))

    def _session(self) -> SparkSession:
        from sparktune.tracking.location import import_mlflow

        self._spark = session.alive(self._spark, import_mlflow if self.mlflow else None)
        return self._spark

    def _application(self) -> Application:
        return session.application(self._session(), self._resource_profile, fresh_worker=self.fresh_worker)

    def _backend(self, objective: Objective) -> Backend:
        from sparktune.backends.spark_jobs import SparkBackend

        watched = self.metric if self.mlflow and self.early_termination is not None else None
        return SparkBackend(
            self._application(),
            objective,
            fresh_worker=self.fresh_worker,
            watched=watched,
            max_attempts=self.max_attempts,
            ports=control_port.named(self.control_port),
            plan=self._plan(),
        )

    def _tracker(self) -> Tracker:
        if not self.mlflow:
            return NullTracker()
        from sparktune.tracking.location import tracking_uri, warn_if_store_is_local
        from sparktune.tracking.tracker import MlflowTracker

        warning = warn_if_store_is_local(tracking_uri(), self._application().master)
        if warning:
            logger.warning(warning)
        return MlflowTracker(**self._tracker_options())

    def _tracker_options(self) -> dict[str, Any]:
        """Arguments of ``MlflowTracker``, for subclasses."""
        return {}
