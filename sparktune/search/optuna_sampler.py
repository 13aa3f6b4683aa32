"""Any of Optuna's samplers as a search algorithm: ``algo=optuna_sampler(TPESampler())``.

The samplers of Optuna, of its hub and your own propose points; the space stays in hyperopt's language, and
Spark runs the trials. Spaces are walked as in Optuna, "define by run": parents first, then what is active.
The sampler sees finished trials with their values, those terminated early as pruned, running ones with their
parameters, and failed ones as failed. Parameters are converted by ``samplers.dimensions``.

For each call the sampler is copied and its random generators are seeded, so that the same seed and trials
give the same suggestions. What cannot be seeded: states elsewhere than in generators of numpy or Python that
the object holds, such as torch's; and what was drawn when the sampler was made, such as the scrambling of
``QMCSampler(scramble=True)`` without its own seed.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from sparktune.errors import OptunaNotAvailable
from sparktune.private import of_hyperopt
from sparktune.search.samplers.mirror import Mirror, mark_of
from sparktune.search.samplers.seeding import reseed
from sparktune.search.suggestion import new_document
from sparktune.space.search_space import SearchSpace, space_of
from sparktune.space.view import SpaceView

Suggest = Callable[..., list[Any]]


def optuna_sampler(sampler: Any) -> Suggest:
    """A suggest function for one of Optuna's samplers.

    Its ``constraints_func`` is not called, since hyperopt's trials have one value.

    Args:
        sampler: an ``optuna.samplers.BaseSampler``, or a callable that makes one when called with ``seed=``:
            the class, or a function. Use the latter where a seed matters when the sampler is made
            (``functools.partial(QMCSampler, scramble=True)``); it is called with the seed of the study's
            first suggestion.

    Returns:
        The ``algo`` for ``fmin``; it can be pickled if the sampler can.

    Raises:
        OptunaNotAvailable: optuna is not installed.
        TypeError: ``sampler`` is neither.
    """
    try:
        import optuna
    except ImportError as error:
        raise OptunaNotAvailable(
            "optuna_sampler needs optuna, which is not installed: pip install 'sparktune[optuna]'"
        ) from error
    if isinstance(sampler, optuna.samplers.BaseSampler):
        return Sampled(sampler, None, type(sampler).__name__)
    if not callable(sampler):
        raise TypeError(
            f"optuna_sampler was given {sampler!r}; it takes one of Optuna's samplers, such as "
            "optuna.samplers.TPESampler(), or a callable that makes one from seed="
        )
    return Sampled(None, sampler, _name_of(sampler))


class Sampled:
    """The suggest function of a sampler, made by ``optuna_sampler``."""

    def __init__(self, sampler: Any, make: Callable[..., Any] | None, name: str) -> None:
        self._sampler, self._make, self._name = sampler, make, name
        self._mirrors: weakref.WeakKeyDictionary[Any, Mirror] = weakref.WeakKeyDictionary()
        self.__qualname__ = f"optuna_sampler({name})"  # the name under which studies are recorded

    def __repr__(self) -> str:
        return f"optuna_sampler({self._sampler or self._make!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_mirrors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._mirrors = weakref.WeakKeyDictionary()

    def __call__(self, new_ids: Sequence[int], domain: Any, trials: Any, seed: Any) -> list[Any]:
        """Suggest the next trials by the sampler.

        Raises:
            InvalidSpace: the space cannot be searched.
        """
        space = space_of(domain)
        documents = of_hyperopt.documents(trials)
        mirror = self._mirrors.pop(trials, None)
        if mirror is None or mirror.space is not space or not mirror.follow(documents):
            mirror = Mirror(space, SpaceView(domain.expr), self._name)
            mirror.follow(documents)
        sampler, first_seed = self._seeded(documents, seed)
        found = [
            self._document(new_id, *mirror.ask(new_id, sampler, first_seed), space, domain, trials)
            for new_id in new_ids
        ]
        self._mirrors[trials] = mirror
        return found

    def _document(
        self,
        new_id: int,
        config: dict[str, Any],
        mark: dict[str, Any],
        space: SearchSpace,
        domain: Any,
        trials: Any,
    ) -> Any:
        return new_document(new_id, config, space.column, domain, trials, copy.deepcopy(mark))

    def _seeded(self, documents: Sequence[Any], seed: Any) -> tuple[Any, int | None]:
        """A sampler for one call, and the seed that it was made with."""
        first: int | None = None
        if self._make is None:
            sampler = copy.deepcopy(self._sampler)
        else:
            marks = (mark_of(document, self._name) for document in documents)
            first = next((mark["seed"] for mark in marks if "seed" in mark), None)
            if first is None:
                first = int(seed) % 2**32
            sampler = self._make(seed=first)
        reseed(sampler, seed)
        return sampler, first


def _name_of(make: Any) -> str:
    while hasattr(make, "func"):
        make = make.func
    return str(getattr(make, "__name__", type(make).__name__))
