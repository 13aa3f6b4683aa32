"""The result of a comparison of search algorithms: any-time curves, and their statistics.

Pure functions of a tidy table of curves, and ``Comparison``, which holds them together. See
``sparktune.compare``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sparktune.plots.statistics import at_times, best_so_far, by_time, by_trials, curve

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Comparison",
    "at_times",
    "best_so_far",
    "by_time",
    "by_trials",
    "curve",
    "final_losses",
    "ranking",
]


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
    """The result of ``sparktune.compare``.

    Attributes:
        curves: a row for each trial of each repetition: ``algo``, ``repeat``, ``trial`` (1, 2, ... in the
            order in which they ended), ``time_s`` (seconds since the repetition began), ``loss`` (NaN for a
            failed one), ``best_loss`` (so far).
        reference: the algorithm whose median final loss the table compares the others with, or None.
        lost: (algorithm, repetition) -> why it did not end; its curve is missing.
        failures: cause -> failed trials, of all repetitions, the commonest first.
        run_id: the MLflow run that holds the comparison, or None.
        settings: the arguments: ``max_evals``, ``repeats``, ``parallelism``, ``seed``.
    """

    curves: pd.DataFrame
    reference: str | None = None
    lost: Mapping[tuple[str, int], str] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    run_id: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_trials(self) -> pd.DataFrame:
        """Statistics by number of trials, see ``comparison.by_trials``."""
        return by_trials(self.curves)

    @property
    def by_time(self) -> pd.DataFrame:
        """Statistics by time, see ``comparison.by_time``."""
        return by_time(self.curves)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each algorithm, see ``comparison.ranking``."""
        return ranking(self.curves, self.reference)

    def figure(self) -> Any:
        """A plotly figure: the mean best loss by trials and by time, with a band of a standard deviation.

        Raises:
            PlotlyNotAvailable: plotly is not installed.
        """
        from sparktune.plots import comparison as plots

        return plots.any_time(self.by_trials, self.by_time)

    def to_html(self) -> str:
        """The figure as a page that needs no network.

        Raises:
            PlotlyNotAvailable: plotly is not installed.
        """
        from sparktune.plots import comparison as plots, page

        return page.self_contained(plots.draw(self.by_trials, self.by_time), self._title)

    def __repr__(self) -> str:
        return f"{self._title}\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._title)}</p>{self.table.to_html(index=False)}"

    @property
    def _title(self) -> str:
        text = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lost = f"; lost: {', '.join(f'{algo} {repeat}' for algo, repeat in self.lost)}" if self.lost else ""
        return f"Best loss so far ({text}){lost}"
