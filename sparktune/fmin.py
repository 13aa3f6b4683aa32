"""``fmin``: hyperopt's function, with trials that run on Spark."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import hyperopt
from hyperopt.exceptions import InvalidAnnotatedParameter

# Bound here: people write `hyperopt.fmin = sparktune.fmin`.
from hyperopt.fmin import (
    FMinIter,
    fmin as hyperopts_fmin,
    fmin_pass_expr_memo_ctrl,
    generate_trials_to_calculate,
    partial,
)

from sparktune import _hyperopt_names
from sparktune.private import of_hyperopt
from sparktune.search import finite, tpe
from sparktune.search.history import config_of
from sparktune.space import compiling
from sparktune.space.distributions import as_space, space_eval
from sparktune.space.view import SpaceView
from sparktune.study import interrupts
from sparktune.study.numeric import as_whole
from sparktune.study.randomness import as_generator
from sparktune.trials import arguments, in_process, observers, points, savefile, side_effects
from sparktune.trials.run import RunnableTrials
from sparktune.trials.spark import SparkTrials
from sparktune.worker import reporting

logger = logging.getLogger("sparktune")

__all__ = [
    "FMinIter",
    "fmin",
    "fmin_pass_expr_memo_ctrl",
    "generate_trials_to_calculate",
    "partial",
    "space_eval",
]

__getattr__ = _hyperopt_names.missing_from(__name__, "hyperopt.fmin")

P = ParamSpec("P")
R = TypeVar("R")


def _with_hints(function: Callable[P, R]) -> Callable[P, R]:
    """Add a hint to the error for an argument that has another name here."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise arguments.unknown_argument(name, known)
        return function(*args, **kwargs)

    checked.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # for getfullargspec
    return checked


