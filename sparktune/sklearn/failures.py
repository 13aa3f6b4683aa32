"""Warnings and errors for failed fits, as in scikit-learn."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

from sklearn.exceptions import FitFailedWarning

from sparktune.sklearn.results import Candidate
from sparktune.study.trial import TrialError


def warn_of_failed_fits(candidates: Sequence[Candidate], n_folds: int, error_score: Any) -> None:
    """Warn of fits that failed and of candidates that are lost, once for all.

    Raises:
        ValueError: all did.
    """
    lost = sum(candidate.is_lost for candidate in candidates)
    failed = sum(
        n_folds if candidate.is_unfit else candidate.n_failed
        for candidate in candidates
        if not candidate.is_lost
    )
    if not failed and not lost:
        return
    total = n_folds * len(candidates)
    example = next(cause for candidate in candidates for cause in candidate.causes)
    if failed + n_folds * lost == total:
        raise ValueError(f"all {total} fits failed. The first cause: {example}")
    found = []
    if failed:
        found.append(
            f"{failed} of {total} fits failed; their score is {error_score} (error_score). To look into it, "
            "set error_score='raise'."
        )
    if lost:
        found.append(f"{lost} of {len(candidates)} candidates could not be fitted, and have no score.")
    warnings.warn(f"{' '.join(found)} The first cause: {example}", FitFailedWarning, stacklevel=3)


def raised(error: TrialError) -> Exception:
    """The exception of a worker, as far as its class is known here; the traceback is a note of it."""
    module, _, name = error.kind.removeprefix("<class '").removesuffix("'>").rpartition(".")
    found: Exception
    try:
        kind = getattr(importlib.import_module(module or "builtins"), name)
        made = kind(error.message)
        found = made if isinstance(made, Exception) else RuntimeError(error.summary)
    except Exception:  # its module is not here, or it takes other arguments
        found = RuntimeError(error.summary)
    found.add_note(f"on a worker:\n{error.traceback}")
    return found
