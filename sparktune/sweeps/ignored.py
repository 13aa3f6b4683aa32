"""Fields of Azure's sweep files without a meaning on Spark: they are reported, and left out."""

from __future__ import annotations

from typing import Any

from sparktune.sweeps.document import Document, Path
from sparktune.sweeps.problems import Problem

_RESOURCES = "Spark decides: spark.task.cpus, spark.executor.memory, a resource profile"
_WORKERS = "trials run in what Spark's workers have: install there what the command needs"

IGNORED: dict[tuple[str, ...], dict[str, str]] = {
    (): {
        "$schema": "",
        "compute": "trials run where the Spark session runs",
        "environment": _WORKERS,
        "identity": "trials run as Spark's workers do",
        "resources": _RESOURCES,
        "queue_settings": "Spark has no tiers of compute",
        "services": "Spark starts no services beside a trial",
        "properties": "use tags",
    },
    ("trial",): {
        "environment": _WORKERS,
        "compute": "trials run where the Spark session runs",
        "resources": _RESOURCES,
        "distribution": "a trial is one process: a command that needs several has to start them itself",
        "identity": "trials run as Spark's workers do",
        "services": "Spark starts no services beside a trial",
    },
    ("outputs", "*"): {
        "path": "what a command writes into the folder outputs is kept with its run",
        "mode": "",
        "name": "",
        "description": "",
    },
    ("inputs", "*"): {"mode": "nothing is mounted or downloaded: the command gets the path as it is"},
}
"""Where -> field -> what holds instead; not reported where that is empty."""


def left_out(document: Document) -> list[Problem]:
    """Remove these fields from a document; returns the notes about them."""
    notes: list[Problem] = []
    for where, fields in IGNORED.items():
        for path, part in _parts(document.data, where):
            for name in [name for name in part if name in fields]:
                if fields[name]:
                    place = document.place((*path, name), of_key=True)
                    dotted = ".".join((*map(str, path), name))
                    notes.append(Problem(place, f"{dotted} is ignored: {fields[name]}"))
                del part[name]
    return notes


def _parts(data: Any, where: tuple[str, ...]) -> list[tuple[Path, dict[str, Any]]]:
    found: list[tuple[Path, Any]] = [((), data)]
    for step in where:
        found = [
            ((*path, name), value)
            for path, part in found
            if isinstance(part, dict)
            for name, value in part.items()
            if step in ("*", name)
        ]
    return [(path, part) for path, part in found if isinstance(part, dict)]


def names_at(path: Path) -> list[str]:
    """The fields that are ignored at a place."""
    matching = [fields for where, fields in IGNORED.items() if _matches(where, path)]
    return [name for fields in matching for name in fields]


def _matches(where: tuple[str, ...], path: Path) -> bool:
    return len(where) == len(path) and all(
        step in ("*", name) for step, name in zip(where, path, strict=True)
    )
