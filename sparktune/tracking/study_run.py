"""The parent run of a study, joined or created: what is written to it before, during and after the study."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from sparktune.study.columns import parameter_columns
from sparktune.study.ranking import beats
from sparktune.study.spec import StudyRecord
from sparktune.study.tracker import StudyInfo, StudySummary, UnrecordableError
from sparktune.study.trial import Trial
from sparktune.tracking import description, schema, study_record
from sparktune.tracking.description import study_name
from sparktune.tracking.location import has_mlflows_pages
from sparktune.tracking.records import TAGS_AT_FIRST, RunRecord, UnusableError
from sparktune.tracking.refusals import at_start
from sparktune.tracking.schema import Point
from sparktune.tracking.store import MlflowStore, Snapshot
from sparktune.tracking.study_record import FINISHED, INTERRUPTED, STATE

logger = logging.getLogger("sparktune")

PROGRESS_EVERY_S = 1.0
"""How often the run's metrics are written while the study runs."""
STOP_REASON, ERROR = "sparktune.stop_reason", "sparktune.error"
BEST_TRIAL_ID, BEST_RUN_ID = "sparktune.best_trial_id", "sparktune.best_run_id"


class StudyRun:
    """Fills the parent's record. Where the run is joined, keys that another study has there get a suffix.

    A study that continues writes under the keys that it had.

    Args:
        info: the study.
        store: where the run is.
        lock: the writer's, which guards the record.
        joined: the id of the run to join, or None to create one.
        start_ms: when the study began.
        name: of a run that is created; empty for what the study is.
        tags: further ones of a run that is created; a description among them comes before sparktune's.

    Attributes:
        record: what is still to be written to the run.
        is_starting: the study's start waits for the run.
        was_opened: the store is open, or could not be opened, once.
        unusable: why the store can take nothing of it, where that became known while it began.
    """

    def __init__(
        self,
        info: StudyInfo,
        store: MlflowStore,
        lock: threading.RLock,
        joined: str | None,
        start_ms: int,
        name: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        identity = {schema.STUDY_TAG: info.study_id, schema.ROLE_TAG: "study"}
        self.record = RunRecord(
            name=name or study_name(info), start_ms=start_ms, identity=identity, prepare=self._open
        )
        self._info, self._store, self._lock, self._joined = info, store, lock, joined
        self._is_own = joined is None if info.continues is None else info.continues.record.is_own
        self._ends = self._is_own if info.continues is None else info.continues.ends
        self.is_starting = True
        self.was_opened = threading.Event()
        self.unusable: UnrecordableError | None = None
        self._start_ms = start_ms
        self._tags = dict(tags or {}) if joined is None else {}
        self._tags.pop(schema.NOTE_TAG, None)
        self._foreword = (tags or {}).get(schema.NOTE_TAG, "") if self._is_own else ""
        self._knows_experiment = False
        self._taken: Snapshot | None = None
        self._number = 0  # of studies that were recorded in the run before this one
        self._counts = dict.fromkeys((*schema.COUNTED.values(), "total"), 0)
        self._counts_written_ms = 0
        self._best = info.best
        self._written_loss: float | None = None
        if info.continues is not None:
            for trial in info.continues.trials:
                self.launched()
                self._count(trial)

    @property
    def run_id(self) -> str | None:
        """Once it is known."""
        return self._joined or self.record.run_id

    def _open(self) -> str:
        """``RunRecord.prepare``: join or create the run, and note what it is to hold."""
        if not self.is_starting:
            return self._opened()
        try:
            with at_start(self._store.tracking_uri):
                return self._opened()
        except UnusableError as error:
            self.unusable = error.why
            raise

    def _opened(self) -> str:
        try:
            self._store.open()
        finally:
            self.was_opened.set()
        if self._joined is not None:
            if self._taken is None:
                self._taken = self._store.snapshot(self._joined)
                self._store.experiment_id = self._taken.experiment_id
                self.record.root_run_id = self._taken.tags.get(schema.ROOT_TAG) or self._joined
                continues = self._info.continues
                if continues is not None:
                    self._number = continues.record.number
                    if self._is_own:
                        self._store.reopen(self._joined)
                else:
                    self._number = sum(key.startswith(schema.STUDY_TAG) for key in self._taken.tags)
            self._describe()
            return self._joined
        if (
            not self._knows_experiment
        ):  # once: attempts that ask for the same again meet the same trouble again
            self._store.use_active_experiment()
            self._knows_experiment = True
        found = self._store.find(self.record) if self.record.uncertain else None
        run_id = found or self._store.create(self.record, self._first_tags())
        self._describe()
        return run_id

    def _first_tags(self) -> dict[str, str]:
        """What the run is created with: enough to go on with the study, should this process be killed now."""
        record = self._study_record()
        tags = self.record.identity | study_record.tags(record) | {STATE: record.state}
        return tags if len(tags) <= TAGS_AT_FIRST else self.record.identity

    def _describe(self) -> None:
        tags = schema.parent_tags(self._info)
        if self._joined is not None:  # a run that was created has it from the beginning
            tags[schema.STUDY_TAG] = self._info.study_id
        params = {self._own(key): value for key, value in schema.parent_params(self._info).items()}
        record = self._study_record()
        note: dict[str, str] = {}
        if self._is_own and self.is_to_be_described(None):
            note = self._note(
                lambda: description.of_running_study(self._info, record.began_s, self._foreword)
            )
        with self._lock:
            self.record.params |= self._free(params, "params")
            self.record.tags |= self._tags | self._free(tags, "tags") | note
            self.record.tags |= study_record.tags(record) | {STATE: record.state}
            # They described an end that has been undone.
            self.record.removed = self._left_behind([STOP_REASON, ERROR])

    def _note(self, make: Callable[[], str]) -> dict[str, str]:
        """The tags of a description, which is never worth a study."""
        try:
            return description.note_tags(make(), self._info.study_id)
        except Exception as error:
            logger.warning("the run gets no description: %s: %s", type(error).__name__, error)
            return {}

    def _study_record(self) -> StudyRecord:
        info, continues = self._info, self._info.continues
        return StudyRecord(
            info.study_id,
            info.spec,
            info.start,
            began_s=self._start_ms / 1000 if continues is None else continues.record.began_s,
            number=self._number,
            is_own=self._is_own,
            stream=info.stream,
            earlier=info.earlier,
        )

    def launched(self) -> None:
        """A trial was launched."""
        self._counts["total"] += 1

    def ended(self, trial: Trial, now_ms: int) -> None:
        """A trial ended: note the study's progress. The caller holds the lock."""
        self._count(trial)
        self._add_best(now_ms)
        if now_ms - self._counts_written_ms >= 1000 * PROGRESS_EVERY_S:
            self._add_counts(now_ms)

    def _count(self, trial: Trial) -> None:
        self._counts[schema.COUNTED[trial.state]] += 1
        if beats(trial, self._best):
            self._best = trial

    def _add_best(self, now_ms: int) -> None:
        """A point of the loss of the best trial so far, those of earlier calls included."""
        loss = None if self._best is None else self._best.loss
        if loss is not None and math.isfinite(loss):
            self._written_loss = loss
            self._add("best_trial_loss", loss, now_ms, self._n_ended)

    def is_to_be_described(self, tags: Mapping[str, str] | None) -> bool:
        """Whether the run gets a description at the end: it has none, or ours as we left it.

        Args:
            tags: of the run, at this moment; None for those at the beginning.
        """
        if tags is None:
            tags = {} if self._taken is None else self._taken.tags
        return description.may_be_replaced(tags, self._info.study_id)

    def keep_report(self, text: str) -> None:
        """Note the study's report, in place of one that is there."""
        with self._lock:
            self.record.artifacts[f"report_{self._number}.html" if self._number else "report.html"] = text

    def close(
        self,
        summary: StudySummary,
        run_ids: Mapping[int, str],
        now_ms: int,
        trials: Sequence[Trial] | None = None,
        *,
        described: bool = True,
    ) -> None:
        """Note the study's results, and the run's end unless it was joined.

        Args:
            summary: how the study ended.
            run_ids: trial id -> run, of the trials that have one.
            now_ms: the end, milliseconds since 1970.
            trials: the study's own; all of the summary by default.
            described: write the description.
        """
        results = self._results(summary, run_ids)
        table = f"trials_{self._number}.json" if self._number else "trials.json"
        # A study ended by the user or an exception can be resumed; any other is finished.
        is_cut_off = schema.parent_status(summary) != "FINISHED"
        record = replace(self._study_record(), state=INTERRUPTED if is_cut_off else FINISHED)
        note: dict[str, str] = {}
        if described:
            note = self._note(
                lambda: description.of_study(
                    self._info,
                    summary,
                    summary.trials if trials is None else trials,
                    run_ids,
                    elapsed_s=self._info.used_s + (now_ms - self._start_ms) / 1000,
                    place=self._place(),
                    table_name=table,
                    foreword=self._foreword,
                )
            )
        with self._lock:
            if self.record.run_id is None:  # never opened: the file of unwritten runs is to hold all of it
                self._describe()
            self.record.tags |= {
                self._numbered(key): text for key, text in results.items() if text is not None
            }
            self.record.tags |= self._logged_table(table)
            self.record.removed += self._left_behind(key for key, text in results.items() if text is None)
            self.record.tags |= study_record.tags(record) | {STATE: record.state} | note
            self.record.artifacts[table] = schema.trials_table(summary.trials, run_ids)
            if summary.best is not None and summary.best_point is not None:
                self.record.artifacts[schema.best_point_file(self._number)] = schema.point_json(
                    summary.best.trial_id, summary.best_point
                )
            self._add_counts(now_ms)
            self._best = summary.best
            if summary.best is not None and summary.best.loss != self._written_loss:
                self._add_best(now_ms)  # the end of a study may revise a loss
            if summary.share_saved is not None:
                self._add("compute_saved_share", summary.share_saved, now_ms, 0)
            if self._ends:
                self.record.status, self.record.end_ms = schema.parent_status(summary), now_ms

    def _results(self, summary: StudySummary, run_ids: Mapping[int, str]) -> dict[str, str | None]:
        """Tag -> what came of the study; None for what may have come of it when it ended before.

        They are tags because a study that continues changes them, and a param never changes.
        """
        best = summary.best
        params = {} if best is None else best.params
        labels = dict.fromkeys(label for trial in summary.trials for label in trial.params)
        found: dict[str, str | None] = {}
        for label, name in parameter_columns(labels, ("trial_id", "run_id")).items():
            value = schema.param_value(params[label]) if label in params else None
            found[self._own(schema.valid_key(f"best_{name}"))] = value
        found |= {
            BEST_TRIAL_ID: None if best is None else str(best.trial_id),
            BEST_RUN_ID: None if best is None else run_ids.get(best.trial_id, best.run_id),
            STOP_REASON: summary.stop_reason or None,
            ERROR: summary.error or None,
        }
        return {
            key: None if text is None else schema.cut(text, schema.MAX_TAG_VALUE)
            for key, text in found.items()
        }

    def _left_behind(self, keys: Iterable[str]) -> list[str]:
        """Of the tags in ``_results``, those that this study has in the run, where it continues."""
        if self._info.continues is None:
            return []
        known = None if self._taken is None else self._taken.tags
        return [key for key in map(self._numbered, keys) if known is None or key in known]

    def _place(self) -> tuple[str, str] | None:
        """Where MLflow's UI shows the run; None where it has no run yet, or places of another form."""
        if self.run_id is None or not has_mlflows_pages(self._store.tracking_uri):
            return None
        return self._store.experiment_id, self.run_id

    @property
    def _n_ended(self) -> int:
        return sum(self._counts.values()) - self._counts["total"]

    def _add_counts(self, now_ms: int) -> None:
        self._counts_written_ms = now_ms
        always = (
            "successful",
            "failed",
            "cancelled",
            "total",
        )  # the contract's; the others where there are any
        for name, count in self._counts.items():
            if not count and name not in always:
                continue
            self._add(f"{name}_trials_count", float(count), now_ms, self._n_ended)

    def _own(self, key: str) -> str:
        """A key as it is called in the run: in the user's run it must not collide with the user's keys.

        A param cannot be logged again with another value: ``mlflow.log_param("algo", ...)`` after ``fmin``
        would raise.
        """
        return key if self._is_own else schema.valid_key(f"sparktune.{key}")

    def _numbered(self, key: str) -> str:
        """A key that every study has in its own run, and finds again when it continues."""
        return schema.with_suffix(key, set(), self._number) if self._number else key

    def _add(self, metric: str, value: float, now_ms: int, step: int) -> None:
        self.record.metrics.append(Point(self._free_key(metric, "metrics"), value, now_ms, step))

    def _logged_table(self, name: str) -> dict[str, str]:
        """The tag by which MLflow's UI knows tables, with this one added."""
        tag = "mlflow.loggedArtifacts"
        try:
            logged = list(json.loads(self._taken.tags.get(tag, "[]"))) if self._taken is not None else []
        except (ValueError, TypeError):  # something else was written there
            return {}
        entry = {"path": name, "type": "table"}
        return {tag: json.dumps([*(known for known in logged if known != entry), entry])}

    def _free_key(self, key: str, kind: str) -> str:
        """The key under which this study writes to the run: with a suffix where another has it."""
        taken = getattr(self._taken, kind) if self._taken is not None else ()
        if self._info.continues is not None and kind != "params":
            return f"{key}_{self._number}" if self._number else key
        return schema.with_suffix(key, set(taken), max(1, self._number)) if key in taken else key

    def _free(self, wanted: Mapping[str, str], kind: str) -> dict[str, str]:
        taken: Mapping[str, str] = getattr(self._taken, kind) if self._taken is not None else {}
        return {
            (key if taken.get(key) == value else self._free_key(key, kind)): value
            for key, value in wanted.items()
        }
