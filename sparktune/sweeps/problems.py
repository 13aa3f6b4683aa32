"""What is wrong with a sweep file, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sparktune.errors import InvalidSweep

SHOWN = 80
"""Characters of a value that a message shows."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a source.

    Attributes:
        source: the file, or the option of the command line.
        line, column: counted from 1; None where the source has no lines.
    """

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, or a note. As text it is one line, which any file can hold."""

    place: Place
    text: str

    def __str__(self) -> str:
        return printable(f"{self.place}: {self.text}")


def printable(text: str) -> str:
    """A text for a terminal: characters that would move its cursor or change its colours are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def refuse(problems: Sequence[Problem]) -> InvalidSweep:
    """The error for a file with these problems, in the order of the file."""
    ordered = sorted(problems, key=lambda p: (p.place.line or 0, p.place.column or 0, p.text))
    return InvalidSweep("\n".join(dict.fromkeys(map(str, ordered))))


def shown(value: object) -> str:
    """A value for a message."""
    try:
        text = repr(value)
    except Exception:  # of an object from Python
        text = f"<{type(value).__name__}>"
    # The message is written to terminals and files: a lone surrogate cannot be encoded.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def nearest(name: object, known: Iterable[str]) -> str:
    """``; did you mean 'upper'?``, or empty."""
    found = difflib.get_close_matches(str(name)[:SHOWN], list(known), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def listed(names: Iterable[object]) -> str:
    """Names, for "allowed: ..."."""
    return ", ".join(map(str, names))
