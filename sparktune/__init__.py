"""Hyperparameter tuning on Spark: hyperopt's ``fmin``, every trial a Spark task and a nested MLflow run.

    from sparktune import SparkTrials, fmin, tpe
    from sparktune.space import hp

    best = fmin(lambda x: (x - 3) ** 2, hp.uniform("x", -5, 5), algo=tpe.suggest, max_evals=50,
                trials=SparkTrials(parallelism=4))

Everything that ``hyperopt`` exports at its top level is here too, so that changing the import is enough. The
search algorithms are our own; hyperopt's stay usable as ``algo=hyperopt.tpe.suggest``.

Names are imported when they are first used (PEP 562): Python workers, which may have neither hyperopt nor
numpy, import parts of this package.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from sparktune import hyperopt_names

if TYPE_CHECKING:
    from hyperopt import (
        JOB_STATE_DONE,
        JOB_STATE_ERROR,
        JOB_STATE_NEW,
        JOB_STATE_RUNNING,
        JOB_STATES,
        STATUS_STRINGS,
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
        CannotRecord,
        CannotResume,
        ControlPortNotAvailable,
        DuplicateLabel,
        InvalidPoint,
        InvalidSpace,
        InvalidSweep,
        NoMorePoints,
        ObjectiveNotPicklable,
        OptunaNotAvailable,
        PlotlyNotAvailable,
        SaveFileError,
        SklearnNotAvailable,
        SparkNotAvailable,
        SparktuneError,
        StudyCancelled,
        StudyInProgress,
        StudyNotFound,
        StudyTakenOver,
        WarmStartRefused,
    )
    from sparktune.fmin import fmin
    from sparktune.plots.space import plot_space
    from sparktune.search import anneal, auto, gp, grid, local, rand, sobol, tpe
    from sparktune.search.ask_and_tell import Candidate, Searcher
    from sparktune.search.optuna_sampler import optuna_sampler
    from sparktune.space import hp
    from sparktune.space.distributions import space_eval
    from sparktune.space.sampling import sample as sample
    from sparktune.sweeps.sweep import Sweep
    from sparktune.trials.driver import DriverTrials
    from sparktune.trials.simulated import SimulatedTrials
    from sparktune.trials.spark import SparkTrials
    from sparktune.worker.objective import (
        STATUS_FAIL,
        STATUS_NEW,
        STATUS_OK,
        STATUS_RUNNING,
        STATUS_SUSPENDED,
    )
    from sparktune.worker.reporting import TrialTerminated, report

__version__ = "0.1.0"
"""The one place of the version; ``pyproject.toml`` reads it here."""

_HOMES = {
    "hyperopt": (
        "JOB_STATE_DONE",
        "JOB_STATE_ERROR",
        "JOB_STATE_NEW",
        "JOB_STATE_RUNNING",
        "JOB_STATES",
        "STATUS_STRINGS",
        "Ctrl",
        "Domain",
        "FMinIter",
        "Trials",
        "atpe",
        "base",
        "early_stop",
        "exceptions",
        "fmin_pass_expr_memo_ctrl",
        "mix",
        "partial",
        "pyll",
        "trials_from_docs",
    ),
    "sparktune.comparison.compare": ("compare",),
    "sparktune.doctor": ("doctor",),
    "sparktune.early_termination": (
        "AshaPolicy",
        "BanditPolicy",
        "MedianStoppingPolicy",
        "TruncationSelectionPolicy",
    ),
    "sparktune.errors": (
        "CannotRecord",
        "CannotResume",
        "ControlPortNotAvailable",
        "StudyTakenOver",
        "WarmStartRefused",
        "AllTrialsFailed",
        "DuplicateLabel",
        "InvalidPoint",
        "InvalidSpace",
        "InvalidSweep",
        "NoMorePoints",
        "ObjectiveNotPicklable",
        "OptunaNotAvailable",
        "PlotlyNotAvailable",
        "SaveFileError",
        "SklearnNotAvailable",
        "SparkNotAvailable",
        "SparktuneError",
        "StudyCancelled",
        "StudyInProgress",
        "StudyNotFound",
    ),
    "sparktune.fmin": ("fmin",),
    "sparktune.plots.space": ("plot_space",),
    "sparktune.search": ("anneal", "auto", "gp", "grid", "local", "rand", "sobol", "tpe"),
    "sparktune.search.ask_and_tell": ("Candidate", "Searcher"),
    "sparktune.search.optuna_sampler": ("optuna_sampler",),
    "sparktune.space": ("hp",),
    "sparktune.space.distributions": ("space_eval",),
    "sparktune.space.sampling": ("sample",),
    "sparktune.sweeps.sweep": ("Sweep",),
    "sparktune.trials.driver": ("DriverTrials",),
    "sparktune.trials.simulated": ("SimulatedTrials",),
    "sparktune.trials.spark": ("SparkTrials",),
    # Workers without hyperopt have these too: objectives return them.
    "sparktune.worker.objective": (
        "STATUS_FAIL",
        "STATUS_NEW",
        "STATUS_OK",
        "STATUS_RUNNING",
        "STATUS_SUSPENDED",
    ),
    "sparktune.worker.reporting": ("TrialTerminated", "report"),
}
"""Module -> the names of this package that are its own, and the modules in it that are names themselves."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}
_ROOMS = (
    "backends",
    "comparison",
    "early_termination",
    "errors",
    "plots",
    "private",
    "search",
    "sklearn",
    "space",
    "study",
    "sweeps",
    "tracking",
    "trials",
    "worker",
)
"""What ``import sparktune`` is enough for: ``sparktune.errors.InvalidSpace``."""


