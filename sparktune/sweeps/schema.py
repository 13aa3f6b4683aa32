"""The JSON schema of sweep files, for editors. ``python -m sparktune.sweeps.schema`` writes the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparktune.sweeps.algorithms import ALGORITHMS
from sparktune.sweeps.ignored import IGNORED
from sparktune.sweeps.model import SweepFile

FILE = Path(__file__).with_name("sweep.schema.json")
_OF = {(): "", ("trial",): "Trial", ("inputs", "*"): "InputPath", ("outputs", "*"): "Output"}
"""Where fields are ignored -> the definition that they belong to."""


def schema() -> dict[str, Any]:
    """The schema, as JSON has it."""
    found = SweepFile.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "sparktune sweep"
    for where, fields in IGNORED.items():
        part = found["$defs"][_OF[where]] if _OF[where] else found
        for name, reason in fields.items():
            part["properties"][name] = {
                "description": f"Azure's; ignored: {reason}." if reason else "Ignored."
            }
    names = list(ALGORITHMS)
    found["$defs"]["Sampling"]["properties"]["type"] |= {"enum": names}
    whole = found["properties"]["sampling_algorithm"]
    reference = whole.pop("$ref", None) or whole.pop("allOf")[0]["$ref"]
    found["properties"]["sampling_algorithm"] = {
        **whole,
        "anyOf": [{"type": "string", "enum": names}, {"$ref": reference}],
    }
    found["properties"]["trial"] = {
        "anyOf": [found["properties"]["trial"], {"type": "string", "pattern": r"\.ya?ml$"}],
        "description": "What runs in each trial, or the name of a file with it.",
    }
    goal = found["$defs"]["Objective"]["properties"]["goal"]
    goal["enum"] += [word.capitalize() for word in goal["enum"]]
    return found


def text() -> str:
    """The schema, as the file has it."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
