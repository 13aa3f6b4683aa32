"""Write to MLflow what a study could not: ``python -m sparktune.tracking.replay FILE [TRACKING_URI]``.

The file is the one that ``MlflowTracker.finish`` left. Runs that exist already, also from an earlier attempt,
are completed and not created twice.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from sparktune.tracking.records import RunRecord
from sparktune.tracking.schema import Point
from sparktune.tracking.store import MlflowStore
from sparktune.tracking.writer import Writer


def replay(path: str | Path, tracking_uri: str | None = None, stall_s: float = 60.0) -> bool:
    """Write the records of a file, and remove it when all are written.

    Args:
        path: the file.
        tracking_uri: where to; by default where the study wanted to write.
        stall_s: give up after so many seconds without any success.

    Returns:
        Whether everything is written. If not, the file is as it was; it can be replayed again.

    Raises:
        OSError, ValueError: the file cannot be read, or is not such a file.
    """
    head, *entries = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    if "tracking_uri" not in head:
        raise ValueError(f"{path} does not begin with a line that names the tracking_uri; is it whole?")
    store = MlflowStore(tracking_uri or head["tracking_uri"])
    store.experiment_id = head["experiment_id"]
    writer = Writer(store, threads=1)
    entries.sort(key=lambda entry: bool(entry.get("child", True)))
    parent = RunRecord(name="", start_ms=0, run_id=head["parent_run_id"])
    records = []
    for entry in entries:
        is_parent = not entry.get("child", True)
        record = RunRecord(
            name=entry.get("name", ""),
            start_ms=entry.get("start_ms", 0),
            identity=entry.get("identity", {}),
            parent=None if is_parent else parent,
            run_id=entry.get("run_id"),
            uncertain=True,
            params=entry.get("params", {}),
            tags=entry.get("identity", {}) | entry.get("tags", {}),
            metrics=[Point(*point) for point in entry.get("metrics", [])],
            artifacts=entry.get("artifacts", {}),
            status=entry.get("status"),
            end_ms=entry.get("end_ms"),
        )
        if is_parent:
            parent = record
        records.append(record)
    store.open()
    if not store.experiment_id:
        store.use_active_experiment()
    for record in records:
        writer.put(record)
    written = writer.flush(None, stall_s) and not store.rejected
    writer.close()
    if written:
        Path(path).unlink()
    return written


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit code is 1 when something is still unwritten."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m sparktune.tracking.replay FILE [TRACKING_URI]", file=sys.stderr)
        return 2
    if replay(arguments[0], arguments[1] if len(arguments) > 1 else None):
        return 0
    print(f"not everything could be written; {arguments[0]} is kept, try again later", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
