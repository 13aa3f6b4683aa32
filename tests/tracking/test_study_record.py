"""What a parent run says of its studies, as tags."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparktune.tracking.schema import MAX_TAG_VALUE, joined, split
from sparktune.tracking.study_record import STUDY, StudyRecord, records

pytestmark = pytest.mark.unit


def record(**changes: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "study_id": "0123456789abcdef",
        "number": 0,
        "is_own": True,
        "algo": "sparktune.search.tpe.suggest",
        "metric": "loss",
        "goal": "minimize",
        "max_evals": None,
        "began_s": 1.5,
        "stream": "{}",
        "earlier": (("run", "study"),),
        "parameters": {"x": "hp.uniform(0, 1)"},
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
    later = record(study_id="fedcba9876543210", began_s=9.0, number=1, parameters=long)
    assert records(later.tags() | record().tags() | {"mlflow.user": "me"}) == [record(), later]
    assert records({"mlflow.user": "me"}) == []


def test_of_a_newer_version() -> None:
    tags = record().tags()
    [key] = [key for key in tags if key.startswith(STUDY)]
    newer = {**json.loads(tags[key]), "something": 1}
    assert records({**tags, key: json.dumps(newer)}) == [record()], "what is not known is left out"
    with pytest.raises(ValueError, match="newer version of sparktune"):
        records({**tags, key: json.dumps({**newer, "version": 99})})
