"""Patches modules that may not be imported yet, without importing them."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

logger = logging.getLogger("sparktune")

Patch = Callable[[Any], None]
"""Changes a module; called again for one that it has changed already, it does nothing."""


def patch(patches: Mapping[str, Patch]) -> None:
    """Patch modules (name -> patch) where they are loaded, or else right after they get loaded.

    What a patch raises is logged: the module then is as it always was.
    """
    for name, change in patches.items():
        if name in sys.modules:
            safely(change, sys.modules[name])
    waits = any(isinstance(finder, _Finder) and finder.patches is patches for finder in sys.meta_path)
    if not waits and not patches.keys() <= sys.modules.keys():
        sys.meta_path.insert(0, _Finder(patches))


def safely(change: Patch, module: ModuleType) -> None:
    """Change a module; what that raises is logged."""
    try:
        change(module)
    except Exception as error:  # whatever another version of the module makes of it
        logger.warning(
            "sparktune does not know this version of %s (%s): mlflow calls in the objective may land on a "
            "run of their own",
            module.__name__,
            error,
        )


class _Finder(importlib.abc.MetaPathFinder):
    """Patches modules right after they are executed, before anybody can use them."""

    def __init__(self, patches: Mapping[str, Patch]) -> None:
        self.patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders give, with a loader that patches."""
        change = self.patches.get(fullname)
        if change is None:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Finder):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, change)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Another loader's work, and a patch after it."""

    def __init__(self, loader: Any, change: Patch) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then patch it."""
        self._loader.exec_module(module)
        safely(self._change, module)
