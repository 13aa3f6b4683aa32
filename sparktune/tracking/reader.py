"""Reads a study back from MLflow: its parent run, its trials, and whether its driver is alive.

Only what sparktune itself has recorded is read, as JSON: nothing in a store is executed.

A recorded run becomes a ``Trial``, and is chosen among the runs of its trial, in this module alone: for
resume and warm start, for pictures and reports, for ``sparktune show`` and ``sparktune best``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hyperopt.base import JOB_STATE_ERROR

from sparktune.early_termination.base import Decision
from sparktune.study.outcome import result_of
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.spec import StudyRecord
from sparktune.study.trial import Trial, TrialError, TrialState
from sparktune.tracking import artifacts, schema, study_record
from sparktune.tracking.lease import Lease, is_alive, life
from sparktune.tracking.location import is_remote, without_password
from sparktune.tracking.records import RefusedError
from sparktune.tracking.refusals import cannot_record
from sparktune.tracking.store import MlflowStore
from sparktune.tracking.study_record import LEASE, short

logger = logging.getLogger("sparktune")

TRIES = 5
PAUSE_S = 1.0
SETTLE_S = 0.5
"""How long after claiming a study it is looked whether another driver has claimed it at the same moment."""
DOWNLOADS = 8
"""How many documents that are artifacts are read at a time."""
MOST_CURVES = 300
"""A snapshot has the reports of so many trials at most: each takes a request."""
CURVES_AT_A_TIME = 8
"""From a server."""
DONE = frozenset(state for state in TrialState if state.is_final and state is not TrialState.CANCELLED)

T = TypeVar("T")


REMEDY = "Give the id of a study's parent run: trials.run_id, or Run ID in MLflow's UI"


class NotRecordedError(Exception):
    """There is no such study in the store, or it cannot be read."""


class StudyAliveError(Exception):
    """The study's driver is alive."""


@dataclass(frozen=True)
class RecordedTrial:
    """A trial's run.

    Attributes:
        trial_id: of the trial.
        run_id: of the run.
        status: MLflow's.
        is_interrupted: its driver died while it ran, and the trial is run again in another run.
        document: the trial document as it was recorded; None where it was not. Of a trial whose end is not
            recorded, what is needed to run it again.
        is_best: it is marked as the best of its study.
    """

    trial_id: int
    run_id: str
    status: str
    is_interrupted: bool
    document: Mapping[str, Any] | None
    is_best: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the trial's end is recorded."""
        if self.is_interrupted or self.document is None:
            return False
        return own_entries(self.document).get("state") not in (None, "queued", "running")

    def trial(self, *, is_driven: bool) -> Trial:
        """The record of the trial, as far as it is recorded.

        Without a recorded end it is running where its study has a driver and its run is open. Else it is
        queued, whatever MLflow's status of the run: it is run again when the study is resumed.

        Args:
            is_driven: whether a driver has the study.
        """
        document = self.document or {}
        own = own_entries(document)
        misc = document.get("misc") or {}
        config = {label: values[0] for label, values in (misc.get("vals") or {}).items() if values}
        params = config | schema.restored_param(own.get("params") or {})
        begun = Trial(self.trial_id, config, params, run_id=self.run_id, draws=own.get("draws"))
        facts = {name: own[name] for name in schema.FACTS if name in own}
        if not self.has_ended:
            is_running = is_driven and self.status == "RUNNING" and not self.is_interrupted
            return replace(begun, state=TrialState.RUNNING, **facts) if is_running else begun
        decision = own.get("decision")
        return replace(
            begun,
            state=TrialState(own["state"]),
            loss=own.get("loss"),
            result=result_of(document),
            error=_error(document, own.get("error")),
            decision=Decision(**decision) if isinstance(decision, Mapping) else None,
            **facts,
        )

    @property
    def rank(self) -> int:
        """Of several runs of one trial that of the highest rank counts: an end goes before a cancellation."""
        if self.document is None:
            return 0
        if not self.has_ended:
            return 1
        return 2 if own_entries(self.document)["state"] == TrialState.CANCELLED else 3


