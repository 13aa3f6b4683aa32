"""What ``fmin`` does before the first trial: check the call, find the study to continue, or set one up."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import hyperopt

from sparktune.early_termination.base import Goal
from sparktune.private import of_hyperopt
from sparktune.search import auto, finite, suggestion
from sparktune.space import compiling
from sparktune.space.distributions import as_space
from sparktune.space.signature import signature
from sparktune.space.view import SpaceView
from sparktune.study import interrupts, randomness
from sparktune.study.spec import StudySpec, StudyStart, algorithm_name, default_study_name, objective_name
from sparktune.study.study import Study
from sparktune.study.tracker import Continued, StudyInfo
from sparktune.study.trial import Trial
from sparktune.trials import arguments, observers, points, resume as resuming, savefile, warm_start as warming
from sparktune.trials.documents import Document
from sparktune.trials.memory import LatestStudy
from sparktune.worker.objective import Objective

if TYPE_CHECKING:
    from sparktune.tracking.reader import RecordedStudy
    from sparktune.trials.base import StudyTrials

logger = logging.getLogger("sparktune")

HOPELESS_AFTER = 20
"""So many trials, or twice the parallelism, that all fail with one exception end a study."""


@dataclass(frozen=True)
class Call:
    """The arguments of one ``fmin`` call; see ``sparktune.fmin``."""

    fn: Callable[..., Any]
    space: Any
    algo: Any
    max_evals: Any
    timeout: Any
    loss_threshold: Any
    max_queue_len: Any
    rstate: Any
    pass_expr_memo_ctrl: bool | None
    early_stop_fn: Any
    points_to_evaluate: Any
    resume: str | None
    take_over: bool
    warm_start: Any
    study_name: str | None
    noisy: bool

    @property
    def name(self) -> str:
        """The study's name, as given or by default."""
        return self.study_name or default_study_name(self.fn)

    def checked(self, trials: StudyTrials) -> Call:
        """The call with its values as the study needs them, and the limits of its trials object.

        Raises:
            Exception: an argument is invalid (hyperopt's messages, where it checks it too).
        """
        max_evals = arguments.checked_max_evals(self.max_evals)
        max_queue_len = arguments.checked_queue_len(self.max_queue_len)
        arguments.check_fmin(
            self.fn, self.algo, self.timeout, self.loss_threshold, self.early_stop_fn, self.points_to_evaluate
        )
        arguments.check_study_name(self.study_name)
        arguments.check_flag("noisy", self.noisy)
        timeout = self.timeout
        if trials.timeout is not None:
            if timeout is not None:
                logger.warning("the timeout of %s has precedence over that of fmin", type(trials).__name__)
            timeout = trials.timeout
        return replace(
            self,
            max_evals=max_evals,
            timeout=arguments.limit_of(timeout),
            max_queue_len=max_queue_len,
            warm_start=warming.checked(self.warm_start) if self.warm_start else (),
            loss_threshold=trials.loss_threshold if self.loss_threshold is None else self.loss_threshold,
        )


@dataclass(frozen=True)
class Problem:
    """What is to be minimized.

    Attributes:
        space: as hyperopt knows it.
        domain: hyperopt's.
        view: of the space.
    """

    space: Any
    domain: hyperopt.Domain
    view: SpaceView = field(repr=False)

    @classmethod
    def of(cls, call: Call) -> Problem:
        """The problem of a call.

        Raises:
            InvalidSpace: the space cannot be searched.
            TypeError: the objective cannot be called with a point.
        """
        space = as_space(call.space)
        compiling.check(hyperopt.pyll.as_apply(space), constants="warn")
        domain = hyperopt.Domain(call.fn, space, pass_expr_memo_ctrl=call.pass_expr_memo_ctrl)
        if not domain.pass_expr_memo_ctrl:
            arguments.check_objective(call.fn)
        return cls(space, domain, SpaceView(domain.expr))

    def objective(self, metric: str, goal: Goal) -> Objective:
        """What runs on workers."""
        is_low_level = bool(self.domain.pass_expr_memo_ctrl)
        return Objective(self.domain.fn, self.domain.expr, is_low_level, metric, goal)


