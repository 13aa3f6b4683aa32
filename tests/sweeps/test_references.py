"""A command becomes arguments before values are filled in, so no value can be more than a value."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparktune.sweeps.references import (
    BadCommandError,
    Reference,
    arguments,
    filled,
    references,
    script,
    template,
)

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
    assert words("a 'b c' \"d e\" f\\ g \\\n  h\n i", "") == ["a", "b c", "d e", "f g", "h", "i"]
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
        ("\ue000", "private use"),
        ([], "empty"),
        ([""], "empty"),
    ],
)
def test_what_cannot_be_a_command(command, complaint) -> None:
    with pytest.raises(BadCommandError, match=complaint):
        arguments(command)


def test_in_quotes_everything_is_meant_as_it_stands() -> None:
    assert words("a '$HOME;|&' 5$ a\\;b", "") == ["a", "$HOME;|&", "5$", "a;b"]


@pytest.mark.parametrize("value", NASTY)
def test_in_a_shell_a_value_is_a_parameter(value, tmp_path) -> None:
    """Nothing of it is executed, whether it stands in quotes or not."""
    text, order = script(
        "printf '%s|' ${{search_space.x}} \"${{search_space.x}}\" a${{search_space.x}} ${{inputs.y}}; "
        "printf %s $1"
    )
    values = {X: value, Reference("inputs", "y"): "why"}
    done = subprocess.run(
        ["/bin/sh", "-c", text, "sparktune", *(values[each] for each in order)],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().startswith(f"{value}|{value}|a{value}|why|")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("echo '${{search_space.x}}'", "single quotes"),
        (" ", "empty"),
        ("a\0", "NUL"),
        ("${{a}}", "cannot be read"),
    ],
)
def test_what_cannot_be_a_script(command, complaint) -> None:
    with pytest.raises(BadCommandError, match=complaint):
        script(command)
