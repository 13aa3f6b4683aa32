"""Names of options that are objects: the same in every process, and different for different options.

The text of a function, and of an object whose class has no ``__repr__``, holds its address in memory, which
differs between processes. It must neither be recorded nor distinguish options.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def without_addresses(text: str) -> str:
    """``<function relu at 0x7f2b>`` becomes ``<function relu>``."""
    return _ADDRESS.sub("", text)


def text_of(value: Any) -> str:
    """``str(value)``, or the name of what would have an address in it.

    Raises:
        Exception: whatever the ``__str__`` of the user's class raises.
    """
    text = str(value)
    return _name(value) if _ADDRESS.search(text) else text


def named(options: Sequence[Any]) -> list[Any]:
    """The options of one choice, with names in place of those whose text holds an address.

    Two lambdas, or two objects of one class, have one name: then the name has the option's index.
    """
    names = [_name(option) if _holds_address(option) else None for option in options]
    taken = Counter(name for name in names if name is not None)
    taken.update(option for option in options if isinstance(option, str))
    return [
        option if name is None else name if taken[name] == 1 else f"{name} (option {index})"
        for index, (option, name) in enumerate(zip(options, names, strict=True))
    ]


def _holds_address(value: Any) -> bool:
    try:
        return _ADDRESS.search(str(value)) is not None
    except Exception:  # an option may be any object; callers are prepared for it
        return False


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        given = [_name(part) for part in value.args]
        given += [f"{key}={_name(part)}" for key, part in value.keywords.items()]
        return f"partial({', '.join([_name(value.func), *given])})"
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if isinstance(name, str):
        is_local = not isinstance(module, str) or module in ("__main__", "builtins")
        return name if is_local else f"{module}.{name}"
    return without_addresses(repr(value))