@dataclass(frozen=True)
class Prepared:
    """A study that can be run.

    Attributes:
        study: its state machine.
        problem: what is minimized.
        stream: the random stream.
        stopper: calls ``early_stop_fn``, where there is one.
        continues: the recorded part of this same study, or None.
        used_s: seconds of the time limit that earlier calls for this same study used.
        earlier: the trials of earlier calls that ended.
        n_queued: how many trials are queued: points given, and trials of earlier calls.
        max_new: how many trials ``max_evals`` lets be suggested; None without a limit.
        n_new: how many will be: a finite space may have fewer.
        is_needed: there is something to run, or to record.
        undo: takes back what preparing has changed, unless the study begins.
    """

    study: Study
    problem: Problem
    stream: randomness.SeedStream
    stopper: observers.EarlyStop | None
    continues: Continued | None
    used_s: float
    earlier: Sequence[Trial]
    n_queued: int
    max_new: int | None
    n_new: int | None
    is_needed: bool
    undo: Undo

    @property
    def n_earlier(self) -> int:
        """How many trials ended in earlier calls."""
        return len(self.earlier)

    @property
    def total(self) -> int:
        """Of the progress bar."""
        return sys.maxsize if self.n_new is None else self.n_earlier + self.n_queued + self.n_new

    def info(self, call: Call, trials: StudyTrials) -> StudyInfo:
        """What the tracker is given."""
        memory, continues = trials.memory, self.continues
        return StudyInfo(
            study_id=uuid.uuid4().hex if continues is None else continues.record.study_id,
            spec=memory.spec,
            start=memory.latest.start,
            parallelism=trials.parallelism,
            max_queue_len=call.max_queue_len,
            space=self.problem.view.text,
            algo_reason=auto.reason(call.algo, self.problem.view.expression),
            policy=None if trials.early_termination is None else str(trials.early_termination),
            stream=self.stream.as_json(),
            earlier=tuple(
                study
                for study in memory.earlier_studies
                if continues is None or study[1] != continues.record.study_id
            ),
            used_s=self.used_s,
            continues=continues,
            best=self.study.best,
            is_named=call.study_name is not None,
        )


class Undo:
    """Takes back what a call that is refused before its study begins has changed in its trials object.

    Args:
        trials: the trials object.
    """

    def __init__(self, trials: StudyTrials) -> None:
        self._trials, self._memory = trials, trials.memory
        self._latest, self._recorded = self._memory.latest, self._memory.recorded
        self.is_filled = False
        """The trials object was empty, and holds what was read from MLflow."""
        self._has_begun = False

    def begun(self) -> None:
        """The study has begun: nothing is taken back any more."""
        self._has_begun = True

    def __enter__(self) -> Undo:
        """Watch a call."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take back, unless the study has begun or nothing was raised."""
        if kind is None or self._has_begun:
            return
        trials = self._trials
        if self.is_filled:
            of_hyperopt.forget(trials)
            hyperopt.Trials.delete_all(trials)
            trials.memory = self._memory
        if trials.memory is self._memory:  # else they are those of a save file by now
            self._memory.latest, self._memory.recorded = self._latest, self._recorded


