"""The algorithms that search.py and suggest_latency.py compare, all in hyperopt's form.

``module:function`` names any suggest function, ``module:function?gamma=0.2`` one with keyword arguments
(values as JSON). Some have short names (``SHORT``), which take options as well: ``gp?option=1``. Beside them
there are ``optuna`` (its default sampler, ``TPESampler()``), ``optuna:gp`` (``GPSampler()``, needs torch) and
``smac`` (SMAC3, see ``search_smac``).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import pkgutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hyperopt.base import JOB_STATE_DONE, JOB_STATE_NEW, JOB_STATE_RUNNING, STATUS_OK

from sparktune.search.suggestion import new_document
from sparktune.space.parameters import Parameter
from sparktune.space.search_space import SearchSpace

Suggest = Callable[..., list[dict[str, Any]]]

SHORT = {
    "random": "hyperopt.rand:suggest",
    "tpe": "sparktune.tpe:suggest",
    "gp": "sparktune.gp:suggest",
    "auto": "sparktune.auto:suggest",
}
"""Short names of suggest functions; looked up when they are asked for."""
SAMPLERS = {"optuna": "TPESampler", "optuna:gp": "GPSampler"}
"""Optuna's samplers, by the name that they have here."""


def suggest_function(name: str) -> Suggest:
    """A suggest function for one study.

    Raises:
        ValueError: there is no such function, or what it needs is not installed.
    """
    if name in SAMPLERS:
        return Optuna(SAMPLERS[name])
    if name == "smac":
        from search_smac import Smac

        return Smac()
    path, _, query = name.partition("?")
    path = SHORT.get(path, path)
    try:
        # With a dot in place of the colon, `sparktune.tpe` may be a name in the package, not only a module.
        function = pkgutil.resolve_name(path.replace(":", "."))
        options = {key: json.loads(value) for key, value in (p.split("=") for p in query.split("&") if p)}
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"there is no algorithm {name!r} ({error}); give module:function, module:function?option=1, "
            f"or one of {', '.join([*SHORT, *SAMPLERS, 'smac'])}"
        ) from error
    return functools.partial(function, **options) if options else function


class Optuna:
    """One of Optuna's samplers as a suggest function, for one study.

    Trials that others have suggested are passed to it as well, so that it can be given a history.

    Args:
        sampler: the name of its class.

    Raises:
        ValueError: the sampler needs torch, which is not installed.
    """

    def __init__(self, sampler: str = "TPESampler") -> None:
        if sampler == "GPSampler" and importlib.util.find_spec("torch") is None:
            raise ValueError("optuna:gp is Optuna's GPSampler, which needs torch: pip install torch")
        self._sampler = sampler
        self._study: Any = None
        self._numbers: dict[int, int] = {}  # tid -> Optuna's number, of the trials that have not ended
        self._ended: set[int] = set()
        self._n_settled = 0  # so many documents, from the first, have ended
        self._space = SearchSpace({})

    def __call__(self, new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[dict[str, Any]]:
        """See ``hyperopt.rand.suggest``; the first seed is the sampler's."""
        import optuna

        if self._study is None:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            warnings.filterwarnings("ignore", module="optuna")
            self._space = SearchSpace(domain.expr)
            self._study = optuna.create_study(sampler=getattr(optuna.samplers, self._sampler)(seed=int(seed)))
        self._learn(trials)
        return [self._ask(new_id, domain, trials) for new_id in new_ids]

    def _learn(self, trials: Any) -> None:
        """Pass the results since the last call to Optuna."""
        from optuna.trial import TrialState

        documents = trials._dynamic_trials
        while self._n_settled < len(documents) and documents[self._n_settled]["tid"] in self._ended:
            self._n_settled += 1
        unsettled = documents[self._n_settled :]
        for tid in self._numbers.keys() - {document["tid"] for document in unsettled}:
            self._study.tell(self._numbers.pop(tid), state=TrialState.FAIL)  # asked for, but not kept
        for document in unsettled:
            tid, state, result = document["tid"], document["state"], document["result"]
            if tid in self._ended:
                continue
            if state in (JOB_STATE_NEW, JOB_STATE_RUNNING):
                if tid not in self._numbers:
                    self._numbers[tid] = self._add(document, TrialState.RUNNING)
                continue
            self._ended.add(tid)
            number = self._numbers.pop(tid, None)
            if state != JOB_STATE_DONE or result.get("status") != STATUS_OK:
                if number is not None:
                    self._study.tell(number, state=TrialState.FAIL)
            elif number is not None:
                self._study.tell(number, result["loss"])
            else:
                self._add(document, TrialState.COMPLETE)

    def _add(self, document: Mapping[str, Any], state: Any) -> int:
        """Add a trial to Optuna that it has not suggested; returns its number there."""
        import optuna

        values = {label: found[0] for label, found in document["misc"]["vals"].items() if len(found)}
        params, distributions = {}, {}
        for parameter in self._space.parameters:
            if parameter.label in values:
                distribution = optuna_distribution(parameter)
                params[parameter.label] = _to_optuna(parameter, distribution, values[parameter.label])
                distributions[parameter.label] = distribution
        loss = document["result"].get("loss")
        value = loss if state == optuna.trial.TrialState.COMPLETE else None
        trial = optuna.trial.create_trial(
            state=state, params=params, distributions=distributions, value=value
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def _ask(self, new_id: int, domain: Any, trials: Any) -> dict[str, Any]:
        trial = self._study.ask()
        self._numbers[new_id] = trial.number
        values: dict[str, float] = {}
        for parameter in self._space.parameters:
            pairs = [(self._space.parameters[column], option) for column, option in parameter.conditions]
            if not pairs or any(values.get(p.label) == option + p.first for p, option in pairs):
                found = trial._suggest(parameter.label, optuna_distribution(parameter))
                values[parameter.label] = from_optuna(parameter, found)
        document: dict[str, Any] = new_document(new_id, values, self._space.column, domain, trials)
        return document


def optuna_distribution(parameter: Parameter) -> Any:
    """What Optuna calls it; normal distributions, which it lacks, become 3 sigma either side."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.kind == "options":
        return CategoricalDistribution(range(parameter.n_options))
    low, high = parameter.low, parameter.high
    if parameter.kind == "normal":
        low, high = parameter.mu - 3 * parameter.sigma, parameter.mu + 3 * parameter.sigma
    if parameter.is_log:
        low, high = math.exp(low), math.exp(high)
    if parameter.q is None:
        return FloatDistribution(low, high, log=parameter.is_log)
    first = round(low / parameter.q)
    return IntDistribution(
        max(first, 1) if parameter.is_log else first, round(high / parameter.q), log=parameter.is_log
    )


def from_optuna(parameter: Parameter, found: float) -> int | float:
    """The parameter's value from that of its ``optuna_distribution``."""
    if parameter.kind == "options":
        return int(found) + parameter.first
    return parameter.plain(found if parameter.q is None else found * parameter.q)


def _to_optuna(parameter: Parameter, distribution: Any, value: float) -> int | float:
    if parameter.kind == "options":
        return int(value) - parameter.first
    inside = value if parameter.q is None else round(value / parameter.q)
    return min(max(inside, distribution.low), distribution.high)
