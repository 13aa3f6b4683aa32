"""hyperopt's submodules under sparktune's name: ``from sparktune.pyll import scope``.

With these, replacing the word ``hyperopt`` by ``sparktune`` in a repository works. Where sparktune does not
have the module, the name is hyperopt's module itself, so that there is one ``scope`` and one set of
exceptions. A module that replaces one of hyperopt's gives hyperopt's other names too (``missing_from``).
Modules that need further packages (``plotting``: matplotlib, ``mongoexp``: pymongo) are imported when they
are used.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

OURS = {
    "sparktune.hp": "sparktune.space.hp",
    "sparktune.spark": "sparktune.trials.spark",
    **{
        f"sparktune.{n}": f"sparktune.search.{n}"
        for n in ("anneal", "auto", "gp", "grid", "local", "rand", "sobol", "tpe")
    },
}
"""The places of the modules that hyperopt has at its top level, and of ours beside them."""

HYPEROPTS = {
    f"sparktune.{name}": f"hyperopt.{name}"
    for name in (
        "algobase",
        "atpe",
        "atpe_models",
        "base",
        "criteria",
        "early_stop",
        "exceptions",
        "graph_viz",
        "ipy",
        "mix",
        "mongoexp",
        "plotting",
        "progress",
        "pyll",
        "pyll.base",
        "pyll.stochastic",
        "pyll_utils",
        "rdists",
        "std_out_err_redirect_tqdm",
        "utils",
        "vectorize",
    )
}
"""Modules of hyperopt's that are the same under both names."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module under another name."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._specs: dict[str, importlib.machinery.ModuleSpec | None] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a name that stands for another module; None for other names."""
        if fullname not in self._names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=self._names[fullname])

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module itself, imported under its own name."""
        module = importlib.import_module(self._names[spec.name])
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Only restore the module's spec, which importing replaced: it was executed already."""
        if module.__spec__ is not None:
            module.__spec__ = self._specs[module.__spec__.name]


def install() -> None:
    """Make the names importable."""
    if not any(type(finder).__qualname__ == _Finder.__qualname__ for finder in sys.meta_path):
        # First: below `pyll` hyperopt's folder would be searched, and its modules created twice.
        sys.meta_path.insert(0, _Finder(OURS | HYPEROPTS))


def submodule(name: str) -> ModuleType | None:
    """The submodule of this name, as an attribute of the package; None where there is none.

    hyperopt imports most of its own at its start, so that ``import hyperopt`` is enough for them.
    """
    if f"sparktune.{name}" not in OURS | HYPEROPTS:
        return None
    try:
        return importlib.import_module(f"sparktune.{name}")
    except ImportError:  # without matplotlib or pymongo, as with hyperopt
        return None


def missing_from(module: str, theirs: str) -> Callable[[str], Any]:
    """A ``__getattr__`` (PEP 562) for a module of ours: names that it lacks are those of hyperopt's.

    Args:
        module: its name.
        theirs: the name of hyperopt's, which is imported when it is needed.
    """

    def find(name: str) -> Any:
        if not name.startswith("__"):
            try:
                return getattr(importlib.import_module(theirs), name)
            except (ImportError, AttributeError):
                pass
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