@dataclass(frozen=True)
class RecordedStudy:
    """A study as MLflow has it.

    Attributes:
        run_id: its parent run.
        experiment_id: where its runs are.
        record: what it is.
        lease: which driver has it, or had it last; None where that is not recorded.
        is_open: the parent run has not ended.
        runs: of its trials; a trial that was interrupted and run again has several.
        earlier: the studies whose trials it went on with.
    """

    run_id: str
    experiment_id: str
    record: StudyRecord
    lease: Lease | None
    is_open: bool = False
    runs: Sequence[RecordedTrial] = ()
    earlier: Sequence[RecordedStudy] = field(default=())

    @property
    def is_unfinished(self) -> bool:
        """Whether it did not come to its end."""
        return self.record.state != study_record.FINISHED

    @property
    def is_driven(self) -> bool | None:
        """Whether a living driver has it, judged without waiting; None where that is not known."""
        if self.lease is None or self.record.state != study_record.RUNNING:
            return False
        return {"lives": True, "is over": False, "unknown": None}[life(self.lease)]

    @property
    def draws(self) -> int:
        """How many seeds of the random stream are known to have been drawn."""
        drawn = [int(known.get("draws") or 0) for known in map(own_entries, self.documents)]
        return max([self.record.start.draws_before, *drawn])

    @property
    def documents(self) -> list[Mapping[str, Any]]:
        """The documents of its trials, as far as they are recorded."""
        return [run.document for run in self.runs if run.document is not None]

    @property
    def counted(self) -> list[tuple[RecordedStudy, RecordedTrial]]:
        """Each trial once, also of the studies that it continued: whose it is, and the run that counts."""
        whose = {run.run_id: part for part in (*self.earlier, self) for run in part.runs}
        runs = chosen(run for part in (*self.earlier, self) for run in part.runs)
        return [(whose[run.run_id], run) for _, run in sorted(runs.items())]

    def snapshot(self) -> StudySnapshot:
        """The study with each trial once, and without reports: these take a request for each trial."""
        parts = (*self.earlier, self)
        driven = {part.record.study_id: part.is_driven is not False for part in parts}
        trials = [run.trial(is_driven=driven[part.record.study_id]) for part, run in self.counted]
        return StudySnapshot(
            trials,
            metric=self.record.spec.metric,
            goal=self.record.spec.goal,
            algo=self.record.spec.algo,
            parameters=self.record.spec.parameters,
            run_id=self.run_id,
            is_running=driven[self.record.study_id],
            reports_left_out=sum(trial.steps > 0 for trial in trials),
        )


def chosen(runs: Iterable[RecordedTrial]) -> dict[int, RecordedTrial]:
    """Trial id -> the one of its runs that counts: of the highest rank, and of equals the latest."""
    found: dict[int, RecordedTrial] = {}
    for run in runs:
        known = found.get(run.trial_id)
        if known is None or run.rank >= known.rank:
            found[run.trial_id] = run
    return found


