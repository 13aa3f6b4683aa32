"""``DriverTrials``: trials in threads of the driver, for objectives that use Spark themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sparktune.backends import session
from sparktune.backends.spark_application import Application
from sparktune.early_termination.base import EarlyTerminationPolicy, Goal
from sparktune.study.backend import Backend
from sparktune.study.tracker import NullTracker, Tracker
from sparktune.trials import arguments, reports
from sparktune.trials.run import RunnableTrials
from sparktune.worker.objective import Objective

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger("sparktune")

DEFAULT_PARALLELISM = 4


class DriverTrials(RunnableTrials):
    """Trials that run in threads of the driver, and are recorded as nested MLflow runs.

    For objectives that use Spark themselves (pyspark.ml, distributed XGBoost, SQL): several models train on
    the cluster at the same time. The objective is not sent anywhere, so that it may hold a session or data
    frames; trials share the process, its random numbers and what the objective refers to.

    The Spark jobs of a trial have its own tag, by which they are cancelled when the trial is to end, and the
    scheduler pools ``sparktune-0``, ``sparktune-1``, ..., which share the cluster evenly where
    ``spark.scheduler.mode`` is FAIR; a pool set by the caller is kept. A trial ends at its next report or
    Spark job; one that does neither cannot be ended, and a warning reports that.

    Args:
        parallelism: how many trials run at the same time; None or a value below 1 for 4.
        timeout, loss_threshold: as in ``SparkTrials``.
        spark_session: the session of the objective, classic or Connect; None for the active one, or a new
            one on this machine. Trials also run without Spark.
        mlflow, metric, goal, early_termination, trial_timeout: as in ``SparkTrials``.
        max_failures, live_plot, watch_interval, report_every, log_report: as in ``SparkTrials``.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        parallelism: int | None = DEFAULT_PARALLELISM,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        spark_session: SparkSession | None = None,
        *,
        mlflow: bool = True,
        metric: str = "loss",
        goal: Goal = "minimize",
        early_termination: EarlyTerminationPolicy | None = None,
        trial_timeout: float | None = None,
        max_failures: float | None = None,
        live_plot: bool = False,
        watch_interval: float = 5.0,
        report_every: float | None = None,
        log_report: bool = True,
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
        self.mlflow = mlflow
        self.watch_interval = watch_interval
        self.report_every, self.log_report = report_every, log_report
        self._spark: SparkSession | None = spark_session

    def _slots_now(self) -> int:
        return self.asked_parallelism or DEFAULT_PARALLELISM

    def _application(self) -> Application:
        from sparktune.tracking.location import import_mlflow

        self._spark = session.alive(self._spark, import_mlflow if self.mlflow else None)
        return session.application(self._spark)

    def _backend(self, objective: Objective) -> Backend:
        from sparktune.backends.driver_threads import DriverThreadsBackend, spark_or_none

        application = spark_or_none(self._application)
        if not self.mlflow:
            return DriverThreadsBackend(objective, self._slots_now(), application)
        from sparktune.tracking.driver_runs import DriverRuns

        return DriverThreadsBackend(objective, self._slots_now(), application, DriverRuns().trial)

    def _tracker(self) -> Tracker:
        if not self.mlflow:
            return NullTracker()
        from sparktune.tracking.tracker import MlflowTracker

        return MlflowTracker()