@_with_hints
def fmin(
    fn: Callable[..., Any],
    space: Any,
    algo: Any = None,
    max_evals: int | None = None,
    timeout: float | None = None,
    loss_threshold: float | None = None,
    trials: hyperopt.Trials | None = None,
    rstate: Any = None,
    allow_trials_fmin: bool = True,
    pass_expr_memo_ctrl: bool | None = None,
    catch_eval_exceptions: bool = False,
    verbose: bool = True,
    return_argmin: bool = True,
    points_to_evaluate: list[dict[str, Any]] | None = None,
    max_queue_len: int = 1,
    show_progressbar: Any = True,
    early_stop_fn: Callable[..., Any] | None = None,
    trials_save_file: str | os.PathLike[str] = "",
    *,
    resume: str | None = None,
    take_over: bool = False,
    warm_start: Sequence[str] = (),
    study_name: str | None = None,
    noisy: bool = False,
) -> Any:
    """Minimize a function over a search space, each trial a Spark task and a nested MLflow run.

    The arguments are those of ``hyperopt.fmin`` (hyperopt 0.3), in its order and with its meaning.

    Args:
        fn: called on a worker with a point of the space; returns the loss, or a dict with ``status`` and
            ``loss``, whose ``attachments`` are taken out and kept in ``trials.trial_attachments``.
        space: an expression of ``hp`` nodes, a dict of frozen ``scipy.stats`` distributions, or
            ``"annotated"`` to read it from ``fn``'s annotations.
        algo: the suggest function, sparktune's ``tpe.suggest`` by default, whatever ``trials`` is.
        max_evals: the most trials, those already in ``trials`` included; None for no limit. The points of
            ``points_to_evaluate`` come on top of it, as in hyperopt.
        timeout: seconds for the whole call: then running trials are cancelled, finished results kept.
        loss_threshold: stop when the best loss is at or below it.
        trials: where trials are kept and run; a new ``SparkTrials()`` by default. hyperopt's own ``Trials``
            run one after another in this process, by hyperopt's ``fmin``; they are recorded in MLflow too
            where that was set up (an active run, a tracking address or experiment, Databricks). So are those
            of subclasses, unless these run trials elsewhere.
        rstate: a ``numpy.random.Generator``, a ``RandomState`` or a seed; ``HYPEROPT_FMIN_SEED`` by default.
            A trials object used again continues its stream.
        allow_trials_fmin: False runs ``trials`` in hyperopt's own loop; ``SparkTrials`` refuse it.
        pass_expr_memo_ctrl: call ``fn(expr=, memo=, ctrl=)``.
        catch_eval_exceptions: True: an exception in ``fn`` fails only its trial, as it always does with
            ``SparkTrials``.
        verbose: False shows no progress bar.
        return_argmin: True returns label -> raw value of the best trial; False the evaluated point, or None
            when no trial completed.
        points_to_evaluate: points to run first, as label -> raw value; an ``hp.reverseloguniform`` may be
            given by its value. Those with a result in ``trials`` are not run again (but see ``noisy``); those
            that failed or were cancelled are.
        max_queue_len: n > 1 suggests n - 1 trials ahead of the slots.
        show_progressbar: True, False, or a context manager as in ``hyperopt.progress``.
        early_stop_fn: ``(trials, *args) -> (stop, args)``, called after every trial that completes or
            fails, with the finished trials, the newest last; after a failure only if the newest of these has
            a loss. An exception in it ends the study and is raised by ``fmin``.
        trials_save_file: where the trials object is kept while the study runs: each trial is saved to disk
            when it ends, before the next one starts in its slot. Read at the start; a study whose process was
            killed continues, and ``timeout`` counts what it had used. The file is a pickle: reading it can
            execute code, so use only files that you trust.
        resume: the parent run of a study to resume, in the same runs; ``"last"`` for the latest unfinished
            study of the experiment with this call's name, space and algorithm, or a new one where there is
            none. Trials, random stream, numbering and the time used are read from MLflow; trials whose end is
            not recorded are run again at the same points. ``max_evals`` and ``timeout`` are those of the
            whole study.
        warm_start: parent runs of earlier studies of the same parameters, metric and goal. Their finished
            trials inform the search, and are not trials of this study.
        study_name: the name by which ``resume="last"`` finds the study again, and of its parent run. By
            default the objective's module and name: ``train.objective``.
        noisy: whether the objective gives another loss for the same point. Otherwise sparktune's algorithms
            try each configuration of a finite space (up to 10,000) once, and the study ends when all were
            tried. With ``noisy`` they repeat configurations, as hyperopt's algorithms do in any case, and
            a new study runs points of ``points_to_evaluate`` that have a result again.
        take_over: with ``resume``: take the study from another driver that still runs it; that driver ends.

    Returns:
        See ``return_argmin``.

    Raises:
        AllTrialsFailed: no trial completed; the message has the most frequent cause.
        InvalidSpace: ``space`` cannot be searched; raised before the first trial, with the label.
        ObjectiveNotPicklable: ``fn`` cannot be sent to a worker; raised before the first trial.
        SparkNotAvailable: pyspark or Java is missing.
        CannotResume: ``resume`` names no study, or its space, algorithm, metric or goal are not those of this
            call.
        WarmStartRefused: a study of ``warm_start`` has other parameters, another metric or goal; names each.
        StudyInProgress: the study that is to be resumed has a driver that is alive.
        KeyboardInterrupt: Ctrl-C; running trials are cancelled, finished results are in ``trials``.
        SystemExit: SIGTERM, likewise (143), where the program does not handle it.
        StudyCancelled: the Spark jobs of this thread's job group or tag, or all, were cancelled; likewise.
    """
    if isinstance(space, str) and space == "annotated":
        fn, space = _annotated(fn)
    options: dict[str, Any] = {
        "algo": algo,
        "max_evals": max_evals,
        "timeout": timeout,
        "loss_threshold": loss_threshold,
        "max_queue_len": arguments.checked_queue_len(max_queue_len),
        "rstate": rstate,
        "verbose": verbose,
        "pass_expr_memo_ctrl": pass_expr_memo_ctrl,
        "catch_eval_exceptions": catch_eval_exceptions,
        "return_argmin": return_argmin,
        "show_progressbar": show_progressbar,
        "early_stop_fn": early_stop_fn,
        "trials_save_file": trials_save_file and savefile.expanded(trials_save_file),
    }
    if trials is None:
        saved = savefile.read(trials_save_file, quietly=True) if trials_save_file else None
        trials = saved if isinstance(saved, RunnableTrials) else SparkTrials()
        if isinstance(trials, SparkTrials):
            _warn_of_side_effects(fn)
    if not isinstance(trials, hyperopt.Trials):
        raise TypeError(f"trials is {trials!r}; it must be a trials object, such as SparkTrials()")
    if in_process.is_hyperopts_spark_trials(trials):
        logger.warning(
            "trials is hyperopt's SparkTrials, which launches about one trial a second and records nothing "
            "in MLflow; for sparktune's, import it from there: from sparktune import SparkTrials"
        )
    if isinstance(trials, RunnableTrials):
        if not allow_trials_fmin:
            raise ValueError(
                f"allow_trials_fmin=False asks for hyperopt's own loop, which cannot run "
                f"{type(trials).__name__}: leave it out, or pass trials=Trials()"
            )
        options |= {"resume": resume, "take_over": take_over, "warm_start": warm_start}
        options |= {"study_name": study_name, "noisy": noisy}
        with interrupts.Brief():
            return trials.fmin(fn, space, points_to_evaluate=points_to_evaluate, **options)
    if resume is not None or warm_start:
        given = f"resume={resume!r}" if resume is not None else f"warm_start={warm_start!r}"
        raise ValueError(
            f"{given} needs trials that sparktune runs, such as SparkTrials(); trials is a "
            f"{type(trials).__name__}"
        )
    space = as_space(space)
    compiling.check(hyperopt.pyll.as_apply(space), constants="warn")
    view = SpaceView(space)
    for document in of_hyperopt.documents(trials):
        view.check_earlier(document["tid"], config_of(document))
    arguments.check_flag("noisy", noisy)
    n_queued = 0
    if points_to_evaluate and os.path.exists(options["trials_save_file"] or ""):
        logger.warning(
            "hyperopt's fmin resumes the trials in trials_save_file, so %d points of points_to_evaluate "
            "are not evaluated: give another file, or trials that sparktune runs, such as SparkTrials()",
            len(points_to_evaluate),
        )
    elif points_to_evaluate:
        n_queued = points.queue(trials, view, points_to_evaluate, again=noisy)
    if callable(early_stop_fn):
        options["early_stop_fn"] = observers.answering_pairs(early_stop_fn)
    options["algo"] = algo or tpe.suggest
    if (n := as_whole(max_evals)) is not None:
        options["max_evals"] = n
    left = None if n is None else max(0, n - len(trials))
    suggest, n_new = finite.prepared(
        options["algo"], view.expression, trials, left, noisy=noisy, are_given=True
    )
    if rstate is not None:
        options["rstate"] = as_generator(rstate)
    with contextlib.ExitStack() as stack:
        if not getattr(fn, "fmin_pass_expr_memo_ctrl", pass_expr_memo_ctrl):
            arguments.check_objective(fn)
            if in_process.is_wanted() and in_process.can_record(trials, allow_trials_fmin):
                arguments.check_limits(timeout, loss_threshold)  # before there is a run
                fn = stack.enter_context(in_process.recorded(fn, view, trials, options["algo"], options))
        if reporting.ending() is not None:
            fn = _ends_with_trial(fn)
        options["algo"] = suggest
        if n_queued and n_new == 0 and not trials.asynchronous:
            # hyperopt's loop does not start without trials to suggest.
            options |= {"algo": _suggest_nothing, "max_evals": len(trials) + n_queued}
        elif n_new != left and max_evals is not None and not trials_save_file:
            options["max_evals"] = len(trials) + (n_new or 0)  # the total of hyperopt's progress bar
        return hyperopts_fmin(fn, space, trials=trials, allow_trials_fmin=allow_trials_fmin, **options)


