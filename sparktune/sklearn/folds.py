"""The objective of ``SearchCV``, on a worker: a candidate is fitted and scored, fold after fold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from sklearn.base import clone

from sparktune.private import of_sklearn
from sparktune.study.trial import in_one_line
from sparktune.tracking.worker import autologging
from sparktune.worker.reporting import report

Parameters = dict[str, Any]
TIMES = ("fit_time", "score_time")


class RefitUnknown(ValueError):
    """``refit`` is not the name of a score that ``scoring`` gives."""


class AllFitsFailed(RuntimeError):
    """Every fit of a candidate failed."""


@dataclass(frozen=True)
class Folds:
    """The objective. Its result is flat, so that MLflow has each number as a metric of the trial's run.

    Attributes:
        estimator: not fitted; cloned for every fold.
        X, y: the data.
        splits: of each fold the rows to fit and the rows to score; the same for every candidate.
        scorer: as of ``of_sklearn.scorers_of``.
        guide: the score whose mean is maximized, where there are several; None for the first one.
        metric: the name under which the mean is reported.
        fit_params, score_params: further arguments of ``fit`` and of the scorers.
        error_score: the score of a fit that failed, or "raise".
        return_train_score: score the rows that were fitted, too.
        config: scikit-learn's settings on the driver.
        names: the parameters of the estimator; see ``parameters``.
    """

    estimator: Any
    X: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    scorer: Any
    guide: str | None
    metric: str
    fit_params: Mapping[str, Any]
    score_params: Mapping[str, Any]
    error_score: Any
    return_train_score: bool
    config: Mapping[str, Any]
    names: frozenset[str]

    def __call__(self, point: Any) -> dict[str, Any]:
        """Fit and score the candidate of a point.

        After each fold but the last the mean of the scores so far is reported: the study may end the trial
        there. Nothing is reported once a fit has failed.

        Raises:
            TrialTerminated: the study ends the trial.
            AllFitsFailed: every fit failed, and ``error_score`` is NaN.
            Exception: of the fit, where ``error_score`` is "raise"; of ``set_params``.
        """
        # The fits of all folds would log their parameters, scores and models into one run.
        with sklearn.config_context(**self.config), autologging.paused():
            return self._evaluated(parameters(point, self.names))

    def _evaluated(self, candidate: Parameters) -> dict[str, Any]:
        result: dict[str, Any] = {"status": "ok"}
        guiding: list[float] = []
        errors: list[str] = []
        for number, (train, test) in enumerate(self.splits):
            # Parameters may be estimators: each fold of a candidate gets its own.
            estimator = clone(self.estimator).set_params(**clone(candidate, safe=False))
            fold = of_sklearn.fold(
                estimator,
                self.X,
                self.y,
                scorer=self.scorer,
                train=train,
                test=test,
                fit_params=self.fit_params,
                score_params=self.score_params,
                return_train_score=self.return_train_score,
                error_score=self.error_score,
            )
            result |= {f"split{number}_{name}": float(fold[name]) for name in TIMES}
            if fold["fit_error"] is not None:
                errors.append(fold["fit_error"])
                result[f"split{number}_fit_error"] = in_one_line(cause(fold["fit_error"]))
            for part in ("test", "train") if self.return_train_score else ("test",):
                if fold["fit_error"] is None or isinstance(fold[f"{part}_scores"], dict):
                    scores = by_name(fold[f"{part}_scores"])
                    result |= {f"split{number}_{part}_{name}": scores[name] for name in scores}
            guiding.append(self._guiding(fold["test_scores"]))
            # A trial that is ended here has no result, which would lose the failed fit.
            if not errors and number + 1 < len(self.splits):
                report(statistics.fmean(guiding), step=number + 1)
        if len(errors) == len(self.splits) and math.isnan(guiding[-1]):
            error = AllFitsFailed(f"every fit of this candidate failed: {cause(errors[0])}")
            error.add_note(errors[0])
            raise error
        return result | self._summary(result, guiding, errors)

    def _guiding(self, scores: Any) -> float:
        if not isinstance(scores, dict):  # of a failed fit: the number of scores is not known
            return float(scores)
        if self.guide is None:
            return float(next(iter(scores.values())))
        if self.guide not in scores:
            raise RefitUnknown(
                f"refit is {self.guide!r}, and scoring gives {sorted(scores)}: name one of these, or set "
                "refit=False"
            )
        return float(scores[self.guide])

    def _summary(
        self, result: Mapping[str, Any], guiding: Sequence[float], errors: Sequence[str]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in dict.fromkeys(key.partition("_")[2] for key, v in result.items() if isinstance(v, float)):
            keys = [f"split{number}_{name}" for number in range(len(self.splits))]
            if all(key in result for key in keys):
                values = np.array([result[key] for key in keys])
                found |= {f"mean_{name}": float(values.mean()), f"std_{name}": float(values.std())}
        mean = found[self.metric] = statistics.fmean(guiding)
        if math.isnan(mean):
            text = in_one_line(cause(errors[0])) if errors else "a scorer failed, or gave NaN"
            found |= {"status": "fail", "error": text}
        return found


def cause(traceback: str) -> str:
    """The exception at the end of a traceback, with all lines of its message."""
    lines = traceback.rstrip().splitlines()
    last_frame = max((n for n, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    behind = (n for n in range(last_frame + 1, len(lines)) if not lines[n].startswith(" "))
    return "\n".join(lines[next(behind, 0) :])


def by_name(scores: Any) -> dict[str, float]:
    """Scores by their names; a single one is called ``score``."""
    if not isinstance(scores, dict):
        return {"score": float(scores)}
    return {name: float(score) for name, score in scores.items()}


def parameters(point: Any, names: frozenset[str]) -> Parameters:
    """The candidate at a point: parameter -> value.

    A mapping under a key that is not a parameter is a branch of the space, as an ``hp.choice`` of dicts gives
    it: it contains parameters.
    """
    if not isinstance(point, Mapping):
        raise TypeError(
            f"the search space gives {point!r} ({type(point).__name__}); it must give a dict of parameter -> "
            "value, as {'C': hp.loguniform('C', -3, 3)} does"
        )
    found: Parameters = {}
    for key, value in point.items():
        if isinstance(value, Mapping) and key not in names:
            found |= parameters(value, names)
        else:
            found[key] = value
    return found
