"""``cv_results_``: the results of the candidates, with the keys and shapes of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from sparktune.early_termination.base import Curve
from sparktune.sklearn.folds import TIMES, AllFitsFailed, Parameters
from sparktune.study.trial import Trial, TrialState

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """One candidate.

    Attributes:
        params: parameter -> value.
        trial: its trial.
        curve: the means that it reported, or None.
    """

    params: Parameters
    trial: Trial
    curve: Curve | None = None

    def value(self, name: str) -> float | None:
        """A number of its result, such as ``split0_test_score``."""
        value = (self.trial.result or {}).get(name)
        return float(value) if isinstance(value, float | int) else None

    @property
    def n_failed(self) -> int:
        """How many fits failed, as far as its result shows."""
        return sum(key.endswith("_fit_error") for key in self.trial.result or {})

    @property
    def is_unfit(self) -> bool:
        """Whether it failed with no result: every fold did, or it is lost."""
        return self.trial.state is TrialState.FAILED and not self.trial.result

    @property
    def is_lost(self) -> bool:
        """Whether no fold has a score: its worker died, or its parameters could not be set."""
        error = self.trial.error
        return self.is_unfit and (error is None or error.type_name != AllFitsFailed.__name__)

    @property
    def causes(self) -> list[str]:
        """Why its fits failed."""
        own = [str(v) for key, v in (self.trial.result or {}).items() if key.endswith("_fit_error")]
        return own or ([self.trial.error.summary] if self.trial.error and self.is_unfit else [])

    def folds_of_reports(self) -> list[float]:
        """The scores behind the reported means: n times the n-th mean less n - 1 times the one before."""
        sums = [0.0] + [n * mean for n, mean in enumerate(self.curve.values if self.curve else (), 1)]
        scores = np.diff(sums)
        return [float(score) if math.isfinite(score) else math.nan for score in scores]


def score_names(candidates: Sequence[Candidate]) -> list[str]:
    """The names of the scores, in their order: ``["score"]`` for a single one."""
    prefix = "split0_test_"
    found = (k.removeprefix(prefix) for c in candidates for k in c.trial.result or {} if k.startswith(prefix))
    return list(dict.fromkeys(found))


def cv_results(
    candidates: Sequence[Candidate],
    n_splits: int,
    names: Sequence[str],
    guide: str,
    error_score: float,
    *,
    with_train: bool,
) -> dict[str, Any]:
    """The table of all candidates, those that failed and those that were ended too.

    Args:
        candidates: in the order of their trials.
        n_splits: how many folds there are.
        names: of the scores.
        guide: the score that was searched by.
        error_score: the score of a fit that failed.
        with_train: whether the fitted rows were scored, too.

    Returns:
        scikit-learn's keys, and ``state`` and ``run_id`` of each candidate's trial.
    """
    results: dict[str, Any] = {}
    for name in TIMES:
        _add(results, name, _folds(candidates, n_splits, name, math.nan), splits=False)
    results |= _parameters(candidates)
    results["params"] = [candidate.params for candidate in candidates]
    for score in names:
        for part in ("test", "train") if with_train else ("test",):
            values = _folds(candidates, n_splits, f"{part}_{score}", error_score)
            if part == "test" and score == guide:
                for row, candidate in zip(values, candidates, strict=True):
                    if candidate.trial.state is TrialState.EARLY_TERMINATED:
                        known = candidate.folds_of_reports()[:n_splits]
                        row[: len(known)] = known
            _add(results, f"{part}_{score}", values, splits=True)
            if part == "test":
                results[f"rank_test_{score}"] = ranks(candidates, values)
    results["state"] = np.array([candidate.trial.state.value for candidate in candidates], dtype=object)
    results["run_id"] = np.array([candidate.trial.run_id for candidate in candidates], dtype=object)
    return results


def _folds(candidates: Sequence[Candidate], n_splits: int, name: str, error_score: float) -> Floats:
    """``(n_candidates, n_splits)``; NaN where a fold did not run."""
    values = np.full((len(candidates), n_splits), math.nan)
    for row, candidate in zip(values, candidates, strict=True):
        for number in range(n_splits):
            value = candidate.value(f"split{number}_{name}")
            if value is not None:
                row[number] = value
            elif f"split{number}_fit_error" in (candidate.trial.result or {}):
                row[number] = error_score
    return values


def _add(results: dict[str, Any], name: str, values: Floats, *, splits: bool) -> None:
    if splits:
        results |= {f"split{number}_{name}": column for number, column in enumerate(values.T.copy())}
    with np.errstate(invalid="ignore"):  # of infinite scores
        results[f"mean_{name}"], results[f"std_{name}"] = values.mean(axis=1), values.std(axis=1)


def ranks(candidates: Sequence[Candidate], values: Floats) -> npt.NDArray[np.int32]:
    """1 for the best mean; equal ones share the lower rank.

    Candidates with a score for every fold come first, then those terminated early, by the mean of the folds
    that ran; last, together, all others.
    """
    is_whole = ~np.isnan(values).any(axis=1)
    is_partial = np.array(
        [c.trial.state is TrialState.EARLY_TERMINATED and not np.isnan(row).all() for c, row in
         zip(candidates, values, strict=True)],
        dtype=bool,
    ) & ~is_whole  # fmt: skip
    found = np.full(len(candidates), is_whole.sum() + is_partial.sum() + 1)
    found[is_whole] = rankdata(-values[is_whole].mean(axis=1), method="min")
    if is_partial.any():
        means = np.nanmean(values[is_partial], axis=1)
        found[is_partial] = is_whole.sum() + rankdata(-means, method="min")
    return found.astype(np.int32)


def _parameters(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """A masked array for each parameter, masked where a candidate does not have it."""
    names = dict.fromkeys(name for candidate in candidates for name in candidate.params)
    found = {}
    for name in names:
        there = [c.params[name] for c in candidates if name in c.params]
        data: Any = np.zeros(len(candidates), dtype=_dtype(there))
        for row, candidate in enumerate(candidates):
            if name in candidate.params:
                data[row] = candidate.params[name]
        mask = [name not in candidate.params for candidate in candidates]
        found[f"param_{name}"] = np.ma.MaskedArray(data, mask)
    return found


def _dtype(values: Sequence[Any]) -> Any:
    """That of the numbers, as in scikit-learn from 1.5 on; else object."""
    kinds = {bool if isinstance(v, bool | np.bool_) else type(v) for v in values}
    if kinds == {bool}:
        return np.bool_
    if bool not in kinds and all(issubclass(kind, int | float | np.number) for kind in kinds):
        try:
            return np.result_type(*kinds)
        except (TypeError, ValueError):  # numbers without a common type
            return object
    return object
