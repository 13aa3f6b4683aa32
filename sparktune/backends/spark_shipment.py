"""What is sent to workers: once for a study, and for each of its trials."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from sparktune.backends.spark_application import Application
from sparktune.backends.spark_attempts import Attempts
from sparktune.backends.spark_cluster import import_path
from sparktune.backends.spark_lanes import LaneJob
from sparktune.study.backend import Task
from sparktune.study.tracker import RunContext
from sparktune.worker import parcel
from sparktune.worker.channel import Endpoint
from sparktune.worker.objective import Objective
from sparktune.worker.task import Announcement, Assignment


class Shipment:
    """Sends the objective, and makes the jobs of trials.

    Args:
        application: where they run.
        objective: what they run.
        endpoint: the driver's control port, or None where workers do not reach it; asked for each job.
        watched: the metric that the driver reads in MLflow, or None.
        fresh_worker: each trial gets a new Python process.

    Attributes:
        study_id: names the study to workers.
        shared: the latest assignment, which has all that trials share; None before the first job.

    Raises:
        ObjectiveNotPicklable: see ``sparktune.worker.pickling``.
    """

    def __init__(
        self,
        application: Application,
        objective: Objective,
        endpoint: Callable[[], Endpoint | None],
        *,
        watched: str | None,
        fresh_worker: bool,
    ) -> None:
        self._app = application
        self._objective = objective
        self._endpoint = endpoint
        self._watched = watched
        self._fresh_worker = fresh_worker
        self.study_id = secrets.token_hex(8)
        self.shared: Assignment | None = None
        self._sent = application.send(self._packed)

    def _packed(self) -> bytes:
        # Not before: ``send`` may choose the interpreter of the workers.
        path = import_path(self._app.is_near, self._app.is_same_python)
        return parcel.pack(self._objective, path)

    def job(self, task: Task, attempts: Attempts, context: RunContext | None) -> LaneJob:
        """A trial's job: the study's assignment, and the announcement of the trial.

        The assignment is another when the environment of the trials changes (the tracking server came late).
        """
        known = (None, None) if context is None else (context.run_id, context.claim)
        common = None if context is None else replace(context, run_id=None, claim=None)
        point = self._objective.point(task.config)
        config = task.config if point is None else {}
        first = attempts.tried + 1
        announcement = Announcement(task.trial_id, config, point, task.seed, *known, first, attempts.last)
        self.shared = self._assignment(common)
        return LaneJob(f"sparktune {task.description}", announcement.as_text(), self.shared)

    def _assignment(self, context: RunContext | None) -> Assignment:
        return Assignment(
            study_id=self.study_id,
            trial_id=-1,
            config={},
            parcel=self._sent.parcel,
            companions=self._sent.companions,
            endpoint=self._endpoint(),
            run_context=context,
            watched=self._watched,
            fresh_worker=self._fresh_worker,
            has_copies=self._app.has_copies,
        )

    def discard(self) -> None:
        """Remove the objective from the cluster, as far as Spark can do that."""
        self._sent.discard()
