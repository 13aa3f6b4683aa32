"""Taking names away from another library, as a later version of it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparktune.private import of_cloudpickle, of_hyperopt, of_pyspark, presence

Remove = Callable[[str], None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Remove:
    """``without("_jsc")``: no object has this name any more, as far as sparktune looks for it."""
    monkeypatch.setattr(presence, "_messages", {})

    def remove(missing: str) -> None:
        def read(owner: Any, name: str) -> Any:
            if name == missing:
                raise AttributeError(f"no attribute {name!r}", name=name, obj=owner)
            return presence.read(owner, name)

        for module in (of_cloudpickle, of_hyperopt, of_pyspark):
            monkeypatch.setattr(module, "read", read)

    return remove
