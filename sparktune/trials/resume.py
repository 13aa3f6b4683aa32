"""Trials from what MLflow recorded of a study, so that ``fmin`` continues it in the same runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hyperopt

from sparktune.early_termination.base import Curve, Goal
from sparktune.errors import CannotResume, StudyInProgress
from sparktune.private import of_hyperopt
from sparktune.study.randomness import SeedStream, as_generator
from sparktune.study.spec import StudySpec
from sparktune.study.study import SEED_BOUND
from sparktune.study.tracker import Continued
from sparktune.study.trial import Trial
from sparktune.trials import documents
from sparktune.trials.memory import LatestStudy, StudyMemory

if TYPE_CHECKING:
    from sparktune.tracking.reader import RecordedStudy, RecordedTrial
    from sparktune.trials.base import StudyTrials

logger = logging.getLogger("sparktune")

MOST_OTHERS = 3
"""How many unfinished studies that do not fit are named in the log."""
LAST = "last"
"""``resume="last"``: the latest unfinished study of the experiment."""


def find_last(spec: StudySpec) -> RecordedStudy | None:
    """The latest unfinished study of the experiment that this call may be: of its name, space and algorithm.

    None, and a line in the log, where there is none: a new study begins.

    Raises:
        CannotResume: MLflow does not answer.
    """
    from sparktune.tracking.location import current_uri
    from sparktune.tracking.reader import NotRecordedError, Reader

    try:
        reader = Reader(current_uri())
        others: list[str] = []
        for study in reader.unfinished():
            was = study.record.spec
            differs = _differences(was, spec)
            if was.name != spec.name:
                differs = [f"its name is {was.name!r}", *differs]
            if not differs:
                return reader.study(study.run_id, study.record.study_id)
            others.append(f"run {study.run_id}: {'; '.join(differs)}")
    except NotRecordedError as error:
        raise CannotResume(f"resume={LAST!r}: {error}") from None
    known = f". Unfinished, but others: {' | '.join(others[:MOST_OTHERS])}" if others else ""
    logger.info(
        "resume='last': the experiment has no unfinished study named %r of this space and algorithm, so a "
        "new one begins%s",
        spec.name,
        known,
    )
    return None


def find(run_id: Any, argument: str = "resume") -> RecordedStudy | None:
    """The recorded study that ``resume=`` or another argument means, with its trials; None for no last one.

    Raises:
        CannotResume: there is no such study, or MLflow does not answer.
        TypeError: ``run_id`` is not a text.
    """
    from sparktune.tracking.location import current_uri
    from sparktune.tracking.reader import NotRecordedError, Reader

    if not isinstance(run_id, str) or not run_id:
        raise TypeError(f"{argument} is {run_id!r}; it must be the id of a parent run, or 'last'")
    try:
        reader = Reader(current_uri())
        if run_id != LAST:
            return reader.study(run_id)
        unfinished = reader.unfinished()
        if not unfinished:
            return None
        return reader.study(unfinished[0].run_id, unfinished[0].record.study_id)
    except NotRecordedError as error:
        raise CannotResume(f"{argument}={run_id!r}: {error}") from None


def ended_trials(study: RecordedStudy) -> Iterator[tuple[str, documents.Document, Trial]]:
    """The run, document and record of each trial that ended, also of the studies that this one continued."""
    for _, run in study.counted:
        if run.has_ended:
            yield (run.run_id, *_restored(run))


def check(study: RecordedStudy, spec: StudySpec) -> None:
    """Refuse to continue a study that is another one.

    Raises:
        CannotResume: space, algorithm, metric or goal are not those that were recorded; names both.
    """
    found = _differences(study.record.spec, spec)
    if found:
        raise CannotResume(
            f"the study of run {study.run_id} cannot be resumed, because it was another one: "
            f"{'; '.join(found)}. Give what was recorded, or begin a new study (without resume=; its trials "
            "can inform it: warm_start=)"
        )


def _differences(was: StudySpec, now: StudySpec) -> list[str]:
    """How this call differs from what was recorded; without ``warm_start`` it takes what was recorded."""
    return was.differences(now if now.warm_start else replace(now, warm_start=was.warm_start))


def warn_of_name(was: str, name: str, run_id: str | None, *, informs: bool = False) -> None:
    """Warn that a study that was not found by its name has another name, so perhaps another objective.

    Args:
        was: its name; empty where it is not known.
        name: of this call's study.
        run_id: its parent run, or None.
        informs: its trials only inform the search.
    """
    if was in ("", name):
        return
    whose = "the study of these trials" if run_id is None else f"the study of run {run_id}"
    if informs:
        count, else_ = "inform the search", "leave it out of warm_start"
    else:
        count, else_ = "count", f"begin a new study with new trials; else give study_name={was!r}"
    logger.warning(
        "%s was begun as %r, and this call is %r: its trials %s as if they were of this objective. If they "
        "are not, %s",
        whose,
        was,
        name,
        count,
        else_,
    )


def fill(trials: StudyTrials, study: RecordedStudy) -> None:
    """Fill empty trials with what was recorded of a study, and of those that it continued.

    Raises:
        CannotResume: MLflow does not answer.
    """
    from sparktune.tracking.reader import chosen

    counted = chosen(study.runs)
    found = [_restored(run) for _, run in study.counted if run.document is not None]
    filled = hyperopt.trials_from_docs([document for document, _ in found], validate=False)
    of_hyperopt.fill(trials, filled)
    has_policy = trials.early_termination is not None
    trials.memory = StudyMemory(
        latest=LatestStudy(study.record.spec, study.record.start, run_id=study.run_id),
        records={trial.trial_id: trial for _, trial in found},
        documents={document["tid"]: document for document in of_hyperopt.documents(trials)},
        curves=_curves(study, [trial for _, trial in found], trials.goal) if has_policy else {},
        free_ids=of_hyperopt.close_gaps(trials),
        stream=_stream(study),
        used_s=study.lease.used_s if study.lease is not None else 0.0,
        earlier_studies=study.record.earlier,
        recorded=study,
    )
    lost = [run.trial_id for run in counted.values() if run.document is None]
    if lost:
        logger.warning("trials %s are not recorded, and are suggested again", ", ".join(map(str, lost)))


def _curves(study: RecordedStudy, trials: Iterable[Trial], goal: Goal) -> dict[int, Curve]:
    """The reports of trials that ended, for the early termination policy to compare with."""
    from sparktune.tracking.location import current_uri
    from sparktune.tracking.reader import Reader

    ended = {trial.trial_id for trial in trials if trial.state.is_final and trial.steps > 0}
    curves: dict[int, Curve] = {}
    for trial_id, values in Reader(current_uri()).reports(study, ended).items():
        curve = Curve.empty()
        for value in values:
            curve.add(value, goal)
        if curve.values:
            curve.is_over = True
            curves[trial_id] = curve
    return curves


def _stream(study: RecordedStudy) -> SeedStream:
    if study.record.stream is None:
        logger.warning(
            "the random stream of the study is not recorded (its bit generator is not one of numpy's): "
            "the study continues with a new one"
        )
        stream = SeedStream(as_generator(None))
        stream.draws = study.draws
        return stream
    return SeedStream.from_json(study.record.stream, study.draws, SEED_BOUND)


def _restored(run: RecordedTrial) -> tuple[documents.Document, Trial]:
    """The document and the record of a trial; one that has not ended is queued again, without a run."""
    assert run.document is not None
    trial = run.trial(is_driven=False)
    if not trial.state.is_final:
        trial = replace(trial, run_id=None)
    return documents.restored(run.document, trial), trial


def of_file(memory: StudyMemory) -> RecordedStudy | None:
    """What MLflow has of the study that a save file holds and whose process was killed.

    None, and a warning, where it cannot be read: the study then continues under a new parent run.
    """
    from sparktune.tracking.location import current_uri
    from sparktune.tracking.reader import NotRecordedError, Reader

    latest = memory.latest
    try:
        reader = Reader(current_uri())
        # The process may have been killed before it knew the run, or before there was one.
        run_id = latest.run_id or reader.parent_of(latest.study_id or "")
        if run_id is None:
            memory.joined(None, None)
            memory.is_unrecorded = True
            return None
        return reader.study(run_id, latest.study_id)
    except NotRecordedError as error:
        logger.warning(
            "the study resumes from its save file with a new parent run: %s cannot be continued: %s",
            latest.run_id or "the one it had",
            error,
        )
        memory.joined(None, None)
        return None


def of_same(memory: StudyMemory, spec: StudySpec, *, is_finished_too: bool = False) -> RecordedStudy | None:
    """What MLflow has of the latest study of a trials object, to continue under its parent run.

    None where it is finished, unless ``is_finished_too``; where this call is another study; and where it
    cannot be read.
    """
    if not memory.latest.study_id:
        return None
    found = of_file(memory)
    if found is None or not (found.is_unfinished or is_finished_too):
        return None
    differs = _differences(found.record.spec, spec)
    if differs:
        logger.info("a new study begins on these trials: %s", "; ".join(differs))
        return None
    return found


def claim(study: RecordedStudy, memory: StudyMemory, used_s: float, *, take_over: bool) -> Continued:
    """Make this process the study's driver, and return what the tracker needs of the study so far.

    Args:
        study: as it was read.
        memory: of the trials object, which has those trials of the study that ended.
        used_s: seconds that the study has used so far.
        take_over: also where another driver is alive; that one then ends.

    Raises:
        StudyInProgress: its driver is alive.
        CannotResume: MLflow does not answer.
    """
    from sparktune.tracking.location import current_uri, is_active
    from sparktune.tracking.reader import NotRecordedError, Reader, StudyAliveError, chosen
    from sparktune.tracking.schema import run_status

    try:
        reader = Reader(current_uri())
        lease = reader.claim(study, used_s, take_over=take_over)
        counted = chosen(study.runs)
        to_end: dict[str, str | None] = {}
        runs: dict[int, str] = {}
        for run in study.runs:
            trial = memory.records.get(run.trial_id)
            counts = counted[run.trial_id].run_id == run.run_id
            if counts and trial is not None and trial.state.is_final:
                runs[run.trial_id] = run.run_id
                # One whose end is only in the save file is recorded like any other.
                if run.status == "RUNNING" and run.has_ended:
                    to_end[run.run_id] = run_status(trial.state)
            elif run.status == "RUNNING" or (counts and run.document is None):
                to_end[run.run_id] = None
                below = reader.running_below(study.experiment_id, run.run_id)
                to_end |= dict.fromkeys(below)
    except StudyAliveError as error:
        raise StudyInProgress(
            f"the study of run {study.run_id} has a driver that is alive: {error}. Wait until it ends, or "
            "end it; or take the study from it with fmin(..., take_over=True), and it ends"
        ) from error
    except NotRecordedError as error:
        raise CannotResume(f"the study of run {study.run_id} cannot be resumed: {error}") from None
    ended = {run.trial_id for run in counted.values() if run.has_ended}
    return Continued(
        run_id=study.run_id,
        record=study.record,
        ends=study.record.is_own or (study.is_open and not is_active(study.run_id)),
        lease=lease,
        trials=[memory.records[n] for n in runs if n in ended],
        runs=runs,
        to_end=to_end,
        marked=[run.run_id for run in study.runs if run.is_best],
        last_seen_s=study.lease.renewed_s if study.lease is not None else time.time(),
    )


def progress_line(study: RecordedStudy, trials: Iterable[Trial]) -> str:
    """Which study is resumed, and how far it is, in one line."""
    counts = [trial.state.is_final for trial in trials]
    again = len(counts) - sum(counts)
    text = f"resuming the study of run {study.run_id}: {sum(counts)} trials have ended"
    return f"{text}, {again} are run again" if again else text
