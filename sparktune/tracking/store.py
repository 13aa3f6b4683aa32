"""The driver's way to MLflow's tracking store: few requests, short patience, and refusals told from outages.

It calls the store (``AbstractStore``, the interface of MLflow's own store plug-ins) rather than
``MlflowClient``: over HTTP the client reads every run again and prints two lines when it ends one.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import math
import os
import tempfile
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparktune.private import of_mlflow
from sparktune.tracking import http, sqlite_setup
from sparktune.tracking.location import has_mlflows_pages, is_databricks
from sparktune.tracking.records import TAGS_AT_FIRST, Content, RefusedError, RunRecord, StoreBusyError
from sparktune.tracking.refusals import refusals
from sparktune.tracking.schema import PARENT_TAG, ROLE_TAG, ROOT_TAG, STUDY_TAG, Batch, Point, batches
from sparktune.tracking.transaction import Transaction

logger = logging.getLogger("sparktune")

RUNS_TOGETHER = 8
"""How many runs go into one transaction. SQLite takes no other writer meanwhile, so not very many."""

UPLOADS, UPLOADS_TO_SERVER = 2, 8
"""How often an artifact is uploaded in vain, the tracking server answering, before it is kept aside. In other
ways than through that server MLflow repeats what fails."""

_OWN_THREADS = ("sparktune-mlflow-", "sparktune-watcher", "sparktune-lease")
"""Other threads of ours run objectives, whose connections are the user's."""


class _SaidByTheWriter(logging.Filter):
    """Drops what MLflow and urllib3 log of each failed statement and connection in threads of the tracker."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is of another thread."""
        return not (record.threadName or "").startswith(_OWN_THREADS)


_said_by_the_writer = _SaidByTheWriter()


class Snapshot(NamedTuple):
    """What a run held at one moment: experiment, params and tags by key, names of its metrics, status."""

    experiment_id: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: frozenset[str]
    status: str = "RUNNING"


