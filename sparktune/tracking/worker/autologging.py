"""MLflow's autologging, a setting of the whole process: put back after a trial, or paused."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sparktune.private import of_mlflow


def noted() -> Callable[[], None]:
    """Note which integrations are on, and with what options; the result switches back to that."""
    utils: Any = sys.modules.get(of_mlflow.AUTOLOGGING)
    before = {} if utils is None else {k: dict(v) for k, v in utils.AUTOLOGGING_INTEGRATIONS.items()}
    # mlflow.autolog() also waits for libraries that are not imported yet.
    waiting = {k: list(v) for k, v in (of_mlflow.import_hooks() or {}).items()}

    def restore() -> None:
        utils: Any = sys.modules.get(of_mlflow.AUTOLOGGING)
        if utils is None:
            return
        for name, options in list(utils.AUTOLOGGING_INTEGRATIONS.items()):
            wanted = before.get(name, {})
            if options != wanted:
                utils.AUTOLOGGING_INTEGRATIONS[name] = wanted
                if not wanted:
                    utils.revert_patches(name)
        hooks = of_mlflow.import_hooks() or {}
        for name, functions in list(hooks.items()):
            if functions and functions != waiting.get(name):
                if name in waiting:
                    hooks[name] = waiting[name]
                else:
                    del hooks[name]

    return restore


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """While the block runs, nothing of this trial is logged automatically; each trial has its own switch."""
    utils: Any = sys.modules.get(of_mlflow.AUTOLOGGING)
    with contextlib.nullcontext() if utils is None else utils.disable_autologging():
        yield
