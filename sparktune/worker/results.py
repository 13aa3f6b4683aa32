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
from sparktune.worker.pickling import can_pickle, culprit

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose values any process can read."""

Entry = tuple[bool, str, Any]
"""Whether it is an attachment, its name for people, and the key and value: as they are, or pickled."""


def sendable(
    result: Mapping[str, Any], attachments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """A result and its attachments without the entries that cannot be sent, and a note for each of these."""
    notes: list[str] = []
    kept: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for is_attachment, key, value, _ in _entries(result, attachments, notes):
        kept[is_attachment][key] = value
    return *kept, notes


def packed(result: Mapping[str, Any], attachments: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """A result and its attachments as bytes, and a note for each entry that cannot be sent."""
    notes: list[str] = []
    entries: list[Entry] = [
        (is_attachment, _name(key, is_attachment), content or (key, value))
        for is_attachment, key, value, content in _entries(result, attachments, notes)
    ]
    return pickle.dumps(entries, pickle.HIGHEST_PROTOCOL), notes


def unpacked(
    payload: bytes, loads: Callable[[bytes], Any] = of_cloudpickle.loads_keeping_classes
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The result, its attachments, and a note for each entry that cannot be read here.

    Args:
        payload: of ``packed``.
        loads: reads an entry.
    """
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    notes = []
    for is_attachment, name, content in pickle.loads(payload):
        try:
            key, value = loads(content) if isinstance(content, bytes) else content
            found[is_attachment][key] = value
        except BaseException as error:  # of code in the pickle: SystemExit, too
            notes.append(
                f"{name} cannot be read on the driver ({type(error).__name__}: {text_of(error)}): the entry "
                "is dropped, and the loss is kept. Remedy: return plain values, or install what defines them "
                "on the driver too"
            )
    return *found, notes


def _entries(
    result: Mapping[str, Any], attachments: Mapping[str, Any], notes: list[str]
) -> Iterator[tuple[bool, Any, Any, bytes | None]]:
    """Of each entry that can be sent: whether it is an attachment, key, value; its pickle unless plain."""
    for is_attachment, entries in ((False, result), (True, attachments)):
        for key, value in entries.items():
            content = None
            if type(key) is not str or type(value) not in PLAIN:
                try:
                    content = _pickled((key, value))
                except BaseException as error:  # of the user's own classes
                    notes.append(_dropped(key, value, is_attachment, error))
                    continue
            yield is_attachment, key, value, content


def _dropped(key: Any, value: Any, is_attachment: bool, error: BaseException) -> str:
    name = _name(key, is_attachment)
    path, found = culprit(value, name)
    if found is value and can_pickle(value):
        path, found = f"the key of {name}", key
    return (
        f"{path} is a {type(found).__name__}, which cannot be sent to the driver ({type(error).__name__}: "
        f"{text_of(error)}): the entry is dropped, and the loss is kept. Remedy: return plain values "
        "(numbers, text, lists, arrays), and save models with mlflow.log_artifact or to shared storage"
    )


def _name(key: Any, is_attachment: bool) -> str:
    text = repr(key) if type(key) in PLAIN else f"a {type(key).__name__}"
    return f"the attachments[{text}]" if is_attachment else f"the result[{text}]"


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return bytes(cloudpickle.dumps(value))
