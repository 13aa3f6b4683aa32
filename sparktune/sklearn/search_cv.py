"""``SearchCV``: a search over an estimator's parameters, every candidate a Spark task."""

from __future__ import annotations

import functools
import logging
import math
import numbers
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import hyperopt
import numpy as np
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.utils import indexable

from sparktune.early_termination.base import EarlyTerminationPolicy
from sparktune.errors import AllTrialsFailed
from sparktune.fmin import fmin
from sparktune.private import of_sklearn
from sparktune.search import finite, grid
from sparktune.sklearn.candidates import as_search_space
from sparktune.sklearn.failures import raised, warn_of_failed_fits
from sparktune.sklearn.folds import Folds, RefitUnknown, parameters
from sparktune.sklearn.results import Candidate, cv_results, score_names
from sparktune.sklearn.scoring import check_refit, scorers_of
from sparktune.study.numeric import as_whole
from sparktune.study.trial import Trial
from sparktune.trials import arguments
from sparktune.trials.run import RunnableTrials
from sparktune.trials.spark import SparkTrials

if TYPE_CHECKING:
    from sklearn.model_selection._search import BaseSearchCV
else:
    (BaseSearchCV,) = GridSearchCV.__bases__  # it does not have a public name

logger = logging.getLogger("sparktune")

DEFAULT_N_ITER = 10
"""As in ``RandomizedSearchCV``."""


