"""From hyperopt's expressions to parameters: what to search, and when each parameter is active."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from hyperopt import pyll
from hyperopt.pyll.stochastic import implicit_stochastic_symbols

from sparktune.errors import DuplicateLabel, InvalidSpace
from sparktune.space import switches
from sparktune.space.parameters import LARGEST_EXPONENT, Parameter

logger = logging.getLogger("sparktune")

LARGEST_RANDINT = 10_000
"""Up to so many integers of ``hp.randint`` are separate options; of more, the order is used, unless other
parameters depend on them."""


class NotKnown(InvalidSpace):
    """A parameter that sparktune's algorithms do not know, though hyperopt's may."""


def check(expression: Any, *, constants: Literal["refuse", "warn", "pass"] = "refuse") -> None:
    """Refuse a pyll expression that no algorithm can search; what only hyperopt's can search is accepted.

    Warns of bounds of ``hp.loguniform`` that look like values, where it takes exponents of e, and of bounds
    of ``hp.quniform`` and the like that rounding to multiples of ``q`` leaves.

    Args:
        expression: the search space.
        constants: what to do with a space without any hyperparameter, which ``hyperopt.fmin`` runs.

    Raises:
        InvalidSpace: nothing at all, no hyperparameter, an empty range, ``q`` or ``sigma`` not above 0, no
            options, one label for two parameters; the message names the label and the value.
    """
    if not expression.inputs():
        empty = repr(expression.obj) if expression.name == "literal" else "empty"
        raise InvalidSpace(
            f"the search space is {empty}, which leaves nothing to search; write it with hp, such as "
            "{'x': hp.uniform('x', 0, 1)}"
        )
    labels: set[str] = set()
    for node in pyll.dfs(expression):
        if node.name != "hyperopt_param":
            continue
        label = str(node.arg["label"].obj)
        if label in labels:
            raise _used_twice(label)
        labels.add(label)
        with contextlib.suppress(NotKnown):
            parameter = _parameter(label, node, (), False)
            if parameter.kind == "uniform" and parameter.is_log and _look_like_values(parameter):
                _warn_of_exponents(label, str(node.arg["obj"].name), parameter)
            elif parameter.kind == "uniform" and parameter.q is not None:
                _warn_of_rounding(label, str(node.arg["obj"].name), parameter, parameter.q)
    if not labels and constants != "pass":
        message = (
            "the search space has no hyperparameters, so that every trial is the same; write what is to be "
            "searched with hp, such as {'x': hp.uniform('x', 0, 1)}"
        )
        if constants == "refuse":
            raise InvalidSpace(message)
        logger.warning(message)


def _look_like_values(parameter: Parameter) -> bool:
    """Whether the exponents of a logarithmic range are likely meant as values: 1e-5 to 1.

    As exponents, they would begin just above 1; and logarithms are rarely numbers of up to three digits.
    """
    low, high = parameter.low, parameter.high
    return 0 < low < 1 and high >= 10 * low and low == float(f"{low:.2e}")


def _warn_of_exponents(label: str, name: str, parameter: Parameter) -> None:
    low, high = parameter.low, parameter.high
    logger.warning(
        "the bounds of hp.%s(%r, %g, %g) are exponents of e: it searches %.3g to %.3g. Were the values "
        "meant, write hp.%s(%r, math.log(%g), math.log(%g)), or hp.auto(%r, %g, %g)",
        name, label, low, high, math.exp(low), math.exp(high), name, label, low, high, label, low, high,
    )  # fmt: skip


def _warn_of_rounding(label: str, name: str, parameter: Parameter, q: float) -> None:
    """Warn of values outside of the bounds, as in hyperopt: 0 for ``hp.quniform(label, 1, 10, 4)``."""
    low, high = parameter.low, parameter.high
    if parameter.is_log:
        low, high = math.exp(low), math.exp(min(high, LARGEST_EXPONENT))
    near = 1e-9  # of a step: 3 * 0.1 is not outside of 0.3, and a bound itself is practically never drawn
    least, most = round(low / q + near) * q, round(high / q - near) * q
    outside = [f"{least:g}"] if least < low - near * q else []
    outside += [f"{most:g}"] if most > high + near * q else []
    if not outside:
        return
    first, last = math.ceil(low / q - near) * q, math.floor(high / q + near) * q
    form = "math.log(%g)" if parameter.is_log else "%g"
    remedy = f"bounds that are multiples: hp.{name}({label!r}, {form % first}, {form % last}, {q:g})"
    if first >= last:
        remedy = "a smaller q"
    elif not parameter.is_log:
        steps = math.floor((high - low) / q + near) * q
        remedy += f", or steps that begin at {low:g}: {low:g} + hp.{name}({label!r}, 0, {steps:g}, {q:g})"
    logger.warning(
        "hp.%s gives %s for %r, outside of its bounds %g and %g: as in hyperopt, values are rounded to "
        "multiples of %g. For values inside take %s",
        name, " and ".join(outside), label, low, high, q, remedy,
    )  # fmt: skip


def _used_twice(label: str) -> DuplicateLabel:
    return DuplicateLabel(
        f"the label {label!r} is used by two hyperparameters; give each its own name, or use the same "
        "object in both places"
    )


def compiled(expression: Any) -> Iterator[Parameter]:
    """The parameters of a pyll expression, parents before the parameters that depend on them.

    Raises:
        InvalidSpace: see ``SearchSpace``.
    """
    nodes: dict[str, Any] = {}
    conditions: dict[str, set[tuple[str, int]] | None] = {}
    _collect(expression, None, nodes, conditions, set())
    order = _parents_first(nodes, conditions)
    column = {label: i for i, label in enumerate(order)}
    parents = {parent for pairs in conditions.values() for parent, _ in pairs or ()}
    for label in order:
        when = tuple(sorted((column[parent], option) for parent, option in conditions[label] or ()))
        yield _parameter(label, nodes[label], when, label in parents)


def _collect(
    node: Any,
    condition: tuple[str, int] | None,
    nodes: dict[str, Any],
    conditions: dict[str, set[tuple[str, int]] | None],
    seen: set[tuple[int, tuple[str, int] | None]],
) -> None:
    """Find every parameter and the choices that lead to it. ``None`` stands for 'always'."""
    if (id(node), condition) in seen:
        return
    seen.add((id(node), condition))
    if node.name == "hyperopt_param":
        label = str(node.arg["label"].obj)
        if label in nodes and nodes[label] is not node:
            raise _used_twice(label)
        nodes[label] = node
        if condition is None:
            conditions[label] = None
        else:
            before = conditions.setdefault(label, set())
            if before is not None:
                before.add(condition)
        return
    if node.name == "switch" and (parent := switches.choosing(node)) is not None:
        _collect(parent, condition, nodes, conditions, seen)
        label, branches = str(parent.arg["label"].obj), node.pos_args[1:]
        options = _parameter(label, parent, (), True)
        for option, value in enumerate(options.value(range(options.n_options))):
            try:
                chosen = switches.branch(node, options.plain(value))
            except Exception:  # its trials will fail with the cause
                continue
            if chosen in range(len(branches)):
                _collect(branches[chosen], (label, option), nodes, conditions, seen)
        return
    for part in node.inputs():
        _collect(part, condition, nodes, conditions, seen)


def _parents_first(
    nodes: Mapping[str, Any], conditions: Mapping[str, set[tuple[str, int]] | None]
) -> list[str]:
    order: list[str] = []
    open_labels: set[str] = set()

    def visit(label: str) -> None:
        if label in order:
            return
        if label in open_labels:
            raise InvalidSpace(f"the hyperparameter {label!r} depends on itself")
        open_labels.add(label)
        for parent in sorted({parent for parent, _ in conditions[label] or ()}):
            visit(parent)
        order.append(label)

    for label in sorted(nodes):
        visit(label)
    return order


def _has(dist: Any, name: str) -> bool:
    node = dist.arg.get(name)
    return node is not None and getattr(node, "obj", None) is not None


def _literal(dist: Any, name: str, label: str) -> Any:
    try:
        return _evaluated(dist.arg.get(name))
    except Exception:
        raise NotKnown(
            f"{name} of the hyperparameter {label!r} is not a plain number; the search needs the range"
        ) from None


def _evaluated(node: Any) -> Any:
    """The value of a node without randomness; hyperopt prints a long text where it cannot evaluate one."""
    if node is not None and any(p.name in implicit_stochastic_symbols for p in pyll.dfs(node)):
        raise ValueError
    return pyll.rec_eval(node)


def _number(dist: Any, name: str, label: str) -> float:
    value = _literal(dist, name, label)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidSpace(f"{name} of {label!r} is {value!r}, which is not a number") from None
    if not math.isfinite(number):
        raise InvalidSpace(f"{name} of {label!r} is {value!r}; it must be finite")
    return number


def _parameter(label: str, node: Any, when: tuple[tuple[int, int], ...], is_branching: bool) -> Parameter:
    dist = node.arg["obj"]
    common: dict[str, Any] = {"label": label, "conditions": when, "is_branching": is_branching}
    name = str(dist.name)
    if name in ("randint", "categorical"):
        return _options(label, dist, common)
    q = _number(dist, "q", label) if name.startswith("q") else None
    if q is not None and q <= 0:
        raise InvalidSpace(f"q of {label!r} (hp.{name}) is {q:g}; it must be greater than 0")
    is_log = "log" in name
    common |= {"is_log": is_log, "q": q}
    if name in ("uniform", "quniform", "loguniform", "qloguniform"):
        low, high = _number(dist, "low", label), _number(dist, "high", label)
        text = f"hp.{name}({low:g}, {high:g}{'' if q is None else f', {q:g}'})"
        _check_range(label, text, low, high, is_log)
        found = Parameter(kind="uniform", low=low, high=high, text=text, **common)
        return _counted(found) if is_branching else found
    if name in ("normal", "qnormal", "lognormal", "qlognormal"):
        mu, sigma = _number(dist, "mu", label), _number(dist, "sigma", label)
        text = f"hp.{name}({mu:g}, {sigma:g}{'' if q is None else f', {q:g}'})"
        if sigma <= 0:
            raise InvalidSpace(f"sigma of {label!r}, {text}, is {sigma:g}; it must be greater than 0")
        if is_log and mu > LARGEST_EXPONENT:
            raise InvalidSpace(
                f"mu of {label!r}, {text}, is an exponent of e, and e ** {mu:g} is too large; give the "
                f"logarithm of the median: log({mu:g})"
            )
        if not mu - sigma < mu < mu + sigma:
            raise InvalidSpace(
                f"{label!r}, {text}, is narrower than floating-point numbers around {mu:g} are"
            )
        return Parameter(kind="normal", mu=mu, sigma=sigma, text=text, **common)
    raise NotKnown(
        f"the hyperparameter {label!r} has the distribution {name!r}, which the search does not know; use "
        "those of hp"
    )


def _counted(parameter: Parameter) -> Parameter:
    """A parameter of whole numbers on which others depend: each number is a separate option."""
    n_shares = 2**16
    values = parameter.value(parameter.quantile((np.arange(n_shares) + 0.5) / n_shares)).astype(int)
    first = int(values.min())
    shares = np.bincount(values - first) / n_shares
    return replace(
        parameter, kind="options", probabilities=tuple(shares.tolist()), first=first, q=None, is_log=False
    )


def _check_range(label: str, text: str, low: float, high: float, is_log: bool) -> None:
    if not low < high:
        raise InvalidSpace(
            f"the range of {label!r}, {text}, is empty: low must be less than high"
            + (" (both are exponents of e)" if is_log else "")
        )
    if math.isinf(high - low):
        raise InvalidSpace(f"the range of {label!r}, {text}, is wider than the largest floating-point number")
    if is_log and high > LARGEST_EXPONENT:
        raise InvalidSpace(
            f"the upper bound of {label!r}, {text}, is an exponent of e, and e ** {high:g} is too large; "
            f"give the logarithms of the bounds: log({low:g}), log({high:g})"
        )


def _options(label: str, dist: Any, common: Mapping[str, Any]) -> Parameter:
    if dist.name != "randint":
        weights = [float(w) for w in _probabilities(dist, label)]
        if not weights:
            raise InvalidSpace(f"hp.pchoice({label!r}) has no options")
        if any(not w >= 0 for w in weights) or abs(sum(weights) - 1) > 0.02:
            raise InvalidSpace(
                f"the probabilities of hp.pchoice({label!r}) are {weights}; they must be at least 0 and "
                "have the sum 1"
            )
        return Parameter(
            kind="options",
            probabilities=tuple(w / sum(weights) for w in weights),
            is_integer=True,
            text=f"hp.pchoice of {len(weights)} options",
            **common,
        )
    low = _number(dist, "low", label)
    first, end = (low, _number(dist, "high", label)) if _has(dist, "high") else (0.0, low)
    if first != int(first) or end != int(end):
        raise InvalidSpace(
            f"the bounds of hp.randint({label!r}) are {first:g} and {end:g}; give whole numbers"
        )
    if end <= first == 0 and common["is_branching"]:
        raise InvalidSpace(f"hp.choice({label!r}) has no options; give it at least one")
    if end <= first:
        raise InvalidSpace(
            f"hp.choice or hp.randint({label!r}) has no options: there is no whole number from {first:g} to "
            f"{end:g}, the end left out"
        )
    n, text = int(end - first), f"hp.randint({first:g}, {end:g})"
    if n > LARGEST_RANDINT and not common["is_branching"]:
        # Too many to count one by one: whole numbers in their order, uniform over [first, end). The bounds
        # themselves may be rounded to first - 1 and end, as halves are rounded to the even number.
        low, high = math.nextafter(first - 0.5, end), math.nextafter(end - 0.5, first)
        return Parameter(kind="uniform", low=low, high=high, q=1.0, is_integer=True, text=text, **common)
    return Parameter(
        kind="options",
        probabilities=(1 / n,) * n,
        first=int(first),
        is_integer=True,
        text=text,
        **common,
    )


def _probabilities(dist: Any, label: str) -> Sequence[Any]:
    try:
        return list(_evaluated(dist.arg["p"]))
    except Exception:
        raise NotKnown(f"the probabilities of hp.pchoice({label!r}) are not plain numbers") from None
