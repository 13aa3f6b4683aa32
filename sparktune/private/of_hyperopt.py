"""What sparktune uses of hyperopt that begins with an underscore.

``Trials`` keeps its documents in three attributes, which hyperopt's own subclasses use; there is no
documented way to see a failed trial's document, or to insert one without a refresh of all. The property
``_fmin_cancelled`` of ``StudyTrials`` goes the other way: hyperopt reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from hyperopt import Trials, pyll

from sparktune.private import presence
from sparktune.private.presence import read

Document = dict[str, Any]
SomeTrials = TypeVar("SomeTrials", bound=Trials)

_SLOWER = (
    "all documents are read for every trial, and early_stop_fn is given those that did not complete, too"
)

NAMES = {
    "_dynamic_trials": ("Trials._dynamic_trials", f"algorithms may not see trials that failed, {_SLOWER}"),
    "_trials": ("Trials._trials", _SLOWER),
    "_ids": ("Trials._ids", f"the numbers of trials may have gaps, and {_SLOWER}"),
    "_impls": (
        "pyll.scope._impls",
        "functions that were given to scope.define do not reach the workers",
    ),
}
"""Name -> its full name, and what is different without it."""

KNOWN = "_sparktune_documents"
"""sparktune's attribute on ``Trials``: id -> document, of those seen, where hyperopt does not show all."""


def _missing(error: AttributeError) -> None:
    if error.name in NAMES:
        presence.missing("hyperopt", *NAMES[error.name])


def documents(trials: Trials) -> Sequence[Document]:
    """Every document, in the order of insertion: failed trials and those not refreshed, too."""
    try:
        found: Sequence[Document] = read(trials, "_dynamic_trials")
    except AttributeError as error:
        _missing(error)
        trials.refresh()
        known = vars(trials).setdefault(KNOWN, {})
        known.update((document["tid"], document) for document in trials.trials)
        found = list(known.values())
    return found


def forget(trials: Trials) -> None:
    """Clear the index: the documents of these trials were deleted."""
    vars(trials).pop(KNOWN, None)


def insert(trials: Trials, document: Document) -> Document:
    """Insert a document, visible immediately; returns the copy that ``trials`` keeps."""
    trials.insert_trial_docs([document])
    try:
        kept: Document = read(trials, "_dynamic_trials")[-1]
        shown, ids = read(trials, "_trials"), read(trials, "_ids")
    except AttributeError as error:
        _missing(error)
        trials.refresh()
        kept = next(d for d in reversed(trials.trials) if d["tid"] == document["tid"])
        vars(trials).setdefault(KNOWN, {})[kept["tid"]] = kept
        return kept
    ids.add(kept["tid"])
    shown.append(kept)
    return kept


def hide(trials: Trials, document: Document) -> None:
    """Leave a document out of ``trials.trials`` that is no longer valid."""
    try:
        shown = read(trials, "_trials")
    except AttributeError as error:
        _missing(error)
        trials.refresh()
        return
    for index in range(len(shown) - 1, -1, -1):  # what just ended is near the end
        if shown[index] is document:
            del shown[index]
            return


def fill(trials: Trials, saved: Trials) -> None:
    """Copy the documents and used ids of other trials into empty ones."""
    taken = list(documents(saved))
    try:
        read(trials, "_dynamic_trials"), read(trials, "_ids")
        ids = {document["tid"] for document in taken} | read(saved, "_ids")
    except AttributeError as error:
        _missing(error)
        trials.insert_trial_docs(taken)
        vars(trials)[KNOWN] = {document["tid"]: document for document in taken}
        trials.new_trial_ids(1 + max((document["tid"] for document in taken), default=-1))
    else:
        trials._dynamic_trials, trials._ids = taken, ids
    trials.refresh()


def close_gaps(trials: Trials) -> list[int]:
    """Ids below the highest that no document has; from now on ``new_trial_ids`` gives others."""
    known = {document["tid"] for document in documents(trials)}
    every = range(max(known, default=-1) + 1)
    try:
        read(trials, "_ids").update(every)
    except AttributeError as error:
        _missing(error)
        return []
    return [trial_id for trial_id in every if trial_id not in known]


def bring_up(trials: Trials, latest: Mapping[int, Document]) -> None:
    """Update documents to their later state: known ones in their place, new ones behind them.

    Args:
        trials: whose documents.
        latest: id -> document.
    """
    known = {document["tid"]: document for document in documents(trials)}
    new = [document for trial_id, document in latest.items() if trial_id not in known]
    for trial_id in latest.keys() & known.keys():
        known[trial_id].clear()
        known[trial_id].update(latest[trial_id])
    try:
        kept, ids = read(trials, "_dynamic_trials"), read(trials, "_ids")
    except AttributeError as error:
        _missing(error)
        trials.insert_trial_docs(new)
        trials.new_trial_ids(len(new))
        vars(trials)[KNOWN] = known | {document["tid"]: document for document in new}
    else:
        kept.extend(new)
        ids.update(latest)
    trials.refresh()


def view_of(trials: SomeTrials, chosen: Iterable[Document]) -> SomeTrials:
    """A copy of ``trials`` with only some of the documents; ``show`` adds to it.

    Where no such copy can be made, ``trials`` themselves.
    """
    try:
        read(trials, "_dynamic_trials"), read(trials, "_trials")
    except AttributeError as error:
        _missing(error)
        return trials
    view = copy.copy(trials)
    view._dynamic_trials = view._trials = list(chosen)
    view._ids = {document["tid"] for document in view._trials}  # a refresh adds to them
    return view


def show(view: Trials, document: Document) -> None:
    """Add a document to the copy that ``view_of`` gave."""
    view._dynamic_trials.append(document)
    view._trials = view._dynamic_trials  # a refresh may have put another list there


def with_taken_ids(trials: Trials) -> list[Document]:
    """Documents with the same id as an earlier one."""
    try:
        found = read(trials, "_dynamic_trials")
    except AttributeError as error:
        _missing(error)
        return []
    ids: set[int] = set()
    again = []
    if len({document["tid"] for document in found}) < len(found):
        for document in found:
            if document["tid"] in ids:
                again.append(document)
            ids.add(document["tid"])
    return again


def new_ids(trials: Trials, n: int) -> list[int]:
    """``n`` ids above all that were given out; hyperopt's own may be taken where there are gaps."""
    try:
        ids = read(trials, "_ids")
    except AttributeError as error:
        _missing(error)
        found: list[int] = Trials.new_trial_ids(trials, n)
        return found
    first = max(ids, default=-1) + 1
    new = list(range(first, first + n))
    ids.update(new)
    return new


def give_back(trials: Trials, ids: Iterable[int]) -> None:
    """Take back trial ids that ``new_trial_ids`` gave and that were not used."""
    try:
        read(trials, "_ids").difference_update(ids)
    except AttributeError as error:
        _missing(error)


def symbol(name: str) -> Any:
    """The function that ``pyll.scope`` has under a name, also the user's functions; None without one."""
    try:
        return read(pyll.scope, "_impls").get(name)
    except AttributeError as error:
        _missing(error)
        return None
