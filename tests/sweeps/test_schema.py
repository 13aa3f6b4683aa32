"""The JSON schema that editors read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sparktune.sweeps.document import parse
from sparktune.sweeps.schema import FILE as SCHEMA_FILE, schema, text
from tests.sweeps.files import FILE

pytestmark = pytest.mark.unit

SCHEMA = json.loads(SCHEMA_FILE.read_text("utf-8"))
jsonschema = pytest.importorskip("jsonschema")  # which the sets of scripts/matrix do without
ROOT = Path(__file__).resolve().parent.parent.parent


def test_it_is_the_models() -> None:
    """Write it anew with python -m sparktune.sweeps.schema."""
    assert json.loads(text()) == SCHEMA


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("content", [FILE, (ROOT / "examples/sweep/sweep.yml").read_text("utf-8")])
def test_it_takes_good_files(content) -> None:
    jsonschema.validate(parse(content, "x").data, SCHEMA)


def test_it_takes_azures_fields_and_short_forms() -> None:
    short = parse(f"compute: x\n$schema: y\nsampling_algorithm: grid\n{FILE}", "x").data
    jsonschema.validate(short, SCHEMA)


@pytest.mark.parametrize(
    ("old", "new"),
    [("uniform", "unifrom"), ("limits", "limit"), ("maximize", "up"), ("trials: 4", "trials: 0")],
)
def test_it_refuses_what_is_refused(old, new) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(FILE.replace(old, new)), SCHEMA)
