"""What an objective returned, on its way to the driver.

Entry by entry: one that cannot be pickled, or not be read on the driver, is dropped with a warning, and costs
the trial neither its loss nor another entry.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cloudpickle

from sparktune.private import of_cloudpickle
from sparktune.study.trial import text_of
from sparktune.worker.pickling import culprit

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose values any process can read."""

Part = tuple[bool, Any, bytes]
"""Whether it is an attachment, its key, and its pickle."""


def sendable(
    result: Mapping[str, Any], attachments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """A result and its attachments without the entries that cannot be sent, and a note for each of these."""
    notes: list[str] = []
    kept: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for is_attachment, key, _ in _entries(result, attachments, notes):
        kept[is_attachment][key] = (result, attachments)[is_attachment][key]
    return *kept, notes


def packed(result: Mapping[str, Any], attachments: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """A result and its attachments as bytes, and a note for each entry that cannot be sent."""
    notes: list[str] = []
    plain: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    parts: list[Part] = []
    for is_attachment, key, content in _entries(result, attachments, notes):
        if content is None:
            plain[is_attachment][key] = (result, attachments)[is_attachment][key]
        else:
            plain[is_attachment][key] = None  # the entry's place
            parts.append((is_attachment, key, content))
    return pickle.dumps((*plain, parts), pickle.HIGHEST_PROTOCOL), notes


def unpacked(
    payload: bytes, loads: Callable[[bytes], Any] = of_cloudpickle.loads_keeping_classes
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The result, its attachments, and a note for each entry that cannot be read here.

    Args:
        payload: of ``packed``.
        loads: reads an entry.
    """
    result, attachments, parts = pickle.loads(payload)
    notes = []
    for is_attachment, key, content in parts:
        found = attachments if is_attachment else result
        try:
            found[key] = loads(content)
        except BaseException as error:  # of code in the pickle: SystemExit, too
            del found[key]
            notes.append(
                f"{_name(key, is_attachment)} cannot be read on the driver "
                f"({type(error).__name__}: {text_of(error)}): the entry is dropped, and the loss is kept. "
                "Remedy: return plain values, or install what defines them on the driver too"
            )
    return result, attachments, notes


def _entries(
    result: Mapping[str, Any], attachments: Mapping[str, Any], notes: list[str]
) -> Iterator[tuple[bool, Any, bytes | None]]:
    """Of each entry that can be sent: whether it is an attachment, its key, its pickle unless it is plain."""
    for is_attachment, entries in ((False, result), (True, attachments)):
        for key, value in entries.items():
            if type(key) is str and type(value) in PLAIN:
                yield is_attachment, key, None
                continue
            try:
                if type(key) not in PLAIN:
                    raise TypeError(f"its key is a {type(key).__name__}, not text")
                content = _pickled(value)
            except Exception as error:
                notes.append(_dropped(value, _name(key, is_attachment), error))
            else:
                yield is_attachment, key, content


def _dropped(value: Any, name: str, error: Exception) -> str:
    path, found = culprit(value, name)
    return (
        f"{path} is a {type(found).__name__}, which cannot be sent to the driver ({type(error).__name__}: "
        f"{text_of(error)}): the entry is dropped, and the loss is kept. Remedy: return plain values "
        "(numbers, text, lists, arrays), and save models with mlflow.log_artifact or to shared storage"
    )


def _name(key: Any, is_attachment: bool) -> str:
    return f"the attachments[{key!r}]" if is_attachment else f"the result[{key!r}]"


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return bytes(cloudpickle.dumps(value))
