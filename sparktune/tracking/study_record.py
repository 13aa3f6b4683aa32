"""What a parent run says of a study, so that MLflow alone is enough to go on with it.

Three groups of tags, each with the first characters of the study's id in its key, because one run may be the
parent of several studies: what the study is (``sparktune.study.<id>``), its search space
(``sparktune.parameters.<id>``), and who drives it (``sparktune.lease.<id>``, see ``lease``). A text that is
longer than a tag may be is continued in ``<key>.1``, ``<key>.2``, ...
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from sparktune.study.tracker import StudyInfo
from sparktune.tracking.schema import joined, split

VERSION = 1
STUDY = "sparktune.study."
SPACE = "sparktune.parameters."
LEASE = "sparktune.lease."
STATE = "sparktune.state"
"""``running``, ``finished`` or ``interrupted``: of the latest study that the run is the parent of."""
RUNNING, FINISHED, INTERRUPTED = "running", "finished", "interrupted"


def short(study_id: str) -> str:
    """The part of a study's id that stands in keys."""
    return study_id[:8]


@dataclass(frozen=True)
class StudyRecord:
    """What a study is.

    Attributes:
        study_id: ``fmin_uuid`` of its runs.
        number: of studies that the parent run had before it.
        is_own: the parent run was created for it, and ends with it.
        algo: the search algorithm.
        metric, goal: the primary metric, and what is good in it.
        max_evals: as it was given, or None.
        began_s: Unix time.
        stream: ``SeedStream.as_json``, or None where the random stream cannot be restored.
        n_before: how many trials counted for ``max_evals`` when it began.
        draws_before: how many seeds of the stream had been drawn then.
        first_id: the id of its first trial.
        earlier: (parent run, study id) of the studies whose trials it went on with.
        warm_start: the parent runs of the studies that inform the search.
        parameters: the space, see ``space.signature``.
        objective: what it is called.
        name: of the study.
        state: ``running``, ``finished`` or ``interrupted``.
    """

    study_id: str
    number: int
    is_own: bool
    algo: str
    metric: str
    goal: str
    max_evals: int | None
    began_s: float
    stream: str | None
    n_before: int = 0
    draws_before: int = 0
    first_id: int = 0
    earlier: tuple[tuple[str, str], ...] = ()
    warm_start: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    objective: str = ""
    name: str = ""
    state: str = RUNNING

    @classmethod
    def of(cls, info: StudyInfo, number: int, is_own: bool, began_s: float) -> StudyRecord:
        """The record of a study that begins."""
        return cls(
            study_id=info.study_id,
            number=number,
            is_own=is_own,
            algo=info.algo,
            metric=info.metric,
            goal=info.goal,
            max_evals=info.max_evals,
            began_s=began_s,
            stream=info.stream,
            n_before=info.n_before,
            draws_before=info.draws_before,
            first_id=info.first_id,
            earlier=info.earlier,
            warm_start=info.warm_start,
            parameters=info.parameters,
            objective=info.objective,
            name=info.name,
        )

    def tags(self) -> dict[str, str]:
        """The record as tags of the parent run."""
        plain = dataclasses.asdict(self)
        parameters = plain.pop("parameters")
        text = json.dumps({"version": VERSION, **plain}, separators=(",", ":"))
        space = json.dumps(parameters, separators=(",", ":"))
        key = short(self.study_id)
        return split(STUDY + key, text) | split(SPACE + key, space)


def records(tags: Mapping[str, str]) -> list[StudyRecord]:
    """The studies that a run is the parent of, in the order in which they began.

    Raises:
        ValueError: one was recorded by a newer version of sparktune.
    """
    names = {field.name for field in dataclasses.fields(StudyRecord)}
    found = []
    for key in tags:
        name = key.removeprefix(STUDY)
        if name == key or "." in name:
            continue
        known = json.loads(joined(tags, key))
        if known.pop("version") > VERSION:
            raise ValueError(
                "the study was recorded by a newer version of sparktune: install that one to go on with it"
            )
        known = {name: value for name, value in known.items() if name in names}
        known["earlier"] = tuple((run, study) for run, study in known["earlier"])
        known["warm_start"] = tuple(known.get("warm_start", ()))
        parameters = json.loads(joined(tags, SPACE + name) or "{}")
        found.append(StudyRecord(**known, parameters=parameters))
    return sorted(found, key=lambda record: record.began_s)
