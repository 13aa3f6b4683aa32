"""A study in MLflow: a parent run, and below it one run for every trial.

The contract: a run that is active when ``begin`` is called is joined, and not ended; otherwise a run is
created and ended. No run is ever put on MLflow's stack of active runs: everything is written with explicit
run ids by the background writer.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from sparktune.study.tracker import (
    RUN_PATIENCE_S,
    Continued,
    RunContext,
    StudyInfo,
    StudySummary,
    Tell,
)
from sparktune.study.trial import Trial, TrialState
from sparktune.tracking import location, schema
from sparktune.tracking.credentials import travelling_env
from sparktune.tracking.lease import Lease, LeaseKeeper
from sparktune.tracking.location import absolute_uri, is_remote
from sparktune.tracking.records import RunRecord
from sparktune.tracking.schema import INTERRUPTED_TAG, Point, is_point
from sparktune.tracking.store import MlflowStore
from sparktune.tracking.study_record import LEASE, short
from sparktune.tracking.study_run import PROGRESS_EVERY_S, StudyRun
from sparktune.tracking.unwritten import Unwritten
from sparktune.tracking.watcher import MetricWatcher
from sparktune.tracking.writer import Writer

logger = logging.getLogger("sparktune")

REMOTE_THREADS = 6
"""MLflow's server holds up to three connections to its database for a request, and has 15: with eight
requests each may wait for a connection that another holds."""
CREATE_AFTER_S = 0.5
"""A trial's run is created this long after its launch, unless its objective asks for it. One that is over by
then is written whole; and the moment in which a slot is filled again belongs to Spark."""
FILL_AFTER_S = 1.0
"""A run is filled with its params this long after the launch; a trial that is over by then saves a request,
because params, metrics and tags go into one."""
REPORTS_EVERY_S = 1.0
"""How long reports are gathered before they are written."""
CLAIMABLE_AFTER_S = RUN_PATIENCE_S - 5.0
"""When a run that a worker waits for is looked for before it is created: a little before the worker itself
creates it."""
DOUBLES_TRIES, DOUBLES_PATIENCE_S = 5, 20.0
"""How often a server is asked, at the end, whether runs exist twice; and for how long at most it is asked."""
REMOTE_OPEN_S = 30.0
"""How long ``begin`` waits for the client of a server: the SDK of Databricks takes seconds to be imported."""
REMOTE_BEGIN_S, LOCAL_BEGIN_S = 2.0, 120.0
"""How long ``begin`` waits for the parent: a local store may have to be laid out first."""


class MlflowTracker:
    """Records one study in MLflow (see ``base.Tracker``).

    Args:
        clock: Unix time in seconds.
        patience_s: how long ``finish`` waits for a store that does not answer. A store that is only slow is
            waited for as long as it makes progress.
        directory: where ``finish`` leaves what could not be written; the working directory by default.
        run_name: of the parent run, where one is created; what the study is by default.
        run_tags: further tags of the parent run, where one is created.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        patience_s: float = 60.0,
        directory: str | os.PathLike[str] | None = None,
        run_name: str = "",
        run_tags: Mapping[str, str] | None = None,
    ) -> None:
        self._run_name, self._run_tags = run_name, dict(run_tags or {})
        self._clock = clock
        self._patience_s = patience_s
        self._directory = directory
        self._info: StudyInfo | None = None
        self._writer: Writer | None = None
        self._finished = False
        self._children: dict[int, RunRecord] = {}
        self._open: dict[int, Trial] = {}
        self._reporting: set[int] = set()
        self._watcher: MetricWatcher | None = None
        self._lease: LeaseKeeper | None = None
        self._taken_over_by: str | None = None

    # What the driver calls --------------------------------------------------------------------------------

    @property
    def run_id(self) -> str | None:
        """The parent run, once it is known."""
        return self._study.run_id if self._writer is not None else None

    @property
    def study_id(self) -> str:
        """See ``base.Tracker``."""
        return "" if self._info is None else self._info.study_id

    def begin(self, info: StudyInfo) -> None:
        """Join or create the parent run.

        Waits for it: a local store may have to be laid out first; a server gets two seconds, and what it
        has not done by then is done in the background.

        Raises:
            UnrecordableError: the store answers, and cannot take a study; see ``refusals``.
        """
        import mlflow

        cwd = os.getcwd()
        self._info = info
        self._uri = absolute_uri(mlflow.get_tracking_uri(), cwd)
        registry_uri = absolute_uri(mlflow.get_registry_uri(), cwd)
        self._registry_uri = None if registry_uri == self._uri else registry_uri
        active = mlflow.active_run() if info.continues is None else None
        if info.continues is not None:
            joined: str | None = info.continues.run_id
        else:
            joined = active.info.run_id if active is not None else os.environ.get("MLFLOW_RUN_ID")
        remote = is_remote(self._uri)
        self._store = MlflowStore(self._uri)
        if active is not None:
            self._store.experiment_id = str(active.info.experiment_id)
        elif joined is None:  # a worker may have to create its trial's run before the store is open
            self._store.expect_experiment()
        writer = Writer(self._store, REMOTE_THREADS if remote else 1)
        self._study = StudyRun(
            info, self._store, writer.lock, joined, self._now_ms(), self._run_name, self._run_tags
        )
        self._writer = writer
        writer.put(self._study.record)
        if info.continues is not None:
            self._go_on(info.continues)
        wait_s = REMOTE_BEGIN_S if remote else LOCAL_BEGIN_S
        self._study.was_opened.wait(REMOTE_OPEN_S if remote else LOCAL_BEGIN_S)
        writer.wait_created(self._study.record, wait_s, wait_s)
        self._study.is_starting = False
        if self._study.unusable is not None:
            writer.close()
            self._finished = True
            raise self._study.unusable
        self._env = travelling_env(os.environ) | _databricks_env(self._uri)
        self._keep_lease(info)

    def _go_on(self, continues: Continued) -> None:
        """Take over the runs of trials that ended, and end those that their driver left running."""
        assert self._writer is not None
        self._store.may_have_twice = True  # that driver may have been killed before it looked
        for trial_id, run_id in continues.runs.items():
            self._children[trial_id] = RunRecord(
                name=f"trial {trial_id}", start_ms=0, parent=self._study.record, run_id=run_id
            )
        seen_s = continues.last_seen_s or self._clock()
        for run_id, status in continues.to_end.items():
            record = RunRecord(name=run_id, start_ms=0, parent=self._study.record, run_id=run_id)
            if status is None:
                record.tags = {INTERRUPTED_TAG: "true", "trial_status": "interrupted"}
            record.status, record.end_ms = status or "KILLED", int(seen_s * 1000)
            self._writer.put(record)

    def _keep_lease(self, info: StudyInfo) -> None:
        """Say, and go on saying, that this process drives the study."""
        key = LEASE + short(info.study_id)
        began = time.monotonic()

        def write(lease: Lease) -> None:
            if self._writer is not None and not self._finished:
                with self._writer.lock:
                    self._study.record.tags[key] = lease.as_json()
                    self._writer.put(self._study.record)

        def read() -> Lease | None:
            run_id = self.run_id
            tags = self._store.snapshot(run_id).tags if run_id is not None else {}
            return Lease.from_json(tags.get(key, ""))

        def lost(lease: Lease) -> None:
            self._taken_over_by = str(lease)

        lease = info.continues.lease if info.continues is not None else None
        lease = lease or Lease.mine(info.used_s)
        write(lease)
        self._lease = LeaseKeeper(lease, lambda: info.used_s + time.monotonic() - began, write, read, lost)

    def taken_over_by(self) -> str | None:
        """See ``base.Tracker``."""
        return self._taken_over_by

    def launched(self, trial: Trial, document: Mapping[str, Any] | None = None) -> None:
        """Have a run created for the trial."""
        if self._writer is None or self._finished or trial.trial_id in self._children:
            return
        self._open[trial.trial_id] = trial
        record = self._record_of(trial)
        if document is not None:
            record.tags |= schema.point_tags(trial, document)
        self._writer.put(record, FILL_AFTER_S, CREATE_AFTER_S)

    def run_context(self, trial_id: int) -> RunContext | None:
        """What the trial's worker needs; without a run id where the run does not exist yet."""
        if self._writer is None:
            return None
        record = self._children.get(trial_id)
        run_id = claim = None
        if record is not None:
            with self._writer.lock:
                run_id = record.run_id
                if run_id is None:  # should the worker not reach the driver, it creates the run itself
                    record.claimable_s = self._writer.now() + CLAIMABLE_AFTER_S
        if run_id is None and record is not None:
            tags = dict(record.identity)
            if self.run_id is not None:
                tags[schema.PARENT_TAG] = self.run_id
                tags[schema.ROOT_TAG] = self._study.record.root_run_id or self.run_id
            claim = json.dumps({"name": record.name, "identity": record.identity, "tags": tags})
        return RunContext(
            run_id, self._uri, self._registry_uri, self._store.experiment_id, dict(self._env), claim
        )

    def ask_run(self, trial_id: int, tell: Tell, *, hurry: bool) -> None:
        """See ``base.Tracker``."""
        record = self._children.get(trial_id)
        if self._writer is None or record is None:
            if hurry:
                tell(None)
            return
        with self._writer.lock:
            # A worker that has reached the driver claims nothing before it has asked and waited.
            record.claimable_s = self._writer.now() + CLAIMABLE_AFTER_S if hurry else None
            self._writer.when_created(record, tell, hurry=hurry)

    def reported(self, trial: Trial, value: float, step: int) -> None:
        """Have a report written, in batches, as a point of the metric's series."""
        record = self._children.get(trial.trial_id)
        if self._writer is None or self._finished or record is None or self._info is None:
            return
        self._reporting.add(trial.trial_id)
        number = schema.metric_value(value)
        if number is None or not math.isfinite(number):
            return
        with self._writer.lock:
            key = schema.valid_key(self._info.spec.metric)
            record.metrics.append(Point(key, number, self._now_ms(), step))
            self._writer.put(record, REPORTS_EVERY_S, CREATE_AFTER_S)

    def watch(self, interval_s: float, sink: Callable[[int, float, int], None]) -> None:
        """Read the primary metric of running trials from the store, every ``interval_s`` seconds."""
        if self._writer is None or self._info is None or self._watcher is not None:
            return
        self._watcher = MetricWatcher(
            self._store, self._info.spec.metric, interval_s, lambda: self.run_id, self._running_runs, sink
        )

    def watched_names(self) -> set[str]:
        """The metrics that were seen while watching."""
        return set() if self._watcher is None else set(self._watcher.names)

    def read_watched(self, timeout_s: float) -> None:
        """See ``base.Tracker``."""
        if self._watcher is not None:
            self._watcher.settle(timeout_s)

    def run_ids(self) -> dict[int, str]:
        """See ``base.Tracker``."""
        return {n: record.run_id for n, record in self._children.items() if record.run_id is not None}

    def link(self) -> str | None:
        """See ``base.Tracker``."""
        if self._writer is None or self.run_id is None:
            return None
        return location.where_to_look(self._uri, self._store.experiment_id, self.run_id)

    def _running_runs(self) -> dict[str, int]:
        """Run id -> trial id of the trials under way."""
        records = ((trial_id, self._children.get(trial_id)) for trial_id in list(self._open))
        return {r.run_id: trial_id for trial_id, r in records if r is not None and r.run_id is not None}

    def ended(self, trial: Trial, document: Mapping[str, Any]) -> None:
        """Have the trial's end written, and the study's progress."""
        if self._writer is None or self._finished:
            return
        record = self._children.get(trial.trial_id) or self._record_of(trial)
        self._open.pop(trial.trial_id, None)
        now_ms = self._now_ms()
        tags, metrics, artifacts = schema.final_record(trial, document, now_ms)
        if self._watcher is not None and record.run_id is not None and trial.trial_id not in self._reporting:
            key = schema.valid_key(self._info.spec.metric) if self._info is not None else None
            own = next(((p.value, p.time_ms) for p in metrics if p.key == key), None)
            self._watcher.ended(record.run_id, trial.trial_id, own)
        with self._writer.lock:
            if record.run_id is None and not record.turn.is_busy:  # not written yet, and not needed any more
                record.tags = {key: tag for key, tag in record.tags.items() if not is_point(key)}
            record.tags |= tags
            record.metrics += metrics
            record.artifacts |= artifacts
            record.status, record.end_ms = schema.run_status(trial.state), now_ms
            self._writer.put(record)
            self._study.ended(trial, now_ms)
            self._writer.put(self._study.record, PROGRESS_EVERY_S)

    def revised(self, before: Trial, trial: Trial, document: Mapping[str, Any]) -> None:
        """See ``base.Tracker``."""
        record = self._children.get(trial.trial_id)
        if self._writer is None or self._finished or record is None:
            return
        tags, metrics, artifacts = schema.revision(before, trial, document, self._now_ms())
        with self._writer.lock:
            record.tags |= tags
            record.metrics += metrics
            record.artifacts |= artifacts
            self._writer.put(record)

    def keep_report(self, text: str) -> None:
        """See ``base.Tracker``."""
        if self._writer is None:
            return
        with self._writer.lock:
            if not self._finished and self._taken_over_by is None:
                self._study.keep_report(text)
                self._writer.put(self._study.record, PROGRESS_EVERY_S)

    def finish(self, summary: StudySummary) -> None:
        """Write everything, end the parent if it is ours; what cannot be written goes to a local file."""
        if self._writer is None or self._finished:
            return
        try:
            if self._lease is not None:
                self._lease.close()
                if self._taken_over_by is None:
                    self._lease.write_last()
            if self._watcher is not None:
                self._watcher.close()
            final = {trial.trial_id: trial for trial in summary.trials if trial.state.is_final}
            own = [trial for trial in summary.trials if trial.trial_id in self._children]
            for trial_id, trial in list(self._open.items()):
                lost = trial if trial.state.is_final else trial.to(TrialState.CANCELLED)
                self.ended(final.get(trial_id, lost), {"tid": trial_id})
            self._finished = True
            if self._taken_over_by is None:
                self._mark_best(summary.best)
            began = self._writer.now()
            if self._writer.in_trouble:
                logger.warning("the study is over; MLflow gets %g s more to answer", self._patience_s)
            in_time = False
            parents_tags: Mapping[str, str] | None = None
            try:
                in_time = self._writer.flush(None, self._patience_s)
                if in_time and self._taken_over_by is None:
                    self._remove_doubles()
                parents_tags = self._parents_tags()
            finally:  # also when the user is tired of waiting: what the parent lacks goes into the file
                if self._taken_over_by is None:
                    described = self._study.is_to_be_described(parents_tags)
                    self._study.close(summary, self.run_ids(), self._now_ms(), own, described=described)
                    self._writer.put(self._study.record)
            if self._taken_over_by is None and summary.report is not None:
                report = summary.report()
                if report is not None:
                    self._study.keep_report(report)
                    self._writer.put(self._study.record)
            # A store that has used up the waiting time does not get it again.
            self._writer.flush([self._study.record], self._patience_s, since=None if in_time else began)
        finally:
            self._finished = True
            self._writer.close()
            self._keep_unwritten()

    # Inside -----------------------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _mark_best(self, best: Trial | None) -> None:
        """Have the run of the study's best trial marked, once, at its end; and no other one.

        The best of all calls may be a trial of an earlier study, whose run is marked there.
        """
        assert self._writer is not None
        record = None if best is None else self._children.get(best.trial_id)
        marked = self._info.continues.marked if self._info is not None and self._info.continues else ()
        with self._writer.lock:
            for run_id in marked:
                if record is None or record.run_id != run_id:
                    known = (child for child in self._children.values() if child.run_id == run_id)
                    other = next(known, RunRecord(run_id, 0, parent=self._study.record, run_id=run_id))
                    other.tags[schema.BEST_TAG] = "false"
                    self._writer.put(other)
            if record is not None and (record.run_id is None or record.run_id not in marked):
                record.tags[schema.BEST_TAG] = "true"
                self._writer.put(record)

    def _parents_tags(self) -> Mapping[str, str] | None:
        """The tags of the parent run at this moment; None where the store does not answer."""
        if self._writer is None or self.run_id is None or self._writer.in_trouble:
            return None
        try:
            return self._store.snapshot(self.run_id).tags
        except Exception as error:  # whatever a store raises; the study's end is written later, then
            logger.debug("the description of the run %s cannot be read: %s", self.run_id, error)
            return None

    def _record_of(self, trial: Trial) -> RunRecord:
        assert self._info is not None
        identity = {schema.STUDY_TAG: self._info.study_id, schema.TRIAL_ID_TAG: str(trial.trial_id)}
        record = RunRecord(
            name=f"trial {trial.trial_id}",
            start_ms=self._now_ms(),
            identity=identity,
            parent=self._study.record,
            params=schema.params_of(trial.params),
            tags=identity
            | {"trial_status": str(TrialState.RUNNING), "algo": schema.param_value(self._info.spec.algo)},
        )
        self._children[trial.trial_id] = record
        self._study.launched()
        return record

    def _remove_doubles(self) -> None:
        """Delete runs that exist twice, because a server answered too late that it had created one."""
        assert self._writer is not None
        is_possible = self._store.may_have_twice and is_remote(self._uri) and not self._writer.in_trouble
        if not is_possible or self.run_id is None:
            return
        known = {self.run_id, *self.run_ids().values()}
        give_up = self._writer.now() + DOUBLES_PATIENCE_S
        for _ in range(DOUBLES_TRIES):
            if self._writer.in_trouble or self._writer.now() > give_up:
                return
            try:
                count = self._store.remove_doubles(self.study_id, known)
            except Exception as error:  # of a server in trouble
                logger.debug("not known whether runs exist twice: %s", error)
                continue
            if count:
                logger.info("%d runs existed twice, and were deleted: the server was slow to answer", count)
            return

    def _keep_unwritten(self) -> None:
        """Leave what the store did not take in a file, and log how to write it later."""
        assert self._info is not None
        assert self._writer is not None
        with self._writer.lock:
            records = self._writer.unwritten()
        reasons = [self._writer.why, *(record.set_aside for record in records)]
        why = next((reason for reason in reasons if reason), "it does not store artifacts")
        rejected: dict[str, dict[str, str]] = {}
        for run_id, name, text in self._store.rejected:
            rejected.setdefault(run_id, {})[name] = text
        for run_id, texts in rejected.items():
            records.append(RunRecord("", 0, parent=self._study.record, run_id=run_id, artifacts=texts))
        if not records:
            return
        experiment_id, study_id = self._store.experiment_id, self._info.study_id
        try:
            path = Unwritten(self._uri, experiment_id, self.run_id, study_id, records).save(self._directory)
        except OSError as error:
            logger.error(
                "%d runs are lost to MLflow: it did not take them (%s), and no file could be written: %s",
                len(records),
                why,
                error,
            )
            return
        logger.warning(
            "%d runs are not fully written to MLflow (%s). Nothing is lost: what is missing is in %s; once "
            "the cause is gone, write it with `python -m sparktune.tracking.replay %s`.",
            len(records),
            why,
            path,
            path,
        )


def _databricks_env(uri: str) -> dict[str, str]:
    """What a worker needs to log in to Databricks, where the driver's login is the notebook's."""
    if not location.is_databricks(uri):
        return {}
    try:
        utils: Any = importlib.import_module("mlflow.utils.databricks_utils")
        return dict(utils.get_databricks_env_vars(uri))
    except Exception as error:  # of a module that is not public, and of the login itself
        logger.warning("mlflow calls in objectives may fail: no Databricks login for the workers (%s)", error)
        return {}
