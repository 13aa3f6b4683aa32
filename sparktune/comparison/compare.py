"""``compare``: several search algorithms on one objective, each repetition a Spark task."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import numbers
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import hyperopt
from hyperopt import hp

from sparktune.comparison.repetition import Duration, Repetition
from sparktune.comparison.result import Comparison, curve
from sparktune.errors import AllTrialsFailed, InvalidSpace, SparktuneError
from sparktune.fmin import fmin
from sparktune.space import compiling
from sparktune.space.distributions import as_space
from sparktune.space.view import SpaceView
from sparktune.study import progress
from sparktune.study.spec import objective_name
from sparktune.trials.spark import SparkTrials
from sparktune.worker import pickling

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger("sparktune")

Suggest = Callable[..., Sequence[Any]]

RANDOM_NAMES = ("rand", "random")
"""Usual names of random search, the reference of the others."""


def compare(
    fn: Callable[..., Any],
    space: Any,
    algos: Mapping[str, Suggest],
    max_evals: int,
    repeats: int = 10,
    parallelism: int = 1,
    *,
    seed: int = 0,
    reference: str | None = None,
    duration_s: Duration | None = None,
    spark_session: SparkSession | None = None,
    mlflow: bool = True,
    show_progressbar: Any = True,
) -> Comparison:
    """Compare search algorithms: run each of them several times on Spark, and compare their curves.

        result = compare(objective, space, {"tpe": tpe.suggest, "rand": rand.suggest}, max_evals=50)
        result.table, result.figure()

    Every repetition of every algorithm is one Spark task: a study of ``max_evals`` trials on ``parallelism``
    virtual workers. The task evaluates one trial after another and keeps a virtual clock, on which a trial
    takes as long as its suggestion and evaluation took; results arrive in the order in which
    asynchronous workers would deliver them. A task needs one core, whatever ``parallelism`` is.

    What the objective logs to MLflow is thrown away: a comparison is one run, not thousands.

    Args:
        fn: the objective, as ``fmin`` takes it. A trial in which it raises, or whose loss is NaN or infinite,
            is counted as failed, and the repetition continues.
        space: the search space, as ``fmin`` takes it.
        algos: name -> suggest function: sparktune's, hyperopt's own, a ``functools.partial``.
        max_evals: trials of each repetition.
        repeats: repetitions of each algorithm; those of the same number have the same seed.
        parallelism: virtual workers of each repetition.
        seed: of all randomness. With ``parallelism`` 1 the points do not depend on how long anything takes.
        reference: the algorithm that the table compares the others with; by default the one called ``rand``
            or ``random``, if there is one.
        duration_s: seconds that a trial takes, of its config (label -> raw value) and its result (empty when
            it failed), in place of measured times: then everything is repeatable, also the curves by time.
        spark_session: the session to use; None for the active one, or a new one on this machine.
        mlflow: record the comparison in MLflow, in the active run or a new one: settings, curves, table and,
            with plotly installed, the picture.
        show_progressbar: of repetitions; as in ``fmin``.

    Returns:
        Curves, statistics and a picture. A repetition whose task died is in ``lost``, by its name.

    Raises:
        TypeError, ValueError: an argument is invalid; raised before anything runs.
        InvalidSpace: the space cannot be searched.
        ObjectiveNotPicklable: ``fn`` or an algorithm cannot be sent to a worker.
        AllTrialsFailed: no repetition ended, or no trial gave a loss; the message has the most frequent
            cause.
        SparkNotAvailable: pyspark or Java is missing.
        KeyboardInterrupt: Ctrl-C; the Spark jobs are cancelled.
    """
    for name, value, least in (
        ("max_evals", max_evals, 1),
        ("repeats", repeats, 1),
        ("parallelism", parallelism, 1),
        ("seed", seed, 0),
    ):
        _check_count(name, value, least)
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; it must be a function of one point of the search space")
    if duration_s is not None and not callable(duration_s):
        raise TypeError(f"duration_s is {duration_s!r}; it must be a function (config, result) -> seconds")
    _check_algos(algos)
    if reference is not None and reference not in algos:
        raise ValueError(f"reference is {reference!r}, which is none of the algorithms {list(algos)}")
    packed = {name: pickling.dumps(suggest, f"algos[{name!r}]") for name, suggest in algos.items()}
    space = as_space(space)
    expression = _checked_space(fn, space, packed)
    reference = reference or next((name for name in algos if name in RANDOM_NAMES), None)
    trials = SparkTrials(spark_session=spark_session, mlflow=False)
    settings = {"max_evals": max_evals, "repeats": repeats, "parallelism": parallelism, "seed": seed}
    if mlflow:
        from sparktune.comparison.record import ComparisonRun

        record = ComparisonRun(algos, str(expression), settings, objective=objective_name(fn))
    else:
        record = None
    result: Comparison | None = None
    failure: BaseException | None = None
    try:
        repetition = Repetition(fn, space, packed, max_evals, parallelism, seed, duration_s)
        _run(repetition, list(algos), repeats, trials, show_progressbar)
        result = _collected(trials, reference, settings)
    except BaseException as error:
        failure = error
        raise
    finally:
        if record is not None:
            record.finish(result, failure)
    return result if record is None else dataclasses.replace(result, run_id=record.run_id)


# -- before anything runs ----------------------------------------------------------------------------------


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}; it must be a whole number, at least {least}")
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")


def _check_algos(algos: Any) -> None:
    example = "{'tpe': tpe.suggest, 'rand': rand.suggest}"
    if not isinstance(algos, Mapping):
        raise TypeError(f"algos is {algos!r}; it must be a dict of name -> suggest function: {example}")
    if not algos:
        raise ValueError(f"algos is empty; give at least one algorithm by its name: {example}")
    for name, suggest in algos.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"algos has the key {name!r}; a name must be text: {example}")
        if inspect.ismodule(suggest):
            function = f"{suggest.__name__.rpartition('.')[2]}.suggest"
            raise TypeError(
                f"algos[{name!r}] is the module {suggest.__name__}; give its function: {function}"
            )
        if not callable(suggest):
            raise TypeError(
                f"algos[{name!r}] is {suggest!r}; it must be a suggest function "
                "(new_ids, domain, trials, seed), such as tpe.suggest"
            )


def _checked_space(fn: Callable[..., Any], space: Any, packed: Mapping[str, bytes]) -> Any:
    """The space's expression, after each algorithm has suggested a first point of it.

    Problems of a space or an algorithm show here, before anything runs.
    """
    compiling.check(hyperopt.pyll.as_apply(space))
    domain = hyperopt.Domain(fn, space)
    if not SpaceView(domain.expr).labels:
        raise InvalidSpace(
            f"the search space {space!r} has no hyperparameters; make one of hp expressions: "
            "{'x': hp.uniform('x', 0, 1)}"
        )
    for name, data in packed.items():
        trials = hyperopt.Trials()
        try:
            suggested = pickle.loads(data)(trials.new_trial_ids(1), domain, trials, 0)
        except SparktuneError:
            raise
        except Exception as error:
            raise ValueError(
                f"algos[{name!r}] cannot suggest a point of this space ({type(error).__name__}: {error}); it "
                "must be a suggest function (new_ids, domain, trials, seed), such as tpe.suggest"
            ) from error
        if not suggested:
            raise ValueError(f"algos[{name!r}] suggests no point of this space: there is nothing to compare")
    return domain.expr


# -- on Spark ----------------------------------------------------------------------------------------------


def _run(
    repetition: Repetition, names: list[str], repeats: int, trials: SparkTrials, show_progressbar: Any
) -> None:
    """Run every repetition as a trial of a study on Spark, in the order of their numbers."""
    points = [
        {"algorithm": index, "repeat": repeat} for repeat in range(repeats) for index in range(len(names))
    ]
    reporter = progress.reporter(show_progressbar, True)

    def of_points(initial: int, _total: int) -> AbstractContextManager[Any]:
        return reporter(initial, len(points))

    try:
        fmin(
            repetition,
            {"algorithm": hp.choice("algorithm", names), "repeat": hp.randint("repeat", repeats)},
            max_evals=0,  # nothing beside these points
            points_to_evaluate=points,
            trials=trials,
            show_progressbar=of_points,
        )
    except AllTrialsFailed as error:
        raise AllTrialsFailed(f"no repetition of any algorithm ended. {error}") from error


def _collected(trials: SparkTrials, reference: str | None, settings: Mapping[str, Any]) -> Comparison:
    import pandas as pd

    curves: list[pd.DataFrame] = []
    lost: dict[tuple[str, int], str] = {}
    causes: Counter[str] = Counter()
    for record in trials.memory.records.values():
        name, repeat = str(record.params["algorithm"]), int(record.params["repeat"])
        if record.loss is None or record.result is None:
            lost[name, repeat] = record.error.summary if record.error else str(record.stop_reason)
            continue
        curves.append(curve(name, repeat, record.result["times_s"], record.result["losses"]))
        causes.update(record.result["causes"])
    table = pd.concat(curves, ignore_index=True)
    if causes:
        cause, count = causes.most_common(1)[0]
        text = f"{causes.total()} of {len(table)} trials failed. The commonest cause ({count}): {cause}"
        if not table["best_loss"].notna().any():
            raise AllTrialsFailed(f"no trial of any algorithm gave a loss: {text}")
        logger.warning(text)
    return Comparison(table, reference, lost, dict(causes.most_common()), None, dict(settings))
