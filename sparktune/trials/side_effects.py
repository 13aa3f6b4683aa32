"""What an objective changes outside of itself: such changes are lost when it runs on a worker.

A worker has a copy of what the objective refers to: lists and counters of the notebook stay as they are. The
source of the objective is read, not run; without its source nothing is found.
"""

from __future__ import annotations

import ast
import collections
import functools
import inspect
import os
import queue
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from typing import Any

CONTAINERS = (MutableMapping, MutableSequence, MutableSet, collections.deque, queue.Queue, queue.SimpleQueue)
MUTATING = frozenset(
    {
        *("append", "appendleft", "extend", "extendleft", "insert", "put", "put_nowait"),
        *("add", "setdefault", "update"),
        *("clear", "discard", "pop", "popitem", "popleft", "remove"),
    }
)
"""Methods that change a container."""
MAX_DEPTH = 3
"""How many calls of the user's functions are followed."""


def written_by(fn: Any) -> list[str]:
    """The names of what an objective changes outside of itself: ``['results', 'self.losses']``.

    Args:
        fn: a function, a method, a ``partial`` or an object with ``__call__``.
    """
    try:
        return list(dict.fromkeys(_of(fn, {}, MAX_DEPTH, set())))
    except Exception:  # it is advice only: it must not make a program fail
        return []


def _of(fn: Any, known: Mapping[str, Any], depth: int, seen: set[int]) -> Iterator[str]:
    """The names that a function changes, given the values of some of its arguments."""
    if isinstance(fn, functools.partial):
        yield from _of(fn.func, _bound(fn.func, fn.args, fn.keywords), depth, seen)
    elif isinstance(fn, types.MethodType):
        owner = dict(zip(fn.__func__.__code__.co_varnames[:1], [fn.__self__], strict=False))
        yield from _of(fn.__func__, owner, depth, seen)
    elif isinstance(fn, types.FunctionType):
        if id(fn) in seen or not depth:
            return
        seen.add(id(fn))
        if callable(wrapped := getattr(fn, "__wrapped__", None)):
            yield from _of(wrapped, {}, depth, seen)
        scope = _Scope(fn, known)
        yield from scope.written()
        for helper in scope.helpers():
            yield from _of(helper, {}, depth - 1, seen)
    elif isinstance(call := inspect.getattr_static(type(fn), "__call__", None), types.FunctionType):
        yield from _of(types.MethodType(call, fn), {}, depth, seen)


def _bound(fn: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Mapping[str, Any]:
    return inspect.signature(fn).bind_partial(*args, **keywords).arguments


class _Scope:
    """A function's source, and the values of the names in it that are not its own."""

    def __init__(self, fn: types.FunctionType, known: Mapping[str, Any]) -> None:
        self._module = fn.__module__
        self._tree = ast.parse(textwrap.dedent(inspect.getsource(fn)))
        own = {name for code in _codes(fn.__code__) for name in (*code.co_varnames, *code.co_cellvars)}
        cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
        self._values = {name: value for name, value in fn.__globals__.items() if name not in own}
        self._values |= {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        self._values |= known
        self._rebound = {
            name
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Global | ast.Nonlocal)
            for name in node.names
            if name in fn.__code__.co_freevars or name not in own
        }

    def helpers(self) -> Iterator[Callable[..., Any]]:
        """The functions of the same module that are called by their names."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = self._values.get(node.func.id)
                if isinstance(called, types.FunctionType) and called.__module__ == self._module:
                    yield called

    def written(self) -> Iterator[str]:
        for node in ast.walk(self._tree):
            match node:
                case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                    for target in targets:
                        yield from self._stored(target)
                case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                    yield from self._stored(target)
                case ast.Call(func=ast.Attribute(attr=attr, value=owner)) if attr in MUTATING:
                    if isinstance(value := self._value(owner), CONTAINERS) and _is_data(value):
                        yield _name(owner)

    def _stored(self, target: ast.expr) -> Iterator[str]:
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    yield from self._stored(part)
            case ast.Name(id=name) if name in self._rebound:
                yield name
            case ast.Subscript(value=owner) if _is_data(self._value(owner)):
                yield _name(owner)
            case ast.Attribute(value=owner) if _is_own(self._value(owner), self._module):
                yield _name(target)

    def _value(self, node: ast.expr) -> Any:
        """The value of an expression of names, attributes and items; None where that is not known."""
        match node:
            case ast.Name(id=name):
                return self._values.get(name)
            case ast.Attribute(value=owner, attr=attr):
                value = self._value(owner)
                if isinstance(value, types.ModuleType):
                    return None
                found = inspect.getattr_static(value, attr, None)
                # df.loc[...] = ... changes df
                return value if isinstance(found, property) else found
            case ast.Subscript(value=owner):
                return self._value(owner)  # an item of a container that was there before, or is new in it
        return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _is_data(value: Any) -> bool:
    """Whether ``value[key] = ...`` changes the user's data: containers, arrays, data frames."""
    is_container = isinstance(value, CONTAINERS) or hasattr(type(value), "__array__")
    return is_container and value is not os.environ


def _is_own(value: Any, module: str) -> bool:
    """Whether ``value.name = ...`` changes an object that is made to hold something."""
    owner = value if isinstance(value, type) else type(value)
    return isinstance(value, types.SimpleNamespace) or owner.__module__ == module


def _name(node: ast.expr) -> str:
    """``self.losses`` of ``self.losses[0].append``."""
    while isinstance(node, ast.Subscript) or (
        isinstance(node, ast.Attribute) and node.attr in ("loc", "iloc", "at")
    ):
        node = node.value
    return ast.unparse(node)
