"""The user's modules that a worker has imported, and whether a new worker would import others.

A worker is kept for later studies, and its modules with it. A user who has edited one meanwhile expects the
new code. So each import is noted with its file as it was then; where files have changed, or the modules would
come from others, the process is not used for a new study: Spark starts another. To import them again in this
process would not do, because what they have registered elsewhere, and threads that they have started, stay.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from sparktune.worker import sources
from sparktune.worker.sources import Signature, Source


class _Origin(NamedTuple):
    """Where a module came from.

    Attributes:
        path: its file.
        signature: the file when it was imported; None where the file has changed since, or may have.
        was_found: its import was seen, and not only that it is there.
    """

    path: str
    signature: Signature | None
    was_found: bool


Follower = Callable[[], AbstractContextManager[None]]


class _Watch(importlib.abc.MetaPathFinder):
    """Notes which file each own module is imported from; it finds what the finders after it find."""

    def __init__(self) -> None:
        self.origins: dict[str, _Origin] = {}
        self.follower: Follower | None = None
        self.following = threading.local()
        self._busy = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Note what another finder finds, and return it."""
        before = getattr(self._busy, "name", None)
        if before == fullname or self not in sys.meta_path:
            return None  # another finder asks all others
        self._busy.name = fullname
        try:
            for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
                find = getattr(finder, "find_spec", None)
                spec: importlib.machinery.ModuleSpec | None = find and find(fullname, path, target)
                if spec is not None:
                    self._note(fullname, spec)
                    self._have_followed(spec.loader)
                    return spec
        finally:
            self._busy.name = before
        return None

    def _note(self, name: str, spec: importlib.machinery.ModuleSpec) -> None:
        path = spec.origin
        if spec.has_location and path is not None and sources.is_own(name, path):
            self.origins[name] = _Origin(path, sources.signature(path), was_found=True)

    def _have_followed(self, loader: Any) -> None:
        """Let an import that is not part of another be followed, from before its first line to its last."""
        if self.follower is None or getattr(self.following, "is_on", False) or isinstance(loader, type):
            return
        execute = getattr(loader, "exec_module", None)
        if execute is None or "exec_module" in getattr(loader, "__dict__", {"exec_module": None}):
            return

        def followed(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)  # the loader is as it was
            if self.follower is None or getattr(self.following, "is_on", False):
                execute(module)
                return
            self.following.is_on = True
            try:
                with self.follower():
                    execute(module)
            finally:
                self.following.is_on = False

        loader.exec_module = followed

    def note_loaded(self) -> None:
        """Note what was imported before there was this finder: when, is not known."""
        began_s, now_s = _process_began_s(), time.time()
        for name, module in list(sys.modules.items()):
            path = sources.own_file(name, module)
            if path is not None and name not in self.origins:
                file = sources.signature(path)
                may_have_changed = file is not None and began_s < file[0] / 1e9 <= now_s
                self.origins[name] = _Origin(path, None if may_have_changed else file, was_found=False)


_watch = _Watch()


def watch() -> None:
    """From now on, note what this process imports; once is enough."""
    if _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)
        _watch.note_loaded()


def followed_by(follower: Follower | None) -> None:
    """From now on, wrap each import that is not part of another in the context; None to stop."""
    _watch.follower = follower


def outdated(path: Sequence[str]) -> list[str]:
    """Modules of this process that a new one, with this ``sys.path``, would import from another copy.

    That is, other than when they were imported, the files have changed, or other files come first.
    """
    for finder in sys.path_importer_cache.values():
        # Of folders alone: an archive would be read again, which for PySpark's own takes 0.1 s and more.
        if isinstance(finder, importlib.machinery.FileFinder):
            finder.invalidate_caches()
    return [
        name
        for name, origin in _watch.origins.items()
        if name in sys.modules and (_has_changed(origin) or _is_elsewhere(name, origin, path))
    ]


def _has_changed(origin: _Origin) -> bool:
    now = sources.signature(origin.path)
    return now is not None and now != origin.signature


def _is_elsewhere(name: str, origin: _Origin, path: Sequence[str]) -> bool:
    if "." in name or not origin.was_found:  # the parts of a package are where it is
        return False
    spec = importlib.machinery.PathFinder.find_spec(name, list(path))
    return spec is not None and spec.has_location and spec.origin != origin.path


def differing(wanted: Mapping[str, Source]) -> list[str]:
    """Sentences on modules of this process whose source is not the driver's.

    Args:
        wanted: those of the driver; the ones that are not loaded here are passed over.
    """
    found = []
    for name, source in wanted.items():
        module = sys.modules.get(name)
        origin = _watch.origins.get(name)
        path = origin.path if origin is not None else getattr(module, "__file__", None)
        if module is None or path is None:
            continue
        here = sources.digest(path, getattr(module, "__loader__", None))
        if here is not None and here != source.digest:
            found.append(
                f"trials run another copy of the module {name!r} than the driver has: {path} on the workers, "
                f"{source.path} here. Give the workers the driver's, in a new Spark session"
            )
    return found


def _process_began_s() -> float:
    """Unix time of the start of this process; infinity where the system does not have it."""
    try:
        # proc(5): starttime is the 22nd field of /proc/<pid>/stat, in ticks since boot. The boot time in
        # /proc/stat is in whole seconds: a file written just before the start would seem newer than it.
        stat = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted_s + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError, IndexError):
        return float("inf")
