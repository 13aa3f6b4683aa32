"""The command of a sweep file: ``python train.py --rate ${{search_space.rate}}``, as arguments.

A command is split into arguments before values are filled in, so a value is always one argument, or a part of
one, whatever it holds. The words are those of a shell (POSIX, "Shell Command Language", 2.2 and 2.3).
Whatever else a shell would do with the text is refused, since it would become an argument. ``scripts`` has
the commands that a shell runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

REFERENCE = re.compile(r"\$\{\{\s*([\w-]+)\s*\.\s*([^{}]*?)\s*\}\}")
_OPEN = re.compile(r"\$\{\{")
_OPTIONAL = re.compile(r"\$\[\[")
_NEEDS_SHELL = {
    "|": "a pipe",
    "&": "&&, or a command in the background",
    ";": "a list of commands",
    "<": "a redirection",
    ">": "a redirection",
    "(": "a subshell",
    ")": "a subshell",
    "`": "a command substitution",
    "*": "a pattern of file names",
    "?": "a pattern of file names",
}
_EXPANDED = re.compile(r"[A-Za-z0-9_{(@#?!$*-]")
"""What may follow a dollar sign that a shell replaces."""
_SHELLS_OWN = re.compile(
    r"\.|alias|bg|break|builtin|case|cd|continue|declare|do|done|elif|else|esac|eval|exec|exit|export|fg|fi|for|"
    r"function|getopts|hash|if|jobs|let|local|popd|pushd|read|readonly|return|select|set|shift|shopt|source|then|"
    r"trap|typeset|ulimit|umask|unalias|unset|until|wait|while|!|\{|\}|\[\["
)
"""Words that are not programs: a shell's reserved words, and builtins that change the shell itself."""
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_BRACES = re.compile(r"\{[^{}]*(,|\.\.)[^{}]*\}")
_QUOTED = '"'
"""Replaces in ``_Word.bare`` what is in quotes, and references; never there as itself."""
_IN_QUOTES = "put it into quotes where it is meant literally"


class BadCommandError(ValueError):
    """A command that cannot be read; the message has the cause."""


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
        if isinstance(part, str) and _OPTIONAL.search(part):
            raise BadCommandError(
                "$[[...]], Azure's mark of what an input that is not given leaves out, has no meaning here: "
                "every input of a sweep file is given, so leave $[[ and ]] out"
            )
    return tuple(parts)


def filled(parts: Template, values: Mapping[Reference, str]) -> str:
    """The text with its values."""
    return "".join(part if isinstance(part, str) else values[part] for part in parts)


def references(parts: Template) -> Iterator[Reference]:
    """The references of a template."""
    return (part for part in parts if isinstance(part, Reference))


def arguments(command: str | Sequence[str]) -> tuple[Template, ...]:
    """The arguments of a command, split as a shell splits them.

    Raises:
        BadCommandError: it is empty, a quote is not closed, or a shell would do more than split it.
    """
    if isinstance(command, str):
        words = _split(template(command))
        for n, word in enumerate(words):
            _refuse_shell(word, is_first=n == 0)
        found = tuple(_joined(word.parts) for word in words)
    else:
        found = tuple(template(part) for part in command)
    if not found or not found[0]:
        raise BadCommandError("the command is empty")
    if any("\0" in part for argument in found for part in argument if isinstance(part, str)):
        raise BadCommandError("the command holds a NUL character, which no argument can hold")
    return found


@dataclass
class _Word:
    """A word of a command.

    Attributes:
        parts: its characters and references, without quotes.
        bare: the same, with ``_QUOTED`` in place of each that a shell would take literally.
    """

    parts: list[str | Reference] = field(default_factory=list)
    bare: str = ""

    def add(self, item: str | Reference, *, is_bare: bool = False) -> None:
        self.parts.append(item)
        self.bare += item if is_bare and isinstance(item, str) else _QUOTED


def _split(whole: Template) -> list[_Word]:
    """The words of a command."""
    items = [item for part in whole for item in ([part] if isinstance(part, Reference) else part)]
    words: list[_Word] = []
    word: _Word | None = None
    quote, n = "", 0
    while n < len(items):
        item, n = items[n], n + 1
        if not quote and item in (" ", "\t", "\r", "\n"):
            word = None
            if item == "\n" and words and not all(isinstance(i, str) and i.isspace() for i in items[n:]):
                raise _needs_shell(
                    "a new line",
                    "another command",
                    "write one command in one line (>- in place of |, or a backslash at the line's end)",
                )
            continue
        if item == "\\" and quote != "'":
            if n == len(items):
                raise BadCommandError("the command cannot be split into arguments: No escaped character")
            escaped, n = items[n], n + 1
            if escaped == "\n":  # the line continues
                continue
            added = [escaped] if not quote or escaped in ("$", "`", '"', "\\") else ["\\", escaped]
        elif item == quote:
            quote = ""
            continue
        elif not quote and item in ("'", '"'):
            quote, added = str(item), []
        else:
            added = []
            _refuse_character(item, items[n] if n < len(items) else " ", quote)
        if word is None:
            word = _Word()
            words.append(word)
        for each in added:
            word.add(each)
        if not added and item != quote:
            word.add(item, is_bare=not quote)
    if quote:
        raise BadCommandError("the command cannot be split into arguments: No closing quotation")
    return words


def _joined(parts: Sequence[str | Reference]) -> Template:
    """Neighbouring characters as one text."""
    found: list[str | Reference] = []
    for part in parts:
        if found and isinstance(part, str) and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return tuple(found)


def _refuse_character(item: str | Reference, following: str | Reference, quote: str) -> None:
    """Refuse a character that a shell does not take literally, in quotes or outside of them."""
    if quote == "'" or isinstance(item, Reference):
        return
    if item == "$" and isinstance(following, str) and _EXPANDED.match(following):
        raise _needs_shell("'$'", "an expansion", _IN_QUOTES.replace("quotes", "single quotes"))
    if item in _NEEDS_SHELL and (not quote or item == "`"):
        raise _needs_shell(repr(item), _NEEDS_SHELL[item], _IN_QUOTES)


def _refuse_shell(word: _Word, *, is_first: bool) -> None:
    """Refuse a word that a shell does not pass on literally."""
    assigned = _ASSIGNMENT.match(word.bare)
    if is_first and assigned:
        raise _needs_shell(
            repr(assigned[0]), "an environment variable", "set it in trial.environment_variables"
        )
    if is_first and _SHELLS_OWN.fullmatch(word.bare):
        raise _needs_shell(repr(word.bare), "a word of the shell, not a program", _IN_QUOTES)
    if word.bare.startswith("#"):
        raise _needs_shell("'#'", "a comment", _IN_QUOTES)
    if re.match(r"~[\w.+-]*(/|$)", word.bare):
        raise _needs_shell("'~'", "a home folder", f"write its path, or {_IN_QUOTES}")
    if _BRACES.search(word.bare):
        raise _needs_shell("'{'", "words in braces, which bash expands", f"write the words, or {_IN_QUOTES}")


def _needs_shell(what: str, meant: str, otherwise: str) -> BadCommandError:
    return BadCommandError(f"{what} ({meant}) needs a shell: set shell: true under trial, or {otherwise}")
