"""SMAC3 (Lindauer et al. 2022, JMLR 23) as a suggest function: its facade with a random forest.

It is not among what the benchmarks install: ``pip install smac``. It learns only from trials that it
suggested, and does not know the weights of ``hp.pchoice``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_NEW, JOB_STATE_RUNNING, STATUS_OK
from search_algorithms import from_optuna, optuna_distribution

from sparktune.search.suggestion import new_document
from sparktune.space.search_space import SearchSpace

N_TRIALS = 200
"""The length of a study that it is given, which sets how many points it spreads first."""


class Smac:
    """SMAC for one study. Each configuration is evaluated once, as by the other algorithms.

    Raises:
        ValueError: it is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("smac") is None:
            raise ValueError("smac is SMAC3, which is not installed: pip install smac")
        self._directory = tempfile.mkdtemp(prefix="smac-")
        weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._facade: Any = None
        self._asked: dict[int, Any] = {}  # tid -> what was asked for, of the trials that have not ended
        self._worst = float("-inf")
        self._space = SearchSpace({})

    def __call__(self, new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[dict[str, Any]]:
        """See ``hyperopt.rand.suggest``; the first seed is SMAC's."""
        if self._facade is None:
            self._begin(domain, int(seed) % 2**31)
        self._learn(trials)
        documents = []
        with contextlib.suppress(_exhausted()):  # fewer, or none: every configuration was tried
            for new_id in new_ids:
                documents.append(self._document(new_id, self._facade.ask(), domain, trials))
        return documents

    def _begin(self, domain: Any, seed: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        self._space = SearchSpace(domain.expr)
        scenario = Scenario(
            _configuration_space(self._space, seed),
            deterministic=True,
            n_trials=N_TRIALS,
            seed=seed,
            output_directory=self._directory,
        )

        def never_called(_config: Any, seed: int = 0) -> float:
            raise AssertionError(seed)

        self._facade = HyperparameterOptimizationFacade(scenario, never_called, logging_level=False)

    def _learn(self, trials: Any) -> None:
        """Pass the results since the last call to SMAC."""
        from smac.runhistory.dataclasses import TrialValue

        kept = {found["tid"]: found for found in trials._dynamic_trials}
        for tid in list(self._asked):
            found = kept.get(tid, {"state": JOB_STATE_ERROR, "result": {}})
            if found["state"] in (JOB_STATE_NEW, JOB_STATE_RUNNING):
                continue
            result = found["result"]
            is_ok = found["state"] == JOB_STATE_DONE and result.get("status") == STATUS_OK
            if is_ok:
                self._worst = max(self._worst, float(result["loss"]))
            # Its model takes no infinite cost: a failed trial is as bad as the worst one.
            cost = float(result["loss"]) if is_ok else max(self._worst, -1e100)
            self._facade.tell(self._asked.pop(tid), TrialValue(cost=cost), save=False)

    def _document(self, new_id: int, asked: Any, domain: Any, trials: Any) -> dict[str, Any]:
        self._asked[new_id] = asked
        chosen = dict(asked.config)
        values = {
            p.label: from_optuna(p, chosen[p.label]) for p in self._space.parameters if p.label in chosen
        }
        document: dict[str, Any] = new_document(new_id, values, self._space.column, domain, trials)
        return document


def _exhausted() -> type[Exception]:
    from smac.main.exceptions import ConfigurationSpaceExhaustedException

    return ConfigurationSpaceExhaustedException  # type: ignore[no-any-return]


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

    found = ConfigurationSpace(seed=seed)
    made: dict[int, Any] = {}  # by column; what no option leads to is left out
    for column, parameter in enumerate(space.parameters):
        leads: dict[int, list[int]] = {}
        for parent, option in parameter.conditions:
            if parent in made and space.parameters[parent].probabilities[option] > 0:
                leads.setdefault(parent, []).append(option)
        if parameter.conditions and not leads:
            continue
        wanted, label = optuna_distribution(parameter), parameter.label
        if parameter.kind == "options":
            made[column] = Categorical(label, np.flatnonzero(parameter.probabilities).tolist())
        elif wanted.single():
            made[column] = Constant(label, wanted.low)
        else:
            kind = Float if parameter.q is None else Integer
            made[column] = kind(label, (wanted.low, wanted.high), log=wanted.log)
        found.add(made[column])
        conditions = [InCondition(made[column], made[parent], options) for parent, options in leads.items()]
        if conditions:
            found.add(conditions[0] if len(conditions) == 1 else OrConjunction(*conditions))
    return found
