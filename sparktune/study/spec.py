"""What a study is: for ``fmin``, its record in MLflow, resume, warm start, description and report."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparktune._naming import without_addresses


@dataclass(frozen=True)
class StudySpec:
    """What a study is.

    Attributes:
        objective: see ``objective_name``; empty where it is not known.
        name: of the study, by which the latest one is found again.
        algo: the search algorithm, see ``algorithm_name``.
        parameters: label -> how the parameter is distributed, see ``space.signature``.
        metric: the name of the primary metric.
        goal: ``minimize`` or ``maximize``.
        max_evals: the limit on its trials, or None.
        timeout_s: the limit on its time, seconds, or None.
        warm_start: the parent runs of the studies that inform the search.
    """

    objective: str = ""
    name: str = ""
    algo: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    metric: str = "loss"
    goal: str = "minimize"
    max_evals: int | None = None
    timeout_s: float | None = None
    warm_start: tuple[str, ...] = ()

    def differences(self, now: StudySpec) -> list[str]:
        """Why a call with the spec ``now`` cannot continue this study, one text for each difference.

        Name, objective and limits may change.
        """
        found = [f"the parameter {text}" for text in parameter_differences(self.parameters, now.parameters)]
        for what, was, is_now in (
            ("algorithm", self.algo, now.algo),
            ("metric", self.metric, now.metric),
            ("goal", self.goal, now.goal),
            ("warm_start", str(list(self.warm_start)), str(list(now.warm_start))),
        ):
            if was != is_now:
                found.append(f"the {what} was {was} and is {is_now}")
        return found


@dataclass(frozen=True)
class StudyStart:
    """What the trials object held when a study began.

    Attributes:
        n_before: how many trials counted for ``max_evals``.
        draws_before: how many seeds of the random stream had been drawn.
        first_id: the id of the study's first trial.
    """

    n_before: int = 0
    draws_before: int = 0
    first_id: int = 0


@dataclass(frozen=True)
class StudyRecord:
    """What is recorded of a study, so that another process can resume it.

    Attributes:
        study_id: the same on all of its runs.
        spec: what it is.
        start: where it began.
        began_s: Unix time at which it began.
        number: of studies that the parent run had before it.
        is_own: the parent run was created for it, and ends with it.
        stream: ``SeedStream.as_json``, or None where the random stream cannot be restored.
        earlier: (parent run, study id) of the studies whose trials it continued.
        state: ``running``, ``finished`` or ``interrupted``.
    """

    study_id: str
    spec: StudySpec
    start: StudyStart
    began_s: float
    number: int = 0
    is_own: bool = True
    stream: str | None = None
    earlier: tuple[tuple[str, str], ...] = ()
    state: str = "running"


def parameter_differences(earlier: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between the parameters of two studies, a phrase for each parameter."""
    found = []
    for label in dict.fromkeys([*earlier, *now]):
        was, is_now = earlier.get(label), now.get(label)
        if was == is_now:
            continue
        if was is None:
            found.append(f"{label!r} was not there and is {is_now}")
        elif is_now is None:
            found.append(f"{label!r} was {was} and is not there now")
        else:
            found.append(f"{label!r} was {was} and is {is_now}")
    return found


def algorithm_name(algo: Any) -> str:
    """The suggest function's name, ``hyperopt.tpe.suggest``; for a ``partial`` its options too."""
    if isinstance(algo, functools.partial):
        options = [_option(part) for part in algo.args]
        options += [f"{key}={_option(part)}" for key, part in algo.keywords.items()]
        return f"{algorithm_name(algo.func)}({', '.join(options)})"
    name = f"{getattr(algo, '__module__', '')}.{getattr(algo, '__qualname__', type(algo).__name__)}"
    return name.removeprefix(".")


def _option(value: Any) -> str:
    """An argument of a ``partial``, the same in every process: without an address in memory."""
    if callable(value):
        return algorithm_name(value)
    text: Any = type(value).__repr__
    return type(value).__name__ if text is object.__repr__ else without_addresses(repr(value))


def objective_name(fn: Any) -> str:
    """An objective's name: that of its function, also inside a ``partial``; else of its class."""
    return _name_of(fn, "__name__")


def _name_of(fn: Any, attribute: str) -> str:
    """See ``objective_name``; ``__qualname__`` also gives what the function or class is defined in."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or not name:
        return str(getattr(type(fn), attribute))
    owner = getattr(fn, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        owner = owner if isinstance(owner, type) else type(owner)
        return f"{getattr(owner, attribute)}.{name}"
    qualified = getattr(fn, attribute, None)
    return (qualified if isinstance(qualified, str) else name).replace("<lambda>", "lambda")


def default_study_name(fn: Any) -> str:
    """The default name of a study: where its objective is defined, and the objective's name.

    ``train.objective`` for a function of the module or script ``train``, and
    ``train.make.<locals>.objective`` for one that its function ``make`` returns. In a notebook, which is not
    a file, the module is ``__main__``.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    module = getattr(fn, "__module__", None) or type(fn).__module__
    if module == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        module = module if file is None else os.path.splitext(os.path.basename(file))[0]
    return f"{module}.{_name_of(fn, '__qualname__')}"