def __getattr__(name: str) -> Any:
    found: Any
    if name in _HOME:
        home = importlib.import_module(_HOME[name])
        is_there = hasattr(home, name)
        found = getattr(home, name) if is_there else importlib.import_module(f"{home.__name__}.{name}")
    elif name in _ROOMS:
        found = importlib.import_module(f"sparktune.{name}")
    elif (found := hyperopt_names.submodule(name)) is None:
        raise AttributeError(f"module 'sparktune' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_ROOMS})


class _Package(types.ModuleType):
    """A package in which a function keeps its name although a module has the same.

    Pickled by its name, as every module is by cloudpickle, which looks for the exact class of modules:
    objectives refer to ``sparktune.STATUS_OK`` or ``st.report``.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and _HOME[name] == f"sparktune.{name}" and isinstance(value, types.ModuleType):
            value = getattr(value, name, None)
            if value is None:  # half imported
                return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
hyperopt_names.install()

# Not `sample`: `from sparktune import *` must not replace a notebook's `hyperopt.pyll.stochastic.sample`.
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
    "CannotRecord",
    "CannotResume",
    "ControlPortNotAvailable",
    "Ctrl",
    "Domain",
    "DriverTrials",
    "DuplicateLabel",
    "FMinIter",
    "InvalidPoint",
    "InvalidSpace",
    "InvalidSweep",
    "MedianStoppingPolicy",
    "NoMorePoints",
    "ObjectiveNotPicklable",
    "OptunaNotAvailable",
    "PlotlyNotAvailable",
    "SaveFileError",
    "Searcher",
    "SimulatedTrials",
    "SklearnNotAvailable",
    "SparkNotAvailable",
    "SparkTrials",
    "SparktuneError",
    "StudyCancelled",
    "StudyInProgress",
    "StudyNotFound",
    "StudyTakenOver",
    "Sweep",
    "TrialTerminated",
    "Trials",
    "TruncationSelectionPolicy",
    "WarmStartRefused",
    "anneal",
    "atpe",
    "auto",
    "base",
    "compare",
    "doctor",
    "early_stop",
    "exceptions",
    "fmin",
    "fmin_pass_expr_memo_ctrl",
    "gp",
    "grid",
    "hp",
    "local",
    "mix",
    "optuna_sampler",
    "partial",
    "plot_space",
    "pyll",
    "rand",
    "report",
    "sobol",
    "space_eval",
    "tpe",
    "trials_from_docs",
]
