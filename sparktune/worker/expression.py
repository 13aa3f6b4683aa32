"""The search space as an expression, evaluated with hyperopt at the config of a trial."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from hyperopt import Ctrl, Trials, pyll
from hyperopt.base import JOB_STATE_RUNNING
from hyperopt.utils import use_obj_for_literal_in_memo

from sparktune.private import of_hyperopt

_SYSTEM = ("builtins", "operator", "_operator")
"""Modules, beside hyperopt's, whose functions hyperopt itself makes symbols of."""
_SMALL = (bool, int, float, str, type(None))
"""Types of literals that are pickled where they are used."""


class Expression:
    """A search space.

    Args:
        space: a pyll expression.
        is_low_level: the objective takes ``expr=``, ``memo=`` and ``ctrl=``.

    Attributes:
        literals: the objects in it, but numbers, texts and the like.
        symbols: the functions given to ``scope.define`` that it calls, by name.
    """

    def __init__(self, space: Any, is_low_level: bool = False) -> None:
        nodes = list(pyll.dfs(space))
        self._space = space
        self._is_low_level = is_low_level
        self._nodes = {node.arg["label"].obj: node for node in nodes if node.name == "hyperopt_param"}
        objects = [node.obj for node in nodes if isinstance(node, pyll.Literal)]
        self._has_ctrl = any(obj is Ctrl for obj in objects)
        self.literals = [obj for obj in objects if type(obj) not in _SMALL]
        names = {node.name for node in nodes}
        functions = {name: getattr(pyll.scope, name, None) and of_hyperopt.symbol(name) for name in names}
        self.symbols = {
            name: function
            for name, function in functions.items()
            if getattr(function, "__module__", "").partition(".")[0] not in ("", "hyperopt", *_SYSTEM)
        }

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether its point can be made anywhere: without the user's code and without ``Ctrl``."""
        return not (self._is_low_level or self._has_ctrl or self.symbols)

    def point(self, config: Mapping[str, Any]) -> Any:
        """What the objective is called with.

        Args:
            config: label -> raw value; active labels only.
        """
        return pyll.rec_eval(self._space, memo=self._memo(config), print_node_on_error=False)

    def call(
        self, fn: Callable[..., Any], trial_id: int, config: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """What ``fn`` returns, and what it has attached by its ``Ctrl``."""
        self._define_symbols()
        if not (self._is_low_level or self._has_ctrl):
            return fn(self.point(config)), {}
        memo = self._memo(config)
        ctrl = WorkerCtrl.for_trial(trial_id, config)
        use_obj_for_literal_in_memo(self._space, ctrl, Ctrl, memo)
        if self._is_low_level:
            returned = fn(expr=self._space, memo=memo, ctrl=ctrl)
        else:
            returned = fn(pyll.rec_eval(self._space, memo=memo, print_node_on_error=False))
        return returned, ctrl.taken_attachments()

    def _memo(self, config: Mapping[str, Any]) -> dict[Any, Any]:
        return {node: config.get(label, pyll.base.GarbageCollected) for label, node in self._nodes.items()}

    def _define_symbols(self) -> None:
        for name, function in self.symbols.items():
            if of_hyperopt.symbol(name) is not function:
                if hasattr(pyll.scope, name):
                    pyll.scope.undefine(name)
                pyll.scope.define(function)


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
