"""The tables of search.py. Pure functions of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from search_simulation import CUTS, Row

FLOOR = 0.01
"""No problem counts for less in the geometric mean: solved is solved."""

Group = dict[str, dict[str, list[Row]]]
"""Problem -> algorithm -> rows, the same seeds for each algorithm."""


def report(rows: Sequence[Row], algos: Sequence[str]) -> Iterator[str]:
    """Lines in Markdown: for each number of workers a table, and one by problem."""
    medians = {row["reference"]: np.array(row["median"]) for row in rows if "reference" in row}
    runs = [row for row in rows if "algo" in row and row["algo"] in algos]
    for workers in sorted({row["workers"] for row in runs}):
        group = common(runs, algos, workers)
        if not group:
            continue
        n_seeds = {len(rows) for by_algo in group.values() for rows in by_algo.values()}
        seeds = "-".join(map(str, sorted({min(n_seeds), max(n_seeds)})))
        yield f"\n### {workers} workers, {len(group)} problems, {seeds} seeds\n"
        yield from overall(group, algos, medians)
        yield ""
        yield from by_problem(group, algos, medians)


def common(runs: Sequence[Row], algos: Sequence[str], workers: int) -> Group:
    """The problems that every algorithm has been run on, with the seeds that all of them have."""
    found = {(row["problem"], row["algo"], row["seed"]): row for row in runs if row["workers"] == workers}
    group: Group = {}
    for name in dict.fromkeys(row["problem"] for row in runs):
        of = [
            {seed for problem, algo, seed in found if (problem, algo) == (name, wanted)} for wanted in algos
        ]
        if seeds := sorted(set.intersection(*of)):
            group[name] = {algo: [found[name, algo, seed] for seed in seeds] for algo in algos}
    return group


def cuts_of(group: Group) -> list[int]:
    """The cuts that all rows reach."""
    n_trials = min(row["trials"] for by_algo in group.values() for rows in by_algo.values() for row in rows)
    return [cut for cut in CUTS if cut <= n_trials]


def relative(
    group: Group, algos: Sequence[str], medians: dict[str, np.ndarray], cut: int
) -> list[np.ndarray]:
    """By problem ``(n_algos, n_seeds)`` regrets over the median random search's."""
    return [
        np.array([[row["regret"][str(cut)] for row in by_algo[algo]] for algo in algos])
        / max(medians[name][cut - 1], 1e-300)
        for name, by_algo in group.items()
    ]


def trials_to_reach(group: Group, algos: Sequence[str], medians: dict[str, np.ndarray]) -> list[np.ndarray]:
    """By problem ``(n_algos, n_seeds)``: trials until the median random search's end, over all.

    Infinite for runs that never get there.
    """
    found = []
    for name, by_algo in group.items():
        shares = np.full((len(algos), len(by_algo[algos[0]])), np.inf)
        for i, algo in enumerate(algos):
            for j, row in enumerate(by_algo[algo]):
                n_trials = row["trials"]
                hits = np.flatnonzero(np.array(row["curve"]) <= medians[name][n_trials - 1])
                if len(hits):
                    shares[i, j] = (hits[0] + 1) / n_trials
        found.append(shares)
    return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the first axis from 1, lowest first; ties share the mean of theirs."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return np.asarray(1 + below + (equal - 1) / 2)


def overall(group: Group, algos: Sequence[str], medians: dict[str, np.ndarray]) -> Iterator[str]:
    """One row for each algorithm."""
    cuts = cuts_of(group)
    columns: list[list[str]] = []
    headings: list[str] = []
    by_cut = {cut: relative(group, algos, medians, cut) for cut in cuts}
    for name, digits in (("geo", 3), ("mean", 3), ("rank", 2)):
        for cut in cuts:
            if name == "rank":
                figures = np.mean([ranks(regrets).mean(1) for regrets in by_cut[cut]], axis=0)
            else:
                each = np.array([regrets.mean(1) for regrets in by_cut[cut]])
                figures = each.mean(0) if name == "mean" else np.exp(np.log(np.maximum(each, FLOOR)).mean(0))
            headings.append(f"{name}@{cut}")
            columns.append([f"{figure:.{digits}f}" for figure in figures])
    shares = trials_to_reach(group, algos, medians)
    headings += ["trials to random's", "reach it", "duplicates", "near", "ms a suggestion", "/ hyperopt's"]
    medians_of_runs = np.median([np.median(share, axis=1) for share in shares], axis=0)
    columns.append([_share(figure) for figure in medians_of_runs])
    columns.append(
        [f"{np.mean([np.isfinite(share[i]).mean() for share in shares]):.0%}" for i in range(len(algos))]
    )
    columns += list(map(list, zip(*_counts(group, algos), strict=True)))
    if len(algos) > 1:
        headings.append("worst problem")
        columns.append([f"{name} ({factor:.2f})" for name, factor in worst(group, by_cut[cuts[-1]])])
    yield from _table(
        ["algorithm", *headings], [[algo, *cells] for algo, *cells in zip(algos, *columns, strict=True)]
    )


def worst(group: Group, regrets: Sequence[np.ndarray]) -> list[tuple[str, float]]:
    """For each algorithm the problem on which it is furthest behind the best of the others, and the factor.

    Args:
        group: whose problems the regrets are of.
        regrets: as ``relative`` gives them.
    """
    each = np.maximum([regret.mean(1) for regret in regrets], FLOOR)
    names, found = list(group), []
    for i in range(each.shape[1]):
        factors = each[:, i] / np.delete(each, i, axis=1).min(1)
        found.append((names[int(factors.argmax())], float(factors.max())))
    return found


def ms_of(rows: Sequence[Row]) -> float:
    """Processor milliseconds of a suggestion, on average."""
    return 1e3 * sum(row["suggest_s"] for row in rows) / sum(row["trials"] for row in rows)


def _counts(group: Group, algos: Sequence[str]) -> Iterator[list[str]]:
    """For each algorithm: duplicates and near-duplicates as a share of its suggestions, and its costs."""
    ms: dict[str, float] = {}
    for algo in algos:
        ms[algo] = ms_of([row for by_algo in group.values() for row in by_algo[algo]])
    base = next((ms[algo] for algo in algos if algo.startswith("hyperopt.tpe")), None)
    for algo in algos:
        rows = [row for by_algo in group.values() for row in by_algo[algo]]
        near = [row for row in rows if row["near"] is not None]
        yield [
            f"{sum(row['duplicates'] for row in rows) / sum(row['trials'] for row in rows):.2%}",
            f"{sum(row['near'] for row in near) / sum(row['trials'] for row in near):.2%}" if near else "",
            f"{ms[algo]:.2f}",
            "" if base is None else f"{ms[algo] / base:.3f}",
        ]


def by_problem(group: Group, algos: Sequence[str], medians: dict[str, np.ndarray]) -> Iterator[str]:
    """One row for each problem: relative regret at the last cut, in brackets the trials to random's; cost."""
    cut = cuts_of(group)[-1]
    regrets, shares = relative(group, algos, medians, cut), trials_to_reach(group, algos, medians)
    rows = []
    for name, regret, share in zip(group, regrets, shares, strict=True):
        costs = [ms_of(group[name][algo]) for algo in algos]
        cells = zip(regret.mean(1), np.median(share, axis=1), costs, strict=True)
        rows.append([name, *(f"{mean:.2f} ({_share(median)}), {ms:.1f} ms" for mean, median, ms in cells)])
    yield from _table([f"regret@{cut}", *algos], rows)


def _share(figure: float) -> str:
    return f"{figure:.2f}" if np.isfinite(figure) else "-"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "|---" * len(headings) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
