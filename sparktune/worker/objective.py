"""The objective: called in this process, or sent to workers that may have neither hyperopt nor numpy.

The point of a trial is made of its config on the driver, where that is possible, and sent; else the worker
makes it, with hyperopt (``expression``). Follows ``hyperopt.base.Domain.evaluate`` (hyperopt 0.3) in what it
accepts and refuses.
"""

from __future__ import annotations

import functools
import importlib
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparktune.early_termination.base import Goal
from sparktune.worker import references, reporting

if TYPE_CHECKING:
    from sparktune.worker.expression import Expression

STATUS_NEW, STATUS_RUNNING, STATUS_SUSPENDED = "new", "running", "suspended"
STATUS_OK, STATUS_FAIL = "ok", "fail"
STATUS_STRINGS = (STATUS_NEW, STATUS_RUNNING, STATUS_SUSPENDED, STATUS_OK, STATUS_FAIL)
"""hyperopt's, which a worker need not have."""

_KEYS: dict[Any, Any] = {"status": "status", "loss": "loss", "attachments": "attachments"}

LARGEST_POINT_BYTES = 100_000
"""A larger point is made on the worker: its parts were sent once."""

Evaluated = tuple[dict[str, Any], dict[str, Any]]
"""hyperopt's result dict, with a float ``loss`` where the status is ok, and the attachments."""


class BadResult(ValueError):
    """The objective returned an invalid result."""


@dataclass(frozen=True)
class Objective:
    """A function and its search space. Pickled it is an ``ObjectiveSent``.

    Attributes:
        fn: the user's function.
        space: the search space as a pyll expression.
        pass_expr_memo_ctrl: call ``fn(expr=, memo=, ctrl=)`` instead of ``fn(point)``.
        metric: the primary metric: gives the loss where the result has none.
        goal: what is good in it; the loss of a metric to be maximized is its negative.
    """

    fn: Callable[..., Any]
    space: Any
    pass_expr_memo_ctrl: bool = False
    metric: str = "loss"
    goal: Goal = "minimize"

    @functools.cached_property
    def expression(self) -> Expression:
        """The space, ready to be evaluated."""
        from sparktune.worker.expression import Expression

        return Expression(self.space, self.pass_expr_memo_ctrl)

    def point(self, config: Mapping[str, Any]) -> bytes | None:
        """The point of a config, for ``ObjectiveSent.evaluate``; None where the worker is to make it.

        It is, where the user's own symbols or ``Ctrl`` take part, where an exception is raised, which is the
        trial's own, and where the point is large.
        """
        expression = self.expression
        if not expression.is_plain:
            return None
        try:
            data = references.dumps(expression.point(config), expression.literals)
        except Exception:  # raised again on the worker
            return None
        return data if len(data) <= LARGEST_POINT_BYTES else None

    def evaluate(self, trial_id: int, config: Mapping[str, Any]) -> Evaluated:
        """Call the function at one point, in this process.

        Args:
            trial_id: for the ``Ctrl`` object that low-level objectives receive.
            config: label -> raw value; active labels only.

        Raises:
            BadResult: the result is neither a number nor a dict with a valid status and loss.
            BaseException: whatever the objective raises.
        """
        returned, attachments = self.expression.call(self.fn, trial_id, config)
        return _evaluated(returned, attachments, self.metric, self.goal)

    def __reduce__(self) -> tuple[Any, ...]:
        expression = self.expression
        data = references.dumps(expression, expression.literals)
        return ObjectiveSent, (self.fn, expression.literals, data, self.metric, self.goal)


@dataclass(frozen=True)
class ObjectiveSent:
    """An ``Objective`` on a worker.

    Attributes:
        fn, metric, goal: see ``Objective``.
        literals: the objects in the space, which points and the expression refer to.
        expression: the space (``references.dumps``).
    """

    fn: Callable[..., Any]
    literals: list[Any]
    expression: bytes
    metric: str
    goal: Goal

    def evaluate(self, trial_id: int, config: Mapping[str, Any], point: bytes | None = None) -> Evaluated:
        """``Objective.evaluate``; ``point`` as of ``Objective.point``."""
        if point is not None:
            returned = self.fn(references.loads(point, self.literals))
            return _evaluated(returned, {}, self.metric, self.goal)
        expression: Expression = references.loads(self.expression, self.literals)
        returned, attachments = expression.call(self.fn, trial_id, config)
        return _evaluated(returned, attachments, self.metric, self.goal)