class SearchCV(BaseSearchCV):  # type: ignore[misc]
    """Search for the parameters of an estimator by cross-validation, every candidate a Spark task.

    Used as ``GridSearchCV`` and ``RandomizedSearchCV`` are, with the attributes that they have after ``fit``.
    The data is sent to the workers once. A candidate's folds run one after another in its task; the mean of
    its scores so far is reported after each, so that ``early_termination`` can end weak candidates. Each is a
    nested MLflow run with its parameters, and a metric for each fold's score.

    Args:
        estimator: what is tuned; it is cloned.
        space: what is searched: a dict of parameter -> list of values, ``scipy.stats`` distribution or ``hp``
            node; a list of such dicts, of which each candidate has one; or an ``hp`` expression that gives a
            dict, whose branches (``hp.choice`` of dicts) are merged into it.
        n_iter: how many candidates; None for 10, or for every point with ``algo=grid.suggest``. Where the
            space has fewer, each is fitted once, with a warning.
        algo: the search algorithm; None for ``tpe.suggest``.
        scoring, cv, error_score, return_train_score: as in scikit-learn.
        refit: as in scikit-learn. The search maximizes the score it names; the first where it names none of
            several.
        parallelism: the most candidates at the same time; None for what ``SparkTrials`` chooses for the
            cluster, or for that of ``trials``.
        n_jobs: the same under scikit-learn's name; negative for None.
        early_termination: a policy that ends weak candidates; one interval is one fold.
        timeout: seconds for the search, the last fit not counted; None for no limit, or for that of
            ``trials``.
        trials: where the candidates run: ``SparkTrials(...)`` or ``DriverTrials(...)`` with the options
            wanted; each ``fit`` takes a new copy of it. None for ``SparkTrials()``.
        random_state: a seed, or a ``RandomState``, of the search algorithm.
        verbose: above 0 shows a progress bar.

    Attributes:
        cv_results_: as in scikit-learn, a row for each candidate; and ``state`` (``completed``,
            ``early_terminated``, ``failed``, ``timed_out``, ``cancelled``) and ``run_id`` (its MLflow run).
            Folds that did not run are NaN, and then so is the mean. Candidates that were terminated early
            rank behind all that have every score, those that failed last.
        best_estimator_, best_params_, best_score_, best_index_: as in scikit-learn.
        scorer_, n_splits_, refit_time_, multimetric_: as in scikit-learn.
        classes_, n_features_in_, feature_names_in_: as in scikit-learn.
        trials_: the trials of the search: ``to_dataframe()``, ``run_id`` and so on.

    Raises:
        SklearnNotAvailable: scikit-learn is not installed (when the name is imported).
    """

    def __init__(
        self,
        estimator: Any,
        space: Any,
        *,
        n_iter: int | None = None,
        algo: Any = None,
        scoring: Any = None,
        refit: bool | str | Callable[[dict[str, Any]], int] = True,
        cv: Any = None,
        parallelism: int | None = None,
        n_jobs: int | None = None,
        early_termination: EarlyTerminationPolicy | None = None,
        timeout: float | None = None,
        trials: RunnableTrials | None = None,
        random_state: Any = None,
        verbose: int = 0,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.space = space
        self.n_iter = n_iter
        self.algo = algo
        self.parallelism = parallelism
        self.early_termination = early_termination
        self.timeout = timeout
        self.trials = trials
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:  # noqa: N803
        """Search, then fit the best candidate on all data (unless ``refit=False``).

        Args:
            X: data, ``(n_samples, n_features)``.
            y: target, or None.
            **params: ``groups`` for the splitter, others for the estimator's ``fit``; arrays with a value for
                each sample, such as ``sample_weight``, are split with ``X``. With scikit-learn's metadata
                routing they go where they are requested.

        Raises:
            ValueError: an argument is invalid, or no candidate could be fitted.
            InvalidSpace: ``space`` cannot be searched, or names parameters that the estimator does not have.
            Exception: of a fit, where ``error_score="raise"``.
        """
        self._check_arguments()
        X, y = indexable(X, y)  # noqa: N806
        routed = of_sklearn.routed(self, params)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(splitter.split(X, y, **routed.splitter.split))
        if not splits:
            raise ValueError(f"cv is {self.cv!r}, which gives no splits; give a number of folds from 2 on")
        scorers = self._scorers()
        names = frozenset(self.estimator.get_params(deep=True))
        space = as_search_space(self.space, names, type(self.estimator).__name__)
        folds = Folds(
            clone(self.estimator),
            X,
            y,
            splits,
            of_sklearn.scorers_of(self, self._scorers),
            self.refit if isinstance(self.refit, str) else None,
            f"mean_test_{self._guide(scorers)}",
            dict(routed.estimator.fit),
            dict(routed.scorer.score),
            self.error_score,
            self.return_train_score,
            sklearn.get_config(),
            names,
        )
        self.n_splits_ = len(splits)
        self.trials_ = self._new_trials(folds.metric, len(splits))
        self._search(folds, space)
        candidates = [
            Candidate(
                parameters(hyperopt.space_eval(space, dict(trial.config)), names),
                trial,
                self.trials_.memory.curves.get(trial.trial_id),
            )
            for trial in self.trials_.memory.records.values()
        ]
        warn_of_failed_fits(candidates, len(splits), self.error_score)
        several = isinstance(scorers, dict)
        known = score_names(candidates) or (list(scorers) if several else [])
        self.multimetric_ = several or (callable(self.scoring) and known not in (["score"], []))
        if self.multimetric_ and not several:
            check_refit(self.refit, known)
        guide = self._guide(scorers) if several or not self.multimetric_ else self._first(known)
        error_score = math.nan if self.error_score == "raise" else float(self.error_score)
        results = cv_results(
            candidates,
            len(splits),
            known or ["score"],
            guide,
            error_score,
            with_train=self.return_train_score,
        )
        if self.refit or not self.multimetric_:
            self._choose(results, guide)
        if self.refit:
            self._fit_best(X, y, routed.estimator.fit)
        self.scorer_ = scorers
        self.cv_results_ = results
        return self

    # -- before the search -----------------------------------------------------------------------------

    def _check_arguments(self) -> None:
        if not hasattr(self.estimator, "fit"):
            raise TypeError(
                f"estimator is {self.estimator!r}, which has no fit; give a scikit-learn estimator"
            )
        if self.n_iter is not None and (as_whole(self.n_iter) or 0) < 1:
            raise ValueError(f"n_iter is {self.n_iter!r}; it must be a whole number of at least 1, or None")
        if self.n_jobs is not None and as_whole(self.n_jobs) is None:
            raise ValueError(f"n_jobs is {self.n_jobs!r}; it must be a whole number or None")
        if self.n_jobs is not None and self.parallelism is not None:
            raise ValueError(
                f"n_jobs is {self.n_jobs}, and parallelism, which means the same, is {self.parallelism}: "
                "give one"
            )
        is_number = isinstance(self.error_score, numbers.Real) and not isinstance(self.error_score, bool)
        if not is_number and self.error_score != "raise":
            raise ValueError(f"error_score is {self.error_score!r}; it must be a number, NaN, or 'raise'")
        if not (isinstance(self.refit, bool | np.bool_ | str) or callable(self.refit)):
            raise ValueError(
                f"refit is {self.refit!r}; it must be a bool, the name of a score, or a function"
            )
        arguments.check_early_termination(self.early_termination)
        if self.trials is not None and not isinstance(self.trials, RunnableTrials):
            raise TypeError(
                f"trials is {self.trials!r} ({type(self.trials).__name__}); it must be trials that sparktune "
                "runs: SparkTrials(...), or DriverTrials(...) for candidates in threads of this process"
            )

    def _scorers(self) -> Any:
        """The scorer, or the scorers by name; see ``scorer_``."""
        found = scorers_of(self.estimator, self.scoring)
        if isinstance(found, dict):
            check_refit(self.refit, list(found))
        return found

    def _first(self, names: Sequence[str]) -> str:
        return self.refit if isinstance(self.refit, str) else names[0]

    def _guide(self, scorers: Any) -> str:
        """The name of the score that is maximized, where it is known before a candidate has run."""
        return self._first(list(scorers)) if isinstance(scorers, dict) else "score"

    def _new_trials(self, metric: str, n_splits: int) -> RunnableTrials:
        trials = SparkTrials() if self.trials is None else self.trials.anew()
        trials.metric, trials.goal = metric, "maximize"
        wanted = self.n_jobs if self.parallelism is None else self.parallelism
        if wanted is not None:
            trials.parallelism = arguments.checked_parallelism(wanted)
        if self.timeout is not None:
            arguments.check_limits(self.timeout, None)
            trials.timeout = self.timeout
        if self.early_termination is not None:
            trials.early_termination = self.early_termination
        if trials.early_termination is not None and n_splits == 1:
            logger.warning("early_termination has no effect: cv gives 1 split, so there is nothing to end")
            trials.early_termination = None
        return trials

    # -- the search ------------------------------------------------------------------------------------

    def _search(self, folds: Folds, space: Any) -> None:
        self.trials_.is_fatal = self._is_fatal
        try:
            fmin(
                folds,
                space,
                algo=self.algo,
                max_evals=self._max_evals(space),
                trials=self.trials_,
                rstate=self.random_state,
                show_progressbar=self.verbose > 0,
            )
        except AllTrialsFailed as error:
            self._raise_first()
            # As in scikit-learn, scores that are all NaN are not an error where a fit has succeeded.
            if all(not trial.result for trial in self.trials_.memory.records.values()):
                raise ValueError(f"no candidate could be scored: {error}") from error
        finally:
            del self.trials_.is_fatal
        self._raise_first()

    def _max_evals(self, space: Any) -> int | None:
        algo = self.algo
        while isinstance(algo, functools.partial):
            algo = algo.func
        if self.n_iter is None and algo is grid.suggest:
            return None
        n_iter = DEFAULT_N_ITER if self.n_iter is None else int(self.n_iter)
        size = finite.size(space)
        if size is None or size >= n_iter:
            return n_iter
        warnings.warn(
            f"the space has {size} candidates, fewer than n_iter={n_iter}: each is fitted once",
            UserWarning,
            stacklevel=4,
        )
        return size

    def _raise_first(self) -> None:
        """The error that ended the search."""
        for trial in self.trials_.memory.records.values():
            if trial.error is not None and self._is_fatal(trial):
                raise raised(trial.error)

    def _is_fatal(self, trial: Trial) -> bool:
        """Whether a failed candidate ends the search; one whose score is NaN has a result, and does not."""
        if trial.error is None or trial.result:
            return False
        return self.error_score == "raise" or trial.error.type_name == RefitUnknown.__name__

    # -- after the search ------------------------------------------------------------------------------

    def _choose(self, results: dict[str, Any], guide: str) -> None:
        if callable(self.refit):
            index = self.refit(results)
            if not isinstance(index, numbers.Integral):
                raise TypeError(f"the function refit gave {index!r}; it must give the index of a candidate")
            if not 0 <= int(index) < len(results["params"]):
                raise IndexError(
                    f"the function refit gave {index}; there are {len(results['params'])} candidates"
                )
        else:
            index = int(results[f"rank_test_{guide}"].argmin())
            if np.isnan(results[f"mean_test_{guide}"]).all():
                state = results["state"][index]
                warnings.warn(
                    f"no candidate has a score of every fold, so the best one is taken from those that are "
                    f"{state.replace('_', ' ')}, and best_score_ is NaN",
                    UserWarning,
                    stacklevel=3,
                )
            self.best_score_ = results[f"mean_test_{guide}"][index]
        self.best_index_ = index
        self.best_params_ = results["params"][index]

    def _fit_best(self, X: Any, y: Any, fit_params: dict[str, Any]) -> None:  # noqa: N803
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        began = time.time()
        if y is None:
            best.fit(X, **fit_params)
        else:
            best.fit(X, y, **fit_params)
        self.refit_time_ = time.time() - began
        self.best_estimator_ = best
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
