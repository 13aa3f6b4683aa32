"""The command of a sweep file: ``python train.py --rate ${{search_space.rate}}``, as arguments.

A command is split into arguments before values are filled in, so a value is always one argument, or a part of
one, whatever it holds. Where the file asks for a shell, values are its positional parameters: the script has
``"${1}"`` in their places, and a shell does not read again what a parameter expands to.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

REFERENCE = re.compile(r"\$\{\{\s*([\w-]+)\s*\.\s*([^{}]*?)\s*\}\}")
_OPEN = re.compile(r"\$\{\{")
_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000(\\d+)\ue001")
_NEEDS_SHELL = {
    "|": "a pipe",
    "&": "&&, or a command in the background",
    ";": "a list of commands",
    "<": "a redirection",
    ">": "a redirection",
    "`": "a command substitution",
    "*": "a pattern of file names",
    "?": "a pattern of file names",
}


class BadCommandError(ValueError):
    """A command that cannot be read; the message says why."""


@dataclass(frozen=True)
class Reference:
    """``${{search_space.rate}}``: the kind is ``search_space``, the name ``rate``."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"${{{{{self.kind}.{self.name}}}}}"


Template = tuple[str | Reference, ...]
"""Texts, and what is filled in between them."""


def template(text: str) -> Template:
    """A text with references.

    Raises:
        BadCommandError: a reference cannot be read.
    """
    parts: list[str | Reference] = []
    at = 0
    for found in REFERENCE.finditer(text):
        if found.start() > at:
            parts.append(text[at : found.start()])
        parts.append(Reference(found[1], found[2]))
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    for part in parts:
        if isinstance(part, str) and _OPEN.search(part):
            raise BadCommandError(
                "a reference cannot be read: write ${{search_space.NAME}} or ${{inputs.NAME}}"
            )
    return tuple(parts)


def filled(parts: Template, values: Mapping[Reference, str]) -> str:
    """The text with its values."""
    return "".join(part if isinstance(part, str) else values[part] for part in parts)


def references(parts: Template) -> Iterator[Reference]:
    """The references of a template."""
    return (part for part in parts if isinstance(part, Reference))


def arguments(command: str | Sequence[str]) -> tuple[Template, ...]:
    """The arguments of a command, split as a shell would, without any other of its doings.

    Raises:
        BadCommandError: it is empty, a quote is not closed, or it only makes sense to a shell.
    """
    if not isinstance(command, str):
        found = tuple(template(part) for part in command)
    else:
        whole = template(command)
        known = list(references(whole))
        if "\ue000" in command or "\ue001" in command:
            raise BadCommandError("the command holds a character of the private use area (U+E000, U+E001)")
        numbers = iter(range(len(known)))
        text = "".join(part if isinstance(part, str) else _MARK.format(next(numbers)) for part in whole)
        text = text.replace("\\\n", " ")  # a line that goes on
        _refuse_shell(text)
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise BadCommandError(f"the command cannot be split into arguments: {error}") from None
        found = tuple(_unmarked(word, known) for word in words)
    if not found or not found[0]:
        raise BadCommandError("the command is empty")
    if any("\0" in part for argument in found for part in argument if isinstance(part, str)):
        raise BadCommandError("the command holds a NUL character, which no argument can hold")
    return found


def _unmarked(word: str, known: Sequence[Reference]) -> Template:
    parts: list[str | Reference] = []
    for n, piece in enumerate(_MARKED.split(word)):
        if n % 2:
            parts.append(known[int(piece)])
        elif piece:
            parts.append(piece)
    return tuple(parts)


def script(command: str) -> tuple[str, tuple[Reference, ...]]:
    """A command for ``/bin/sh -c SCRIPT sparktune VALUES...``: the script, and which values to give it.

    Raises:
        BadCommandError: it is empty, or a reference stands where a shell expands nothing.
    """
    parts = template(command)
    order: list[Reference] = []
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if part not in order:
            order.append(part)
        expansion = f"${{{order.index(part) + 1}}}"
        quote = _open_quote(text)
        if quote == "'":
            raise BadCommandError(f"{part} stands in single quotes, where a shell expands nothing")
        text += expansion if quote == '"' else f'"{expansion}"'
    if not text.strip():
        raise BadCommandError("the command is empty")
    if "\0" in text:
        raise BadCommandError("the command holds a NUL character, which no argument can hold")
    return text, tuple(order)


def _refuse_shell(text: str) -> None:
    """Refuse what only a shell understands: it would become an argument."""
    for n, char in _unquoted(text):
        meant = _NEEDS_SHELL.get(char)
        if char == "$" and re.match(r"\$[A-Za-z_{(]", text[n : n + 2]):
            meant = "an expansion"
        if meant is not None:
            raise BadCommandError(
                f"{char!r} ({meant}) needs a shell: say shell: true under trial, or put it into quotes "
                "where it is meant as it stands"
            )


def _unquoted(text: str) -> Iterator[tuple[int, str]]:
    """The characters that stand in no quotes and behind no backslash; in double ones, ``$`` and backticks."""
    quote, n = "", 0
    while n < len(text):
        char = text[n]
        if char == "\\" and quote != "'":
            n += 2
            continue
        if quote:
            if char == quote:
                quote = ""
            elif quote == '"' and char in "$`":
                yield n, char
        elif char in "'\"":
            quote = char
        else:
            yield n, char
        n += 1


def _open_quote(text: str) -> str:
    """The quote that is open at the end of a text, or nothing."""
    quote, n = "", 0
    while n < len(text):
        char = text[n]
        if char == "\\" and quote != "'":
            n += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        n += 1
    return quote
