"""Grid search: every configuration of a finite space, once each, in a fixed order."""

from __future__ import annotations

import bisect
import itertools
import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hyperopt.base import JOB_STATE_CANCEL

from sparktune.errors import InvalidSpace
from sparktune.private import of_hyperopt
from sparktune.search.history import config_of
from sparktune.search.suggestion import new_documents
from sparktune.space.parameters import Array, Parameter
from sparktune.space.search_space import SearchSpace, space_of
from sparktune.study.trial import TrialState

LARGEST = 1_000_000
"""Larger grids are refused."""

Levels = tuple[int, ...]
"""A parameter's values by whole numbers: indices of options, or multiples of ``q``."""


def suggest(new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
    """The next configurations of the grid, and none when all have been tried: then ``fmin`` ends.

    The values are those that the space's distributions can give: options, whole numbers, multiples of ``q``.
    Each configuration of active parameters comes once; branching parameters change slowest. What ``trials``
    hold is left out, whichever algorithm suggested it, so that a study can continue later. Trials that were
    cancelled with their study come once more at the end.

    Args:
        new_ids: ids of the trials to suggest.
        domain: the ``hyperopt.Domain``.
        trials: the ``hyperopt.Trials`` so far.
        seed: unused.

    Returns:
        A trial document for each id; fewer at the end of the grid.

    Raises:
        InvalidSpace: a parameter has infinitely many values, or the grid has more than a million.
    """
    del seed
    space = space_of(domain)
    table = _TABLES.get(trials)
    if table is None or table.grid.space is not space:
        table = _TABLES[trials] = Table(Grid(space))
    rows = table.untried(of_hyperopt.documents(trials), len(new_ids))
    return new_documents(rows, new_ids, space, domain, trials)


class Grid:
    """The configurations of a finite space by number.

    A *pattern* is an assignment of the branching parameters. It decides which parameters are active; these
    count like the digits of a number.

    Args:
        space: the space.
        largest: the most configurations that it may have.

    Raises:
        InvalidSpace: see ``suggest``.
    """

    def __init__(self, space: SearchSpace, largest: int = LARGEST) -> None:
        self.space = space
        self._levels = [levels(p) for p in space.parameters]
        self._branching = [i for i, p in enumerate(space.parameters) if p.is_branching]
        self._patterns: list[Array] = []
        self._number: dict[tuple[float, ...], int] = {}
        self._ends: list[int] = []
        size = 0
        for pattern in _patterns(space, self._levels):
            size += math.prod(_count(self._levels[i]) for i in self._digits(pattern))
            if size > largest:
                raise _too_large(space, self._levels)
            self._number[_key(pattern[self._branching])] = len(self._patterns)
            self._patterns.append(pattern)
            self._ends.append(size)
        self._at = [{level: i for i, level in enumerate(found)} for found in self._levels]

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, number: int) -> Array:
        """The configuration of a number, ``(n_params,)``."""
        at = bisect.bisect_right(self._ends, number)
        row = self._patterns[at].copy()
        rest = number - (self._ends[at - 1] if at else 0)
        for i in reversed(self._digits(row)):
            rest, digit = divmod(rest, len(self._levels[i]))
            row[i] = _value(self.space.parameters[i], self._levels[i][digit])
        return row

    def number(self, config: Mapping[str, Any]) -> int | None:
        """The number of a configuration given as label -> value; None for one that is not on the grid."""
        row = self.space.with_inactive(self.space.row(config)[np.newaxis])[0]
        at = self._number.get(_key(row[self._branching]))
        if at is None:
            return None
        number = 0
        for i in self._digits(self._patterns[at]):
            level = None if math.isnan(row[i]) else _level(self.space.parameters[i], row[i])
            digit = None if level is None else self._at[i].get(level)
            if digit is None:
                return None
            number = number * len(self._levels[i]) + digit
        return number + (self._ends[at - 1] if at else 0)

    def _digits(self, pattern: Array) -> list[int]:
        """Columns of the active parameters that do not branch."""
        row = pattern[np.newaxis]
        return [
            i
            for i, p in enumerate(self.space.parameters)
            if not p.is_branching and self.space.is_active(row, i)[0]
        ]


def levels(parameter: Parameter) -> Levels | range:
    """The whole numbers that stand for a parameter's values, in order: option indices or multiples of ``q``.

    Raises:
        InvalidSpace: there are infinitely many.
    """
    if parameter.kind == "options":
        return tuple(np.flatnonzero(parameter.possible).tolist())
    q = parameter.q
    if parameter.kind != "uniform" or q is None:
        raise InvalidSpace(
            f"grid search needs finitely many values; {parameter.label!r} is {parameter.text}: use "
            "hp.quniform, hp.choice, or algo=sobol.suggest"
        )
    ends = (parameter.low, parameter.high)
    low, high = ((math.exp(end) if parameter.is_log else end) / q for end in ends)
    if not math.isfinite(high - low):
        raise InvalidSpace(f"{parameter.label!r}, {parameter.text}, has more values than can be counted")
    # Those that more than a single point is rounded to; a hair's breadth for low = 0.15 and q = 0.1.
    return range(math.floor(low - 0.5 + 1e-9) + 1, math.ceil(high + 0.5 - 1e-9))


