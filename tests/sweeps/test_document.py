"""YAML: what its words are, where they stand, and what is no YAML for us."""

from __future__ import annotations

import math

import pytest

from sparktune.errors import InvalidSweep
from sparktune.sweeps.document import of_data, parse
from sparktune.sweeps.problems import Place

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.", 1.0),
        (".5E+3", 500.0),
        ("010", 10),
        ("0x1F", 31),
        ("-3", -3),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("!!float 5", 5),
        ("=", "="),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_words(text, value) -> None:
    found = parse(f"a: {text}", "x").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_places_are_those_of_the_file() -> None:
    document = parse("a:\n  - b: 1\n    c: [2, 3]\n", "f.yml")
    assert document.place(("a", 0, "c", 1)) == Place("f.yml", 2 + 1, 12)
    assert document.place(("a", 0, "c"), of_key=True) == Place("f.yml", 3, 5)
    assert document.place(("a", 0, "missing"), of_key=True) == Place("f.yml", 2, 5)
    assert str(document.place(("nothing",))) == "f.yml:1:1"
    assert str(of_data({"a": {"b": 1}}).place(("a", "b"))) == "the sweep"


def test_anchors_and_merge_keys() -> None:
    document = parse("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3, c: *x}\n", "f")
    assert document.data["y"] == {"a": 1, "b": 3, "c": {"a": 1, "b": 2}}


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", r"f:1:\d+: this is not YAML: while parsing a flow sequence"),
        ("a: 1\n\tb: 2", r"f:2:\d+: this is not YAML"),
        ("a: 1\na: 2", r"f:2:1: 'a' is there twice \(first at f:1:1\)"),
        ("a: !!python/object/apply:os.system [id]", "f:1:4: the tag '.*os.system' has no meaning here"),
        ("a: !x 1", "f:1:4: the tag '!x' has no meaning here"),
        ("? [1]\n: 2", "f:1:3: a key must be a word"),
        ("a: *x", "f:1:4: this is not YAML: found undefined alias 'x'"),
        ("a: &x [*x]", "f:1:.*: the file is nested too deeply"),
        (BOMB, "f:.*: the file is nested too deeply, or its aliases make it too large"),
        ("[" * 5000, "f:1:1: this is not YAML: it is nested too deeply"),
        ("a: " + "9" * 5000, "f:1:4: '9.*has too many digits"),
        ("a: b\nc: \x07", "f:2:4: this is not YAML: special characters"),
        (b"a: \xff\xfe", r"f:1:4: this is not YAML"),
        ("a: 1\n---\nb: 2", r"f:2:1: this is not YAML: .*another document"),
        ("a" * 1_000_001, "f:1:1: the file is larger"),
        ("<<: 1", "f:1:5: << takes a mapping"),
    ],
)
def test_what_is_refused(text, complaint) -> None:
    with pytest.raises(InvalidSweep, match=complaint):
        parse(text, "f")


def test_settings() -> None:
    document = parse("limits: {max_total_trials: 1}", "f")
    for setting in (
        "limits.max_total_trials=50",
        "trial.command=a b",
        "search_space={x: {type: randint}}",
        "e=",
    ):
        document.put(setting)
    assert document.data == {
        "limits": {"max_total_trials": 50},
        "trial": {"command": "a b"},
        "search_space": {"x": {"type": "randint"}},
        "e": None,
    }
    assert str(document.place(("limits", "max_total_trials"))) == "--set limits.max_total_trials=50"
    assert str(document.place(("search_space", "x", "type"))) == "--set search_space={x: {type: randint}}"


def test_settings_of_empty_mappings_of_names_with_dots_and_in_lists() -> None:
    document = parse("limits:\nspace: {a.b: {values: [1, {c: 2}]}, a: {x: 1}}\n", "f")
    for setting in ("limits.timeout=5", "space.a.b.values.0=7", "space.a.b.values.1.c=8", "space.a.x=9"):
        document.put(setting)
    assert document.data == {
        "limits": {"timeout": 5},
        "space": {"a.b": {"values": [7, {"c": 8}]}, "a": {"x": 9}},
    }
    assert str(document.place(("space", "a.b", "values", 0))) == "--set space.a.b.values.0=7"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("list.1=2", "'list' is a list of 1; write an index, 0 for the first"),
        ("list.x=2", "'list' is a list of 1"),
        ("limits", "write NAME=VALUE"),
        ("=1", "write NAME=VALUE"),
        ("a..b=1", "write NAME=VALUE"),
        ("type.x=1", "'type' is not a mapping"),
        ("a=[", "this is not YAML"),
    ],
)
def test_settings_that_are_refused(setting, complaint) -> None:
    with pytest.raises(InvalidSweep, match=r"^--set ") as refused:
        parse("type: sweep\nlist: [1]", "f").put(setting)
    assert complaint in str(refused.value)
