"""One repetition of a comparison, as it runs on a worker: a study on a virtual clock in one task."""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparktune.errors import AllTrialsFailed
from sparktune.fmin import fmin
from sparktune.study.tracker import RunContext
from sparktune.study.trial import Trial
from sparktune.tracking.worker.redirect import redirect
from sparktune.trials.simulated import SimulatedTrials

Duration = Callable[[Mapping[str, Any], Mapping[str, Any]], float]
"""(config, result) -> seconds."""


@dataclass(frozen=True)
class Repetition:
    """An objective whose points are repetitions: ``{"algorithm": name, "repeat": number}``.

    Attributes:
        fn, space: what is tuned.
        algos: name -> pickled suggest function; each repetition has its own copy.
        max_evals: trials of a repetition.
        parallelism: virtual workers.
        seed: together with the repetition's number, of all its randomness.
        duration_s: see ``sparktune.compare``.
    """

    fn: Callable[..., Any]
    space: Any
    algos: Mapping[str, bytes]
    max_evals: int
    parallelism: int
    seed: int
    duration_s: Duration | None = None

    def __call__(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Run one repetition.

        Returns:
            hyperopt's result: ``loss`` (the best one, infinite where every trial failed), and of the trials
            in the order in which they ended ``times_s`` and ``losses`` (NaN where a trial failed), and
            ``causes``: why trials failed or gave an infinite loss, and how many.
        """
        suggest = pickle.loads(self.algos[point["algorithm"]])
        watch = _Stopwatch()
        trials = SimulatedTrials(slots=self.parallelism, duration_s=self.duration_s or watch.total_s)
        with _quiet(), _temporary_store() as context, contextlib.suppress(AllTrialsFailed):
            fmin(
                _in_its_own_run(watch.evaluating(self.fn), context),
                self.space,
                algo=watch.suggesting(suggest),
                max_evals=self.max_evals,
                trials=trials,
                rstate=np.random.default_rng([self.seed, int(point["repeat"])]),
                show_progressbar=False,
            )
        ended = sorted(
            (record.ended_s, trial_id, np.nan if record.loss is None else record.loss)
            for trial_id, record in trials.memory.records.items()
            if record.ended_s is not None
        )
        losses = [loss for _, _, loss in ended]
        return {
            "status": "ok",
            "loss": min((loss for loss in losses if np.isfinite(loss)), default=np.inf),
            "times_s": [time_s for time_s, _, _ in ended],
            "losses": losses,
            "causes": dict(Counter(filter(None, map(_cause, trials.memory.records.values())))),
        }


def _cause(record: Trial) -> str | None:
    """Why a trial has no valid loss; None when it has one."""
    if record.loss is not None and np.isinf(record.loss):
        return f"the loss is {record.loss}"
    return None if record.error is None else record.error.summary


class _Stopwatch:
    """How long the latest suggestion and its evaluation took."""

    def __init__(self) -> None:
        self._suggest_s = self._evaluate_s = 0.0

    def suggesting(self, suggest: Callable[..., Any]) -> Callable[..., Any]:
        """The same suggest function, timed; starts the measurement that its evaluation completes."""

        def timed(*args: Any) -> Any:
            self._evaluate_s = 0.0
            began = time.perf_counter()
            try:
                return suggest(*args)
            finally:
                self._suggest_s = time.perf_counter() - began

        return timed

    def evaluating(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The same objective, timed."""

        @functools.wraps(fn)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return fn(*args, **kwargs)
            finally:
                self._evaluate_s = time.perf_counter() - began

        return timed

    def total_s(self, _config: Mapping[str, Any], _result: Mapping[str, Any]) -> float:
        """Seconds for both."""
        return self._suggest_s + self._evaluate_s


def _in_its_own_run(fn: Callable[..., Any], context: RunContext) -> Callable[..., Any]:
    """The same objective; what it logs to MLflow goes to a new run of a temporary store."""

    @functools.wraps(fn)
    def redirected(*args: Any, **kwargs: Any) -> Any:
        with redirect(context):
            return fn(*args, **kwargs)

    return redirected


@contextlib.contextmanager
def _temporary_store() -> Iterator[RunContext]:
    """A store for what objectives log, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="sparktune-", ignore_cleanup_errors=True) as folder:
        # MLflow makes the folder at the first call, if there is one; laying out a database takes seconds.
        env = {"MLFLOW_ALLOW_FILE_STORE": "true"}
        uri = (Path(folder) / "mlruns").as_uri()
        yield RunContext(None, uri, uri, "0", env)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Failed trials are counted, not logged one by one on a worker's standard error."""
    loggers = [logging.getLogger(name) for name in ("sparktune", "hyperopt-spark")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
