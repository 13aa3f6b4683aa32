"""The arguments of ``fmin`` and of trials objects, checked before the first trial is launched."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
import sys
from collections.abc import Iterable
from typing import Any

from hyperopt.base import validate_loss_threshold, validate_timeout

from sparktune.backends import control_port
from sparktune.early_termination.base import EarlyTerminationPolicy
from sparktune.study.numeric import as_whole


def checked_max_evals(max_evals: Any) -> int | None:
    """``max_evals`` as a number, or None for no limit.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is negative.
    """
    if max_evals is None or max_evals == sys.maxsize or max_evals == math.inf:
        return None
    limit = as_whole(max_evals)
    if limit is None:
        raise TypeError(f"max_evals is {max_evals!r}; it must be a whole number, or None for no limit")
    if limit < 0:
        raise ValueError(f"max_evals is {max_evals}; it must be at least 0")
    return limit


def checked_queue_len(max_queue_len: Any) -> int:
    """``max_queue_len`` as a number.

    Raises:
        ValueError: it is not a whole number above 0.
    """
    length = as_whole(max_queue_len)
    if length is None or length < 1:
        raise ValueError(f"max_queue_len is {max_queue_len!r}; it must be a whole number, at least 1")
    return length


def check_flag(name: str, value: Any) -> None:
    """An argument that must be True or False.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be True or False")


def check_fmin(
    fn: Any,
    algo: Any,
    timeout: Any,
    loss_threshold: Any,
    early_stop_fn: Any,
    points: Any,
) -> None:
    """Check the arguments of ``fmin`` that mean the same for every backend.

    Raises:
        Exception: see ``check_limits``.
        TypeError: ``fn``, ``algo`` or ``early_stop_fn`` cannot be called, ``points`` is not a list.
    """
    check_limits(timeout, loss_threshold)
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; it must be a function of one point of the search space")
    if algo is not None and not callable(algo):
        raise TypeError(
            f"algo is {algo!r}; it must be a suggest function, such as tpe.suggest or rand.suggest, or None"
        )
    if early_stop_fn is not None and not callable(early_stop_fn):
        raise TypeError(
            f"early_stop_fn is {early_stop_fn!r}; it must be a function (trials, *args) -> (stop, args)"
        )
    if points is not None and not isinstance(points, list | tuple):
        raise TypeError(f"points_to_evaluate is {points!r}; it must be a list of dicts of label -> value")


def check_limits(timeout: Any, loss_threshold: Any) -> None:
    """Check what ends a study.

    Raises:
        Exception: ``timeout`` is not a number of seconds above 0, or ``loss_threshold`` is not a number
            (hyperopt's messages).
        ValueError: one of them is NaN.
    """
    validate_timeout(timeout)
    validate_loss_threshold(loss_threshold)
    for name, value in (("timeout", timeout), ("loss_threshold", loss_threshold)):
        if value is not None and math.isnan(value):
            raise ValueError(f"{name} is {value!r}; it must be a number, or None for no limit")


def limit_of(timeout: float | None) -> float | None:
    """A checked ``timeout`` as a limit: None for an infinite one."""
    return None if timeout is None or math.isinf(timeout) else timeout


def checked_parallelism(parallelism: Any) -> int | None:
    """The ``parallelism`` of a trials object as a number, or None for every slot there is.

    Raises:
        TypeError: it is neither a whole number nor None.
    """
    number = as_whole(parallelism)
    if number is None and parallelism is not None:
        raise TypeError(
            f"parallelism is {parallelism!r}; it must be a whole number, or None for every slot there is"
        )
    return number


def check_metric(metric: Any, goal: Any) -> None:
    """Check the primary metric of a trials object.

    Raises:
        ValueError: ``metric`` is not a name, or ``goal`` is unknown or contradicts it.
    """
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"metric is {metric!r}; it must be the name of a metric, such as 'val_accuracy'")
    if goal not in ("minimize", "maximize"):
        raise ValueError(f"goal is {goal!r}; it must be 'minimize' or 'maximize'")
    if metric == "loss" and goal == "maximize":
        raise ValueError("goal='maximize' needs a metric other than 'loss', which is what fmin minimizes")


def check_early_termination(policy: Any) -> None:
    """Check the policy of a trials object.

    Raises:
        TypeError: it is neither a policy nor None.
    """
    if policy is not None and (isinstance(policy, type) or not isinstance(policy, EarlyTerminationPolicy)):
        raise TypeError(
            f"early_termination is {policy!r}; it must be a policy, such as "
            "MedianStoppingPolicy(delay_evaluation=5)"
        )


