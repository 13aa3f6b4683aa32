"""Ask and tell: a search for your own loop, without Spark and MLflow.

searcher = Searcher({"x": hp.uniform("x", -5, 5)}, seed=0)
for _ in range(50):
    trial = searcher.ask()
    searcher.tell(trial, (trial.point["x"] - 3) ** 2)
print(searcher.best)
"""

from __future__ import annotations

import functools
import logging
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, overload

import hyperopt
import numpy as np
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR, JOB_STATE_RUNNING, STATUS_OK
from hyperopt.utils import coarse_utcnow

from sparktune.errors import NoMorePoints
from sparktune.private import of_hyperopt
from sparktune.search import tpe
from sparktune.search.history import config_of
from sparktune.space import compiling
from sparktune.space.distributions import as_space
from sparktune.space.view import SpaceView
from sparktune.study.numeric import as_whole
from sparktune.study.study import SEED_BOUND

logger = logging.getLogger("sparktune")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A point to try, or one that was tried.

    Attributes:
        id: its number in the search, from 0.
        point: as an objective receives it: the space with its parameters filled in.
        params: label -> value, flat, active labels only; of an ``hp.choice`` the option or its branch's name.
        loss: the loss passed to ``tell``; None before that, and for failures.
    """

    id: int
    point: Any
    params: dict[str, Any]
    loss: float | None = None


class Searcher:
    """Suggests points and learns from their losses. Pickle it to continue later, in another process too.

    Any number of trials may run at the same time; they are known to the algorithm. Not thread-safe.

    Args:
        space: what ``fmin`` takes: an expression of ``hp`` nodes, or a dict of ``scipy.stats`` distributions.
        algo: a suggest function of hyperopt's form, sparktune's or hyperopt's; ``tpe.suggest`` by default.
        seed: what ``numpy.random.default_rng`` takes; the same seed and losses give the same points, None
            another search each time.

    Raises:
        InvalidSpace: the space cannot be searched.
    """

    def __init__(self, space: Any, algo: Callable[..., Any] | None = None, seed: Any = None) -> None:
        self._space = as_space(space)
        compiling.check(hyperopt.pyll.as_apply(self._space))
        self._algo = algo or tpe.suggest
        self._rng = np.random.default_rng(seed)
        self._trials = hyperopt.Trials()
        self._documents: dict[int, dict[str, Any]] = {}
        self._candidates: dict[int, Candidate] = {}
        self._best: Candidate | None = None
        self._prepare()

    def _prepare(self) -> None:
        self._domain = hyperopt.Domain(_nothing, self._space)
        self._view = SpaceView(self._domain.expr)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_domain", "_view")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    @overload
    def ask(self) -> Candidate: ...

    @overload
    def ask(self, n: int) -> list[Candidate]: ...

    def ask(self, n: int | None = None) -> Candidate | list[Candidate]:
        """What to try next.

        Args:
            n: None for one candidate; a number for a list of so many, or of fewer where there are no more.

        Raises:
            NoMorePoints: one was asked for and there is none: the grid is exhausted.
            InvalidSpace: the algorithm cannot search the space.
        """
        number = 1 if n is None else as_whole(n)
        if number is None or number < 0:
            raise ValueError(f"ask was given n={n!r}; it must be a whole number, at least 0")
        found = self._suggested(number)
        if n is not None:
            return found
        if not found:
            raise NoMorePoints(
                f"the algorithm has no more points: {len(self._candidates)} have been asked for; "
                "ask(1) gives an empty list instead of this error"
            )
        return found[0]

    def tell(self, trial: Candidate | int, loss: float | None) -> None:
        """Record the result of a trial.

        Args:
            trial: a candidate of ``ask``, or its id.
            loss: to be minimized; None for a trial that failed. NaN counts as failed, with a warning.

        Raises:
            ValueError: the trial was not asked for here, or has its result already.
            TypeError: ``trial`` is neither a candidate nor an id, or ``loss`` is not a number.
        """
        document = self._open(trial)
        value = None if loss is None else _number(document["tid"], loss)
        if value is None or math.isnan(value):
            if value is not None:
                logger.warning("the loss of trial %d is NaN: it counts as failed", document["tid"])
            self._end(document, JOB_STATE_ERROR)
            document["misc"]["error"] = ("Failed", "no loss" if value is None else "the loss is NaN")
            return
        self._end(document, JOB_STATE_DONE)
        document["result"] = {"status": STATUS_OK, "loss": value}
        ended = self._candidates[document["tid"]] = replace(self._candidates[document["tid"]], loss=value)
        if self._best is None or self._best.loss is None or value < self._best.loss:
            self._best = ended

    def fail(self, trial: Candidate | int) -> None:
        """Record that a trial failed; the same as ``tell(trial, None)``."""
        self.tell(trial, None)

    @property
    def best(self) -> Candidate | None:
        """The trial with the lowest loss, the first of equals; None before the first loss."""
        return self._best

    @property
    def candidates(self) -> list[Candidate]:
        """Everything that was asked for, in that order, with the losses."""
        return list(self._candidates.values())

    @property
    def pending(self) -> list[Candidate]:
        """What was asked for and has no result yet."""
        running = (i for i, d in self._documents.items() if d["state"] == JOB_STATE_RUNNING)
        return [self._candidates[i] for i in running]

    def _suggested(self, n: int) -> list[Candidate]:
        found: list[Candidate] = []
        at_once = n if _takes_many(self._algo) else 1
        while len(found) < n:
            ids = self._trials.new_trial_ids(min(at_once, n - len(found)))
            seed = int(self._rng.integers(SEED_BOUND))
            suggested = self._algo(ids, self._domain, self._trials, seed)
            of_hyperopt.give_back(self._trials, ids[len(suggested) :])
            if not suggested:
                break
            found += [self._opened(document) for document in suggested]
        return found

    def _opened(self, suggested: dict[str, Any]) -> Candidate:
        """Take a suggestion into the search, as a running trial."""
        document = of_hyperopt.insert(self._trials, suggested)
        document["state"] = JOB_STATE_RUNNING
        document["book_time"] = document["refresh_time"] = coarse_utcnow()
        self._trials.refresh()
        config = config_of(document)
        point = hyperopt.space_eval(self._space, config)
        candidate = Candidate(document["tid"], point, self._view.params(config))
        self._documents[candidate.id], self._candidates[candidate.id] = document, candidate
        return candidate

    def _open(self, trial: Candidate | int) -> dict[str, Any]:
        trial_id = trial.id if isinstance(trial, Candidate) else trial
        if isinstance(trial_id, bool) or not isinstance(trial_id, numbers.Integral):
            raise TypeError(f"tell was given {trial!r}; it takes a candidate that ask gave, or its id")
        document = self._documents.get(trial_id)
        if document is None:
            raise ValueError(
                f"trial {trial_id!r} was not asked for here; tell takes what ask gave, or its id (so far: "
                f"{len(self._documents)} trials)"
            )
        if document["state"] != JOB_STATE_RUNNING:
            loss = self._candidates[trial_id].loss
            result = "it failed" if loss is None else f"its loss is {loss:g}"
            raise ValueError(f"trial {trial_id} has its result already ({result}); ask for a new trial")
        return document

    def _end(self, document: dict[str, Any], state: int) -> None:
        document["state"] = state
        document["refresh_time"] = coarse_utcnow()
        if state == JOB_STATE_ERROR:
            self._trials.refresh()


def _nothing(point: Any) -> float:
    """The objective of a domain that is never evaluated."""
    raise NotImplementedError(point)


def _number(trial_id: int, loss: Any) -> float:
    if isinstance(loss, str | bytes | bool) or np.ndim(loss) != 0:
        raise TypeError(
            f"the loss of trial {trial_id} is {loss!r}; it must be a number, or None for a failure"
        )
    try:
        return float(loss)
    except (TypeError, ValueError):
        raise TypeError(
            f"the loss of trial {trial_id} is {loss!r}; it must be a number, or None for a failure"
        ) from None


def _takes_many(algo: Any) -> bool:
    """Whether a suggest function may be asked for several trials in one call; hyperopt's own may not be."""
    while isinstance(algo, functools.partial):
        algo = algo.func
    return not str(getattr(algo, "__module__", "")).startswith("hyperopt.")
