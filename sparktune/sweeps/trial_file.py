"""``trial: ./train.yml``: the trial in its own file, as Azure has command jobs and components."""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from typing import Any

from sparktune.sweeps.document import Document, Path, parse
from sparktune.sweeps.problems import Problem, refuse, shown

_OF_A_JOB = frozenset(
    ("$schema", "type", "name", "display_name", "experiment_name", "description", "tags", "version", "limits")
)
"""Fields that describe the file, or how to run it alone."""
_BESIDE = ("inputs", "outputs")
"""Fields that a sweep has beside its trial; those of the sweep's file have precedence."""


def include(document: Document) -> None:
    """Put the trial of another file into a document, which names it.

    Raises:
        InvalidSweep: the file cannot be read, or is not of a command.
    """
    data = document.data
    name = data.get("trial") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name.endswith((".yml", ".yaml")):
        return
    place = document.place(("trial",))
    try:
        text = (FilePath(document.folder) / name).read_bytes()
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise refuse([Problem(place, f"trial is {shown(name)}; the file cannot be read: {cause}")]) from None
    found = parse(text, os.path.join(os.path.dirname(document.source), name))
    fields = found.data
    if not isinstance(fields, dict) or fields.get("type", "command") != "command":
        raise refuse([Problem(found.place(("type",)), "trial is in this file; it must be of type: command")])
    _move(fields, os.path.dirname(name))
    data["trial"] = {}
    for field, value in fields.items():
        if field in _BESIDE and isinstance(value, dict):
            if data.get(field) is None:
                data[field] = {}
            for entry in value if isinstance(data[field], dict) else ():
                given = value[entry] if field == "outputs" else _given(value[entry])
                if given is not None and entry not in data[field]:
                    data[field][entry] = given
                    _place(document, found, (field, entry), (field, entry))
        elif field not in _OF_A_JOB:
            data["trial"][field] = value
            _place(document, found, (field,), ("trial", field))


def _given(value: Any) -> Any:
    """The value of an input; None where a component only declares that it has one."""
    return value.get("default") if isinstance(value, dict) and "path" not in value else value


def _move(fields: dict[str, Any], folder: str) -> None:
    """Paths that are relative to the trial's file become relative to the sweep's."""
    inputs = fields.get("inputs")
    held = [(fields, "code")]
    held += [(value, "path") for value in (inputs.values() if isinstance(inputs, dict) else ()) if value]
    for at, name in held:
        path = at.get(name) if isinstance(at, dict) else None
        if isinstance(path, str) and ":" not in path:
            at[name] = os.path.join(folder, path)


def _place(document: Document, found: Document, at: Path, to: Path) -> None:
    for ours, theirs in ((document.values, found.values), (document.keys, found.keys)):
        for path, place in theirs.items():
            if path[: len(at)] == at:
                ours[(*to, *path[len(at) :])] = place
