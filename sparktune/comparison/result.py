"""What a comparison of search algorithms found: any-time curves, and their statistics.

Pure functions of a tidy table of curves, and ``Comparison``, which holds them together. See
``sparktune.compare``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        mean, deviation = values.mean().where(of_all), values.std().where(of_all)
        statistics = {"mean": mean, "std": deviation, "n": n}
        parts.append(pd.DataFrame({"algo": algo, axis: grid, **statistics}))
    columns = ["algo", axis, "mean", "std", "n"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def final_losses(curves: pd.DataFrame) -> pd.DataFrame:
    """The best loss of each repetition at its end: a row for each repetition, a column for each algorithm."""
    last = curves.groupby(["algo", "repeat"], sort=False).tail(1)
    table = last.pivot(index="repeat", columns="algo", values="best_loss")
    return table[list(dict.fromkeys(curves["algo"]))]


def reference_loss(curves: pd.DataFrame, reference: str | None) -> float | None:
    """The median final loss of the reference algorithm; None without one."""
    if reference is None or reference not in set(curves["algo"]):
        return None
    median = float(final_losses(curves)[reference].median())
    return median if np.isfinite(median) else None


def ranking(curves: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """One row for each algorithm, the best first.

    Args:
        curves: see ``curve``.
        reference: the algorithm whose median final loss the others are to reach, random search as a rule.

    Returns:
        Columns ``algo``; ``mean``, ``std``, ``median``, ``best`` and ``worst`` of the final losses;
        ``mean_rank`` among the algorithms over the repetitions that all of them have (ties share);
        ``repeats``: repetitions that ended; ``failed_trials``: evaluations without a loss in all of them;
        and with a reference ``trials_to_reference``: trials until its median final loss, the median over
        repetitions, infinite where most of them never get there, and ``reached``: the share that do.
    """
    import pandas as pd

    final = final_losses(curves)
    ranks = final.rank(axis=1, na_option="bottom")[final.notna().any(axis=1)]
    together = set(zip(curves["repeat"], curves["algo"], strict=True))
    complete = [r for r in ranks.index if all((r, algo) in together for algo in final.columns)]
    target = reference_loss(curves, reference)
    rows: list[dict[str, Any]] = []
    for algo in final.columns:
        of_algo = curves[curves["algo"] == algo]
        losses = final[algo].dropna()
        row: dict[str, Any] = {
            "algo": algo,
            "mean": losses.mean(),
            "std": losses.std(),
            "median": losses.median(),
            "best": losses.min(),
            "worst": losses.max(),
            "mean_rank": ranks.loc[complete, algo].mean(),
            "repeats": of_algo["repeat"].nunique(),
            "failed_trials": int((~np.isfinite(of_algo["loss"])).sum()),
        }
        if target is not None:
            hits = of_algo[of_algo["best_loss"] <= target].groupby("repeat")["trial"].min()
            every = hits.reindex(of_algo["repeat"].unique()).fillna(np.inf)
            row["trials_to_reference"] = float(np.sort(every)[(len(every) - 1) // 2])
            row["reached"] = float(np.isfinite(every).mean())
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(["mean_rank", "mean"], kind="stable")
    return table.reset_index(drop=True)


@dataclass(frozen=True, repr=False)
class Comparison:
    """What ``sparktune.compare`` found.

    Attributes:
        curves: a row for each trial of each repetition: ``algo``, ``repeat``, ``trial`` (1, 2, ... in the
            order in which they ended), ``time_s`` (seconds since the repetition began), ``loss`` (NaN for a
            failed one), ``best_loss`` (so far).
        reference: the algorithm whose median final loss the table measures the others by, or None.
        lost: (algorithm, repetition) -> why it did not end; its curve is missing.
        failures: cause -> failed trials, of all repetitions, the commonest first.
        run_id: the MLflow run that holds the comparison, or None.
        settings: what was asked for: ``max_evals``, ``repeats``, ``parallelism``, ``seed``.
    """

    curves: pd.DataFrame
    reference: str | None = None
    lost: Mapping[tuple[str, int], str] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    run_id: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_trials(self) -> pd.DataFrame:
        """See ``comparison.by_trials``."""
        return by_trials(self.curves)

    @property
    def by_time(self) -> pd.DataFrame:
        """See ``comparison.by_time``."""
        return by_time(self.curves)

    @property
    def table(self) -> pd.DataFrame:
        """See ``comparison.ranking``."""
        return ranking(self.curves, self.reference)

    def figure(self) -> Any:
        """A plotly figure: the mean best loss by trials and by time, with a band of a standard deviation.

        Raises:
            PlotlyNotAvailable: plotly is not installed.
        """
        from sparktune.plots import comparison as plots

        return plots.any_time(self.by_trials, self.by_time)

    def __repr__(self) -> str:
        return f"{self._title}\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._title)}</p>{self.table.to_html(index=False)}"

    @property
    def _title(self) -> str:
        text = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lost = f"; lost: {', '.join(f'{algo} {repeat}' for algo, repeat in self.lost)}" if self.lost else ""
        return f"Best loss so far ({text}){lost}"
