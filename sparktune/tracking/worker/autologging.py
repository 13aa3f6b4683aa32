"""MLflow's autologging, a setting of the whole process: put back after a trial, or paused."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

_UTILS = "mlflow.utils.autologging_utils"
_HOOKS = "mlflow.utils.import_hooks"


def noted() -> Callable[[], None]:
    """Note which integrations are on, and with what options; the result switches back to that."""
    utils: Any = sys.modules.get(_UTILS)
    before = {} if utils is None else {k: dict(v) for k, v in utils.AUTOLOGGING_INTEGRATIONS.items()}
    hooks: Any = sys.modules.get(_HOOKS)
    # mlflow.autolog() also waits for libraries that are not imported yet.
    waiting = {} if hooks is None else {k: list(v) for k, v in hooks._post_import_hooks.items()}

    def restore() -> None:
        utils: Any = sys.modules.get(_UTILS)
        if utils is None:
            return
        for name, options in list(utils.AUTOLOGGING_INTEGRATIONS.items()):
            wanted = before.get(name, {})
            if options != wanted:
                utils.AUTOLOGGING_INTEGRATIONS[name] = wanted
                if not wanted:
                    utils.revert_patches(name)
        hooks: Any = sys.modules.get(_HOOKS)
        for name, functions in list(hooks._post_import_hooks.items()) if hooks is not None else ():
            if functions and functions != waiting.get(name):
                if name in waiting:
                    hooks._post_import_hooks[name] = waiting[name]
                else:
                    del hooks._post_import_hooks[name]

    return restore


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """While the block runs, nothing of this trial is logged automatically; each trial has its own switch."""
    utils: Any = sys.modules.get(_UTILS)
    with contextlib.nullcontext() if utils is None else utils.disable_autologging():
        yield