def check_seconds(name: str, value: Any) -> None:
    """Check a span of time.

    Raises:
        ValueError: it is not a number of seconds above 0.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not value > 0:
        raise ValueError(f"{name} is {value!r}; it must be a number of seconds > 0")


def check_study_name(name: Any) -> None:
    """Refuse what cannot be the name of a study.

    Raises:
        TypeError: it is not a text, or an empty one.
    """
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise TypeError(f"study_name is {name!r}; it must be a text, such as 'churn model, week 47'")


def check_max_failures(max_failures: Any) -> None:
    """Refuse what is not a number of trials.

    Raises:
        TypeError: not a number.
        ValueError: below 1, or not whole and finite.
    """
    if max_failures is None or max_failures == math.inf:
        return
    if isinstance(max_failures, bool) or not isinstance(max_failures, numbers.Real):
        raise TypeError(f"max_failures is {max_failures!r}; it must be a whole number, math.inf, or None")
    if not float(max_failures) >= 1 or as_whole(max_failures) is None:
        raise ValueError(
            f"max_failures is {max_failures!r}; it must be a whole number of at least 1, or math.inf"
        )


def checked_max_attempts(max_attempts: Any) -> int | None:
    """A number of attempts, or None for the default.

    Raises:
        ValueError: not a whole number of at least 1.
    """
    number = as_whole(max_attempts)
    if max_attempts is not None and (number is None or number < 1):
        raise ValueError(
            f"max_attempts is {max_attempts!r}; it must be a whole number of at least 1 (1: a trial whose "
            "worker dies is not tried again), or None for 4, and 2 on local"
        )
    return number


def check_control_port(value: Any) -> None:
    """Refuse a control port that is not valid, here or in the environment.

    Raises:
        Exception: see ``control_port.named`` and ``control_port.from_environment``.
    """
    control_port.named(value)
    control_port.from_environment()


def check_objective(fn: Any) -> None:
    """Refuse a function that cannot be called with one point.

    Raises:
        TypeError: with its arguments and the remedy.
    """
    try:
        signature = inspect.signature(fn, follow_wrapped=False)
    except (TypeError, ValueError):  # of a builtin
        return
    try:
        signature.bind(None)
    except TypeError as error:
        name = getattr(fn, "__name__", type(fn).__name__)
        names = [parameter for parameter in signature.parameters if parameter not in ("args", "kwargs")]
        by_name = f"lambda point: {name}(**point)" if names else f"lambda point: {name}()"
        raise TypeError(
            f"fmin calls the objective with one argument, the point, and {name}{signature} cannot be called "
            f"so ({error}). Pass {by_name}, or annotate its arguments with hp and pass space='annotated'"
        ) from None


INSTEAD = {
    "n_trials": "max_evals",
    "n_iter": "max_evals",
    "n_calls": "max_evals",
    "num_samples": "max_evals",
    "max_trials": "max_evals",
    "max_iter": "max_evals",
    "objective": "fn",
    "func": "fn",
    "search_space": "space",
    "param_space": "space",
    "params": "space",
    "seed": "rstate",
    "random_state": "rstate",
    "sampler": "algo",
    "callbacks": "early_stop_fn",
    "direction": "trials=SparkTrials(goal='maximize')",
    "n_jobs": "trials=SparkTrials(parallelism=...)",
    "parallelism": "trials=SparkTrials(parallelism=...)",
    "metric": "trials=SparkTrials(metric=...)",
    "early_termination": "trials=SparkTrials(early_termination=...)",
    "trial_timeout": "trials=SparkTrials(trial_timeout=...)",
    "max_attempts": "trials=SparkTrials(max_attempts=...)",
    "max_retries": "trials=SparkTrials(max_attempts=...)",
}
"""The name in other libraries, or where it belongs -> the name here."""


def unknown_argument(name: str, known: Iterable[str]) -> TypeError:
    """The error for an argument that ``fmin`` does not have, with what is meant."""
    near = difflib.get_close_matches(name, list(known), 1)
    meant = INSTEAD.get(name) or (near[0] if near else None)
    hint = f"; use {meant}" if meant is not None else ""
    return TypeError(f"fmin has no argument {name!r}{hint}")
