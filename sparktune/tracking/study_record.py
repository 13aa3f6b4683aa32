"""The record of a study in its parent run, so that MLflow alone is enough to resume it.

Three groups of tags, each with the first characters of the study's id in its key, because one run may be the
parent of several studies: what the study is (``sparktune.study.<id>``), its search space
(``sparktune.parameters.<id>``), and its driver (``sparktune.lease.<id>``, see ``lease``). A text that is
longer than a tag may be is continued in ``<key>.1``, ``<key>.2``, ...
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from sparktune.study.spec import StudyRecord, StudySpec, StudyStart
from sparktune.tracking.schema import joined, split

T = TypeVar("T")

VERSION = 1
STUDY = "sparktune.study."
SPACE = "sparktune.parameters."
LEASE = "sparktune.lease."
STATE = "sparktune.state"
"""``running``, ``finished`` or ``interrupted``: of the latest study that the run is the parent of."""
RUNNING, FINISHED, INTERRUPTED = "running", "finished", "interrupted"


def short(study_id: str) -> str:
    """The part of a study's id that is in keys."""
    return study_id[:8]


def tags(record: StudyRecord) -> dict[str, str]:
    """A record as tags of the parent run."""
    plain = dataclasses.asdict(record)
    flat = {**plain.pop("spec"), **plain.pop("start"), **plain}
    parameters = flat.pop("parameters")
    text = json.dumps({"version": VERSION, **flat}, separators=(",", ":"))
    space = json.dumps(parameters, separators=(",", ":"))
    key = short(record.study_id)
    return split(STUDY + key, text) | split(SPACE + key, space)


def records(tags: Mapping[str, str]) -> list[StudyRecord]:
    """The studies that a run is the parent of, in the order in which they began.

    Raises:
        ValueError: one was recorded by a newer version of sparktune.
    """
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
        known["parameters"] = json.loads(joined(tags, SPACE + name) or "{}")
        known["earlier"] = tuple((run, study) for run, study in known["earlier"])
        known["warm_start"] = tuple(known.get("warm_start", ()))
        known["spec"], known["start"] = _of(StudySpec, known), _of(StudyStart, known)
        found.append(_of(StudyRecord, known))
    return sorted(found, key=lambda record: record.began_s)


def _of(kind: type[T], known: Mapping[str, Any]) -> T:
    """An instance of a dataclass, of those of its fields that are known."""
    names = (field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    return kind(**{name: known[name] for name in names if name in known})
