"""The file with what MLflow did not take of a study, which ``tracking.replay`` writes later.

One JSON object a line. The first names the study and the store; each other is one run: what it is, and what
is still to be written to it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparktune.tracking.location import without_password
from sparktune.tracking.records import RunRecord
from sparktune.tracking.schema import Point


@dataclass(frozen=True)
class Unwritten:
    """What MLflow did not take of one study.

    Attributes:
        tracking_uri: the store that was meant; the file has it without its password.
        experiment_id: where its runs are, or are to be; empty where that was never known.
        parent_run_id: the parent run, or None where it was never created.
        study_id: ``fmin_uuid``.
        records: of the parent, if it is among them, and of trials; their order does not matter.
    """

    tracking_uri: str
    experiment_id: str
    parent_run_id: str | None
    study_id: str
    records: Sequence[RunRecord]

    def save(self, folder: str | os.PathLike[str] | None) -> Path:
        """Write the file into the folder (default: the working directory), or else into the temporary one.

        Raises:
            OSError: neither takes it.
        """
        head = {
            "tracking_uri": without_password(self.tracking_uri),
            "experiment_id": self.experiment_id,
            "parent_run_id": self.parent_run_id,
            "study_id": self.study_id,
        }
        lines = [json.dumps(line) + "\n" for line in [head, *map(self._entry, self.records)]]
        name = f"sparktune-unwritten-{self.study_id}.jsonl"
        try:
            return _write(Path(folder or os.getcwd(), name), lines)
        except OSError:
            return _write(Path(tempfile.gettempdir(), name), lines)

    def _entry(self, record: RunRecord) -> dict[str, Any]:
        is_child = record.parent is not None
        return {
            "name": record.name,
            "start_ms": record.start_ms,
            "identity": record.identity,
            "run_id": record.run_id if is_child else self.parent_run_id,
            "params": record.params,
            "tags": record.tags,
            "metrics": record.metrics,
            "artifacts": record.artifacts,
            "removed": record.removed,
            "status": record.status,
            "end_ms": record.end_ms,
            "child": is_child,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Unwritten:
        """Read the file; the parent's record comes first.

        Raises:
            OSError, ValueError: the file cannot be read, or is not such a file.
        """
        head, *entries = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        if "tracking_uri" not in head:
            raise ValueError(f"{path} does not begin with a line that names the tracking_uri; is it whole?")
        entries.sort(key=lambda entry: bool(entry["child"]))
        parent = RunRecord(name="", start_ms=0, run_id=head["parent_run_id"])
        records = []
        for entry in entries:
            is_child = entry.pop("child")
            entry["metrics"] = [Point(*point) for point in entry["metrics"]]
            entry["tags"] = entry["identity"] | entry["tags"]
            # A run whose creation was not answered may exist, and so may one of an earlier attempt.
            record = RunRecord(**entry, parent=parent if is_child else None, uncertain=True)
            if not is_child:
                parent = record
            records.append(record)
        return cls(
            head["tracking_uri"], head["experiment_id"], head["parent_run_id"], head["study_id"], records
        )


def _write(path: Path, lines: Sequence[str]) -> Path:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError:  # half a file would pass for a whole one
        path.unlink(missing_ok=True)
        raise
    return path
