"""Any-time curves of repetitions: the best value so far, its mean and its deviation; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

CURVE_COLUMNS = ("algo", "repeat", "trial", "time_s", "loss", "best_loss")
TIME_POINTS = 101
"""How many points the common grid of times has."""


def best_so_far(losses: Any) -> Array:
    """The lowest finite loss up to each trial; NaN before the first.

    Args:
        losses: ``(n,)``, in the order in which the trials ended; NaN or infinite for those without a loss.
    """
    finite = np.where(np.isfinite(losses), np.asarray(losses, float), np.inf)
    best = np.minimum.accumulate(finite) if len(finite) else finite
    return np.where(np.isfinite(best), best, np.nan)


def at_times(times_s: Any, best: Any, grid_s: Any) -> Array:
    """The value of a falling curve at each of ``grid_s``: its latest point; NaN before the first.

    Args:
        times_s: ``(n,)`` seconds, in order.
        best: ``(n,)`` values.
        grid_s: ``(m,)`` seconds.

    Returns:
        ``(m,)`` values; after its last point the curve stays where it is.
    """
    known = np.concatenate([[np.nan], np.asarray(best, float)])
    return np.asarray(known[np.searchsorted(np.asarray(times_s, float), grid_s, side="right")], float)


def curve(algo: str, repeat: int, times_s: Sequence[float], losses: Sequence[float]) -> pd.DataFrame:
    """The rows of one repetition in the table of curves (``CURVE_COLUMNS``)."""
    import pandas as pd

    columns: dict[str, Any] = {
        "algo": [algo] * len(losses),
        "repeat": [repeat] * len(losses),
        "trial": np.arange(1, len(losses) + 1),
        "time_s": np.asarray(times_s, float),
        "loss": np.asarray(losses, float),
        "best_loss": best_so_far(losses),
    }
    return pd.DataFrame(columns, columns=list(CURVE_COLUMNS))


def by_trials(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the best loss after each number of trials that have ended.

    A repetition that ended with fewer trials stays at its last value.

    Returns:
        Columns ``algo``, ``trial``, ``mean``, ``std`` (of a sample; NaN for one value; both NaN until every
        repetition that ever has a loss has one), ``n`` (repetitions that have a loss by then).
    """
    grid = np.arange(1, int(curves["trial"].max()) + 1 if len(curves) else 1)
    return _statistics(curves, "trial", grid)


def by_time(curves: pd.DataFrame, n_points: int = TIME_POINTS) -> pd.DataFrame:
    """The same at ``n_points`` times from 0 to the end of the slowest repetition.

    Returns:
        Columns ``algo``, ``time_s``, ``mean``, ``std``, ``n``.
    """
    grid = np.linspace(0.0, float(curves["time_s"].max()), n_points) if len(curves) else np.zeros(0)
    return _statistics(curves, "time_s", grid)


def _statistics(curves: pd.DataFrame, axis: str, grid: Array | NDArray[np.int_]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for algo, of_algo in curves.groupby("algo", sort=False):
        values = pd.DataFrame(
            [at_times(one[axis], one["best_loss"], grid) for _, one in of_algo.groupby("repeat")]
        )
        n = values.count()
        # A mean over those that have a value by then would rise when another begins with a worse one.
        of_all = n == values.notna().any(axis=1).sum()
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = values.mean().where(of_all), values.std().where(of_all)
        # Beyond the largest float: as an unknown value.
        statistics = {
            "mean": mean.where(np.isfinite(mean)),
            "std": deviation.where(np.isfinite(deviation)),
            "n": n,
        }
        parts.append(pd.DataFrame({"algo": algo, axis: grid, **statistics}))
    columns = ["algo", axis, "mean", "std", "n"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
