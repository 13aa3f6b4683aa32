"""SMAC3 (Lindauer et al. 2022, JMLR 23) as a suggest function: its facade with a random forest.

It is not among what the benchmarks install: ``pip install smac``.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from typing import Any

from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_NEW, JOB_STATE_RUNNING, STATUS_OK
from search_algorithms import distribution, document, from_optuna

from sparktune.space.search_space import SearchSpace

N_TRIALS = 200
"""What it is told of the length of a study, which sets how many points it spreads first."""


class Smac:
    """SMAC for one study. Each configuration is evaluated once, as by the other algorithms.

    Raises:
        ValueError: it is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("smac") is None:
            raise ValueError("smac is SMAC3, which is not installed: pip install smac")
        self._directory = tempfile.TemporaryDirectory(prefix="smac-")
        self._facade: Any = None
        self._asked: dict[int, Any] = {}  # tid -> what was asked for, of the trials that have not ended
        self._space = SearchSpace({})

    def __call__(self, new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[dict[str, Any]]:
        """See ``hyperopt.rand.suggest``; the first seed is SMAC's."""
        if self._facade is None:
            self._begin(domain, int(seed) % 2**31)
        self._learn(trials)
        return [self._ask(new_id, domain, trials) for new_id in new_ids]

    def _begin(self, domain: Any, seed: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        self._space = SearchSpace(domain.expr)
        scenario = Scenario(
            _configuration_space(self._space, seed),
            deterministic=True,
            n_trials=N_TRIALS,
            seed=seed,
            output_directory=self._directory.name,
        )

        def never_called(_config: Any, seed: int = 0) -> float:
            raise AssertionError(seed)

        self._facade = HyperparameterOptimizationFacade(scenario, never_called, logging_level=False)

    def _learn(self, trials: Any) -> None:
        """Tell SMAC what became of each trial since the last call."""
        from smac.runhistory import StatusType
        from smac.runhistory.dataclasses import TrialValue

        kept = {found["tid"]: found for found in trials._dynamic_trials}
        for tid in list(self._asked):
            found = kept.get(tid, {"state": JOB_STATE_ERROR, "result": {}})
            if found["state"] in (JOB_STATE_NEW, JOB_STATE_RUNNING):
                continue
            result = found["result"]
            is_ok = found["state"] == JOB_STATE_DONE and result.get("status") == STATUS_OK
            value = TrialValue(
                cost=result["loss"] if is_ok else float("inf"),
                status=StatusType.SUCCESS if is_ok else StatusType.CRASHED,
            )
            self._facade.tell(self._asked.pop(tid), value, save=False)

    def _ask(self, new_id: int, domain: Any, trials: Any) -> dict[str, Any]:
        asked = self._facade.ask()
        self._asked[new_id] = asked
        chosen = dict(asked.config)
        values = {
            p.label: from_optuna(p, chosen[p.label]) for p in self._space.parameters if p.label in chosen
        }
        return document(self._space, values, new_id, domain, trials)


def _configuration_space(space: SearchSpace, seed: int) -> Any:
    """The same in ConfigSpace."""
    from ConfigSpace import (
        Categorical,
        ConfigurationSpace,
        Constant,
        Float,
        InCondition,
        Integer,
        OrConjunction,
    )

    made: list[Any] = []
    for parameter in space.parameters:
        wanted = distribution(parameter)
        if parameter.kind == "options":
            weights = parameter.probabilities
            options = [i for i in range(parameter.n_options) if weights[i] > 0]
            label = parameter.label
            made.append(Constant(label, options[0]) if len(options) == 1 else Categorical(label, options))
        elif wanted.single():
            made.append(Constant(parameter.label, wanted.low))
        else:
            kind = Float if parameter.q is None else Integer
            made.append(kind(parameter.label, (wanted.low, wanted.high), log=wanted.log))
    found = ConfigurationSpace(seed=seed)
    found.add(made)
    for parameter, child in zip(space.parameters, made, strict=True):
        leads: dict[int, list[int]] = {}
        for column, option in parameter.conditions:
            leads.setdefault(column, []).append(option)
        conditions = [InCondition(child, made[column], options) for column, options in leads.items()]
        if conditions:
            found.add(conditions[0] if len(conditions) == 1 else OrConjunction(*conditions))
    return found
