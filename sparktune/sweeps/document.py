"""YAML with places: the contents of a file as plain Python values, and the place of each.

The type of a plain word is that of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/, section 10.3):
``1e-5`` is a number, ``yes``, ``on`` and ``2024-01-01`` are text. Only mappings, lists and scalars are
created.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from sparktune.sweeps.problems import Place, Problem, nearest, refuse, shown

Path = tuple[str | int, ...]
"""Keys and indices from the root to a value."""

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""Values that a file may hold once its aliases are followed."""
MAX_DEPTH = 50

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
_PREFIX = "tag:yaml.org,2002:"
_PLAIN = "plain"
"""The tag of a word without quotes and without its own tag."""
_TAGS = frozenset((_PLAIN, "null", "bool", "int", "float", "str", "map", "seq"))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Leaves the type of a plain word to ``_Reader``: PyYAML follows YAML 1.1."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node without one."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _PREFIX + _PLAIN
        return super().resolve(kind, value, implicit)


@dataclass
class Document:
    """The contents of a file.

    Attributes:
        data: mappings with text as keys, lists, text, numbers, booleans and None.
        source: the file's name.
        folder: what relative paths in it are relative to.
        values, keys: the places of values and of the keys of mappings.
    """

    data: Any
    source: str
    folder: str = "."
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, of_key: bool = False) -> Place:
        """The place of a value or its key; for one that is missing, the place of its parent."""
        for n in range(len(path), -1, -1):
            found = (self.keys if of_key else self.values).get(path[:n]) or self.values.get(path[:n])
            if found is not None:
                return found
        return Place(self.source)

    def known(self, path: Path) -> Path:
        """A path without the steps that the data does not have (pydantic names branches of unions, too)."""
        kept: Path = ()
        for step in path:
            if (*kept, step) in self.values or (*kept, step) in self.keys:
                kept = (*kept, step)
        return kept

    def put(self, setting: str) -> None:
        """Change a value: ``limits.max_total_trials=50``, the value in YAML.

        Raises:
            InvalidSweep: it does not have this form, or what it goes into is not a mapping.
        """
        name, equals, text = setting.partition("=")
        place = Place(f"--set {setting.encode('utf-8', 'backslashreplace').decode()}")
        steps = name.strip().split(".")
        if not equals or not all(steps):
            raise refuse([Problem(place, "write NAME=VALUE, such as limits.max_total_trials=50")])
        part = parse(text, place.source)
        at, whole = self._found(steps, place)
        at[whole[-1]] = part.data
        for places in (self.values, self.keys):
            for path in [path for path in places if path[: len(whole)] == whole]:
                del places[path]
        self.keys[whole] = place
        for path in part.values:
            self.values[(*whole, *path)] = place
        for path in part.keys:
            self.keys[(*whole, *path)] = place

    def _found(self, steps: list[str], place: Place) -> tuple[Any, Path]:
        """The mapping or list that a dotted name leads to, and the path of the value in it."""
        at: Any = self.data
        path: Path = ()
        while True:
            n_steps, step = 1, steps[0]  # type: tuple[int, str | int]
            if isinstance(at, dict):
                # A name may have dots itself: the longest that exists.
                known = (n for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in at)
                n_steps = next(known, 1)
                step = ".".join(steps[:n_steps])
            elif isinstance(at, list) and steps[0].isdecimal() and int(steps[0]) < len(at):
                step = int(steps[0])
            elif isinstance(at, list):
                text = f"{'.'.join(map(str, path))!r} is a list of {len(at)}; write an index, 0 for the first"
                raise refuse([Problem(place, text)])
            else:
                close = nearest(path[0], self.data) if path else ""
                raise refuse([Problem(place, f"{'.'.join(map(str, path))!r} is not a mapping{close}")])
            path, steps = (*path, step), steps[n_steps:]
            if not steps:
                return at, path
            if isinstance(at, dict) and at.get(step) is None:
                at[step] = {}
                self.values.setdefault(path, place)
                self.keys.setdefault(path, place)
            at = at[step]


def of_data(data: Any, source: str = "the sweep") -> Document:
    """A document of values from Python: the place of each is ``source``, and messages name the field."""
    document = Document(data, source)
    for path in _paths(data, ()):
        document.values[path] = document.keys[path] = Place(source)
    return document


