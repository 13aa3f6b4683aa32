"""``StudyTrials``: hyperopt's trial documents beside sparktune's own records of the same trials.

It holds what does not depend on where trials run: the documents, their records, resuming where an earlier
call stopped.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import hyperopt
from hyperopt.base import JOB_VALID_STATES

from sparktune.early_termination.base import EarlyTerminationPolicy, Goal
from sparktune.errors import AllTrialsFailed, SaveFileError, StudyInProgress
from sparktune.private import of_hyperopt
from sparktune.search.history import config_of
from sparktune.study.backend import Backend
from sparktune.study.columns import parameter_columns
from sparktune.study.outcome import loss_of, outcome_of
from sparktune.study.ranking import Ranked, first
from sparktune.study.snapshot import StudySnapshot
from sparktune.study.tracker import NullTracker, Tracker
from sparktune.study.trial import Trial, TrialState, shown_value
from sparktune.trials import arguments, documents, html_view, journal
from sparktune.trials.memory import StudyMemory
from sparktune.worker.objective import Objective

if TYPE_CHECKING:
    import pandas as pd

    from sparktune.tracking.reader import RecordedStudy

logger = logging.getLogger("sparktune")


class _Lock:
    """A lock that pickles as a free one: people pickle the ``__dict__`` of trials, without their session."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire, self.release, self.locked = lock.acquire, lock.release, lock.locked

    def __reduce__(self) -> tuple[type[_Lock], tuple[()]]:
        return _Lock, ()


SESSION = ("_spark", "_resource_profile", "_space")
"""Attributes that belong to a process: copies share them, and pickles do not hold them. A search space may
have options that no pickle can hold."""
COLUMNS = (
    "trial",
    "state",
    "loss",
    "started_s",
    "ended_s",
    "duration_s",
    "attempts",
    "steps",
    "error",
    "run_id",
)
"""The columns of ``to_dataframe`` before those of the parameters."""


