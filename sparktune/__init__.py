"""Hyperparameter tuning on Spark: hyperopt's ``fmin``, every trial a Spark task and a nested MLflow run.

    from sparktune import SparkTrials, fmin, tpe
    from sparktune.space import hp

    best = fmin(lambda x: (x - 3) ** 2, hp.uniform("x", -5, 5), algo=tpe.suggest, max_evals=50,
                trials=SparkTrials(parallelism=4))

Everything that ``hyperopt`` exports at its top level is here too, so that changing the import is enough. The
search algorithms are our own; hyperopt's stay usable as ``algo=hyperopt.tpe.suggest``.
"""

from importlib.metadata import PackageNotFoundError, version

from hyperopt import (
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
    JOB_STATES,
    STATUS_FAIL,
    STATUS_NEW,
    STATUS_OK,
    STATUS_RUNNING,
    STATUS_STRINGS,
    STATUS_SUSPENDED,
    Ctrl,
    Domain,
    FMinIter,
    Trials,
    atpe,
    base,
    early_stop,
    exceptions,
    fmin_pass_expr_memo_ctrl,
    mix,
    partial,
    pyll,
    trials_from_docs,
)

from sparktune import hyperopt_names
from sparktune.comparison.compare import compare
from sparktune.doctor import doctor
from sparktune.early_termination import (
    AshaPolicy,
    BanditPolicy,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
)
from sparktune.errors import (
    AllTrialsFailed,
    DuplicateLabel,
    InvalidPoint,
    InvalidSpace,
    NoMorePoints,
    ObjectiveNotPicklable,
    PlotlyNotAvailable,
    SaveFileError,
    SparkNotAvailable,
    SparktuneError,
    StudyInProgress,
)
from sparktune.fmin import fmin
from sparktune.plots.space import plot_space
from sparktune.search import anneal, grid, local, rand, sobol, tpe
from sparktune.search.ask_and_tell import Candidate, Searcher
from sparktune.space import hp
from sparktune.space.distributions import space_eval
from sparktune.space.sampling import sample
from sparktune.trials.simulated import SimulatedTrials
from sparktune.trials.spark import SparkTrials
from sparktune.worker.reporting import TrialTerminated, report

hyperopt_names.install()

try:
    __version__ = version("sparktune")
except PackageNotFoundError:
    __version__ = "unknown"

__all__ = [
    "JOB_STATES",
    "JOB_STATE_DONE",
    "JOB_STATE_ERROR",
    "JOB_STATE_NEW",
    "JOB_STATE_RUNNING",
    "STATUS_FAIL",
    "STATUS_NEW",
    "STATUS_OK",
    "STATUS_RUNNING",
    "STATUS_STRINGS",
    "STATUS_SUSPENDED",
    "AllTrialsFailed",
    "AshaPolicy",
    "BanditPolicy",
    "Candidate",
    "Ctrl",
    "Domain",
    "DuplicateLabel",
    "FMinIter",
    "InvalidPoint",
    "InvalidSpace",
    "MedianStoppingPolicy",
    "NoMorePoints",
    "ObjectiveNotPicklable",
    "PlotlyNotAvailable",
    "SaveFileError",
    "Searcher",
    "SimulatedTrials",
    "SparkNotAvailable",
    "SparkTrials",
    "SparktuneError",
    "StudyInProgress",
    "TrialTerminated",
    "Trials",
    "TruncationSelectionPolicy",
    "anneal",
    "atpe",
    "base",
    "compare",
    "doctor",
    "early_stop",
    "exceptions",
    "fmin",
    "fmin_pass_expr_memo_ctrl",
    "grid",
    "hp",
    "local",
    "mix",
    "partial",
    "plot_space",
    "pyll",
    "rand",
    "report",
    "sample",
    "sobol",
    "space_eval",
    "tpe",
    "trials_from_docs",
]
