"""The format of a save file's journal: what follows the whole pickle of the trials.

A line with the format's version, then records: length (8 bytes), CRC-32 of length and content (4 bytes), both
little-endian, and the content. ``pickle.load`` reads the pickle in front of it and stops there.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FORMAT = 1
"""The version of the format that is written, and the newest that is read."""
HEADER = b"sparktune journal %d\n" % FORMAT

_HEADER = re.compile(rb"sparktune journal ([1-9][0-9]{0,8})\n")
_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_FRAME_BYTES = _LENGTH.size + _CHECK.size
# Syncs what reading needs, but not the time of the last change; macOS has only fsync.
_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class NewerFormat(Exception):
    """The journal is of a later version.

    Attributes:
        version: which.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"journal format {version}")
        self.version = version


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal holds.

    Attributes:
        records: the contents of its records, up to the first that is not whole.
        left_out: how many bytes from there on are not read.
        problem: why they are not; empty where nothing is left out.
    """

    records: list[memoryview]
    left_out: int = 0
    problem: str = ""


def record(content: bytes) -> bytes:
    """A record as it is in the file."""
    length = _LENGTH.pack(len(content))
    return length + _CHECK.pack(zlib.crc32(content, zlib.crc32(length))) + content


def parse(data: bytes) -> Contents:
    """Read what follows the pickle, up to the first byte that is not as it was written.

    Raises:
        NewerFormat: a later version of sparktune wrote it.
    """
    if not data:
        return Contents([])
    header = _HEADER.match(data)
    if header is None:
        is_cut_off = HEADER.startswith(data)
        return Contents([], len(data), "its last line is cut off" if is_cut_off else "they are not a journal")
    version = int(header[1])
    if version > FORMAT:
        raise NewerFormat(version)
    whole = memoryview(data)
    records: list[memoryview] = []
    at = header.end()
    while at < len(data):
        begins = at + _FRAME_BYTES
        if begins > len(data):
            return Contents(records, len(data) - at, "its last record is cut off")
        frame = whole[at:begins]
        (length,) = _LENGTH.unpack_from(frame)
        (check,) = _CHECK.unpack_from(frame, _LENGTH.size)
        if begins + length > len(data):
            return Contents(records, len(data) - at, "its last record is cut off")
        content = whole[begins : begins + length]
        if zlib.crc32(content, zlib.crc32(frame[: _LENGTH.size])) != check:
            return Contents(records, len(data) - at, "a record is damaged")
        records.append(content)
        at = begins + length
    return Contents(records)


class Journal:
    """Appends to the journal of a file whose pickle and header have just been written.

    Args:
        path: where the file is by now.
        file: open for writing, at its end, and flushed; closed by ``close``.
        base: how many bytes the pickle takes.
    """

    def __init__(self, path: Path, file: BinaryIO, base: int) -> None:
        self._path = path
        self._file = file
        self._begins = self._end = file.tell()
        self.base = base

    @property
    def size(self) -> int:
        """How many bytes of records it has."""
        return self._end - self._begins

    def append(self, data: bytes, *, sync: bool) -> None:
        """Append records.

        Args:
            data: of ``record``, one or several.
            sync: return when they are on the disk; otherwise they survive only the death of this process.

        Raises:
            OSError: they cannot be written, or the file is not at its path any more; what was in the file
                before is whole.
        """
        descriptor = self._file.fileno()
        if not os.path.samestat(os.stat(self._path), os.fstat(descriptor)):
            raise FileNotFoundError(f"{self._path} has become another file")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if sync:
                _sync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._end)
                os.lseek(descriptor, self._end, os.SEEK_SET)
            raise
        self._end += len(data)

    def close(self) -> None:
        """Append no more."""
        with contextlib.suppress(OSError):
            self._file.close()
