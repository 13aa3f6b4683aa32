"""In a script of a shell's a value is a variable: one word wherever it stands, and never executed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sparktune.sweeps.references import BadCommandError, Reference, arguments, filled
from sparktune.sweeps.scripts import nests_in, script
from tests.sweeps.files import FILE, sweep
from tests.sweeps.test_references import NASTY

pytestmark = pytest.mark.system

X = Reference("search_space", "x")
V = "${{search_space.x}}"


def output(command: str, value: str, folder: Path) -> str:
    """What a script prints."""
    text, variables = script(command)
    values = {X: value, Reference("inputs", "y"): "why"}
    done = subprocess.run(
        ["/bin/sh", "-c", text, "sparktune"],
        env={**os.environ, **{name: filled(parts, values) for name, parts in variables.items()}},
        cwd=folder,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode()


PLACES = {
    "unquoted": f"printf '%s|' {V} a{V} ${{{{inputs.y}}}}",
    "in double quotes": f'printf "%s|" "{V}" "a {V} b"',
    "in single quotes": f"printf '%s|' '{V}' 'a {V} b'",
    "after an apostrophe in a comment": f"# don't \"\nprintf '%s|' {V} # isn't\nprintf '%s|' \"{V}\"",
    "after a # that begins no comment": f"printf '%s|' a#\"b\" $# {V} ${{#}}'#' \"{V}\"",
    "in a command substitution": f'printf "%s|" "$(printf "<%s>" {V} "{V}")" {V}',
    "in backticks": f"printf '%s|' `printf \"%s\" {V} | wc -l` {V}",
    "in a default": f'printf "%s|" "${{NOTHING:-{V}}}" ${{NOTHING:-{V}}}',
    "in a subshell": f'(printf "%s|" {V}; (printf "%s|" "{V}"))',
    "after arithmetic": f'n=$(( (1 << 2) + (3) )); printf "%s|" $n {V}',
    "in a here-document": f"cat <<END; printf '%s|' {V}\n'a' \"{V}\" $(printf '%s' {V})\nEND\nprintf %s {V}",
    "in the second of two": f"cat <<A - <<-'B C'\na {V} don't\nA\n\tit's\n\tB C\nprintf '%s|' {V} \"{V}\"",
    "after escapes": f"printf '%s|' \\' \\\" \"\\\"\" '\\' {V}",
}


@pytest.mark.parametrize("command", PLACES.values(), ids=PLACES)
def test_a_value_is_the_same_wherever_it_stands(command, tmp_path) -> None:
    """As if it were a plain word; only a command substitution removes newlines at its end."""
    plain = output(command, "@", tmp_path)
    assert "@" in plain
    for value in NASTY:
        if "`" in command and "\n" in value:
            continue  # wc counts its lines
        expected = plain.replace("@", value)
        if "$(printf '%s'" in command:
            expected = expected.replace(f"{value}\nEND", f"{value.rstrip()}\nEND")
            expected = expected.replace(f'"{value}" {value}\n', f'"{value}" {value.rstrip(chr(10))}\n')
        assert output(command, value, tmp_path) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_nested_shell_finds_the_value_in_its_environment(tmp_path) -> None:
    """The values are in its environment; in its text they would be read again, which is noted."""
    nested = FILE.replace(
        "command: python train.py --rate ${{search_space.rate}}",
        'shell: true\n  command: sh -c "train ${{search_space.rate}}"',
    )
    assert any("use '\"$SPARKTUNE_PARAM_NAME\"' there" in note for note in sweep(nested).notes)
    for right in (
        nested.replace("sh -c", "env"),
        nested.replace('"train ${{search_space.rate}}"', "'train $SPARKTUNE_PARAM_rate'"),
    ):
        assert not any("SPARKTUNE_PARAM_NAME" in note for note in sweep(right).notes)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (f"cat <<'END'\n{V}\nEND", "here-document whose delimiter is quoted.*write <<END without quotes"),
        (f"cat <<\\END\n{V}\nEND", "here-document"),
        ("echo $[[--x]]", "every input of a sweep file is given"),
        (" ", "empty"),
        ("a\0", "NUL"),
        ("${{a}}", "cannot be read"),
    ],
)
def test_what_cannot_be_a_script(command, complaint) -> None:
    with pytest.raises(BadCommandError, match=complaint):
        script(command)


@pytest.mark.parametrize(
    ("command", "is_read_again"),
    [
        (f'sh -c "train {V}"', True),
        (f"env A=1 /bin/bash -o pipefail -ec 'train {V}'", True),
        (["bash", "-lc", f"train {V}"], True),
        (f"ssh host train {V}", True),
        (f"sh -c 'train \"$0\"' {V}", False),
        (f"sh -c 'train \"$SPARKTUNE_PARAM_x\"' -x {V}", False),
        (f"sh train.sh {V}", False),
        (f"python train.py -c {V}", False),
    ],
)
def test_a_shell_that_a_command_without_one_starts(command, is_read_again) -> None:
    assert nests_in(arguments(command)) is is_read_again
