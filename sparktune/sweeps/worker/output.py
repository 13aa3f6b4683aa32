"""The output of a command: kept in a file, and searched for its metric."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MAX_LINE = 65536
"""A longer line is not searched for a metric; it is still kept."""
TAIL_LINES = 20
TAIL_CHARS = 2000


class MetricLines:
    """Finds ``accuracy=0.91``, and ``accuracy=0.91 step=3``, on a separate line.

    Args:
        metric: its name.
    """

    def __init__(self, metric: str) -> None:
        number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf(?:inity)?|nan"
        self._line = re.compile(
            rf"\s*{re.escape(metric)}\s*=\s*({number})(?:[\s,;]+step\s*=\s*(\d{{1,18}}))?\s*", re.IGNORECASE
        )
        self._metric = metric

    def find(self, line: str) -> tuple[float, int | None] | None:
        """The value and the step of a line; None for any other line."""
        found = self._line.fullmatch(line) if self._metric in line else None
        if found is None:
            return None
        return float(found[1]), None if found[2] is None else int(found[2])


def copy(
    stream: BinaryIO, file: BinaryIO, lines: MetricLines, sink: Callable[[tuple[float, int | None]], None]
) -> None:
    """Copy a stream into a file, to its end, and pass the metrics in it to ``sink`` as they come."""
    begun = b""
    while True:
        piece = stream.read1(65536)  # type: ignore[attr-defined]
        if not piece:
            break
        with contextlib.suppress(OSError):  # the disk is full: the trial's result does not depend on its log
            file.write(piece)
            file.flush()
        *whole, begun = (begun + piece).split(b"\n")
        for line in whole:
            _find_metrics(line, lines, sink)
        begun = begun[-MAX_LINE - 1 :]
    _find_metrics(begun, lines, sink)


def _find_metrics(line: bytes, lines: MetricLines, sink: Callable[[tuple[float, int | None]], None]) -> None:
    # A progress bar writes over its line with carriage returns.
    for part in line.split(b"\r"):
        if len(part) <= MAX_LINE:
            found = lines.find(part.decode("utf-8", "replace"))
            if found is not None:
                sink(found)


def tail(file: Path) -> str:
    """The last lines of a file."""
    try:
        with file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(0, opened.tell() - 4 * TAIL_CHARS))
            text = opened.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])[-TAIL_CHARS:]
