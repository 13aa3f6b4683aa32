"""The public names of the package, imported when they are first used.

``sparktune/__init__.py`` lists them once, in imports that only type checkers execute.
"""

from __future__ import annotations

import ast
import importlib
import sys
import types
from typing import Any

from sparktune import _hyperopt_names

NOT_BY_STAR = frozenset({"sample"})
"""``from sparktune import *`` must not replace a notebook's ``hyperopt.pyll.stochastic.sample``."""
PUBLIC_ROOMS = ("early_termination", "errors", "plots", "sklearn", "space")
"""Submodules available after ``import sparktune`` and shown by ``dir``: ``sparktune.errors.InvalidSpace``."""
INTERNAL_ROOMS = (
    "backends",
    "comparison",
    "private",
    "search",
    "study",
    "sweeps",
    "tracking",
    "trials",
    "worker",
)


def homes(source: str) -> dict[str, str]:
    """Name -> the module that it is imported from, of the imports below ``if TYPE_CHECKING:``."""
    blocks = (block for block in ast.parse(source).body if isinstance(block, ast.If))
    imports = (node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


class Package(types.ModuleType):
    """A package that imports its names when they are first used.

    A function keeps its name although a module has the same (``fmin``). Pickled by its name, as every module
    is by cloudpickle, which looks for the exact class of modules: objectives refer to ``sparktune.STATUS_OK``
    or ``st.report``.
    """

    _homes: dict[str, str]

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> Any:
        found: Any
        if name in self._homes:
            home = importlib.import_module(self._homes[name])
            is_there = hasattr(home, name)
            found = getattr(home, name) if is_there else importlib.import_module(f"{home.__name__}.{name}")
        elif name in PUBLIC_ROOMS or name in INTERNAL_ROOMS:
            found = importlib.import_module(f"{self.__name__}.{name}")
        elif (found := _hyperopt_names.submodule(name)) is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__[name] = found
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if self._homes.get(name) == f"{self.__name__}.{name}" and isinstance(value, types.ModuleType):
            value = getattr(value, name, None)
            if value is None:  # half imported
                return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        dunders = (name for name in self.__dict__ if name.startswith("__"))
        return sorted({*self._homes, *PUBLIC_ROOMS, *dunders})


def install(name: str) -> None:
    """Let a package have the names that its source lists.

    Raises:
        ImportError: the source of the package is not there.
    """
    package: Any = sys.modules[name]
    try:
        found = homes(package.__loader__.get_source(name))  # of a zip file, the package may be compiled
    except (AttributeError, OSError, ImportError, SyntaxError, TypeError, ValueError) as error:
        raise ImportError(f"the source of {name} is missing, {package.__file__}: {error}") from error
    package.__dict__.update(_homes=found, __all__=sorted(found.keys() - NOT_BY_STAR))
    package.__class__ = Package
    _hyperopt_names.install()
