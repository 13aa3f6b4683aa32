"""What a trials object keeps between ``fmin`` calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import hyperopt
from hyperopt.base import JOB_STATE_NEW, JOB_STATE_RUNNING

from sparktune.early_termination.base import Curve
from sparktune.private import of_hyperopt
from sparktune.search.history import config_of
from sparktune.space.view import SpaceView
from sparktune.study.outcome import outcome_of
from sparktune.study.randomness import SeedStream
from sparktune.study.spec import StudySpec, StudyStart
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import documents
from sparktune.trials.documents import Document

if TYPE_CHECKING:
    from sparktune.tracking.reader import RecordedStudy


@dataclass(frozen=True)
class LatestStudy:
    """The study that ran on a trials object last, or runs.

    Attributes:
        spec: what it is.
        start: where it began.
        study_id: the same on all of its runs; None where it is not recorded.
        run_id: its MLflow parent run, or None.
        warm: documents of earlier studies that inform the search.
    """

    spec: StudySpec = field(default_factory=StudySpec)
    start: StudyStart = field(default_factory=StudyStart)
    study_id: str | None = None
    run_id: str | None = None
    warm: tuple[Document, ...] = ()


@dataclass
class StudyMemory:
    """What a trials object keeps between ``fmin`` calls; save files hold it.

    Attributes:
        latest: the study that ran last, or runs.
        records: trial id -> its record.
        documents: trial id -> hyperopt's document of it.
        curves: trial id -> its reports.
        free_ids: ids below the highest that are free.
        stream: the random stream, once a study has begun.
        used_s: seconds of its time limit that the latest study has used, as last noted.
        n_given: how many points were passed to the latest call, or were queued.
        is_unfinished: an ``fmin`` call is under way; in a file, that one was when its process was killed.
        is_cut_off: the latest call was interrupted, or raised: the next one continues its study.
        is_unrecorded: the study resumes from a save file, and MLflow does not have it.
        stop_reason: why the latest call stopped before its ``max_evals``, or None.
        saved_by: which ``fmin`` call wrote the save file that holds these trials; None without one.
        earlier_studies: (parent run, study id) of the studies in MLflow that hold trials of these.
        recorded: what MLflow has of the study, where the trials were read from there.
    """

    latest: LatestStudy = field(default_factory=LatestStudy)
    records: dict[int, Trial] = field(default_factory=dict)
    documents: dict[int, Document] = field(default_factory=dict)
    curves: dict[int, Curve] = field(default_factory=dict)
    free_ids: list[int] = field(default_factory=list)
    stream: SeedStream | None = None
    used_s: float = 0.0
    n_given: int = 0
    is_unfinished: bool = False
    is_cut_off: bool = False
    is_unrecorded: bool = False
    stop_reason: str | None = None
    saved_by: str | None = None
    earlier_studies: tuple[tuple[str, str], ...] = ()
    recorded: RecordedStudy | None = None

    @property
    def spec(self) -> StudySpec:
        """What the latest study is."""
        return self.latest.spec

    def is_of_latest(self, trial_id: int) -> bool:
        """Whether a trial is one of the latest study, and not of one before it."""
        return trial_id >= self.latest.start.first_id

    def joined(self, run_id: str | None, study_id: str | None) -> None:
        """The latest study has this parent run, and this id; None where there is none, or not yet."""
        self.latest = replace(self.latest, run_id=run_id, study_id=study_id)

    def remember_study(self, run_id: str, study_id: str) -> None:
        """A study in MLflow holds trials of these."""
        if (run_id, study_id) not in self.earlier_studies:
            self.earlier_studies += ((run_id, study_id),)

    def take_free_ids(self, n: int) -> list[int]:
        """Up to ``n`` ids that the record of a study lacks."""
        taken, self.free_ids = self.free_ids[:n], self.free_ids[n:]
        return taken

    def insert(
        self, trials: hyperopt.Trials, suggested: Document, space: SpaceView, draws: int | None = None
    ) -> Trial:
        """Insert the document of a new trial, visible immediately, and return its record."""
        document = of_hyperopt.insert(trials, suggested)
        trial_id = document["tid"]
        self.documents[trial_id] = document
        self.records[trial_id] = replace(documents.queued_trial(document, space), draws=draws)
        return self.records[trial_id]

    def join(
        self, trials: hyperopt.Trials, space: SpaceView, *, again: bool = False
    ) -> tuple[list[Trial], list[Trial]]:
        """The trials of earlier calls: those that ended, and those still to be run.

        A trial that was running when its study's process ended is run again; with ``again``, one of the
        latest study too that was cancelled because the study stopped.

        Raises:
            InvalidSpace: the trials are of another space.
        """
        trials.refresh()
        known = of_hyperopt.documents(trials)
        for document in known:
            space.check_earlier(document["tid"], config_of(document))
        records = {document["tid"]: self._joining(document, space, again=again) for document in known}
        # New ones: a copy of the trials object shares the former.
        self.records, self.documents = records, {document["tid"]: document for document in known}
        self.curves = dict(self.curves)
        trials.refresh()
        ended = [trial for trial in records.values() if trial.state.is_final]
        return ended, [trial for trial in records.values() if not trial.state.is_final]

    def _joining(self, document: Document, space: SpaceView, *, again: bool) -> Trial:
        known = self.records.get(document["tid"])
        is_own = again and self.is_of_latest(document["tid"])
        is_cancelled = is_own and outcome_of(document) is TrialState.CANCELLED
        if is_cancelled or document["state"] in (JOB_STATE_NEW, JOB_STATE_RUNNING):
            documents.requeue(document, space)
            draws = None if known is None else known.draws
            return replace(documents.queued_trial(document, space), draws=draws)
        if known is not None and known.state.is_final:
            return known
        return documents.final_trial(document, space)

    def note_runs(self, run_ids: Mapping[int, str]) -> None:
        """Take the MLflow runs of trials into records and documents."""
        for trial_id, run_id in run_ids.items():
            record = self.records.get(trial_id)
            if record is not None and record.run_id != run_id:
                self.records[trial_id] = replace(record, run_id=run_id)
                self.documents[trial_id]["misc"]["run_id"] = run_id
