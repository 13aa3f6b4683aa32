"""An Optuna study in memory with the same trials as hyperopt's trial documents.

Trial number i of the study is document i. The study is kept between calls and changed where the documents
were; where they are different ones (deleted, replaced, a suggestion that was not taken), it is rebuilt. Both
give the same study, so that suggestions are a function of the documents and the seed.

Some samplers write into the study: generations, the state of an evolution strategy, how many points of a
sequence there were. With each suggestion that is written into the document's ``misc["optuna"]`` ("mark"), and
read from there when the study is rebuilt: after it was resumed, or in another process.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_DONE, JOB_STATE_ERROR, STATUS_OK

from sparktune.search.history import config_of
from sparktune.search.samplers.dimensions import Dimension, dimension
from sparktune.space.search_space import SearchSpace
from sparktune.space.view import SpaceView

MARK = "optuna"

Document = Mapping[str, Any]


def mark_of(document: Document, sampler_name: str) -> Mapping[str, Any]:
    """What a sampler left in a document; empty where another one, or another algorithm, suggested it."""
    found: Mapping[str, Any] = document["misc"].get(MARK) or {}
    return found if found.get("sampler") == sampler_name else {}


class Mirror:
    """The study of one trials object, empty at first.

    Args:
        space: the search space.
        view: of the same space, which distinguishes choices from whole numbers.
        sampler_name: marks of other samplers do not count.
    """

    def __init__(self, space: SearchSpace, view: SpaceView, sampler_name: str) -> None:
        import optuna

        self.space = space
        self._name = sampler_name
        self._dimensions: list[Dimension] = [
            dimension(p, is_choice=view.is_choice(p.label)) for p in space.parameters
        ]
        self._storage = optuna.storages.InMemoryStorage()
        with _quiet():
            self._study_id = self._storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "study")
        self._study = optuna.load_study(study_name="study", storage=self._storage)
        self._documents: list[Document | None] = []  # None: suggested here, and not seen since
        self._suggested: dict[int, Any] = {}
        self._results: list[Any] = []
        self._is_over: list[bool] = []

    # -- the trials so far -----------------------------------------------------------------------------

    def follow(self, documents: Sequence[Document]) -> bool:
        """Update the study from the documents; False where it must be rebuilt."""
        if len(documents) < len(self._documents):
            return False
        return all(self._followed(i, document) for i, document in enumerate(documents))

    def _followed(self, i: int, document: Document) -> bool:
        if i == len(self._documents):
            self._add(document)
            return True
        if self._documents[i] is None:
            mark = mark_of(document, self._name)
            if self._suggested.pop(i) != (document["tid"], config_of(document), mark):
                return False
            self._documents[i] = document
        elif self._documents[i] is not document:
            return False
        if self._is_over[i]:
            return self._results[i] is document["result"]
        state, value = outcome(document)
        if state.is_finished():
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, i)
            for step, loss in _reported(state, value).items():
                self._storage.set_trial_intermediate_value(trial_id, step, loss)
            self._storage.set_trial_state_values(trial_id, state, None if value is None else [value])
            self._is_over[i], self._results[i] = True, document["result"]
        return True

    def _add(self, document: Document) -> None:
        """A trial that was not suggested here, or in another process."""
        import optuna

        config = config_of(document)
        known = [d for d in self._dimensions if d.parameter.label in config]
        state, value = outcome(document)
        mark = mark_of(document, self._name)
        trial = optuna.trial.create_trial(
            state=state,
            value=value,
            params={d.parameter.label: d.for_optuna(config[d.parameter.label]) for d in known},
            distributions={d.parameter.label: d.distribution for d in known},
            system_attrs=dict(mark.get("trial", {})),
            intermediate_values=_reported(state, value),
        )
        self._study.add_trial(trial)
        for key, left in mark.get("study", {}).items():
            # Lists name trials by their numbers (parents), which differ where other trials come before them.
            if not isinstance(left, list) or mark.get("number") == len(self._documents):
                self._storage.set_study_system_attr(self._study_id, key, left)
        self._note(document, document["result"], is_over=state.is_finished())

    def _note(self, document: Document | None, result: Any, *, is_over: bool) -> None:
        self._documents.append(document)
        self._results.append(result)
        self._is_over.append(is_over)

    # -- the next one ----------------------------------------------------------------------------------

    def ask(self, trial_id: int, sampler: Any, seed: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A configuration from the sampler, and the mark of its document. It is a running trial from now on.

        Args:
            trial_id: which id its document will have.
            sampler: Optuna's, seeded.
            seed: of the study, if the mark is to hold it.
        """
        self._study.sampler = sampler
        before = dict(self._storage.get_study_system_attrs(self._study_id))
        trial = self._study.ask()
        number = len(self._documents)
        own_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        row = np.full((1, len(self.space)), np.nan)
        for column, d in enumerate(self._dimensions):
            if not self.space.is_active(row, column)[0]:
                continue
            label, found = d.parameter.label, _suggested(trial, d)
            row[0, column] = d.value(found)
            rounded = d.for_optuna(row[0, column])
            if rounded != found:
                inside = d.distribution.to_internal_repr(rounded)
                self._storage.set_trial_param(own_id, label, inside, d.distribution)
        config = self.space.config(row[0])
        after = self._storage.get_study_system_attrs(self._study_id)
        left: dict[str, Any] = {
            "trial": dict(self._storage.get_trial_system_attrs(own_id)),
            "study": {key: value for key, value in after.items() if before.get(key, _NOTHING) != value},
            "seed": seed,
        }
        left = {name: value for name, value in left.items() if value not in ({}, None)}
        if "study" in left:
            left["number"] = number
        own = {"sampler": self._name, **left} if left else {}
        self._suggested[number] = (trial_id, config, own)
        self._note(None, None, is_over=False)
        return config, {MARK: own} if own else {}


_NOTHING = object()


def outcome(document: Document) -> tuple[Any, float | None]:
    """Optuna's state of a trial and its value.

    What was terminated early is pruned. Failed and cancelled trials and those whose loss is NaN have failed.
    A waiting trial counts as running, since its parameters are fixed.
    """
    from optuna.trial import TrialState

    state, result = document["state"], document["result"]
    if state in (JOB_STATE_ERROR, JOB_STATE_CANCEL):
        return TrialState.FAIL, None
    if state != JOB_STATE_DONE:
        return TrialState.RUNNING, None
    loss = result.get("loss")
    if result.get("status") != STATUS_OK or loss is None or math.isnan(float(loss)):
        return TrialState.FAIL, None
    is_pruned = "early_terminated" in document["misc"]
    return TrialState.PRUNED if is_pruned else TrialState.COMPLETE, float(loss)


def _reported(state: Any, value: float | None) -> dict[int, float]:
    """Of a pruned trial Optuna reads what it has reported."""
    return {0: value} if value is not None and state.name == "PRUNED" else {}


def _suggested(trial: Any, d: Dimension) -> Any:
    label, of = d.parameter.label, d.distribution
    if d.form == "option":
        return trial.suggest_categorical(label, of.choices)
    if d.form in ("integer", "multiple"):
        return trial.suggest_int(label, of.low, of.high, log=of.log)
    return trial.suggest_float(label, of.low, of.high)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Optuna's log line for every study that it creates."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
