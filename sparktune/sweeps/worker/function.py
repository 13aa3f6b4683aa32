"""A trial that calls a Python function: the objective, on its worker."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparktune.sweeps.worker.folder import Modules


@dataclass(frozen=True)
class Function:
    """The objective of a sweep whose trials are calls of ``module:name``.

    Attributes:
        module, name: where the function is; the module is imported on the worker.
        inputs: arguments that are the same for every trial.
        code: the archive with its module, or None where workers have it.
    """

    module: str
    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    code: Modules | None = None

    @property
    def __name__(self) -> str:
        """The function's name, which names the study."""
        return self.name

    def __call__(self, point: Mapping[str, Any]) -> Any:
        """Call the function with the values of a point, by their names."""
        if self.code is not None:
            self.code.add_to_path()
        function = getattr(importlib.import_module(self.module), self.name)
        return function(**{**self.inputs, **point})