def prepared(
    trials: StudyTrials, call: Call, problem: Problem, save: savefile.SaveFile | None, undo: Undo
) -> Prepared:
    """Set up the study of a call, or find the one that it continues.

    Where nothing is to be run, the trials object remembers the study that ran last, as before the call.

    Raises:
        CannotResume, StudyInProgress, WarmStartRefused, SaveFileError, InvalidSpace, InvalidPoint: see
            ``sparktune.fmin``.
    """
    memory, view = trials.memory, problem.view
    is_adopted = save is not None and savefile.adopted(trials, save.path, signature(view), call.name)
    memory = trials.memory
    before = memory.latest
    if not is_adopted:
        resuming.warn_of_name(before.spec.name, call.name, before.run_id)
    spec = _spec(call, trials, view)
    recorded = _recorded_study(trials, call, spec, undo, has_file=save is not None)
    memory = trials.memory
    spec = replace(spec, warm_start=call.warm_start or memory.spec.warm_start)
    is_same = memory.is_unfinished or recorded is not None
    used_s = memory.used_s if is_same else 0.0
    warm = memory.latest.warm
    if call.warm_start or (spec.warm_start and not warm):
        warm = tuple(warming.documents(spec.warm_start, view, spec))
    # A continued study keeps its stream, whatever rstate is.
    stream = randomness.continued(None if is_same else call.rstate, memory.stream)
    # A trial recorded as cancelled with its study is run again; a killed driver cancels nothing.
    earlier, queued = memory.join(trials, view, again=recorded is not None and not memory.is_unfinished)
    if is_same:
        memory.latest = replace(memory.latest, spec=spec, warm=warm)
    else:
        start = StudyStart(len(trials), stream.draws, len(of_hyperopt.documents(trials)))
        memory.latest = LatestStudy(spec, start, warm=warm)
    continues = None
    if recorded is not None:
        logger.info("%s", resuming.progress_line(recorded, memory.records.values()))
        continues = resuming.claim(recorded, memory, used_s, take_over=call.take_over)
    # As in hyperopt, the user's points come on top of max_evals; trials of earlier calls count.
    start = memory.latest.start
    n_suggested = stream.draws - start.draws_before
    max_new = None if call.max_evals is None else max(0, call.max_evals - start.n_before - n_suggested)
    queued += _points(trials, problem, call.points_to_evaluate or [], again=call.noisy and not is_same)
    suggest, n_new = finite.prepared(call.algo, problem.domain.expr, trials, max_new, noisy=call.noisy)
    stopper = observers.EarlyStop(call.early_stop_fn, trials) if call.early_stop_fn is not None else None
    is_recorded = before.run_id is not None and (save is None or is_adopted)
    is_needed = n_new != 0 or bool(queued) or is_same or not is_recorded
    if is_needed:
        memory.n_given = len(queued)
    else:
        memory.latest = before
        logger.info("nothing to run: %d trials are there, and max_evals=%s", len(trials), call.max_evals)
    study = Study(
        Suggester(suggest, problem, trials, stream, _informed(trials, call.algo, warm)),
        stream,
        max_new=n_new,
        queued=queued,
        earlier=earlier,
        loss_threshold=call.loss_threshold,
        max_queue_len=call.max_queue_len,
        should_stop=stopper,
        policy=trials.early_termination,
        goal=trials.goal,
        metric=trials.metric,
        max_failures=trials.max_failures,
        is_fatal=trials.is_fatal,
        hopeless_after=_hopeless_after(trials),
        curves=memory.curves,
    )
    return Prepared(
        study=study,
        problem=problem,
        stream=stream,
        stopper=stopper,
        continues=continues,
        used_s=used_s,
        earlier=earlier,
        n_queued=len(queued),
        max_new=max_new,
        n_new=n_new,
        is_needed=is_needed,
        undo=undo,
    )


def _spec(call: Call, trials: StudyTrials, view: SpaceView) -> StudySpec:
    return StudySpec(
        objective=objective_name(call.fn),
        name=call.name,
        algo=algorithm_name(call.algo),
        parameters=signature(view),
        metric=trials.metric,
        goal=trials.goal,
        max_evals=call.max_evals,
        timeout_s=call.timeout,
        warm_start=call.warm_start or trials.memory.spec.warm_start,
    )


