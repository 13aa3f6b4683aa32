"""What a parent run says of its studies, as tags."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sparktune.study.spec import StudyRecord, StudySpec, StudyStart
from sparktune.tracking import study_record
from sparktune.tracking.schema import MAX_TAG_VALUE, joined, split
from sparktune.tracking.study_record import STUDY, records

pytestmark = pytest.mark.unit

SPEC = StudySpec(
    objective="train",
    name="nightly",
    algo="sparktune.search.tpe.suggest",
    parameters={"x": "hp.uniform(0, 1)"},
    metric="accuracy",
    goal="maximize",
    max_evals=None,
    timeout_s=60.0,
    warm_start=("run",),
)


def record(**changes: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "study_id": "0123456789abcdef",
        "spec": SPEC,
        "start": StudyStart(n_before=3, draws_before=4, first_id=5),
        "began_s": 1.5,
        "stream": "{}",
        "earlier": (("run", "study"),),
    }
    return StudyRecord(**values | changes)


@given(st.text(max_size=3 * MAX_TAG_VALUE))
def test_a_text_of_any_length_is_split_and_joined(text: str) -> None:
    text = json.dumps(text)
    tags = split("key", text)
    assert all(len(tag) <= MAX_TAG_VALUE for tag in tags.values())
    assert joined({**tags, "other": "x"}, "key") == text


def test_studies_of_one_run_are_read_in_the_order_of_their_beginning() -> None:
    long = {f"x{n}": "hp.uniform(0, 1)" for n in range(1000)}
    later = record(study_id="fedcba9876543210", began_s=9.0, number=1, spec=replace(SPEC, parameters=long))
    assert records(study_record.tags(later) | study_record.tags(record()) | {"mlflow.user": "me"}) == [
        record(),
        later,
    ]
    assert records({"mlflow.user": "me"}) == []


def test_of_a_newer_version() -> None:
    tags = study_record.tags(record())
    [key] = [key for key in tags if key.startswith(STUDY)]
    newer = {**json.loads(tags[key]), "something": 1}
    assert records({**tags, key: json.dumps(newer)}) == [record()], "what is not known is left out"
    with pytest.raises(ValueError, match="newer version of sparktune"):
        records({**tags, key: json.dumps({**newer, "version": 99})})
