"""Replaces functions of other libraries for a while, for every reference to them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any


class Replaced:
    """A function that does what another one does, until ``restore``.

    Its code is exchanged, not the name under which a module keeps it: ``from mlflow import start_run`` before
        that is replaced too.

    Args:
        function: a function of Python code; of a decorated one, what it decorates.
        stand_in: takes any arguments. Only its code is used, in the other module: it imports what it uses.

    Attributes:
        original: the function as it was.

    Raises:
        TypeError, ValueError: the function cannot be replaced.
    """

    def __init__(self, function: Callable[..., Any], stand_in: types.FunctionType) -> None:
        inner = inspect.unwrap(function)
        if not isinstance(inner, types.FunctionType):
            raise TypeError(f"{function!r} is not a function of Python code")
        self._function = inner
        copy = types.FunctionType(
            inner.__code__, inner.__globals__, inner.__name__, inner.__defaults__, inner.__closure__
        )
        copy.__kwdefaults__, copy.__dict__ = inner.__kwdefaults__, dict(inner.__dict__)
        self.original: Callable[..., Any] = copy
        self._before, self._code = inner.__code__, stand_in.__code__
        signature = inspect.signature(inner)
        inner.__code__ = self._code
        inner.__signature__ = signature  # type: ignore[attr-defined]

    def restore(self) -> None:
        """Restore the function, unless other code has exchanged its code since."""
        if self._function.__code__ is self._code:
            self._function.__code__ = self._before
            del self._function.__signature__  # type: ignore[attr-defined]


class ReplacedMethod:
    """A method of a class, or a function of a module, replaced by name until ``restore``.

    Args:
        owner: the class or module.
        name: the attribute.
        make: gives the replacement of the original.
    """

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name = owner, name
        self._original = getattr(owner, name)
        self._ours = make(self._original)
        setattr(owner, name, self._ours)

    def restore(self) -> None:
        """Put the original back, unless other code has replaced ours since."""
        if getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._original)