def _recorded_study(
    trials: StudyTrials, call: Call, spec: StudySpec, undo: Undo, *, has_file: bool
) -> RecordedStudy | None:
    """The recorded study that this call continues; the trials object then holds what was recorded."""
    memory, resume = trials.memory, call.resume
    is_in_mlflow = bool(getattr(trials, "mlflow", False))
    if resume is not None:
        if not is_in_mlflow:
            raise ValueError(
                f"resume={resume!r} reads a study from MLflow, where these {type(trials).__name__} record "
                "nothing: use SparkTrials() or DriverTrials() without mlflow=False"
            )
        if known := of_hyperopt.documents(trials):
            if has_file and resume in (resuming.LAST, memory.latest.run_id):
                # The save file has the same study, and more of it.
                return resuming.of_same(memory, spec, is_finished_too=resume != resuming.LAST)
            raise ValueError(
                f"resume={resume!r} reads the trials from MLflow, and these {type(trials).__name__} hold "
                f"{len(known)} already: give new ones, or leave resume out"
            )
        found = resuming.find_last(spec) if resume == resuming.LAST else resuming.find(resume)
        if found is None:
            return None
        resuming.check(found, spec)
        resuming.warn_of_name(found.record.spec.name, spec.name, found.run_id)
        undo.is_filled = True
        resuming.fill(trials, found)
    elif memory.recorded is not None:
        resuming.check(memory.recorded, spec)
    elif memory.is_unfinished and memory.latest.study_id and is_in_mlflow:
        return resuming.of_file(memory)
    elif memory.is_cut_off and is_in_mlflow:
        return resuming.of_same(memory, spec)
    recorded, trials.memory.recorded = trials.memory.recorded, None
    return recorded


def _points(trials: StudyTrials, problem: Problem, given: Any, *, again: bool) -> list[Trial]:
    """Queue the user's points, except those that have a result of an earlier call, or are queued.

    Args:
        trials: what earlier calls have tried.
        problem: of the call.
        given: the points, label -> raw value.
        again: whether points with a result are evaluated once more.
    """
    memory, view = trials.memory, problem.view
    tried = [points.Tried(trial.config, trial.trial_id, trial.state) for trial in memory.records.values()]
    wanted = points.to_run(map(view.checked_point, given), tried, again=again)
    return [
        memory.insert(
            trials,
            suggestion.new_document(trial_id, config, view.labels, problem.domain, trials),
            view,
        )
        for trial_id, config in zip(trials.new_trial_ids(len(wanted)), wanted, strict=True)
    ]


def _informed(trials: StudyTrials, algo: Any, warm: Sequence[Document]) -> warming.Informed | None:
    """The trials together with those of earlier studies, where the algorithm uses results."""
    if not warm:
        return None
    if not suggestion.is_adaptive(algo):
        logger.warning("warm_start has no effect: %s does not use results", algorithm_name(algo))
        return None
    return warming.Informed(trials, warm)


def _hopeless_after(trials: StudyTrials) -> int | None:
    if trials.max_failures is not None:
        return None
    return max(HOPELESS_AFTER, 2 * (trials.asked_parallelism or 1))


class Suggester:
    """Asks the search algorithm for the next trial (``Study``'s ``suggest``).

    Args:
        algo: the suggest function.
        problem: what is minimized.
        trials: where a suggested trial is inserted.
        stream: the random stream.
        informed: the trials with those of earlier studies, where the algorithm is to see these.
    """

    def __init__(
        self,
        algo: Any,
        problem: Problem,
        trials: StudyTrials,
        stream: randomness.SeedStream,
        informed: warming.Informed | None,
    ) -> None:
        self._algo, self._problem, self._trials = algo, problem, trials
        self._stream, self._informed = stream, informed
        self._is_ours = suggestion.is_ours(algo)

    def __call__(self, seed: Any) -> Trial | None:
        """The next trial; None where the algorithm has no more.

        Raises:
            ValueError: it suggested several.
        """
        trials, informed = self._trials, self._informed
        new_ids = trials.new_trial_ids(1)
        seen = trials if informed is None else informed.for_algorithm(is_ours=self._is_ours)
        with interrupts.admitted():
            suggested = self._algo(new_ids, self._problem.domain, seen, seed)
        if not suggested:
            return None
        if len(suggested) > 1:
            raise ValueError(f"the algorithm was asked for 1 trial and suggested {len(suggested)}")
        memory = trials.memory
        trial = memory.insert(trials, suggested[0], self._problem.view, self._stream.draws)
        if informed is not None:
            informed.add(memory.documents[trial.trial_id])
        return trial
