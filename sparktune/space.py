"""The search space as people see it: labels, and the values that an objective receives."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hyperopt import pyll

from sparktune.errors import InvalidPoint

Render = Callable[[Any], Any]


class SpaceView:
    """Turns assignments into values for one search space.

    Args:
        space: a pyll expression, or whatever ``pyll.as_apply`` takes.
    """

    def __init__(self, space: Any) -> None:
        self.expression = pyll.as_apply(space)
        nodes = pyll.dfs(self.expression)
        consumers: dict[int, list[Any]] = {}
        for node in nodes:
            for part in node.inputs():
                consumers.setdefault(id(part), []).append(node)
        self._renders: dict[str, Render] = {}
        self._options: dict[str, int] = {}
        for node in nodes:
            if node.name != "hyperopt_param":
                continue
            label = node.arg["label"].obj
            switch = next(
                (c for c in consumers.get(id(node), ()) if c.name == "switch" and c.pos_args[0] is node), None
            )
            if switch is None:
                self._renders[label] = _conversion(node, consumers)
            else:
                options = switch.pos_args[1:]
                self._options[label] = len(options)
                self._renders[label] = _chooser(options)

    @property
    def labels(self) -> list[str]:
        """Every label, in the order of the expression."""
        return list(self._renders)

    def params(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Label -> the value that the objective receives, for the labels in ``config``.

        For ``hp.choice`` the option itself; where the option is a branch with parameters of its own, the
        branch's name: the first text in it if that tells the options apart, else ``option 2``.
        """
        return {label: render(config[label]) for label, render in self._renders.items() if label in config}

    def active_labels(self, config: Mapping[str, Any]) -> set[str]:
        """The labels that the objective needs under this assignment.

        Raises:
            InvalidPoint: a label that is needed is missing.
        """
        return set(_walk(self.expression, config))

    def checked_point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point given by the user (``points_to_evaluate``), reduced to its active labels.

        Raises:
            InvalidPoint: unknown or missing labels, values that are no numbers, options that do not exist.
        """
        if not isinstance(point, Mapping):
            raise InvalidPoint(
                f"points_to_evaluate holds {point!r}; each point must be a dict of label -> value"
            )
        unknown = [label for label in point if label not in self._renders]
        if unknown:
            raise InvalidPoint(
                f"points_to_evaluate has a point with the label {unknown[0]!r}, which the search space does "
                f"not have; its labels are {self.labels}"
            )
        for label, value in point.items():
            if isinstance(value, bool) or not isinstance(value, numbers.Real | np.number):
                raise InvalidPoint(
                    f"points_to_evaluate sets {label!r} to {value!r}, which is no number"
                    + ("; for hp.choice give the index of the option" if label in self._options else "")
                )
            n_options = self._options.get(label)
            if n_options is not None and float(value) not in range(n_options):
                raise InvalidPoint(
                    f"points_to_evaluate sets {label!r} to {value!r}; hp.choice takes the index of an "
                    f"option, 0 to {n_options - 1}"
                )
        active = self.active_labels(point)
        return {
            label: int(float(value)) if label in self._options else value
            for label, value in point.items()
            if label in active
        }


def _walk(node: Any, config: Mapping[str, Any]) -> list[str]:
    """The labels that evaluating ``node`` asks for, following the chosen branches only."""
    if node.name == "hyperopt_param":
        label = node.arg["label"].obj
        if label not in config:
            raise InvalidPoint(
                f"points_to_evaluate has a point without a value for {label!r}: {dict(config)!r}"
            )
        return [str(label)]
    if node.name == "switch" and node.pos_args[0].name == "hyperopt_param":
        chosen = _walk(node.pos_args[0], config)
        return chosen + _walk(node.pos_args[1 + int(config[chosen[0]])], config)
    return [label for part in node.inputs() for label in _walk(part, config)]


def _labels(expression: Any) -> set[str]:
    return {node.arg["label"].obj for node in pyll.dfs(expression) if node.name == "hyperopt_param"}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value


def _conversion(node: Any, consumers: Mapping[int, list[Any]]) -> Render:
    """What the space itself does to a raw value: ``scope.int(hp.quniform(...))`` gives an integer."""
    as_int = False
    while len(users := consumers.get(id(node), [])) == 1 and users[0].name in ("int", "float"):
        node = users[0]
        as_int = node.name == "int"
    return (lambda value: int(value)) if as_int else _plain


def _chooser(options: list[Any]) -> Render:
    branches = [_branch_name(option) if _labels(option) else None for option in options]
    names = [name for name in branches if name]
    distinct = len(set(names)) == len(names)
    values = [
        ((name if distinct else "") or f"option {index}")
        if name is not None
        else _plain(pyll.rec_eval(option))
        for index, (option, name) in enumerate(zip(options, branches, strict=True))
    ]
    return lambda raw: values[int(raw)]


def _branch_name(option: Any) -> str:
    """The first text directly inside an option (a dict's values, a tuple's items), or nothing."""
    parts = (part.obj for part in option.inputs() if part.name == "literal")
    return next((part for part in parts if isinstance(part, str)), "")
