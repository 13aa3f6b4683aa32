"""The command of a sweep file that a shell runs: ``shell: true``.

Values never become a part of the script's text. They are in environment variables, and the script has
expansions of these in their places: a shell does not parse again what a variable expands to. How an expansion
has to be quoted, so that it is one word with the value as it is, depends on its place. ``_Reader`` finds that
out (POSIX, "Shell Command Language", 2.2 to 2.7). Where it is wrong, as in a language other than the shell's,
a value may be split into words, but is not executed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from sparktune.sweeps.references import BadCommandError, Reference, Template, template

VALUE = "SPARKTUNE_VALUE_"
"""The prefix of a script's environment variables that hold one value each."""
_HERE = re.compile(r"<<(-?)[ \t]*((?:\\.|'[^']*'|\"[^\"]*\"|[^\s;&|<>()'\"\\])+)")
_SHELL = re.compile(r"(?:ba|da|k|z)?sh")
_SCRIPT_FOLLOWS = re.compile(r"-[A-Za-z]*c")
_NESTED = re.compile(r"(?:\b(?:ba|da|k|z)?sh\s+(?:-\w+\s+)*-\w*c\b|\beval\s|\bssh\s).*\$\{\{")

NESTED = (
    "a shell inside the command (sh -c, eval, ssh) reads the values in its text again, as a part of it: "
    "use '\"$SPARKTUNE_PARAM_NAME\"' there, in single quotes"
)


def script(command: str) -> tuple[str, Mapping[str, Template]]:
    """A command for ``/bin/sh -c``: the script, and the environment variables that it needs.

    Raises:
        BadCommandError: it is empty, or a reference is where a shell expands nothing.
    """
    reader = _Reader()
    variables: dict[Reference, str] = {}
    text = ""
    for part in template(command):
        if isinstance(part, str):
            text += part
            reader.read(part)
        else:
            name = variables.setdefault(part, f"{VALUE}{len(variables) + 1}")
            text += reader.expansion(name, part)
    if not text.strip():
        raise BadCommandError("the command is empty")
    if "\0" in text:
        raise BadCommandError("the command holds a NUL character, which no argument can hold")
    return text, {name: (part,) for part, name in variables.items()}


def nests(command: str) -> bool:
    """Whether the script seems to pass a reference to another shell, which reads the value as a script."""
    return _NESTED.search(command) is not None


def nests_in(arguments: Sequence[Template]) -> bool:
    """The same for a command that no shell runs: for what follows ``sh -c`` or ``ssh``."""
    texts = ["".join(part if isinstance(part, str) else "\0" for part in each) for each in arguments]
    for n, text in enumerate(texts):
        program, rest = posixpath.basename(text), texts[n + 1 :]
        if program == "ssh" and any("\0" in each for each in rest):
            return True
        if _SHELL.fullmatch(program):
            at = next((i for i, each in enumerate(rest) if _SCRIPT_FOLLOWS.fullmatch(each)), len(rest))
            if any("\0" in each for each in rest[at + 1 : at + 2]):
                return True
    return False


class _Reader:
    """Follows the quoting of a script.

    Each context is a text: ``'`` and ``"`` for quotes; ``$(``, ``(``, a backtick for commands inside others;
    ``${`` and ``((`` (twice, for each parenthesis) for other expansions; ``#`` for a comment; ``<<`` for a
    here-document.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self._pending: list[tuple[str, bool, bool]] = []  # here-documents that begin at the next line
        self._here: tuple[str, bool, bool] = ("", False, False)  # delimiter, is quoted, tabs are stripped
        self._line = ""  # of a here-document
        self._before = "\n"

    def expansion(self, name: str, part: Reference) -> str:
        """The expansion of a variable at this place."""
        self._before = "x"
        self._line += "\0"  # no delimiter has it
        context = self._open[-1] if self._open else ""
        if context == "<<" and self._here[1]:
            raise BadCommandError(
                f"{part} is in a here-document whose delimiter is quoted, where a shell expands nothing: "
                f"write <<{self._here[0]} without quotes"
            )
        if context == "'":
            return f"'\"${{{name}}}\"'"
        return f"${{{name}}}" if self._is_quoted() else f'"${{{name}}}"'

    def _is_quoted(self) -> bool:
        """Whether an expansion is not split into words here."""
        for context in reversed(self._open):
            if context != "${":  # the same as around it
                return context in ('"', "<<", "((", "#")
        return False

    def read(self, text: str) -> None:
        """Read further text."""
        n = 0
        while n < len(text):
            step = self._step(text, n)
            self._before = text[n + step - 1]
            n += step

    def _step(self, text: str, n: int) -> int:
        """Read a token; returns its length."""
        char, context = text[n], self._open[-1] if self._open else ""
        if context == "'" or context == "#":
            is_over = char == ("'" if context == "'" else "\n")
            if is_over:
                self._open.pop()
            return 0 if is_over and context == "#" else 1
        if context == "<<" and (self._in_here(text[n]) or self._here[1]):
            return 1
        if char == "\\":
            self._line += text[n + 1 : n + 2]
            return 2
        if char == "$":
            return self._dollar(text, n)
        if char == "`" or (char == '"' and context != "<<"):
            self._toggle(char)
        elif (context, char) in (("((", ")"), ("${", "}")):
            self._open.pop()
        elif context == "((" and char == "(":
            self._open.append("((")
        elif not self._is_quoted():
            return self._unquoted(text, n)
        return 1

    def _dollar(self, text: str, n: int) -> int:
        if text.startswith("$((", n):
            self._open += ["((", "(("]
            return 3
        if text.startswith(("$(", "${"), n):
            self._open.append(text[n : n + 2])
            return 2
        return 1

    def _toggle(self, quote: str) -> None:
        if self._open and self._open[-1] == quote:
            self._open.pop()
        else:
            self._open.append(quote)

    def _unquoted(self, text: str, n: int) -> int:
        """Read a token of commands."""
        char, context = text[n], self._open[-1] if self._open else ""
        if char in "'(":
            self._open.append(char)
        elif char == ")" and context in ("(", "$("):
            self._open.pop()
        elif char == "#" and context != "${" and (self._before.isspace() or self._before in ";&|()`"):
            self._open.append("#")
        elif char == "\n" and self._pending:
            self._begin_here()
        elif text.startswith("<<<", n):
            return 3
        elif found := _HERE.match(text, n):
            delimiter = re.sub(r"['\"\\]", "", found[2])
            self._pending.append((delimiter, delimiter != found[2], bool(found[1])))
            return len(found[0])
        return 1

    def _begin_here(self) -> None:
        self._here, self._line = self._pending.pop(0), ""
        self._open.append("<<")

    def _in_here(self, char: str) -> bool:
        """Read a character of a here-document; whether it ends a line."""
        if char != "\n":
            self._line += char
            return False
        delimiter, _, strips = self._here
        line, self._line = self._line, ""
        if (line.lstrip("\t") if strips else line) == delimiter:
            self._open.pop()
            if self._pending:
                self._begin_here()
        return True
