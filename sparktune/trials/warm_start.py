"""Trials of earlier studies that inform the search of a new one without being its trials.

The parameters must be the same; ranges may have changed. Each parameter's label, its options, and its value
in each trial are compared, and a refusal names what differs (SageMaker's warm start does not).
"""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparktune.errors import WarmStartRefused
from sparktune.private import of_hyperopt
from sparktune.space.parameters import Parameter
from sparktune.space.search_space import SearchSpace
from sparktune.space.view import SpaceView
from sparktune.study.spec import StudySpec
from sparktune.study.trial import Trial, TrialState
from sparktune.tracking.schema import recorded_param
from sparktune.trials import resume
from sparktune.trials.documents import Document

if TYPE_CHECKING:
    from sparktune.tracking.reader import RecordedStudy
    from sparktune.trials.base import StudyTrials

logger = logging.getLogger("sparktune")

TAUGHT_BY = (TrialState.COMPLETED, TrialState.EARLY_TERMINATED)


def checked(run_ids: Any) -> tuple[str, ...]:
    """The argument ``warm_start``.

    Raises:
        TypeError: it is not a sequence of run ids.
    """
    is_sequence = isinstance(run_ids, Sequence) and not isinstance(run_ids, str)
    if not is_sequence or not all(isinstance(run_id, str) and run_id for run_id in run_ids):
        raise TypeError(f"warm_start is {run_ids!r}; it must be a list of parent run ids: [trials.run_id]")
    return tuple(run_ids)


def documents(run_ids: Sequence[str], view: SpaceView, spec: StudySpec) -> list[Document]:
    """The documents of the finished trials of earlier studies, under ids below 0.

    Args:
        run_ids: parent runs.
        view: the space of the study that is to be informed.
        spec: of that study; one of another name informs it with a warning.

    Raises:
        WarmStartRefused: a study has other parameters, another metric or goal; names each.
        CannotResume: a run does not hold a study, or MLflow does not answer.
    """
    space = SearchSpace(view.expression)
    found: dict[str, Document] = {}
    for run_id in run_ids:
        study = resume.find(run_id, "warm_start")
        if study is None:
            raise WarmStartRefused("warm_start='last': the experiment has no unfinished study")
        _check(study, view, spec)
        resume.warn_of_name(study.record.spec.name, spec.name, run_id, informs=True)
        n_outside = 0
        for run, document, trial in resume.ended_trials(study):
            if trial.state not in TAUGHT_BY:
                continue
            _check_values(run_id, view, trial)
            if all(_is_inside(space.parameters[space.column[n]], v) for n, v in trial.config.items()):
                found.setdefault(run, document)
            else:
                n_outside += 1
        if n_outside:
            logger.warning(
                "warm_start: %d trials of run %s are left out: they are outside of today's ranges",
                n_outside,
                run_id,
            )
    for tid, document in enumerate(found.values(), start=-len(found)):
        misc = document["misc"]
        document["tid"] = misc["tid"] = tid
        misc["idxs"] = {label: [tid] * len(misc["vals"].get(label, ())) for label in view.labels}
        misc["vals"] = {label: misc["vals"].get(label, []) for label in view.labels}
    logger.info("warm_start: %d trials of %d studies inform the search", len(found), len(run_ids))
    return list(found.values())


def _check(study: RecordedStudy, view: SpaceView, spec: StudySpec) -> None:
    earlier, now = study.record.spec, spec.parameters
    options = {label for label in now if view.is_choice(label)}
    refused = []
    for label in dict.fromkeys([*earlier.parameters, *now]):
        was, is_now = earlier.parameters.get(label), now.get(label)
        if was is None:
            refused.append(f"the parameter {label!r} was not there and is {is_now}")
        elif is_now is None:
            refused.append(f"the parameter {label!r} was {was} and is not there now")
        elif was != is_now and (label in options or "choice" in was):
            refused.append(f"the options of {label!r} differ: they were {was} and are {is_now}")
    for what, theirs, ours in ("metric", earlier.metric, spec.metric), ("goal", earlier.goal, spec.goal):
        if theirs != ours:
            refused.append(f"the {what} was {theirs} and is {ours}")
    if refused:
        raise _refusal(study.run_id, refused)


def _check_values(run_id: str, view: SpaceView, trial: Trial) -> None:
    """Refuse a label with another meaning: ``hp.reverseloguniform``, other conditions."""
    now = view.params(trial.config)
    refused = [
        f"the parameter {label!r} of trial {trial.trial_id} was {was!r}, which is {now.get(label)!r} now"
        for label, was in trial.params.items()
        if not _is_same(was, now.get(label))
    ]
    inactive = trial.config.keys() ^ view.active_labels(trial.config)
    refused += [
        f"the parameter {label!r} was active where it is not now, or the other way" for label in inactive
    ]
    if refused:
        raise _refusal(run_id, refused)


def _refusal(run_id: str, refused: Sequence[str]) -> WarmStartRefused:
    return WarmStartRefused(
        f"the study of run {run_id} cannot inform this one: {'; '.join(refused)}. Ranges may differ; labels, "
        "options, metric and goal must be the same. Leave it out of warm_start, or tune the same parameters"
    )


def _is_same(was: Any, now: Any) -> bool:
    if isinstance(was, numbers.Real) and isinstance(now, numbers.Real):
        return math.isclose(was, now, rel_tol=1e-9, abs_tol=1e-12)
    return bool(recorded_param(was) == recorded_param(now))


def _is_inside(parameter: Parameter, value: float) -> bool:
    if parameter.kind == "options":
        return 0 <= value - parameter.first < parameter.n_options
    slack = 0.0 if parameter.q is None else parameter.q / 2
    if parameter.is_log:
        low, high = (math.exp(min(bound, 700.0)) for bound in (parameter.low, parameter.high))
    else:
        low, high = parameter.low, parameter.high
    room = 1e-9 * max(abs(value), 1e-300)
    return low - slack - room <= value <= high + slack + room


class Informed:
    """The trials of a study as its search algorithm sees them: with those of earlier studies.

    Args:
        trials: of the study.
        earlier: documents of earlier studies.
    """

    def __init__(self, trials: StudyTrials, earlier: Sequence[Document]) -> None:
        self.trials = of_hyperopt.view_of(trials, [*earlier, *of_hyperopt.documents(trials)])

    def add(self, document: Mapping[str, Any]) -> None:
        """Add a trial that was suggested."""
        of_hyperopt.show(self.trials, dict(document) if not isinstance(document, dict) else document)

    def for_algorithm(self, *, is_ours: bool) -> StudyTrials:
        """The trials for the algorithm; ours reads failed trials as such, hyperopt's expects none."""
        if not is_ours:
            self.trials.refresh()
        return self.trials
