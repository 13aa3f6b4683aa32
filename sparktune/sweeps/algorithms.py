"""The search algorithms that a sweep file can name."""

from __future__ import annotations

import functools
import importlib
from typing import Any

ALGORITHMS = {
    "random": "sparktune.search.rand",
    "grid": "sparktune.search.grid",
    "bayesian": "sparktune.search.tpe",
    "sobol": "sparktune.search.sobol",
    "tpe": "sparktune.search.tpe",
    "gp": "sparktune.search.gp",
    "auto": "sparktune.search.auto",
    "anneal": "sparktune.search.anneal",
    "local": "sparktune.search.local",
}
"""Name -> the module whose ``suggest`` it is. Azure's names come first."""


@functools.cache
def suggest(name: str, rule: str | None = None) -> Any:
    """The suggest function of an algorithm; ``rule`` as of the file's ``sampling_algorithm``."""
    if name == "random" and rule == "sobol":
        name = "sobol"
    return importlib.import_module(ALGORITHMS[name]).suggest