def _ends_with_trial(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The objective of a study that runs inside a trial of ``DriverTrials``, and is to end with it."""

    @functools.wraps(fn)
    def checked(*args: Any, **kwargs: Any) -> Any:
        reporting.check_ending()
        return fn(*args, **kwargs)

    return checked


def _suggest_nothing(new_ids: Sequence[int], _domain: Any, trials: hyperopt.Trials, _seed: Any) -> list[Any]:
    """A suggest function that ends the study when what is queued was run."""
    of_hyperopt.give_back(trials, new_ids)
    return []


def _warn_of_side_effects(fn: Any) -> None:
    """Warn of changes by the objective that do not come back from a worker.

    Only where ``fmin`` chose Spark itself, in place of hyperopt's ``Trials()``, which keep such changes.
    hyperopt's ``SparkTrials`` lose them too.
    """
    names = side_effects.written_by(fn)
    if names:
        logger.warning(
            "the objective writes to %s, and without trials= it runs on Spark workers, each with a copy: "
            "here it stays as it is. Return such values in the result (trials.results has them), or run the "
            "trials in this process: trials=Trials(), or trials=DriverTrials() for several in parallel",
            ", ".join(names),
        )


class _ByKeywords:
    """Calls a function of keyword arguments with a dict."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        functools.update_wrapper(self, fn)

    def __call__(self, point: Mapping[str, Any]) -> Any:
        return self._fn(**point)


def _annotated(fn: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function over a dict, and the space in its annotations.

    Raises:
        hyperopt.exceptions.InvalidAnnotatedParameter: an annotation is not an ``hp`` expression.
    """
    annotations = dict(inspect.get_annotations(fn, eval_str=True))
    annotations.pop("return", None)
    for name, annotation in annotations.items():
        if not isinstance(annotation, hyperopt.pyll.base.Apply):
            raise InvalidAnnotatedParameter(
                f"space='annotated' reads the space from the annotations, but {name!r} is annotated with "
                f"{annotation!r}; annotate it with an hp expression: {name}: hp.uniform({name!r}, 0, 1)"
            )
    if not annotations:
        raise InvalidAnnotatedParameter(
            "space='annotated' reads the space from the annotations, and the function has none"
        )
    return _ByKeywords(fn), annotations
