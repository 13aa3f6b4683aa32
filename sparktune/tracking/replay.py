"""Write to MLflow what a study could not: ``python -m sparktune.tracking.replay FILE [TRACKING_URI]``.

The file is the one that ``MlflowTracker.finish`` left. Runs that exist already, also from an earlier attempt,
are completed and not created twice.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sparktune.tracking.location import without_password
from sparktune.tracking.store import MlflowStore
from sparktune.tracking.unwritten import Unwritten
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
    unwritten = Unwritten.load(path)
    store = MlflowStore(tracking_uri or _with_password(unwritten.tracking_uri))
    store.experiment_id = unwritten.experiment_id
    writer = Writer(store, threads=1)
    store.open()
    if not store.experiment_id:
        store.use_active_experiment()
    for record in unwritten.records:
        writer.put(record)
    written = writer.flush(None, stall_s) and not store.rejected
    writer.close()
    if written:
        Path(path).unlink()
    return written


def _with_password(uri: str) -> str:
    """The address in a file, which has no password, as this process's environment has it."""
    known = os.environ.get("MLFLOW_TRACKING_URI", "")
    if ":***@" not in uri:
        return uri
    if without_password(known) == uri:
        return known
    raise ValueError(
        f"the file does not hold the password of {uri}: give the address as the second argument, or set "
        "MLFLOW_TRACKING_URI"
    )


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit code is 1 when something is still unwritten."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m sparktune.tracking.replay FILE [TRACKING_URI]", file=sys.stderr)
        return 2
    try:
        if replay(arguments[0], arguments[1] if len(arguments) > 1 else None):
            return 0
    except (OSError, ValueError) as error:
        print(f"{arguments[0]} cannot be replayed: {error}", file=sys.stderr)
        return 2
    print(f"not everything could be written; {arguments[0]} is kept, try again later", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
