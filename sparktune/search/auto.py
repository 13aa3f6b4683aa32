"""The algorithm that measurements favour for a space, and why in one line.

What was measured is in ``docs/search.md``: regret after 200 trials relative to random search's. ``gp`` is far
ahead of ``tpe`` on small spaces that are smooth, noisy or finite. Elsewhere they take turns, each learning
from the trials of both, which is better than either alone: where parameters are not always active, in spaces
of many parameters, in spaces of only choices, and in studies of very many trials, of which ``gp`` uses a
part. The trial's id decides whose turn it is, so the same seed and trials give the same suggestions.

The first points are spread evenly by each of them, however many are asked for.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparktune.search import gp, tpe
from sparktune.search.history import history_of
from sparktune.search.suggestion import Propose, new_documents
from sparktune.space.search_space import SearchSpace, space_of

logger = logging.getLogger("sparktune")

MANY_PARAMETERS = 20
"""In spaces of more parameters than this, tpe and gp take turns."""
MANY_TRIALS = 500
"""When so many trials have finished, tpe and gp take turns."""

_PROPOSE: dict[str, Propose] = {"gp": gp.propose, "tpe": tpe.propose}
_IN_TURN = ("tpe", "gp")


@dataclass(frozen=True)
class Rule:
    """Which algorithms suggest.

    Attributes:
        first: those that take turns at first.
        later: those that do when ``MANY_TRIALS`` have finished.
        reason: what is used and why, for people.
    """

    first: tuple[str, ...]
    later: tuple[str, ...]
    reason: str

    def turn(self, trial_id: int, n_finished: int) -> str:
        """The algorithm that suggests a trial."""
        taking_turns = self.first if n_finished < MANY_TRIALS else self.later
        return taking_turns[trial_id % len(taking_turns)]


def rule(n_params: int, n_at_times: int, n_choices: int) -> Rule:
    """Which algorithms suggest in a space.

    Args:
        n_params: its parameters.
        n_at_times: those that are not always active.
        n_choices: those that are options, not numbers.
    """
    if n_at_times:
        why = f"tpe and gp in turn: {n_at_times} of {n_params} parameters are not always active"
        return Rule(_IN_TURN, _IN_TURN, why)
    if n_params > MANY_PARAMETERS:
        why = f"tpe and gp in turn: {n_params} parameters, where now one and now the other is ahead"
        return Rule(_IN_TURN, _IN_TURN, why)
    if n_params and n_choices == n_params:
        why = "tpe and gp in turn: a space of choices alone, where now one and now the other is ahead"
        return Rule(_IN_TURN, _IN_TURN, why)
    why = (
        f"gp: at most {MANY_PARAMETERS} parameters, all always active, where gp is ahead of tpe; from "
        f"{MANY_TRIALS} finished trials on, tpe and gp in turn"
    )
    return Rule(("gp",), _IN_TURN, why)


def suggest(new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
    """Suggest the next trials by ``gp``, by ``tpe``, or by both in turn; see the module.

    What is used and why is logged once per study (logger ``sparktune``, level INFO), and recorded on the
    parent run as the tag ``sparktune.algo_reason``.

    Args:
        new_ids: ids of the trials to suggest; several get different, good points in one call.
        domain: the ``hyperopt.Domain`` of the objective and its space.
        trials: the ``hyperopt.Trials`` so far; those that run count as such.
        seed: what the suggestions are drawn from; the same seed and trials give the same suggestions.

    Raises:
        InvalidSpace: the space cannot be searched.
    """
    space = space_of(domain)
    chosen = rule_of(space)
    if _LOGGED.get(domain) != chosen.reason:
        _LOGGED[domain] = chosen.reason
        logger.info("auto.suggest uses %s", chosen.reason)
    history, rng = history_of(trials, space), np.random.default_rng(seed)
    turns = [chosen.turn(new_id, history.n_finished) for new_id in new_ids]
    rows = np.empty((len(turns), len(space)))
    for name in dict.fromkeys(turns):
        its = [i for i, turn in enumerate(turns) if turn == name]
        rows[its] = _PROPOSE[name](space, history, len(its), rng)
        history = replace(history, pending=np.concatenate([history.pending, rows[its]]))
    return new_documents(rows, new_ids, space, domain, trials)


_LOGGED: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""Domain, of which there is one per study -> the reason that was logged."""


def reason(algo: Any, expression: Any) -> str | None:
    """What ``suggest`` uses in a space and why; None for other suggest functions.

    Args:
        algo: a suggest function, or a ``partial`` of one.
        expression: the space.

    Raises:
        InvalidSpace: the space cannot be searched.
    """
    while isinstance(algo, functools.partial):
        algo = algo.func
    return rule_of(SearchSpace(expression)).reason if algo is suggest else None


def rule_of(space: SearchSpace) -> Rule:
    """The rule for a space."""
    is_always: list[bool] = []
    for parameter in space.parameters:
        led_by = set(parameter.conditions)
        is_always.append(not led_by or any(_is_led(space, p, led_by) for p, _ in led_by if is_always[p]))
    n_choices = sum(parameter.kind == "options" for parameter in space.parameters)
    return rule(len(space), is_always.count(False), n_choices)


def _is_led(space: SearchSpace, parent: int, led_by: set[tuple[int, int]]) -> bool:
    """Whether each option of a parameter that may be chosen is one of these."""
    options = np.flatnonzero(space.parameters[parent].possible).tolist()
    return all((parent, option) in led_by for option in options)