def _paths(data: Any, path: Path) -> Iterator[Path]:
    yield path
    if len(path) < MAX_DEPTH:
        steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
        for step, value in steps:
            yield from _paths(value, (*path, step))


def parse(text: str | bytes, source: str) -> Document:
    """Read YAML.

    Raises:
        InvalidSweep: it is not YAML, or holds what no sweep file needs.
    """
    if len(text) > MAX_BYTES:
        raise refuse(
            [
                Problem(
                    Place(source, 1, 1),
                    f"the file is larger than {MAX_BYTES:,} bytes, so it is not a sweep file",
                )
            ]
        )
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, 1, 1) if mark is None else _place(source, mark)
        parts = [part for part in (error.context, error.problem) if part]
        raise refuse([Problem(place, f"this is not YAML: {', '.join(parts)}")]) from None
    except yaml.reader.ReaderError as error:
        raise refuse([Problem(_position(source, text, error), f"this is not YAML: {error.reason}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise refuse([Problem(Place(source, 1, 1), f"this is not YAML: {cause}")]) from None
    reader = _Reader(source)
    document = Document(None, source)
    if node is None:
        document.values[()] = Place(source, 1, 1)
    else:
        document.data = reader.value(node, (), document)
    if reader.problems:
        raise refuse(reader.problems)
    return document


class _Reader:
    """Makes values of nodes, and notes what is wrong with them."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._n_nodes = 0
        self.problems: list[Problem] = []

    def _wrong(self, mark: Any, text: str) -> None:
        self.problems.append(Problem(_place(self._source, mark), text))

    def value(self, node: yaml.Node, path: Path, document: Document) -> Any:
        """The value of a node."""
        document.values[path] = _place(self._source, node.start_mark)
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES or len(path) > MAX_DEPTH:
            if not self.problems:  # an alias inside its own target ends here, too
                self._wrong(
                    node.start_mark, "the file is nested too deeply, or its aliases make it too large"
                )
            return None
        kind = node.tag.removeprefix(_PREFIX)
        if node.tag == kind or kind not in _TAGS:
            self._wrong(node.start_mark, f"the tag {shown(node.tag)} has no meaning here; leave it out")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, document)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(part, (*path, n), document) for n, part in enumerate(node.value)]
        return self._scalar(node, kind)

    def _mapping(self, node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node.start_mark, "a key must be a word")
                continue
            key = key_node.value
            if key == "<<" and key_node.tag == _PREFIX + _PLAIN:
                found |= self._merged(value_node, path, document, found)
                continue
            if key in found and (*path, key) in document.keys:
                first = document.keys[*path, key]
                self._wrong(key_node.start_mark, f"{shown(key)} is there twice (first at {first})")
                continue
            document.keys[*path, key] = _place(self._source, key_node.start_mark)
            found[key] = self.value(value_node, (*path, key), document)
        return found

    def _merged(
        self, node: yaml.Node, path: Path, document: Document, found: dict[str, Any]
    ) -> dict[str, Any]:
        """The entries that a merge key adds: the keys that are not there already."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                self._wrong(part.start_mark, "<< takes a mapping, or a list of mappings")
                continue
            inner = Document(None, self._source)
            values = self.value(part, path, inner)
            for key, value in values.items() if isinstance(values, dict) else ():
                if key not in found and key not in merged:
                    merged[key] = value
                    at = (*path, key)
                    for place in inner.values:
                        if place[: len(at)] == at:
                            document.values[place] = inner.values[place]
        return merged

    def _scalar(self, node: yaml.ScalarNode, kind: str) -> Any:
        text: str = node.value
        if kind == "str":
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        try:
            if _INT.fullmatch(text):
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        except ValueError:  # more digits than Python turns into a number
            self._wrong(node.start_mark, f"{shown(text)} has too many digits")
            return None
        if _FLOAT.fullmatch(text):
            return float(text)
        special = _SPECIAL.fullmatch(text)
        if special is None:
            return text
        return math.nan if special[2] is None else float(f"{special[1]}inf")


def _place(source: str, mark: Any) -> Place:
    return Place(source, mark.line + 1, mark.column + 1)


def _position(source: str, text: str | bytes, error: Any) -> Place:
    """The place of a character that YAML does not allow."""
    before = text[: error.position]
    lines = (before.decode("utf-8", "replace") if isinstance(before, bytes) else before).split("\n")
    return Place(source, len(lines), len(lines[-1]) + 1)