def _evaluated(returned: Any, attachments: dict[str, Any], metric: str, goal: Goal) -> Evaluated:
    result = as_result(_with_loss(returned, metric, goal))
    attachments.update(result.pop("attachments", None) or {})
    return result, attachments


def _with_loss(returned: Any, metric: str, goal: Goal) -> Any:
    """A result without a loss gets it from the primary metric, or from the last report."""
    last = reporting.last_value()
    if returned is None and last is not None:
        returned = {metric: last, "status": STATUS_OK}
    if not isinstance(returned, Mapping) or "loss" in returned or returned.get("status") != STATUS_OK:
        return returned
    value = returned.get(metric, last)
    if value is None and metric != "loss":
        names = ", ".join(map(repr, returned)) or "nothing"
        raise BadResult(
            f"the objective's result has neither 'loss' nor the metric {metric!r}, but {names}; "
            "return one of them, or name the metric that it has with metric=..."
        )
    if value is None:
        return returned
    return {**returned, "loss": value if goal == "minimize" else -value}


def as_result(returned: Any) -> dict[str, Any]:
    """The result dict, in hyperopt's form, of what an objective returned.

    Raises:
        BadResult: see ``Objective.evaluate``.
        InvalidResultStatus, InvalidLoss: hyperopt's own exceptions, with a message.
    """
    if isinstance(returned, numbers.Real):
        return {"loss": float(returned), "status": STATUS_OK}
    try:
        # Keys that are equal to these, such as numpy's texts, become these.
        result: dict[Any, Any] = {_KEYS.get(key, key): value for key, value in dict(returned).items()}
    except (TypeError, ValueError):
        what = f"the objective returned {_short(returned)} ({type(returned).__name__})"
        if _holds_one(returned):
            raise BadResult(f"{what}, {_why(returned)}") from None
        raise BadResult(f"{what}; return the loss as a number, or a dict with 'status' and 'loss'") from None
    if "status" not in result:
        raise BadResult(
            f"the objective's result has no 'status' (its keys: {sorted(map(str, result))}); add "
            "'status': STATUS_OK"
        )
    if result["status"] not in STATUS_STRINGS:
        raise _hyperopts(
            "InvalidResultStatus",
            result,
            f"the objective's result has status {result['status']!r}; it must be one of {STATUS_STRINGS}",
        )
    result["status"] = STATUS_STRINGS[STATUS_STRINGS.index(result["status"])]  # not a subclass of str
    if result["status"] == STATUS_OK:
        try:
            result["loss"] = float(result["loss"])
        except KeyError:
            raise _hyperopts(
                "InvalidLoss", result, "the objective's result has status 'ok' but no 'loss'"
            ) from None
        except (TypeError, ValueError):
            raise _hyperopts(
                "InvalidLoss",
                result,
                f"the objective's loss is {_short(result['loss'])}, {_why(result['loss'])}",
            ) from None
    return result


def _why(loss: Any) -> str:
    """Why a loss is refused, and what to do."""
    if _holds_one(loss):
        return "an array, not a number: return loss.item()"
    if hasattr(loss, "shape"):
        return "an array, not a number: return one number, such as its mean"
    return "which is not a number"


def _holds_one(value: Any) -> bool:
    """Whether it is an array, or a tensor, of one element."""
    shape = getattr(value, "shape", None)
    return hasattr(value, "item") and isinstance(shape, tuple) and math.prod(shape) == 1


def _hyperopts(name: str, result: Any, message: str) -> Exception:
    """One of hyperopt's exceptions, with a message; ``BadResult`` without hyperopt."""
    try:
        kind = getattr(importlib.import_module("hyperopt.exceptions"), name)
    except ImportError:
        return BadResult(message)
    error: Exception = kind(result)
    error.args = (message,)
    return error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
