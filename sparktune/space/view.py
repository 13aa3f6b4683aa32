"""The search space as people see it: labels, and the values that an objective receives."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hyperopt import pyll

from sparktune._naming import named, without_addresses
from sparktune.errors import InvalidPoint, InvalidSpace
from sparktune.space import switches

Render = Callable[[Any], Any]

ARITHMETIC = frozenset(
    ("abs", "add", "exp", "float", "floordiv", "int", "log", "mul", "neg", "pow", "sqrt", "sub", "truediv")
)
"""What a space may do with one parameter and plain numbers, so that the objective receives a single value."""


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
        self._inner: dict[str, dict[int, str]] = {}
        """Label of a choice -> index of an option that is itself a choice -> label of that one."""
        self._reverse_logs: set[str] = set()
        self._has_unknown_branches = any(
            node.name == "switch" and switches.choosing(node) is None for node in nodes
        )
        for node in nodes:
            if node.name != "hyperopt_param":
                continue
            label = node.arg["label"].obj
            switch = next(
                (c for c in consumers.get(id(node), ()) if c.name == "switch" and c.pos_args[0] is node), None
            )
            if switch is None:
                chain = _chain(node, consumers)
                self._renders[label] = _conversion(node, chain)
                if _is_reverse_log(node, chain):
                    self._reverse_logs.add(label)
            else:
                options = switch.pos_args[1:]
                self._options[label] = len(options)
                self._renders[label] = _chooser(options)
                self._inner[label] = {i: inner for i, each in enumerate(options) if (inner := _choice(each))}

    def is_choice(self, label: str) -> bool:
        """Whether a parameter is an ``hp.choice``, whose values are options."""
        return label in self._options

    @property
    def labels(self) -> list[str]:
        """Every label, in the order of the expression."""
        return list(self._renders)

    def params(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Label -> the value that the objective receives, for the labels in ``config``.

        For ``hp.choice`` the option itself; where the option is a branch with its own parameters, the
        branch's name: the first text in it if that distinguishes the options, else ``option 2``. An option
        that is itself an ``hp.choice`` has the value of that one. An option whose text would hold an address
        in memory, such as a function, is represented by its name (``naming``).
        """
        return {label: self._value(label, config) for label in self._renders if label in config}

    def _value(self, label: str, config: Mapping[str, Any]) -> Any:
        raw = config[label]
        inner = self._inner[label].get(int(raw)) if label in self._inner else None
        return self._renders[label](raw) if inner not in config else self._value(str(inner), config)

    @property
    def text(self) -> str:
        """The expression as text, without addresses in memory."""
        return without_addresses(str(self.expression))

    def active_labels(self, config: Mapping[str, Any]) -> set[str]:
        """The labels that the objective needs under this assignment.

        Raises:
            InvalidPoint: a label that is needed is missing.
        """
        return set(_walk(self.expression, config))

    def check_earlier(self, trial_id: int, config: Mapping[str, Any]) -> None:
        """Refuse trials of another space: their points are meaningless in this one.

        Values outside of the present ranges are accepted: ranges may be changed between two calls.

        Args:
            trial_id: of a trial that an earlier call has run.
            config: its point, label -> raw value.

        Raises:
            InvalidSpace: the point has labels that this space does not have, lacks one that it needs, or
                chooses an option that does not exist.
        """
        fits = config.keys() <= self._renders.keys()
        try:
            self.active_labels(config)
        except InvalidPoint:
            # hyperopt's algorithms give the active branch; more is not known here.
            fits = fits and self._has_unknown_branches
        except IndexError:
            fits = False
        if not fits:
            raise InvalidSpace(
                f"these trials belong to another search space: trial {trial_id} has the point "
                f"{dict(config)!r}, and the search space of this call has the labels {self.labels}. Pass a "
                "new trials object (another trials_save_file), or the space that these were tuned with"
            )

    def raw_point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point with the values of ``hp.reverseloguniform`` made raw: 0.99 becomes ``log(0.01)``.

        Raw ones, as in ``fmin``'s argmin, are not positive and stay.

        Raises:
            InvalidPoint: a value that is not below 1.
        """
        raw = dict(point)
        for label in self._reverse_logs & raw.keys():
            value = raw[label]
            if value >= 1:
                raise InvalidPoint(
                    f"points_to_evaluate sets {label!r} to {value!r}; hp.reverseloguniform has values below 1"
                )
            if value > 0:
                raw[label] = math.log1p(-value)
        return raw

    def checked_point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point given by the user (``points_to_evaluate``), reduced to its active labels.

        Raises:
            InvalidPoint: unknown or missing labels, values that are not finite numbers, options that do not
                exist.
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
                    f"points_to_evaluate sets {label!r} to {value!r}, which is not a number"
                    + ("; for hp.choice give the index of the option" if label in self._options else "")
                )
            if label not in self._options and not _is_finite(value):
                raise InvalidPoint(f"points_to_evaluate sets {label!r} to {value!r}; it must be finite")
            n_options = self._options.get(label)
            if n_options is not None and value not in range(n_options):
                raise InvalidPoint(
                    f"points_to_evaluate sets {label!r} to {value!r}; hp.choice takes the index of an "
                    f"option, 0 to {n_options - 1}"
                )
        point = self.raw_point(point)
        active = self.active_labels(point)
        return {
            label: int(value) if label in self._options else value
            for label, value in point.items()
            if label in active
        }


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False


def _walk(node: Any, config: Mapping[str, Any]) -> list[str]:
    """The labels that evaluating ``node`` asks for, following the chosen branches only."""
    if node.name == "hyperopt_param":
        label = node.arg["label"].obj
        if label not in config:
            raise InvalidPoint(
                f"points_to_evaluate has a point without a value for {label!r}: {dict(config)!r}"
            )
        return [str(label)]
    if node.name == "switch" and (parent := switches.choosing(node)) is not None:
        [label] = _walk(parent, config)
        return [label, *_walk(node.pos_args[1 + switches.branch(node, config[label])], config)]
    return [label for part in node.inputs() for label in _walk(part, config)]


def _labels(expression: Any) -> set[str]:
    return {node.arg["label"].obj for node in pyll.dfs(expression) if node.name == "hyperopt_param"}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value


def _chain(node: Any, consumers: Mapping[int, list[Any]]) -> list[Any]:
    """The arithmetic that the space does on one parameter alone, innermost first."""
    chain: list[Any] = []
    while len(users := consumers.get(id(node), [])) == 1 and users[0].name in ARITHMETIC:
        if any(part is not node and part.name != "literal" for part in users[0].inputs()):
            break
        node = users[0]
        chain.append(node)
    return chain


def _conversion(node: Any, chain: list[Any]) -> Render:
    """What the space does to a raw value: ``scope.int(hp.quniform(...))`` gives an integer."""
    names = {part.name for part in chain}
    if names <= {"int", "float"}:
        return (lambda value: int(value)) if chain and chain[-1].name == "int" else _plain
    return lambda value: _plain(pyll.rec_eval(chain[-1], memo={node: value}))


def _is_reverse_log(node: Any, chain: list[Any]) -> bool:
    """Whether a parameter is an ``hp.reverseloguniform``: ``1 - exp(uniform)``, the uniform up to 0."""
    dist = node.arg["obj"]
    if [part.name for part in chain[:3]] != ["float", "exp", "sub"] or dist.name != "uniform":
        return False
    one, high = chain[2].pos_args[0], dist.arg["high"]
    return all(part.name == "literal" for part in (one, high)) and one.obj == 1 and high.obj <= 0


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
    values = named(values)
    return lambda raw: values[int(raw)]


def _choice(node: Any) -> str | None:
    """The label of a node that is an ``hp.choice``; None of others."""
    is_choice = node.name == "switch" and node.pos_args[0].name == "hyperopt_param"
    return str(node.pos_args[0].arg["label"].obj) if is_choice else None


def _branch_name(option: Any) -> str:
    """The first text directly inside an option (a dict's values, a tuple's items), or empty.

    For an option that is itself a parameter, its label.
    """
    while option.name in ("int", "float"):
        option = option.pos_args[0]
    if option.name == "hyperopt_param":
        return str(option.arg["label"].obj)
    if (label := _choice(option)) is not None:
        return label
    parts = (part.obj for part in option.inputs() if part.name == "literal")
    return next((part for part in parts if isinstance(part, str)), "")