class MlflowStore:
    """One tracking store, one experiment. Several threads may call it.

    Args:
        tracking_uri: absolute.

    Attributes:
        together: see ``records.Store``; known once the store is open.
        experiment_id: where runs are created; empty until known.
        rejected: (run id, file name, text) of artifacts that could not be stored.
        may_have_twice: a run may exist beside one that was created anew because nobody answered.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.together = 0
        self.experiment_id = ""
        self.rejected: list[tuple[str, str, str]] = []
        self.may_have_twice = False
        self._unanswered_s = -math.inf  # when a request to create a run failed for the last time
        self._store: Any = None
        self._http: http.HttpStore | None = None
        self._transaction: Transaction | None = None
        self._context_tags: dict[str, str] = {}
        self._refused: set[str] = set()  # keys of which it was said
        self._upload_urls: dict[str, str | None] = {}  # run id -> where its artifacts are taken

    def open(self) -> None:
        """Connect, the first time; a local store may be laid out here, which takes seconds."""
        if self._store is not None:
            return
        for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(name).addFilter(_said_by_the_writer)
        sqlite_setup.check(self.tracking_uri)
        with sqlite_setup.quick(self.tracking_uri):
            store = of_mlflow.open_store(self.tracking_uri)
        # Where MLflow before 3.4 lays out a database, Alembic silences every logger of the process.
        for name in ("sparktune", "hyperopt-spark"):
            logging.getLogger(name).disabled = False
        tags = _mlflow("tracking.context.registry").resolve_tags()
        self._context_tags = {key: str(value) for key, value in tags.items()}
        if hasattr(store, "get_host_creds"):
            store.get_host_creds()  # raises where there is no login for Databricks
        self._store = store
        self._http = http.HttpStore.of(store)
        if self._http is not None:
            self._store = self._http.store
        self._transaction = Transaction.of(store)
        if self._transaction is not None:
            self._store, self.together = self._transaction.store, RUNS_TOGETHER

    def use_active_experiment(self, *, create: bool = True) -> None:
        """Create runs where ``mlflow.start_run()`` would, on this driver, at this moment.

        That is the experiment of ``mlflow.set_experiment``, of MLFLOW_EXPERIMENT_NAME (created where it does
        not exist), of MLFLOW_EXPERIMENT_ID, or the default one. MLflow's own way to find it asks a server
        that is away for minutes, and calls that a wrong id.

        Args:
            create: have it created; otherwise ``experiment_id`` stays empty where it does not exist.

        Raises:
            RefusedError: there is no such experiment, it was deleted, or name and id are of two.
        """
        chosen = of_mlflow.chosen_experiment()
        name, number = (os.environ.get(f"MLFLOW_EXPERIMENT_{part}") for part in ("NAME", "ID"))
        known: Any = None
        with refusals():
            if not chosen and name:
                known = self._store.get_experiment_by_name(name)
                if known is None and not create:
                    return
                chosen = self._store.create_experiment(name) if known is None else known.experiment_id
                if number and number != str(chosen):
                    raise RefusedError(
                        f"MLFLOW_EXPERIMENT_ID is {number!r}, but MLFLOW_EXPERIMENT_NAME {name!r} has the id "
                        f"{chosen}: unset one of them"
                    )
            elif chosen or number or has_mlflows_pages(self.tracking_uri):
                # The default one of a vendor's store need not be there before its first run.
                chosen = str(chosen or number or self._default_experiment())
                known = self._store.get_experiment(chosen)
        if known is not None and known.lifecycle_stage == "deleted":
            raise RefusedError(
                f"the experiment {known.name!r} (id {known.experiment_id}) was deleted; `mlflow experiments "
                f"restore -x {known.experiment_id}` brings it back"
            )
        self.experiment_id = str(chosen or self._default_experiment())

    @staticmethod
    def _default_experiment() -> str:
        return str(_mlflow("tracking.default_experiment.registry").get_experiment_id() or "0")

    def expect_experiment(self) -> None:
        """Set ``experiment_id`` as ``use_active_experiment`` would, as far as nobody must be asked for it."""
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        chosen = of_mlflow.chosen_experiment()
        if chosen or not named:
            default = "" if is_databricks(self.tracking_uri) else "0"
            self.experiment_id = str(chosen or os.environ.get("MLFLOW_EXPERIMENT_ID") or default)

    def snapshot(self, run_id: str) -> Snapshot:
        """What the run holds now.

        Raises:
            RefusedError: there is no such run, or it was deleted.
        """
        with refusals():
            run = self._store.get_run(run_id)
        if run.info.lifecycle_stage == "deleted":
            raise RefusedError(f"the run {run_id} was deleted")
        data = run.data
        keys = frozenset(data.metrics)
        experiment_id, status = str(run.info.experiment_id), str(run.info.status)
        return Snapshot(experiment_id, dict(data.params), dict(data.tags), keys, status)

    def experiment_of(self, name: str) -> str | None:
        """The id of the experiment with this name."""
        found = self._store.get_experiment_by_name(name)
        return None if found is None else str(found.experiment_id)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run now."""
        self._log_batch(run_id, Batch({}, dict(tags), []))

    def reopen(self, run_id: str) -> None:
        """The run, which may have ended, is running again."""
        self._end(run_id, "RUNNING", None)

    def search(self, experiment_id: str, wanted: str) -> Iterator[Any]:
        """The experiment's runs that match a filter, of MLflow's search syntax."""
        from mlflow.entities import ViewType

        token: str | None = None
        while True:
            page = self._store.search_runs(
                [experiment_id], wanted, ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def create(self, record: RunRecord, tags: Mapping[str, str]) -> str:
        """See ``records.Store``; adds MLflow's own tags and the parent's id."""
        from mlflow.entities import RunTag

        every = self._own_tags(record) | dict(tags)
        try:
            with refusals():
                run = self._store.create_run(
                    experiment_id=self.experiment_id,
                    user_id=every.get("mlflow.user", "unknown"),
                    start_time=record.start_ms,
                    tags=[RunTag(key, value) for key, value in every.items()],
                    run_name=record.name,
                )
        except (RefusedError, StoreBusyError):
            raise
        except Exception:
            self.may_have_twice, self._unanswered_s = True, time.monotonic()
            raise
        return str(run.info.run_id)

    def create_whole(self, runs: Sequence[tuple[RunRecord, Content]]) -> list[str]:
        """See ``records.Store``."""
        assert self._transaction is not None
        run_ids = []
        with self._transaction.begun():
            for record, content in runs:
                tags = dict(itertools.islice(content.tags.items(), TAGS_AT_FIRST))
                rest = {key: value for key, value in content.tags.items() if key not in tags}
                run_ids.append(self.create(record, tags))
                for batch in batches(content.params, rest, content.metrics):
                    self._log_batch(run_ids[-1], batch)
                self._end(run_ids[-1], content.status, content.end_ms)
        for _, content in runs:
            content.params, content.tags, content.metrics = {}, {}, []
            content.status = content.end_ms = None
        return run_ids

    def _end(self, run_id: str, status: str | None, end_ms: int | None) -> None:
        from mlflow.entities import RunStatus

        if status is not None:
            with refusals():
                self._store.update_run_info(run_id, RunStatus.from_string(status), end_ms, None)

    def latest(self, run_id: str) -> dict[str, Point]:
        """See ``records.Store``."""
        with refusals():
            points = of_mlflow.latest_points(self._store.get_run(run_id))
        return {p.key: Point(p.key, p.value, p.timestamp, p.step) for p in points}

    def running_metrics(self, parent_run_id: str) -> dict[str, dict[str, tuple[float, int, int]]]:
        """See ``watcher.MetricSource``."""
        found: dict[str, dict[str, tuple[float, int, int]]] = {}
        wanted = f"tags.`{PARENT_TAG}` = '{parent_run_id}' and attributes.status = 'RUNNING'"
        for run in self.search(self.experiment_id, wanted):
            points = of_mlflow.latest_points(run)
            found[run.info.run_id] = {p.key: (p.value, p.step, p.timestamp) for p in points}
        return found

    def series(self, run_id: str, metric: str) -> list[tuple[float, int, int]]:
        """See ``watcher.MetricSource``."""
        points = self._store.get_metric_history(run_id, metric)
        return sorted(((p.value, p.step, p.timestamp) for p in points), key=lambda point: point[1:])

    def find(self, record: RunRecord) -> str | None:
        """See ``records.Store``; gives the run the tags that ``create`` would, where a worker created it."""
        run = find_run(self._store, self.experiment_id, record.identity)
        if run is None:
            return None
        run_id = str(run.info.run_id)
        missing = {key: tag for key, tag in self._own_tags(record).items() if key not in run.data.tags}
        if missing:
            self._log(run_id, Batch({}, missing, []))
        return run_id

    def _own_tags(self, record: RunRecord) -> dict[str, str]:
        """MLflow's own tags (user, source) and the parent's id."""
        if record.parent is None or record.parent.run_id is None:
            return dict(self._context_tags)
        root = record.parent.root_run_id or record.parent.run_id
        return self._context_tags | {PARENT_TAG: record.parent.run_id, ROOT_TAG: root}

    def write(self, run_id: str, content: Content) -> None:
        """See ``records.Store``: tags that go, batches, then the end of the run, then artifacts."""
        while content.removed:
            self._remove_tag(run_id, content.removed[-1])
            content.removed.pop()
        for batch in list(batches(content.params, content.tags, content.metrics)):
            self._log(run_id, batch)
            for key in batch.params:
                del content.params[key]
            for key in batch.tags:
                del content.tags[key]
            del content.metrics[: len(batch.metrics)]
        self._end(run_id, content.status, content.end_ms)
        content.status = content.end_ms = None
        for name in list(content.artifacts):
            self._artifact(run_id, name, content.artifacts[name])
            del content.artifacts[name]

    def _remove_tag(self, run_id: str, key: str) -> None:
        try:
            with refusals():
                self._store.delete_tag(run_id, key)
        except RefusedError as refusal:  # it is gone: by an attempt that nobody answered, or by somebody else
            logger.debug("run %s: the tag %s was not removed: %s", run_id, key, refusal)

    def _log_batch(self, run_id: str, batch: Batch) -> None:
        from mlflow.entities import Metric, Param, RunTag

        with refusals():
            self._store.log_batch(
                run_id,
                metrics=[
                    Metric(point.key, point.value, point.time_ms, point.step) for point in batch.metrics
                ],
                params=[Param(key, value) for key, value in batch.params.items()],
                tags=[RunTag(key, value) for key, value in batch.tags.items()],
            )

    def _log(self, run_id: str, batch: Batch) -> None:
        """Write a batch; where the store refuses some of it, write the rest.

        A param that the objective itself has logged cannot change any more: the objective's value stays.
        """
        try:
            self._log_batch(run_id, batch)
            return
        except RefusedError as refusal:
            cause = refusal
        logged = self.snapshot(run_id).params
        params = {key: value for key, value in batch.params.items() if key not in logged}
        if len(params) < len(batch.params):
            kept = [key for key, value in batch.params.items() if logged.get(key, value) != value]
            logger.debug("run %s: params logged by the objective are kept: %s", run_id, ", ".join(kept))
            with contextlib.suppress(RefusedError):
                self._log_batch(run_id, batch._replace(params=params))
                return
        singles = [(key, Batch({key: value}, {}, [])) for key, value in params.items()]
        singles += [(key, Batch({}, {key: value}, [])) for key, value in batch.tags.items()]
        singles += [(point.key, Batch({}, {}, [point])) for point in batch.metrics]
        refused: dict[str, RefusedError] = {}
        written = 0
        for key, single in singles:
            try:
                self._log_batch(run_id, single)
                written += 1
            except RefusedError as refusal:
                refused[key] = refusal
        if refused and not written:
            raise cause
        for key in refused.keys() - self._refused:
            self._refused.add(key)
            logger.warning("MLflow refuses %r, here of the run %s: %s", key, run_id, refused[key])

    def remove_doubles(self, study_id: str, known: Container[str]) -> int:
        """Delete runs of a study that were created a second time, because the first was answered too late.

        Only what nobody has written to: still running, without params and metrics, as the driver creates it.

        Args:
            study_id: ``fmin_uuid``.
            known: the runs that count.

        Returns:
            How many were deleted.
        """
        wanted = f"tags.`{STUDY_TAG}` = '{study_id}' and attributes.status = 'RUNNING'"
        count = 0
        while True:
            doubles = [
                run.info.run_id
                for run in self.search(self.experiment_id, wanted)
                if run.info.run_id not in known
                and not (run.data.params or run.data.metrics)
                and ("trial_status" in run.data.tags or run.data.tags.get(ROLE_TAG) == "study")
            ]
            for run_id in doubles:
                self._store.delete_run(run_id)
            count += len(doubles)
            # A server that is slow, and does not lose requests, may still be creating the latest of them.
            if not doubles or time.monotonic() - self._unanswered_s > http.LIMIT_S:
                return count
            time.sleep(http.CREATE_S)

    def _artifact(self, run_id: str, name: str, text: str) -> None:
        """Store a text artifact; where the store of artifacts fails but tracking works, keep it aside."""
        limit, count = UPLOADS, 0
        cause: Exception | None = None
        while count < limit:
            try:
                url = self._upload_url(run_id)
                limit = UPLOADS if url is None else UPLOADS_TO_SERVER
                if url is not None:
                    assert self._http is not None
                    self._http.upload(url, name, text.encode("utf-8", errors="replace"))
                else:
                    self._upload(run_id, name, text)
                return
            except Exception as error:  # stores of artifacts raise what they like; it is said below
                cause = error
            count += 1
            self.snapshot(run_id)  # raises where the tracking server itself is away
        if not self.rejected:
            logger.warning("MLflow cannot store artifacts (%s of run %s: %s)", name, run_id, cause)
        # Of a report that is logged again and again, the latest alone.
        self.rejected = [known for known in self.rejected if known[:2] != (run_id, name)]
        self.rejected.append((run_id, name, text))

    def _upload_url(self, run_id: str) -> str | None:
        """See ``HttpStore.upload_url``; asked once for each run."""
        if self._http is None:
            return None
        if run_id not in self._upload_urls:
            self._upload_urls[run_id] = self._http.upload_url(self.tracking_uri, run_id)
        return self._upload_urls[run_id]

    def _upload(self, run_id: str, name: str, text: str) -> None:
        """MLflow's own way."""
        from mlflow import MlflowClient

        # Without a registry's address MLflow asks the Spark session for it, which may have died.
        client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_text(text, encoding="utf-8", errors="replace")
            client.log_artifact(run_id, str(path))


def find_run(store: Any, experiment_id: str, identity: Mapping[str, str]) -> Any | None:
    """The run that bears all tags of ``identity``, or None."""
    from mlflow.entities import ViewType

    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
    found = store.search_runs([experiment_id], wanted, ViewType.ACTIVE_ONLY, max_results=1)
    return found[0] if found else None


def _mlflow(module: str) -> Any:
    """A module of MLflow, without the types that it only half has."""
    return importlib.import_module(f"mlflow.{module}")
