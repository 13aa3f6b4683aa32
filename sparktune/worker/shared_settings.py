"""Warning filters and loggers: what a trial changes in them is put back, what its imports change stays.

The modules that a trial imports are kept, and are not executed again for the next one. So what they have set
belongs to them; what the objective itself has set, before or after the import, does not.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Protocol


class Follows(Protocol):
    """Something noted before a trial, and its restoration; it is notified of imports in between."""

    def __call__(self) -> None:
        """Restore it, except for what imports have changed."""

    def import_begins(self) -> None:
        """Note how it is before an import."""

    def import_ended(self) -> None:
        """What is other than before belongs to the import."""


class WarningFilters:
    """Keep what the import has changed."""

    def __init__(self) -> None:
        self._list: Any = warnings.filters
        self._before = list(warnings.filters)
        self._show, self._format = warnings.showwarning, warnings.formatwarning
        self._at_import: list[Any] = []

    def import_begins(self) -> None:
        """Note the state before an import."""
        self._at_import = list(warnings.filters)

    def import_ended(self) -> None:
        """Keep what the import has changed."""
        if len(warnings.filters) != len(self._at_import) or list(warnings.filters) != self._at_import:
            known = set(map(id, self._at_import))
            self._before = [*(entry for entry in warnings.filters if id(entry) not in known), *self._before]

    def __call__(self) -> None:
        """Restore the noted state."""
        warnings.showwarning, warnings.formatwarning = self._show, self._format
        now: Any = warnings.filters
        warnings.filters = self._list
        if now is self._list and self._list == self._before:
            return
        self._list[:] = self._before
        # Python keeps what it has decided by the filters until it is notified that they have changed.
        with warnings.catch_warnings():
            pass


Settings = tuple[int, bool, bool, tuple[Any, ...], tuple[Any, ...]]
PLAIN: Settings = (logging.NOTSET, False, True, (), ())
"""The settings of an unchanged logger."""


class Loggers:
    """Levels, handlers and filters of loggers."""

    def __init__(self) -> None:
        self._before = _all_settings()
        self._disabled = logging.root.manager.disable
        self._at_import: dict[logging.Logger, Settings] = {}

    def import_begins(self) -> None:
        """Note the state before an import."""
        self._at_import = _all_settings()

    def import_ended(self) -> None:
        """Keep what the import has changed."""
        now = _all_settings()
        for one in now.keys() | self._at_import.keys():
            settings = now.get(one, PLAIN)
            if settings != self._at_import.get(one, PLAIN):
                self._before[one] = settings

    def __call__(self) -> None:
        """Restore the noted state."""
        manager = logging.root.manager
        if manager.disable != self._disabled:
            manager.disable = self._disabled
            manager._clear_cache()  # type: ignore[attr-defined]
        for one in _loggers():
            wanted = self._before.get(one, PLAIN)
            if _settings(one) != wanted:
                _set(one, wanted)


def _all_settings() -> dict[logging.Logger, Settings]:
    return {one: settings for one in _loggers() if (settings := _settings(one)) != PLAIN}


def _loggers() -> list[logging.Logger]:
    every = logging.root.manager.loggerDict.values()
    return [logging.root, *(one for one in list(every) if isinstance(one, logging.Logger))]


def _settings(one: logging.Logger) -> Settings:
    return one.level, one.disabled, one.propagate, tuple(one.handlers), tuple(one.filters)


def _set(one: logging.Logger, wanted: Settings) -> None:
    level, one.disabled, one.propagate, handlers, filters = wanted
    for handler in one.handlers:
        if handler not in handlers:
            handler.close()
    one.handlers, one.filters = list(handlers), list(filters)
    one.setLevel(level)
