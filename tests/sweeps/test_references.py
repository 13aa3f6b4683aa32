"""A command becomes arguments before values are filled in, so no value can be more than a value."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sparktune.sweeps.references import (
    BadCommandError,
    Reference,
    arguments,
    filled,
    references,
    template,
)

pytestmark = pytest.mark.unit

X = Reference("search_space", "x")
NASTY = [
    "a b",
    "'",
    '"',
    '"; touch injected; "',
    "$(touch injected)",
    "`touch injected`",
    "a\nb\n",
    "$HOME",
    "; touch injected",
    "*",
    "ünï ☃ 漢",
    "\\",
    "",
    "--flag",
    "${{search_space.x}}",
    "\ue0000\ue001",
    "%s {0}",
]


def words(command: str, value: str) -> list[str]:
    return [filled(part, {X: value}) for part in arguments(command)]


@pytest.mark.parametrize("value", NASTY)
def test_a_value_is_one_argument_or_a_part_of_one(value) -> None:
    assert words("run ${{search_space.x}} --x=${{ search_space.x }} end", value) == [
        "run",
        value,
        f"--x={value}",
        "end",
    ]
    assert words("run \"${{search_space.x}}\" 'a ${{search_space.x}}'", value) == ["run", value, f"a {value}"]


@given(st.text())
def test_whatever_the_value(value) -> None:
    assert words("a ${{search_space.x}} b", value) == ["a", value, "b"]


def test_words_are_split_as_a_shell_splits_them() -> None:
    assert words("a 'b c' \"d e\" f\\ g \\\n  h\\\ni\n\n", "") == ["a", "b c", "d e", "f g", "hi"]
    assert words("\n a 'b\n#' \"\\$HOME \\`b \\x\"''", "") == ["a", "b\n#", "$HOME `b \\x"]
    literal = ["a#b", "x=1", "a~", "{}", "{a}", "a[1,2]", "cd", "\ue000"]
    assert words(" ".join(literal), "") == literal
    assert words("a \\~ '{a,b}'", "") == ["a", "~", "{a,b}"]
    assert arguments(["a b", "${{search_space.x}}"]) == (("a b",), (X,))
    assert list(references(template("${{search_space.x}}-${{inputs.a-b.c}}"))) == [
        X,
        Reference("inputs", "a-b.c"),
    ]


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a 'b", "No closing quotation"),
        ("a && b", "'&' .*shell: true"),
        ("a > b", "redirection"),
        ("a; b", "list of commands"),
        ("echo $(b)", "expansion"),
        ('echo "$HOME"', "expansion"),
        ("ls *.py", "pattern of file names"),
        ("a ${{x}}", "cannot be read"),
        ("a ${{search_space.x}", "cannot be read"),
        ("a \0", "NUL"),
        ("a \\", "No escaped character"),
        ("pip install x\npython train.py", "a new line .another command.*shell: true.*>- in place of"),
        ("# first\npython train.py", "a new line"),
        ("python train.py # fast", "comment"),
        ("LEVEL=1 python train.py", "'LEVEL='.*shell: true.*trial.environment_variables"),
        ("~/bin/train", "home folder"),
        ("train --x ~", "home folder"),
        ("cd src", "'cd' .a word of the shell"),
        ("export A=1", "'export'"),
        ("if a", "'if'"),
        ("[[ -f x ]]", "a word of the shell"),
        ("(a)", "subshell"),
        ("train {a,b}", "words in braces"),
        ("train x{1..3}y", "words in braces"),
        ("echo $1", "expansion"),
        ('echo "$@"', "expansion"),
        ("train $[[--x ${{inputs.x}}]]", "every input of a sweep file is given"),
        (["train", "$[[x]]"], "every input"),
        ([], "empty"),
        ([""], "empty"),
    ],
)
def test_what_cannot_be_a_command(command, complaint) -> None:
    with pytest.raises(BadCommandError, match=complaint):
        arguments(command)


def test_in_quotes_everything_is_meant_as_it_stands() -> None:
    assert words("a '$HOME;|&' 5$ a\\;b", "") == ["a", "$HOME;|&", "5$", "a;b"]
