"""Hyperparameter tuning on Spark: hyperopt's ``fmin``, every trial a Spark task and a nested MLflow run.

    from sparktune import SparkTrials, fmin, tpe
    from sparktune.space import hp

    best = fmin(lambda x: (x - 3) ** 2, hp.uniform("x", -5, 5), algo=tpe.suggest, max_evals=50,
                trials=SparkTrials(parallelism=4))

Everything that ``hyperopt`` exports at its top level is here too, so that changing the import is enough. The
search algorithms are sparktune's; hyperopt's stay usable as ``algo=hyperopt.tpe.suggest``.

Names are imported when they are first used (PEP 562): Python workers, which may have neither hyperopt nor
numpy, import parts of this package. The imports below are what type checkers read; at run time the same
lines say from where a name is imported (``_names``), so that each name is listed once.
"""

from typing import TYPE_CHECKING

from sparktune import _names

if TYPE_CHECKING:
    from hyperopt import (
        JOB_STATE_DONE as JOB_STATE_DONE,
        JOB_STATE_ERROR as JOB_STATE_ERROR,
        JOB_STATE_NEW as JOB_STATE_NEW,
        JOB_STATE_RUNNING as JOB_STATE_RUNNING,
        JOB_STATES as JOB_STATES,
        STATUS_STRINGS as STATUS_STRINGS,
        Ctrl as Ctrl,
        Domain as Domain,
        FMinIter as FMinIter,
        Trials as Trials,
        atpe as atpe,
        base as base,
        early_stop as early_stop,
        exceptions as exceptions,
        fmin_pass_expr_memo_ctrl as fmin_pass_expr_memo_ctrl,
        mix as mix,
        partial as partial,
        pyll as pyll,
        trials_from_docs as trials_from_docs,
    )

    from sparktune.comparison.compare import compare as compare
    from sparktune.doctor import doctor as doctor
    from sparktune.early_termination import (
        AshaPolicy as AshaPolicy,
        BanditPolicy as BanditPolicy,
        MedianStoppingPolicy as MedianStoppingPolicy,
        TruncationSelectionPolicy as TruncationSelectionPolicy,
    )
    from sparktune.errors import (
        AllTrialsFailed as AllTrialsFailed,
        CannotRecord as CannotRecord,
        CannotResume as CannotResume,
        ControlPortNotAvailable as ControlPortNotAvailable,
        DuplicateLabel as DuplicateLabel,
        InvalidPoint as InvalidPoint,
        InvalidSpace as InvalidSpace,
        InvalidSweep as InvalidSweep,
        NoMorePoints as NoMorePoints,
        ObjectiveNotPicklable as ObjectiveNotPicklable,
        OptunaNotAvailable as OptunaNotAvailable,
        PlotlyNotAvailable as PlotlyNotAvailable,
        SaveFileError as SaveFileError,
        SklearnNotAvailable as SklearnNotAvailable,
        SparkNotAvailable as SparkNotAvailable,
        SparktuneError as SparktuneError,
        StudyCancelled as StudyCancelled,
        StudyInProgress as StudyInProgress,
        StudyNotFound as StudyNotFound,
        StudyTakenOver as StudyTakenOver,
        WarmStartRefused as WarmStartRefused,
    )
    from sparktune.fmin import fmin as fmin
    from sparktune.plots.space import plot_space as plot_space
    from sparktune.search import (
        anneal as anneal,
        auto as auto,
        gp as gp,
        grid as grid,
        local as local,
        rand as rand,
        sobol as sobol,
        tpe as tpe,
    )
    from sparktune.search.ask_and_tell import Candidate as Candidate, Searcher as Searcher
    from sparktune.search.optuna_sampler import optuna_sampler as optuna_sampler
    from sparktune.space import hp as hp
    from sparktune.space.distributions import space_eval as space_eval
    from sparktune.space.sampling import sample as sample
    from sparktune.sweeps.sweep import Sweep as Sweep
    from sparktune.trials.driver import DriverTrials as DriverTrials
    from sparktune.trials.simulated import SimulatedTrials as SimulatedTrials
    from sparktune.trials.spark import SparkTrials as SparkTrials
    from sparktune.worker.objective import (
        STATUS_FAIL as STATUS_FAIL,
        STATUS_NEW as STATUS_NEW,
        STATUS_OK as STATUS_OK,
        STATUS_RUNNING as STATUS_RUNNING,
        STATUS_SUSPENDED as STATUS_SUSPENDED,
    )
    from sparktune.worker.reporting import TrialTerminated as TrialTerminated, report as report

__version__ = "0.1.0"
"""The one place of the version; ``pyproject.toml`` reads it here."""

_names.install(__name__)
