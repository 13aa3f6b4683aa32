"""The exceptions of sparktune.

::

    SparktuneError
    ├── SparkNotAvailable      (ImportError)  pyspark or Java is missing
    ├── PlotlyNotAvailable     (ImportError)  plotly is missing, and a picture was asked for
    ├── OptunaNotAvailable     (ImportError)  optuna is missing, and one of its samplers was asked for
    ├── SklearnNotAvailable    (ImportError)  scikit-learn is missing, and SearchCV was asked for
    ├── ObjectiveNotPicklable  (TypeError)    the objective cannot be sent to a worker
    ├── InvalidPoint           (ValueError)   a point of points_to_evaluate does not fit the search space
    ├── InvalidSpace           (ValueError)   the search space cannot be searched: an empty range, ...
    │   └── DuplicateLabel     (hyperopt.exceptions.DuplicateLabel)  ... two parameters of one name
    ├── NoMorePoints           (LookupError)  a searcher was asked for a point and has no more
    ├── SaveFileError          (ValueError)   trials_save_file cannot be read or belongs to another study
    ├── CannotResume           (ValueError)   resume= names no study that can be resumed, or another one
    ├── StudyNotFound          (LookupError)  MLflow lacks the run, or it is not the parent run of a study
    ├── CannotRecord           (RuntimeError) MLflow's store cannot be written: no login, no driver, no folder
    ├── WarmStartRefused       (ValueError)   a study of warm_start= has other parameters
    ├── InvalidSweep           (ValueError)   a sweep file is wrong; each problem with its place
    ├── WorkerLost             (RuntimeError) the kind of error of a trial that Spark did not finish
    ├── StudyInProgress        (RuntimeError) the trials object is in use by another fmin call, or the study
    │                                         that is to be resumed has a driver that is alive
    ├── StudyTakenOver         (RuntimeError) another driver has taken the study from this one
    ├── StudyCancelled         (RuntimeError) the Spark jobs of the study were cancelled from outside
    ├── ControlPortNotAvailable (OSError)     none of the ports that a study may open for its workers is free
    └── AllTrialsFailed        (hyperopt.exceptions.AllTrialsFailed)

Exceptions that an objective raises never leave ``fmin``: they fail only their trial and are kept there as
type, message and traceback.
"""

from __future__ import annotations

from hyperopt import exceptions as _hyperopt_exceptions


class SparktuneError(Exception):
    """Base of the exceptions that sparktune raises on purpose, except for bad arguments."""


class SparkNotAvailable(SparktuneError, ImportError):
    """pyspark is not installed, or Java is missing, or the Spark session has no usable context."""


class PlotlyNotAvailable(SparktuneError, ImportError):
    """A picture was asked for, and plotly is not installed."""


class OptunaNotAvailable(SparktuneError, ImportError):
    """One of Optuna's samplers was asked for, and optuna is not installed."""


class SklearnNotAvailable(SparktuneError, ImportError):
    """``sparktune.sklearn.SearchCV`` was asked for, and scikit-learn is not installed."""


class ObjectiveNotPicklable(SparktuneError, TypeError):
    """The objective, or something it refers to, cannot be sent to a Spark worker."""


class InvalidPoint(SparktuneError, ValueError):
    """A point of ``points_to_evaluate`` does not fit the search space."""


class InvalidSpace(SparktuneError, ValueError):
    """The search space cannot be searched: an empty range, no options, a label used twice."""


class DuplicateLabel(InvalidSpace, _hyperopt_exceptions.DuplicateLabel):  # type: ignore[misc]
    """Two hyperparameters of a search space have the same label."""


class NoMorePoints(SparktuneError, LookupError):
    """A searcher was asked for a point, and its algorithm has no more: the grid is exhausted."""


class SaveFileError(SparktuneError, ValueError):
    """``trials_save_file`` cannot be read, is in use, or holds trials that would be lost."""


class CannotRecord(SparktuneError, RuntimeError):
    """The study cannot be recorded where MLflow is set to record, and waiting would not help.

    The message has the address, what the store answered, and the remedy; ``mlflow=False`` records nothing.
    """


class CannotResume(SparktuneError, ValueError):
    """``resume=`` names no study that can be resumed, or space or algorithm are not those of this call."""


class StudyNotFound(SparktuneError, LookupError):
    """MLflow does not have the run, the run is not the parent run of a study, or MLflow does not answer."""


class WarmStartRefused(SparktuneError, ValueError):
    """A study that is to inform another has other parameters, another metric or goal."""


class InvalidSweep(SparktuneError, ValueError):
    """A sweep file is wrong. The message has a line for each problem: file, line, column, what."""


class StudyInProgress(SparktuneError, RuntimeError):
    """The same trials object, or the same recorded study, is in use by another ``fmin`` call."""


class StudyTakenOver(SparktuneError, RuntimeError):
    """Another driver has taken the study over (``take_over=True``); this one has ended."""


class StudyCancelled(SparktuneError, RuntimeError):
    """The job group, a job tag or all jobs of the ``fmin`` call were cancelled; what finished is kept."""


class ControlPortNotAvailable(SparktuneError, OSError):
    """None of the ports that the study may open for its workers is free, or it has no address here."""


class WorkerLost(SparktuneError, RuntimeError):
    """A trial's worker died for good, or its Spark job was cancelled from outside or refused.

    Never raised, but named in the trial's error.
    """


class AllTrialsFailed(SparktuneError, _hyperopt_exceptions.AllTrialsFailed):  # type: ignore[misc]
    """No trial completed, so there is no best point; the message has the most frequent cause."""
