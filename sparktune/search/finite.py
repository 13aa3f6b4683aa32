"""Small finite spaces: each configuration once, whatever the algorithm suggests."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparktune.errors import InvalidSpace
from sparktune.private import of_hyperopt
from sparktune.search import grid, suggestion
from sparktune.search.history import config_of
from sparktune.space.search_space import SearchSpace

logger = logging.getLogger("sparktune")

LARGEST = 10_000
"""Larger spaces are taken as infinite: to list their configurations costs more than a repeated trial."""
HYPEROPTS = ("tid", "cmd", "workdir", "idxs", "vals")
"""Entries of ``misc`` that hyperopt knows; others are the marks of an algorithm."""

Suggest = Callable[..., list[Any]]


def prepared(
    algo: Any,
    expression: Any,
    trials: Any,
    max_new: int | None,
    *,
    noisy: bool,
    are_given: bool = False,
) -> tuple[Any, int | None]:
    """The algorithm and the number of trials for a study that tries no configuration twice.

    Only for sparktune's own algorithms: hyperopt's repeat configurations, as they do in ``hyperopt.fmin``.
    Logs once where the space has fewer configurations than there are to be trials.

    Args:
        algo: a suggest function.
        expression: the search space.
        trials: the study's trials; their configurations were tried, except those cancelled with their study.
        max_new: how many trials are to be suggested, or None for no limit.
        noisy: whether configurations may be evaluated again.
        are_given: whether the algorithm gets exactly the study's trials; hyperopt may have read them from a
            save file.

    Returns:
        The suggest function and the number of trials; those that were given, where the space is not finite.
    """
    if noisy or (space := _small(expression)) is None:
        return algo, max_new
    table = grid.Table(space)
    n_left = len(table.untried_numbers(of_hyperopt.documents(trials), len(space)))
    is_led = _may_be_led(algo)
    if max_new is not None and max_new > n_left:
        tried = "" if n_left == len(space) else f", of which {n_left or 'none'} are still to be tried"
        logger.warning(
            "the search space has %d configurations%s, and %d trials are to be run: %s",
            len(space),
            tried,
            max_new,
            "each is tried once, then the study ends. If the objective is noisy, fmin(..., noisy=True) "
            "evaluates them again"
            if is_led
            else "this algorithm repeats configurations; sparktune's try each once",
        )
    if not is_led:
        return algo, max_new
    return _each_once(algo, table, None if are_given else trials), n_left if max_new is None else min(
        max_new, n_left
    )


def size(expression: Any) -> int | None:
    """How many configurations a space has; None where there are more than ``LARGEST``."""
    space = _small(expression)
    return None if space is None else len(space)


def _small(expression: Any) -> grid.Grid | None:
    try:
        return grid.Grid(SearchSpace(expression), LARGEST)
    except InvalidSpace:  # infinite, too large, or of a form that only hyperopt knows
        return None


def _may_be_led(algo: Any) -> bool:
    """Whether other configurations may take the place of what the algorithm suggests.

    Optuna's samplers keep their own record of what they have suggested.
    """
    while isinstance(algo, functools.partial):
        algo = algo.func
    return suggestion.is_ours(algo) and getattr(algo, "__module__", "") != "sparktune.search.optuna_sampler"


def _each_once(algo: Any, table: grid.Table, trials: Any) -> Suggest:
    """The suggest function with an untried configuration, at random, in place of one that was tried."""

    @functools.wraps(algo)
    def suggest(new_ids: Sequence[int], domain: Any, seen: Any, seed: Any) -> list[Any]:
        known = of_hyperopt.documents(seen if trials is None else trials)
        left = table.untried_numbers(known, len(new_ids))
        if not left:
            return []
        documents = list(algo(new_ids[: len(left)], domain, seen, seed))
        numbers = [table.grid.number(config_of(document)) for document in documents]
        rng, labels = np.random.default_rng(seed), table.grid.space.column
        for i, number in enumerate(numbers):
            if number is None or not (table.is_taken(number) or number in numbers[:i]):
                continue
            others = {*numbers[:i], *numbers[i + 1 :]}
            left = [each for each in table.untried_numbers(known, len(table.grid)) if each not in others]
            if not left:
                return documents[:i]
            numbers[i] = chosen = int(rng.choice(left))
            config = table.grid.space.config(table.grid.row(chosen))
            misc = documents[i]["misc"]
            mark = {key: value for key, value in misc.items() if key not in HYPEROPTS}
            documents[i] = suggestion.new_document(misc["tid"], config, labels, domain, seen, mark)
        return documents

    return suggest
