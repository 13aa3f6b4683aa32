"""The user's points (``points_to_evaluate``), and the best trial's.

Of the user's points, those are run that have no result yet in the trials.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import hyperopt
from hyperopt.base import JOB_STATE_NEW
from hyperopt.fmin import generate_trials_to_calculate

from sparktune.private import of_hyperopt
from sparktune.search.history import config_of
from sparktune.space.view import SpaceView
from sparktune.study.outcome import outcome_of
from sparktune.study.trial import Trial, TrialState
from sparktune.trials import documents

logger = logging.getLogger("sparktune")


class Tried(NamedTuple):
    """A known trial: its assignment, id and state."""

    config: Mapping[str, Any]
    trial_id: int
    state: TrialState


def to_run(
    configs: Iterable[Mapping[str, Any]], tried: Sequence[Tried], *, again: bool
) -> list[dict[str, Any]]:
    """The points that are run: all but those that have a result, or are queued. Logs which.

    Args:
        configs: the points as assignments, label -> raw value.
        tried: the known trials.
        again: whether points with a result are evaluated once more.
    """
    wanted: list[dict[str, Any]] = []
    n_again, skipped = 0, []
    for config in map(dict, configs):
        before = [each for each in tried if each.config == config]
        has_result = any(each.state in (TrialState.COMPLETED, TrialState.EARLY_TERMINATED) for each in before)
        is_queued = any(not each.state.is_final for each in before)
        if is_queued or (has_result and not again):
            skipped += before[-1:]
        else:
            wanted.append(config)
            n_again += bool(before)
    if n_again:
        logger.info("%d points of points_to_evaluate that were tried before are evaluated again", n_again)
    if skipped:
        logger.info(
            "%d points of points_to_evaluate have a result or are queued already (trials %s), and are not "
            "evaluated again; for a noisy objective, fmin(..., noisy=True) does so",
            len(skipped),
            ", ".join(str(each.trial_id) for each in skipped),
        )
    return wanted


def queue(trials: hyperopt.Trials, view: SpaceView, points: Sequence[Any], *, again: bool) -> int:
    """Queue points in hyperopt's own trials, which its loop runs first; returns how many.

    They are not refreshed, as in hyperopt, so they come on top of ``max_evals``.

    Args:
        trials: hyperopt's.
        view: of the search space.
        points: label -> raw value.
        again: see ``to_run``.
    """
    new = of_hyperopt.documents(generate_trials_to_calculate([view.raw_point(point) for point in points]))
    known = of_hyperopt.documents(trials)
    if known:
        tried = [Tried(config_of(document), document["tid"], _state(document)) for document in known]
        wanted = to_run(map(config_of, new), tried, again=again)
        new = of_hyperopt.documents(generate_trials_to_calculate(wanted))
        ids, taken = list(trials.new_trial_ids(len(new))), {each.trial_id for each in tried}
        if not taken.isdisjoint(ids):  # of documents that were inserted manually
            ids = list(range(max(taken) + 1, max(taken) + 1 + len(new)))
        for trial_id, document in zip(ids, new, strict=True):
            documents.renumber(document, trial_id)
    trials.insert_trial_docs(new)
    return len(new)


def of_best(best: Trial | None, space: Any) -> Any:
    """The best trial's point as its objective received it, for the record; None without one.

    The record must not cost a study: the space may call the user's code, which may raise.
    """
    if best is None:
        return None
    try:
        return hyperopt.space_eval(space, dict(best.config))
    except Exception:
        logger.debug("the best trial's point cannot be made on the driver", exc_info=True)
        return None


def _state(document: Mapping[str, Any]) -> TrialState:
    """The state of a trial. hyperopt leaves an interrupted one as running."""
    if document["state"] == JOB_STATE_NEW:
        return TrialState.QUEUED
    return outcome_of(document) or TrialState.CANCELLED