def own_entries(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a recorded document holds beyond hyperopt's entries; see ``schema.recorded_document``."""
    found = document.get(schema.OWN_ENTRIES)
    return found if isinstance(found, Mapping) else {}


def _error(document: Mapping[str, Any], known: Any) -> TrialError | None:
    """Why a trial failed; its traceback is in hyperopt's part of the document."""
    if not isinstance(known, Mapping):
        return None
    message = str(known.get("message", ""))
    hyperopts: Any = (document.get("misc") or {}).get("error")
    has_traceback = document.get("state") == JOB_STATE_ERROR and isinstance(hyperopts, list)
    return TrialError(str(known.get("kind", "")), message, str(hyperopts[1]) if has_traceback else message)


def best_point(tracking_uri: str, study: RecordedStudy, trial_id: int, *, exactly: bool = False) -> Any:
    """The best trial's point as its objective received it; None where it is not recorded.

    Args:
        tracking_uri: of the store.
        study: whose best trial it is.
        trial_id: of the best trial; the point of another one is not given.
        exactly: None, too, where JSON does not hold the point as it was.
    """
    try:
        name = schema.best_point_file(study.record.number)
        found = json.loads(artifacts.text_of(tracking_uri, study.run_id, name))
    except Exception:  # a study that runs has none yet
        return None
    is_wanted = found["trial"] == trial_id and (found.get("exact", True) or not exactly)
    return found["point"] if is_wanted else None


class Reader:
    """Reads studies from one store.

    Args:
        tracking_uri: absolute.

    Every method raises ``NotRecordedError`` where the store does not answer.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._shown = without_password(tracking_uri)
        self._store = MlflowStore(tracking_uri)
        self._tried(self._store.open)

    def study(self, run_id: str, study_id: str | None = None) -> RecordedStudy:
        """A study with its trials: the latest that the run is the parent of, unless its id is given.

        Raises:
            NotRecordedError: there is none.
        """
        found = self._study(run_id, study_id)
        known = found.record.earlier
        earlier = tuple(self._with_trials(self._study(run, study)) for run, study in known)
        whole = self._with_trials(found)
        return replace(whole, earlier=earlier)

    def _study(self, run_id: str, study_id: str | None) -> RecordedStudy:
        try:
            snapshot = self._tried(lambda: self._store.snapshot(run_id))
        except RefusedError as error:
            raise NotRecordedError(
                f"MLflow at {self._shown} has no run {run_id!r}: {error}. {REMEDY}"
            ) from error
        found = self._of_tags(run_id, snapshot.experiment_id, snapshot.tags, study_id)
        return replace(found, is_open=snapshot.status == "RUNNING")

    def _of_tags(
        self, run_id: str, experiment_id: str, tags: Mapping[str, str], study_id: str | None
    ) -> RecordedStudy:
        try:
            records = study_record.records(tags)
        except (ValueError, KeyError, TypeError) as error:
            raise NotRecordedError(f"the run {run_id} cannot be read: {error}") from error
        chosen = [record for record in records if study_id in (None, record.study_id)]
        if not chosen:
            is_trial = schema.PARENT_TAG in tags
            raise NotRecordedError(
                f"the run {run_id} holds no study that sparktune can resume"
                + (
                    f": it is a trial; its parent run is {tags[schema.PARENT_TAG]}"
                    if is_trial
                    else f". {REMEDY}"
                )
            )
        record = chosen[-1]
        lease = Lease.from_json(tags.get(LEASE + short(record.study_id), ""))
        return RecordedStudy(run_id, experiment_id, record, lease)

    def parent_of(self, study_id: str) -> str | None:
        """The parent run of a study in the active experiment; None where there is none."""
        self._use_active_experiment()
        wanted = f"tags.`{schema.STUDY_TAG}` = '{study_id}' and tags.`{schema.ROLE_TAG}` = 'study'"
        found = self._search(self._store.experiment_id, wanted)
        # One that was created twice is described once.
        best = max(found, key=lambda run: len(run.data.tags), default=None)
        return None if best is None else str(best.info.run_id)

    def _with_trials(self, study: RecordedStudy) -> RecordedStudy:
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            runs = list(pool.map(self._trial, self._children(study)))
        known = [run for run in runs if run is not None]
        known.sort(key=lambda run: run.trial_id)  # a trial's runs stay in the order in which they began
        return replace(study, runs=known)

    def _children(self, study: RecordedStudy) -> list[Any]:
        wanted = (
            f"tags.`{schema.PARENT_TAG}` = '{study.run_id}' and "
            f"tags.`{schema.STUDY_TAG}` = '{study.record.study_id}'"
        )
        runs = self._search(study.experiment_id, wanted)
        return sorted(runs, key=lambda run: run.info.start_time or 0)

    def _search(self, experiment_id: str, wanted: str) -> list[Any]:
        return self._tried(lambda: list(self._store.search(experiment_id, wanted)))

    def _trial(self, run: Any) -> RecordedTrial | None:
        tags = run.data.tags
        try:
            trial_id = int(tags[schema.TRIAL_ID_TAG])
        except (KeyError, ValueError):
            return None  # one of the user's runs below the parent
        document = None
        try:
            ended = schema.document_in(tags)
            if ended is not None and "artifact" in ended:
                ended = json.loads(artifacts.text_of(self._uri, run.info.run_id, ended["artifact"]))
            document = ended
        except Exception as error:  # of the artifact's store, or a foreign text
            logger.warning("trial %d cannot be read from its run %s: %s", trial_id, run.info.run_id, error)
        if document is None:
            with contextlib.suppress(ValueError):
                document = json.loads(schema.joined(tags, schema.POINT_TAG) or "null")
        return RecordedTrial(
            trial_id,
            run.info.run_id,
            run.info.status,
            schema.INTERRUPTED_TAG in tags,
            document,
            tags.get(schema.BEST_TAG) == "true",
        )

    def snapshot(self, study: RecordedStudy) -> StudySnapshot:
        """A study with its name and the reports of its trials; of very many trials those of a part."""
        found = study.snapshot()
        wanted = _worth_reading([trial for trial in found.trials if trial.steps > 0])
        return replace(
            found,
            name=self.run_name(study.run_id),
            reports=self.reports(study, wanted),
            reports_left_out=found.reports_left_out - len(wanted),
        )

    def reports(self, study: RecordedStudy, trial_ids: Collection[int]) -> dict[int, list[float]]:
        """Trial id -> what it reported of the study's primary metric, in the order of its steps."""
        counted = [(part, run) for part, run in study.counted if run.trial_id in trial_ids]
        with ThreadPoolExecutor(CURVES_AT_A_TIME if is_remote(self._uri) else 1) as pool:
            found = pool.map(lambda one: self._reports(*one), counted)
            return {run.trial_id: values for (_, run), values in zip(counted, found, strict=True)}

    def _reports(self, study: RecordedStudy, run: RecordedTrial) -> list[float]:
        n = int(own_entries(run.document or {}).get("steps") or 0)
        if n == 0:
            return []
        key = schema.valid_key(study.record.spec.metric)
        # Its result has its own point, behind the reports.
        return [value for value, _, _ in self._tried(lambda: self._store.series(run.run_id, key))][:n]

    def unfinished(self, experiment_id: str | None = None) -> list[RecordedStudy]:
        """The studies of an experiment (default: the active one) that did not end, the latest first.

        Without their trials.
        """
        if experiment_id is None:
            self._use_active_experiment()
            experiment_id = self._store.experiment_id
        wanted = f"tags.`{study_record.STATE}` != '{study_record.FINISHED}'"
        found = []
        for run in self._search(experiment_id, wanted):
            try:
                found.append(self._of_tags(run.info.run_id, experiment_id, run.data.tags, None))
            except NotRecordedError as error:
                logger.info("%s", error)
        found = [study for study in found if study.is_unfinished]
        return sorted(found, key=lambda study: study.record.began_s, reverse=True)

    def run_name(self, run_id: str) -> str:
        """The name of a run; empty without one."""
        return self._tried(lambda: self._store.snapshot(run_id)).tags.get(schema.NAME_TAG, "")

    def experiment_id(self, name: str) -> str:
        """The id of an experiment.

        Raises:
            NotRecordedError: there is none of that name.
        """
        found = self._tried(lambda: self._store.experiment_of(name))
        if found is None:
            raise NotRecordedError(f"MLflow at {self._shown} has no experiment {name!r}")
        return found

    def count_ended(self, study: RecordedStudy) -> int:
        """How many of a study's ``max_evals`` are done: what was cut off runs again when it continues.

        Read from tags that are always there, without the trials' documents.
        """
        tags = [run.data.tags for run in self._children(study)]
        done = {known.get(schema.TRIAL_ID_TAG) for known in tags if _is_done(known)}
        return study.record.start.n_before + len(done)

    def running_below(self, experiment_id: str, run_id: str) -> list[str]:
        """The runs below a run, at any depth, that have not ended."""
        below = self._search(experiment_id, f"tags.`{schema.PARENT_TAG}` = '{run_id}'")
        deeper = [found for run in below for found in self.running_below(experiment_id, run.info.run_id)]
        return [run.info.run_id for run in below if run.info.status == "RUNNING"] + deeper

    def lease(self, study: RecordedStudy) -> Lease | None:
        """Who drives the study at this moment."""
        tags = self._tried(lambda: self._store.snapshot(study.run_id)).tags
        return Lease.from_json(tags.get(LEASE + short(study.record.study_id), ""))

    def claim(self, study: RecordedStudy, used_s: float, *, take_over: bool) -> Lease:
        """Make this process the study's driver.

        Raises:
            StudyAliveError: another one is alive, and is not to be taken over from; or it claimed the study
                at the same moment.
        """
        held = study.lease if study.record.state == study_record.RUNNING else None
        if held is not None and not take_over and is_alive(held, lambda: self.lease(study)):
            raise StudyAliveError(str(held))
        mine = Lease.mine(used_s)
        key = LEASE + short(study.record.study_id)
        for _ in range(TRIES):
            self._tried(lambda: self._store.set_tags(study.run_id, {key: mine.as_json()}))
            threading.Event().wait(SETTLE_S)
            now = self.lease(study)
            if now is None or now.owner == mine.owner:
                return mine
            if held is None or now.owner != held.owner:
                break
            # The driver that is taken over from was about to renew its lease; it ends at the next renewal.
        raise StudyAliveError(str(now))

    def _use_active_experiment(self) -> None:
        try:
            self._tried(self._store.use_active_experiment)
        except RefusedError as error:
            raise NotRecordedError(f"MLflow at {self._shown} has no such experiment: {error}") from error

    def _tried(self, ask: Callable[[], T]) -> T:
        """Ask the store, a few times."""
        for n in range(TRIES):
            try:
                return ask()
            except RefusedError:
                raise
            except Exception as error:  # whatever a store raises
                why = cannot_record(error, self._uri)
                if why is not None:
                    raise NotRecordedError(str(why)) from error
                cause = error
            if n < TRIES - 1:
                threading.Event().wait(PAUSE_S)
        text = without_password(" ".join(str(cause).split()))
        raise NotRecordedError(
            f"MLflow at {self._shown} does not answer ({type(cause).__name__}: {text[:300]}); is "
            "MLFLOW_TRACKING_URI right, and does the server run?"
        ) from cause


def _is_done(tags: Mapping[str, str]) -> bool:
    """Whether the trial of a run has ended, and does not run again."""
    return tags.get("trial_status") in DONE and schema.INTERRUPTED_TAG not in tags


def _worth_reading(trials: Sequence[Trial]) -> set[int]:
    """The trials whose reports are read: all, or the best tenth and an even sample of the others."""
    if len(trials) <= MOST_CURVES:
        return {trial.trial_id for trial in trials}
    completed = [trial for trial in trials if trial.loss is not None and trial.state is TrialState.COMPLETED]
    best = sorted(completed, key=lambda trial: trial.loss or 0.0)[: MOST_CURVES // 10]
    numbers = {trial.trial_id for trial in best}
    others = [trial.trial_id for trial in trials if trial.trial_id not in numbers]
    n = MOST_CURVES - len(numbers)
    return numbers | {others[i * len(others) // n] for i in range(n)}
