"""The tree of exceptions: what can be caught by which name."""

from __future__ import annotations

import pickle

import hyperopt.exceptions
import pytest

from sparktune import errors

pytestmark = pytest.mark.unit

TREE = {
    "SparkNotAvailable": ImportError,
    "OptunaNotAvailable": ImportError,
    "PlotlyNotAvailable": ImportError,
    "SklearnNotAvailable": ImportError,
    "ObjectiveNotPicklable": TypeError,
    "InvalidPoint": ValueError,
    "InvalidSpace": ValueError,
    "DuplicateLabel": hyperopt.exceptions.DuplicateLabel,
    "NoMorePoints": LookupError,
    "SaveFileError": ValueError,
    "InvalidSweep": ValueError,
    "WorkerLost": RuntimeError,
    "CannotRecord": RuntimeError,
    "CannotResume": ValueError,
    "StudyNotFound": LookupError,
    "WarmStartRefused": ValueError,
    "StudyInProgress": RuntimeError,
    "StudyCancelled": RuntimeError,
    "StudyTakenOver": RuntimeError,
    "ControlPortNotAvailable": OSError,
    "AllTrialsFailed": hyperopt.exceptions.AllTrialsFailed,
}


def test_the_tree_is_complete() -> None:
    defined = {
        name: value for name, value in vars(errors).items() if isinstance(value, type) and name[0] != "_"
    }
    assert set(defined) == {"SparktuneError", *TREE}


@pytest.mark.parametrize("name", TREE)
def test_each_has_two_parents(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.SparktuneError)
    assert issubclass(error, TREE[name])
    assert name in (errors.__doc__ or "")
    assert error.__doc__


@pytest.mark.parametrize("name", TREE)
def test_they_cross_processes(name: str) -> None:
    error = pickle.loads(pickle.dumps(getattr(errors, name)("the message")))
    assert str(error) == "the message"
