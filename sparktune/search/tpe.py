"""Tree-structured Parzen estimator: better points in fewer trials, also with many in parallel.

Bergstra et al. 2011 (Algorithms for Hyper-Parameter Optimization, section 4): split the finished trials into
good ones, density l, and the others, density g, and try where l(x) / g(x) is greatest among candidates drawn
from l, since there the expected improvement is greatest (their equations 2 and 3). Further parts, each with
its reason:

- *Joint kernels*, one per trial over all active parameters (Falkner et al. 2018): parameters interact.
- *And the product of the marginals*, side by side (``marginals``): l is the mean of both. Candidates of joint
  kernels are near one good trial in everything, and the search may never leave it; the product puts together
  what is good in different trials, as Bergstra's one density per parameter does. One ratio judges all.
- *Branches apart*: the options that decide which parameters there are, are drawn first (``branches``); then
  the kernels are those of trials in the same branch, and good is what is good in that branch. Four in ten
  suggestions that would follow the best trial go to another branch, so that the runner-up is tuned as well.
- *Weights by rank* in l: the best of the good trials are the most informative. The logarithmic ranks of
  CMA-ES (Hansen 2016, arXiv 1604.00772, equation 49) depend neither on the scale of the loss nor on outliers.
- *Bandwidths by the weighted spread* of the good trials (Scott's rule, as Falkner et al. 2018 do), in which
  the prior counts as one more: the search contracts in parameters on which they agree, never to a point.
- *Running trials count as observations of g* (in the spirit of the constant liar, Ginsbourger et al. 2010),
  but not in the split: they push the next ones away, and do not make others good.
- *Few candidates*: the best of many follows the noise of two estimated densities.
- *No configuration twice*, as long as there is another one.
- Failed trials and those that were terminated early are never good.

The first trials are spread evenly (``startup``), until ``n_startup_jobs`` have *finished*; so with 32 workers
the first 32 are spread evenly too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparktune import _hyperopt_names
from sparktune.search.history import History
from sparktune.search.novelty import Tried
from sparktune.search.parzen.model import DEFAULTS, Options, TreeModel
from sparktune.search.parzen.startup import spread_out
from sparktune.search.suggestion import suggestions, warn_once
from sparktune.space.parameters import Array
from sparktune.space.search_space import SearchSpace

__getattr__ = _hyperopt_names.missing_from(__name__, "hyperopt.tpe")


def suggest(
    new_ids: Sequence[int],
    domain: Any,
    trials: Any,
    seed: Any,
    prior_weight: float = DEFAULTS.prior_weight,
    n_startup_jobs: int = DEFAULTS.n_startup_jobs,
    n_EI_candidates: int = DEFAULTS.n_EI_candidates,  # noqa: N803  hyperopt's name
    gamma: float = DEFAULTS.gamma,
    verbose: bool = False,
) -> list[Any]:
    """Suggest the next trials by TPE; see the module for the algorithm and ``Options`` for its parameters.

    Use it as ``algo=tpe.suggest``, or with parameters: ``algo=partial(tpe.suggest, gamma=0.25)``.

    Args:
        new_ids: ids of the trials to suggest; several get different, good points in one call.
        domain: the ``hyperopt.Domain`` of the objective and its space.
        trials: the ``hyperopt.Trials`` so far; including running ones.
        seed: what the suggestions are drawn from; the same seed and trials give the same suggestions.
        prior_weight: see ``Options``; these four are hyperopt's arguments, in its order.
        n_startup_jobs: see ``Options``; hyperopt counts running trials here.
        n_EI_candidates: see ``Options``.
        gamma: see ``Options``; hyperopt's multiplies the square root of the number of trials, and so does
            one from 1 on here, with a warning.
        verbose: for compatibility with hyperopt; nothing is printed.

    Raises:
        InvalidSpace: the space cannot be searched.
        ValueError: a parameter is out of its range.
    """
    del verbose
    options = Options(n_startup_jobs, gamma, n_EI_candidates, prior_weight)
    if not 0 < gamma < 1:
        warn_once(domain, _of_gamma(gamma))
    if prior_weight != options.prior_weight:
        warn_once(
            domain,
            "prior_weight of tpe is %s: %s is used, since without a prior the search would stay where its "
            "trials are",
            prior_weight,
            options.prior_weight,
        )
    return suggestions(functools.partial(propose, options=options), new_ids, domain, trials, seed)


def _of_gamma(gamma: float) -> str:
    """The warning for a ``gamma`` that is not a share."""
    if gamma >= 1:
        return (
            f"gamma of tpe is {gamma}: as in hyperopt, {gamma} times the square root of the number of "
            "finished trials count as good. Below 1 it is the share of them, 0.15 by default"
        )
    return f"gamma of tpe is {gamma}: the best trial alone counts as good. 0.15 of all do by default"


def propose(
    space: SearchSpace, history: History, n: int, rng: np.random.Generator, options: Options = DEFAULTS
) -> Array:
    """The algorithm on configurations; see ``Propose``."""
    tried = Tried(history)
    rows = np.empty((n, len(space)))
    if history.n_finished < options.n_startup_jobs:
        known = np.concatenate([history.values, history.pending])
        for i in range(n):
            draw = functools.partial(_spread_out, space, np.concatenate([known, rows[:i]]), rng)
            rows[i] = tried.first_new(draw, lambda: space.sample(1, rng)[0])
        return rows
    model = TreeModel(space, history, n, options, rng)
    for i in range(n):
        rows[i] = tried.first_new(model.draw, lambda: space.sample(1, rng)[0])
        model.add_pending(rows[i])
    return rows


def _spread_out(space: SearchSpace, known: Array, rng: np.random.Generator) -> Array:
    return np.asarray(spread_out(space, known, 1, rng)[0])