def _count(found: Levels | range) -> int:
    return found.stop - found.start if isinstance(found, range) else len(found)  # len(range) is limited


def _value(parameter: Parameter, level: int) -> float:
    return float(level + parameter.first if parameter.q is None else level * parameter.q)


def _level(parameter: Parameter, value: float) -> int | None:
    exact = value - parameter.first if parameter.q is None else value / parameter.q
    nearest = round(exact)
    return nearest if math.isclose(exact, nearest, rel_tol=1e-9, abs_tol=1e-9) else None


def _key(values: Array) -> tuple[float, ...]:
    return tuple(-math.inf if math.isnan(value) else value for value in values.tolist())


def _patterns(space: SearchSpace, found: Sequence[Levels | range]) -> Iterator[Array]:
    """Every assignment of the branching parameters, ``(n_params,)``, NaN elsewhere and where inactive."""
    columns = [i for i, p in enumerate(space.parameters) if p.is_branching]

    def assign(row: Array, left: Sequence[int]) -> Iterator[Array]:
        if not left:
            yield row
            return
        i, rest = left[0], left[1:]
        if not space.is_active(row[np.newaxis], i)[0]:
            yield from assign(row, rest)
            return
        for level in found[i]:
            chosen = row.copy()
            chosen[i] = _value(space.parameters[i], level)
            yield from assign(chosen, rest)

    return assign(np.full(len(space), np.nan), columns)


def _too_large(space: SearchSpace, found: Sequence[Levels | range]) -> InvalidSpace:
    largest = sorted(zip(map(_count, found), (p.label for p in space.parameters), strict=True), reverse=True)
    counts = ", ".join(f"{label!r}: {count:,}" for count, label in largest[:3])
    most = math.prod(count for count, _ in largest)
    size = f"{most:,}" if not any(p.conditions for p in space.parameters) else f"more than {LARGEST:,}"
    return InvalidSpace(
        f"the grid has {size} configurations (the most values: {counts}); grid search takes up to "
        f"{LARGEST:,}: use larger steps q, fewer options, or algo=sobol.suggest"
    )


class Table:
    """Which configurations the documents of one trials object hold; documents are read once.

    Documents are only added to a study; where the last one read is not in its place, all are read again.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._forget()

    def _forget(self) -> None:
        self._is_taken = bytearray(len(self.grid))
        self._first_free = 0
        self._n_read = 0
        self._last: Any = None

    def untried(self, documents: Sequence[Mapping[str, Any]], n: int) -> Array:
        """Up to ``n`` configurations that no document holds, ``(<= n, n_params)``."""
        rows = [self.grid.row(number) for number in self.untried_numbers(documents, n)]
        return np.array(rows).reshape(len(rows), len(self.grid.space))

    def is_taken(self, number: int) -> bool:
        """Whether a document that was read holds this configuration."""
        return bool(self._is_taken[number])

    def untried_numbers(self, documents: Sequence[Mapping[str, Any]], n: int) -> list[int]:
        """Up to ``n`` numbers of configurations that no document holds; at last those that were cancelled."""
        if self._n_read and (len(documents) < self._n_read or documents[self._n_read - 1] is not self._last):
            self._forget()
        for document in itertools.islice(documents, self._n_read, None):
            number = self._number(document)
            if number is not None:
                self._is_taken[number] = True
        self._n_read = len(documents)
        self._last = documents[-1] if documents else None
        self._first_free = self._next_free(self._first_free)
        numbers: list[int] = []
        at = self._first_free
        while len(numbers) < n and at < len(self.grid):
            numbers.append(at)
            at = self._next_free(at + 1)
        if len(numbers) < n:
            numbers += self._dropped(documents)[: n - len(numbers)]
        return numbers

    def _next_free(self, begin: int) -> int:
        found = self._is_taken.find(0, begin)
        return len(self.grid) if found < 0 else found

    def _number(self, document: Mapping[str, Any]) -> int | None:
        return self.grid.number(config_of(document))

    def _dropped(self, documents: Sequence[Mapping[str, Any]]) -> list[int]:
        """Configurations that were cancelled, not for their own time limit, and not tried otherwise."""
        cancelled: dict[int, bool] = {}
        for document in documents:
            number = self._number(document)
            if number is not None:
                was_dropped = document["state"] == JOB_STATE_CANCEL and not _timed_out(document)
                cancelled[number] = cancelled.get(number, True) and was_dropped
        return sorted(number for number, is_open in cancelled.items() if is_open)


def _timed_out(document: Mapping[str, Any]) -> bool:
    error = document["misc"].get("error")
    return bool(error) and error[0] == TrialState.TIMED_OUT


_TABLES: weakref.WeakKeyDictionary[Any, Table] = weakref.WeakKeyDictionary()