class StudyTrials(hyperopt.Trials, abc.ABC):  # type: ignore[misc]
    """Trials that sparktune's driver runs; the base of ``SparkTrials``.

    Args:
        parallelism: the most trials to run at the same time, or None for as many as the backend has slots.
        timeout: seconds that one ``fmin`` call may take, or None.
        loss_threshold: stop when the best loss is at or below it, or None.
        metric: the primary metric: the name of what objectives report or log, and of the entry of the result
            that gives the loss where it has none.
        goal: what is good in it; to be maximized, the loss is its negative.
        early_termination: a policy that ends weak trials while they run, or None.
        trial_timeout: seconds that one trial's objective may run, from the moment it truly starts, or None.
        max_failures: end the study when so many of its trials have failed; ``math.inf`` for never. None ends
            it only where nothing can succeed: its first trials, 20 or twice the parallelism, all failed
            with one cause or few (``STATUS_FAIL``: five times as many).
        live_plot: in a notebook, draw the best loss so far while ``fmin`` runs.

    Raises:
        Exception: ``timeout`` or ``loss_threshold`` is invalid (hyperopt's messages).
        TypeError: ``parallelism`` is not a whole number, ``early_termination`` is not a policy, ``live_plot``
            is neither True nor False.
        ValueError: ``metric``, ``goal`` or ``trial_timeout`` is invalid.
    """

    asynchronous = True
    _keeps_real_time = True
    watch_interval = 5.0
    report_every: float | None = None
    log_report: bool = True
    live_plot: bool = False
    memory: StudyMemory
    """Internal: what is kept between ``fmin`` calls."""
    is_fatal: Callable[[Trial], bool] | None = None
    """Internal: whether a failed trial ends the study (``Study``)."""
    _space: Any = None
    """The search space of the latest ``fmin`` call of this process."""

    def __init__(
        self,
        parallelism: int | None = None,
        timeout: float | None = None,
        loss_threshold: float | None = None,
        *,
        metric: str = "loss",
        goal: Goal = "minimize",
        early_termination: EarlyTerminationPolicy | None = None,
        trial_timeout: float | None = None,
        max_failures: float | None = None,
        live_plot: bool = False,
    ) -> None:
        arguments.check_max_failures(max_failures)
        arguments.check_limits(timeout, loss_threshold)
        parallelism = arguments.checked_parallelism(parallelism)
        arguments.check_metric(metric, goal)
        arguments.check_early_termination(early_termination)
        if trial_timeout is not None:
            arguments.check_seconds("trial_timeout", trial_timeout)
        arguments.check_flag("live_plot", live_plot)
        self.live_plot = live_plot
        self.metric = metric
        self.goal: Goal = goal
        self.early_termination = early_termination
        self.trial_timeout = trial_timeout
        self.max_failures = max_failures
        self._reset()
        super().__init__(exp_key=None, refresh=False)
        self.user_specified_parallelism: int | None = parallelism
        self.timeout = timeout
        self.loss_threshold = loss_threshold
        self.refresh()

    def __repr__(self) -> str:
        counts = self.counts()
        parts = [f"{count} {state.value.replace('_', ' ')}" for state, count in counts.items() if count]
        n = len(of_hyperopt.documents(self))
        unfinished = n - sum(counts.values())
        parts += [f"{unfinished} not finished"] if unfinished else []
        text = f"{n} trials" + (f": {', '.join(parts)}" if parts else "")
        losses = [loss for loss in self.losses() if loss is not None]
        best = self._record_of(self.best_trial) if losses else None
        name, value = shown_value(best, self.metric, self.goal)
        shown = "" if value is None else f"; best {name} {value:.6g}"
        return f"{type(self).__name__}({text}{shown})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What notebooks show: the best trial, its curve, a table."""
        records = self._all_records()
        return html_view.of_trials(repr(self), records, self.run_id, self.metric, self.goal)

    def _all_records(self) -> list[Trial]:
        """The record of every document; also of those that were inserted since the latest ``fmin`` call."""
        return [self._record_of(document) for document in list(of_hyperopt.documents(self))]

    def _record_of(self, document: documents.Document) -> Trial:
        return self.memory.records.get(document["tid"]) or documents.inserted_trial(document)

    def _reset(self) -> None:
        self.memory = StudyMemory()
        self._warned_of_slots = False
        self._in_use = _Lock()
        self.share_saved: float | None = None
        """The share of compute that early termination saved in the latest call, judged by the reports."""
        self.elapsed_s: float | None = None
        """Seconds that the latest ``fmin`` call took by its backend's clock (virtual ones if simulated),
        or None when it did not return."""

    @property
    def run_id(self) -> str | None:
        """The MLflow parent run of the latest ``fmin`` call, or None."""
        return self.memory.latest.run_id

    # -- where trials run ------------------------------------------------------------------------------

    @abc.abstractmethod
    def _backend(self, objective: Objective) -> Backend:
        """Where the trials of one ``fmin`` call run."""

    def _tracker(self) -> Tracker:
        """What records one ``fmin`` call."""
        return NullTracker()

    @abc.abstractmethod
    def _slots_now(self) -> int:
        """How many trials could run at the same time now."""

    @property
    def parallelism(self) -> int:
        """The most trials that will run at the same time: as asked for, or the slots there are now."""
        return self.asked_parallelism or max(1, self._slots_now())

    @parallelism.setter
    def parallelism(self, value: int | None) -> None:
        self.user_specified_parallelism = value

    @property
    def asked_parallelism(self) -> int | None:
        """What the user asked for; None for every slot there is, also those that join later."""
        asked = self.user_specified_parallelism
        return asked if asked is not None and asked > 0 else None

    def _concurrency(self, slots: int) -> int:
        """The most trials of a study that will run at the same time, where the backend now has ``slots``."""
        asked = self.asked_parallelism
        return slots if asked is None else min(asked, slots)

    def _log_parallelism(self, slots: int) -> None:
        """Warn, once, that more parallelism was asked for than there are slots.

        Without any slots, the backend warns.
        """
        asked = self.asked_parallelism
        if asked is not None and asked > slots and not self._warned_of_slots and self._slots_now() > 0:
            self._warned_of_slots = True
            logger.warning(
                "parallelism is %d, but Spark has %d slots now: %d trials run at a time until slots join",
                asked,
                slots,
                slots,
            )

    @property
    def best_trial(self) -> documents.Document:
        """The document of the best trial (lowest loss; terminated early only where nothing completed).

        Raises:
            hyperopt.exceptions.AllTrialsFailed: there is none.
        """
        best: documents.Document | None = first(self.trials, _ranked)
        if best is None:
            n = len(of_hyperopt.documents(self))  # failed ones, too, which `trials` does not show
            raise AllTrialsFailed(f"of {n} trials none has completed, so none is best")
        return best

    # -- results -----------------------------------------------------------------------------------------

    @property
    def _fmin_cancelled(self) -> bool:
        """What hyperopt's own loop asks of trials that have it (``hyperopt.FMinIter.run``)."""
        return self.memory.stop_reason is not None

    @property
    def _fmin_cancelled_reason(self) -> str | None:
        """As hyperopt's ``SparkTrials`` call it."""
        return self.memory.stop_reason

    @property
    def fmin_cancelled_reason(self) -> str | None:
        """Why the latest ``fmin`` call stopped before its ``max_evals``, or None."""
        return self.memory.stop_reason

    @property
    def best_point(self) -> Any:
        """The best trial's point as the objective received it: ``Model(**trials.best_point)`` refits it.

        It has the form of the search space, with its constants, and for ``hp.choice`` the option itself with
        what is inside. ``hyperopt.space_eval(space, best)`` gives the same.

        Raises:
            AllTrialsFailed: no trial completed.
            ValueError: the search space is not known, because these trials were read from a file; or from
                MLflow, where ``best_point.json`` does not have the point, or not as it was.

        Example:
            >>> from sparktune import SimulatedTrials, fmin, hp
            >>> trials = SimulatedTrials()
            >>> space = {"C": hp.uniform("C", 0, 1), "kernel": "rbf"}
            >>> _ = fmin(lambda p: p["C"], space, max_evals=3, trials=trials, show_progressbar=False)
            >>> sorted(trials.best_point)
            ['C', 'kernel']
        """
        best = self.best_trial
        if self._space is not None:
            return hyperopt.space_eval(self._space, config_of(best))
        recorded = self.memory.recorded
        point = None if recorded is None else _recorded_point(recorded, best["tid"])
        if point is None:
            raise ValueError(
                "best_point needs the search space, which trials from a file or from MLflow do not hold: "
                "call space_eval(space, trials.argmin), or give the trials to fmin first"
            )
        return point

    @property
    def best_params(self) -> dict[str, Any]:
        """The best trial's parameters by label, for tables: values that the objective received, not indices.

        Constants of the space are not in it, and an option with parameters inside is represented by a name.
        What the objective received is ``best_point``.

        Raises:
            AllTrialsFailed: no trial completed.
        """
        return dict(self._record_of(self.best_trial).params)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for every trial, failed and cancelled ones too.

        Returns:
            Columns ``trial``, ``state``, ``loss``, ``started_s`` and ``ended_s`` (Unix time, or the simulated
            clock's), ``duration_s`` (seconds in the objective), ``attempts``, ``steps`` (reports seen),
            ``error`` (one line), ``run_id`` (of its MLflow run), then one per parameter by its label, holding
            the values that the objective received, and missing where the parameter was not active. A
            parameter that is called as a column before it has ``param_`` before its label: ``param_loss``.
            Trials inserted manually since the latest ``fmin`` call have the raw values.
        """
        import pandas as pd

        trials = self._all_records()
        labels = list(dict.fromkeys(label for trial in trials for label in trial.params))
        rows = [
            (
                trial.trial_id,
                trial.state.value,
                trial.loss,
                trial.started_s,
                trial.ended_s,
                trial.duration_s,
                trial.attempts,
                trial.steps,
                None if trial.error is None else trial.error.summary,
                trial.run_id,
                *(trial.params.get(label) for label in labels),
            )
            for trial in trials
        ]
        columns = [*COLUMNS, *parameter_columns(labels, COLUMNS).values()]
        frame = pd.DataFrame.from_records(rows, columns=columns)
        for column in ("loss", "started_s", "ended_s", "duration_s"):
            frame[column] = pd.to_numeric(frame[column])
        return frame

    def snapshot(self) -> StudySnapshot:
        """The study at this moment, for pictures; also while it runs, and from another thread."""
        # Records never change, and these copies are made in one step each.
        trials, curves = self._all_records(), list(self.memory.curves.items())
        spec = self.memory.spec
        return StudySnapshot(
            trials,
            {trial_id: list(curve.values) for trial_id, curve in curves},
            self.metric,
            self.goal,
            spec.algo,
            spec.parameters,
            spec.objective,
            self.run_id,
            stop_reason=self.fmin_cancelled_reason,
            is_running=self._in_use.locked(),
        )

    @property
    def best_run_id(self) -> str | None:
        """The MLflow run of the best trial; None where it does not have one.

        Raises:
            AllTrialsFailed: no trial completed.
        """
        return self._record_of(self.best_trial).run_id

    def counts(self) -> dict[TrialState, int]:
        """How many trials ended in each final state; each trial is counted once."""
        found = Counter(outcome_of(document) for document in of_hyperopt.documents(self))
        return {state: found[state] for state in TrialState if state.is_final}

    def count_successful_trials(self) -> int:
        """How many trials completed."""
        return self.counts()[TrialState.COMPLETED]

    def count_failed_trials(self) -> int:
        """How many trials failed: raised, returned NaN or the status fail, or lost their worker for good."""
        return self.counts()[TrialState.FAILED]

    def count_cancelled_trials(self) -> int:
        """How many trials were cancelled because the study stopped."""
        return self.counts()[TrialState.CANCELLED]

    def count_early_terminated_trials(self) -> int:
        """How many trials an early termination policy ended."""
        return self.counts()[TrialState.EARLY_TERMINATED]

    def count_timed_out_trials(self) -> int:
        """How many trials ran longer than ``trial_timeout``."""
        return self.counts()[TrialState.TIMED_OUT]

    def count_total_trials(self) -> int:
        """How many trials have ended."""
        return sum(self.counts().values())

    def delete_all(self) -> None:
        """Forget every trial and start again, with a new random stream."""
        self._reset()
        of_hyperopt.forget(self)
        super().delete_all()

    def anew(self) -> Self:
        """Empty trials with the options of these, which run where these do."""
        new = copy.copy(self)
        new._reset()
        of_hyperopt.forget(new)
        hyperopt.Trials.__init__(new)  # its lists and sets are not shared
        return new

    # -- the driver's side: records and documents ------------------------------------------------------

    def changed(self, trial: Trial) -> None:
        """Write a change of a trial into its document (the driver's ``Observer``)."""
        document = self.memory.documents[trial.trial_id]
        documents.update(document, trial)
        for name, value in trial.attachments.items():
            self.trial_attachments(document)[name] = value
        if document["state"] not in JOB_VALID_STATES:
            of_hyperopt.hide(self, document)  # cheaper than a refresh of all
        self.memory.records[trial.trial_id] = trial  # last: if Ctrl-C comes before, it is done again

    def new_trial_ids(self, n: int) -> list[int]:
        """``n`` ids for new trials: those that the record of a study lacks, then new ones."""
        free = self.memory.take_free_ids(n)
        further = of_hyperopt.new_ids(self, n - len(free))
        return free + further

    def view(self, exp_key: Any = None, refresh: bool = True) -> Self:
        """Another object with the same documents (``hyperopt.Trials.view``)."""
        new: Self = super().view(exp_key=exp_key, refresh=False)
        for name, value in vars(self).items():
            new.__dict__.setdefault(name, value)
        new.memory = copy.copy(self.memory)
        new._in_use = _Lock()
        if refresh:
            new.refresh()
        return new

    def refresh(self) -> None:
        """Update ``trials`` from the documents; of several with one id, the later ones get new ids."""
        super().refresh()
        again = of_hyperopt.with_taken_ids(self)
        for document in again:
            documents.renumber(document, *self.new_trial_ids(1))
        if again:
            logger.warning(
                "%d of these trials had the id of another one, as trials of two studies have: they have new "
                "ids now, the last is %d",
                len(again),
                again[-1]["tid"],
            )

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold these trials for one ``fmin`` call."""
        is_ours = False
        try:
            is_ours = self._in_use.acquire(blocking=False)
            if not is_ours:
                raise StudyInProgress(
                    f"this {type(self).__name__} is in use by another fmin call; give each call its own"
                )
            yield
        finally:
            if is_ours:
                self._in_use.release()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_in_use"]
        state["_format"] = journal.FORMAT
        # What is pickled finds the session of the process that reads it.
        return state | dict.fromkeys(self._session_state())

    def _session_state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name in SESSION}

    def __copy__(self) -> Self:
        new = type(self).__new__(type(self))
        new.__setstate__(self.__getstate__() | self._session_state())
        new.memory = copy.copy(self.memory)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo) | self._session_state())
        return new

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "memory" not in state:
            raise SaveFileError("a development version of sparktune pickled these trials: run them again")
        self.__dict__.update(state)
        self._in_use = _Lock()


def _ranked(document: documents.Document) -> Ranked:
    return outcome_of(document) or TrialState.RUNNING, loss_of(document), document["tid"]


def _recorded_point(study: RecordedStudy, trial_id: int) -> Any:
    """The best trial's point, where MLflow has it as it was; else None."""
    from sparktune.tracking.location import current_uri
    from sparktune.tracking.reader import best_point

    return best_point(current_uri(), study, trial_id, exactly=True)
