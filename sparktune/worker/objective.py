"""The objective as it travels to a worker, and its evaluation there.

Follows ``hyperopt.base.Domain.evaluate`` (hyperopt 0.3) in what it accepts and refuses, without building a
``Domain`` on the worker for every trial.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from hyperopt import Ctrl, Trials, pyll
from hyperopt.base import JOB_STATE_RUNNING, STATUS_OK, STATUS_STRINGS
from hyperopt.exceptions import InvalidLoss, InvalidResultStatus
from hyperopt.utils import use_obj_for_literal_in_memo

from sparktune.early_termination.base import Goal
from sparktune.private import of_hyperopt
from sparktune.worker import reporting

_SYSTEM = ("builtins", "operator", "_operator")
"""Modules of the functions that hyperopt itself makes symbols of, beside its own."""


class BadResult(ValueError):
    """The objective returned something that is no result."""


@dataclass(frozen=True)
class Objective:
    """A function and its search space.

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
    def _nodes(self) -> dict[str, Any]:
        return {n.arg["label"].obj: n for n in pyll.dfs(self.space) if n.name == "hyperopt_param"}

    @functools.cached_property
    def _symbols(self) -> dict[str, Any]:
        """What the space calls of the functions that the user has given to ``scope.define``, by name."""
        names = {node.name for node in pyll.dfs(self.space)}
        functions = {name: getattr(pyll.scope, name, None) and of_hyperopt.symbol(name) for name in names}
        return {
            name: function
            for name, function in functions.items()
            if getattr(function, "__module__", "").partition(".")[0] not in ("", "hyperopt", *_SYSTEM)
        }

    @functools.cached_property
    def _has_ctrl(self) -> bool:
        return any(getattr(node, "obj", None) is Ctrl for node in pyll.dfs(self.space))

    def __getstate__(self) -> dict[str, Any]:
        """With what each copy would derive anew, and the user's symbols, which a worker could not find."""
        names = [field.name for field in fields(self)] + ["_nodes", "_symbols", "_has_ctrl"]
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _define_symbols(self) -> None:
        for name, function in self._symbols.items():
            if of_hyperopt.symbol(name) is not function:
                if hasattr(pyll.scope, name):
                    pyll.scope.undefine(name)
                pyll.scope.define(function)

    def evaluate(self, trial_id: int, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Call the function at one point.

        Args:
            trial_id: for the ``Ctrl`` object that low-level objectives receive.
            config: label -> raw value; active labels only.

        Returns:
            hyperopt's result dict, with a float ``loss`` where the status is ok, and the attachments.

        Raises:
            BadResult: the result is neither a number nor a dict with a valid status and loss.
            BaseException: whatever the objective raises.
        """
        self._define_symbols()
        memo = {node: config.get(label, pyll.base.GarbageCollected) for label, node in self._nodes.items()}
        ctrl: WorkerCtrl | None = None
        if self.pass_expr_memo_ctrl or self._has_ctrl:
            ctrl = WorkerCtrl.for_trial(trial_id, config)
            use_obj_for_literal_in_memo(self.space, ctrl, Ctrl, memo)
        if self.pass_expr_memo_ctrl:
            returned = self.fn(expr=self.space, memo=memo, ctrl=ctrl)
        else:
            returned = self.fn(pyll.rec_eval(self.space, memo=memo, print_node_on_error=False))
        result = as_result(self._with_loss(returned))
        attachments = {} if ctrl is None else ctrl.taken_attachments()
        attachments.update(result.pop("attachments", None) or {})
        return result, attachments

    def _with_loss(self, returned: Any) -> Any:
        """A result without a loss of its own gets it from the primary metric, or from the last report."""
        last = reporting.last_value()
        if returned is None and last is not None:
            returned = {self.metric: last, "status": STATUS_OK}
        if not isinstance(returned, Mapping) or "loss" in returned or returned.get("status") != STATUS_OK:
            return returned
        value = returned.get(self.metric, last)
        if value is None:
            return returned
        return {**returned, "loss": value if self.goal == "minimize" else -value}


class WorkerCtrl(Ctrl):  # type: ignore[misc]
    """hyperopt's ``Ctrl`` on a worker: attachments travel back with the result."""

    @classmethod
    def for_trial(cls, trial_id: int, config: Mapping[str, Any]) -> WorkerCtrl:
        """A control object whose ``trials`` hold this one trial."""
        trials = Trials()
        misc = {
            "tid": trial_id,
            "cmd": None,
            "workdir": None,
            "idxs": {label: [trial_id] for label in config},
            "vals": {label: [value] for label, value in config.items()},
        }
        documents = trials.new_trial_docs([trial_id], [None], [{"status": "running"}], [misc])
        documents[0]["state"] = JOB_STATE_RUNNING
        trials.insert_trial_docs(documents)
        trials.refresh()
        return cls(trials, current_trial=trials.trials[0])

    def taken_attachments(self) -> dict[str, Any]:
        """The attachments made so far, by their bare names."""
        prefix = self.trials.aname(self.current_trial, "")
        return {name.removeprefix(prefix): value for name, value in self.trials.attachments.items()}

    def inject_results(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a worker cannot add trials to the study."""
        raise NotImplementedError(
            "ctrl.inject_results is not possible on a Spark worker: return the result, or attach it with "
            "ctrl.attachments[name] = value"
        )


def as_result(returned: Any) -> dict[str, Any]:
    """The result dict, in hyperopt's form, of what an objective returned.

    Raises:
        BadResult: see ``Objective.evaluate``.
        InvalidResultStatus, InvalidLoss: hyperopt's own exceptions, with a message.
    """
    if isinstance(returned, numbers.Real):
        return {"loss": float(returned), "status": STATUS_OK}
    try:
        result = dict(returned)
    except (TypeError, ValueError):
        raise BadResult(
            f"the objective returned {_short(returned)} ({type(returned).__name__}); return the loss as a "
            "number, or a dict with 'status' and 'loss'"
        ) from None
    if "status" not in result:
        raise BadResult(
            f"the objective's result has no 'status' (its keys: {sorted(map(str, result))}); add "
            "'status': STATUS_OK"
        )
    if result["status"] not in STATUS_STRINGS:
        raise _with_message(
            InvalidResultStatus(result),
            f"the objective's result has status {result['status']!r}; it must be one of {STATUS_STRINGS}",
        )
    if result["status"] == STATUS_OK:
        try:
            result["loss"] = float(result["loss"])
        except KeyError:
            raise _with_message(
                InvalidLoss(result), "the objective's result has status 'ok' but no 'loss'"
            ) from None
        except (TypeError, ValueError):
            raise _with_message(
                InvalidLoss(result), f"the objective's loss is {_short(result['loss'])}, which is no number"
            ) from None
    return result


def _with_message(error: Exception, message: str) -> Exception:
    error.args = (message,)
    return error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
