"""The pictures of a study, each from a trials object, an MLflow run or a data frame.

Every function takes a ``source``:

- a trials object (``SparkTrials``, ``DriverTrials``, ``SimulatedTrials``, hyperopt's ``Trials``); its study
  may be running;
- the id of an MLflow parent run, in the tracking store that is set in MLflow;
- a data frame as ``SparkTrials.to_dataframe()`` gives it: ``trial``, ``state`` and ``loss`` are needed;
  ``started_s``, ``ended_s`` (for times), ``reports`` (lists of numbers, for learning curves), ``duration_s``,
  ``attempts``, ``error``, ``stop_reason`` and ``run_id`` are used; every other column is a parameter.

and returns a ``plotly.graph_objects.Figure``. Where there is nothing to draw, the figure shows why. Every
function raises:

- ``PlotlyNotAvailable``: plotly is not installed.
- ``StudyNotFound``: MLflow does not have the run, or does not answer.
- ``TypeError``: the source does not hold trials.
- ``ValueError``: a data frame lacks a column, or there is no parameter of that name.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sparktune.plots import comparison
from sparktune.plots.drawings import (
    bars,
    history,
    learning,
    parallel,
    points,
    slices as slice_panels,
    timeline as timelines,
)
from sparktune.plots.sources import Source, table_of
from sparktune.plots.style import Spec, empty, figure
from sparktune.plots.table import Table

if TYPE_CHECKING:
    import plotly.graph_objects as go


JOINT_CANDIDATES = 8
"""Two or three parameters are chosen of so many of the most important."""


def any_time(source: Source | Mapping[str, Source | Sequence[Source]]) -> go.Figure:
    """The best value so far, by trials that have ended and by wall-clock time.

    Args:
        source: one study (see the module); or name -> study, or name -> list of repetitions, to compare
            searchers: their mean, and a band of one standard deviation either side.
    """
    if isinstance(source, Mapping):
        return figure(comparison.several(source))
    return figure(history.draw(table_of(source)))


def learning_curves(source: Source) -> go.Figure:
    """The primary metric as each trial reported it while it ran; marked where a policy ended it."""
    return figure(learning.draw(table_of(source)))


def parallel_coordinates(source: Source, params: Sequence[str] | None = None) -> go.Figure:
    """A line for each trial over its parameters; the best one stands out.

    Each option has a place, parameters that are not active a place below the axis, and parameters with a
    logarithmic distribution a logarithmic axis.

    Args:
        source: see the module.
        params: labels of the axes, in their order; by default the 14 most important at most, those that are
            active in every trial first.
    """
    table = table_of(source)
    labels = _chosen(table, params) or ordered(table, parallel.MAX_AXES)
    return figure(parallel.draw(table, labels))


def scatter(source: Source, x: str | None = None, y: str | None = None) -> go.Figure:
    """Two parameters against each other, coloured by value; by default the two most important ones."""
    return figure(joint_points(table_of(source), x, y))


def scatter_3d(source: Source, x: str | None = None, y: str | None = None, z: str | None = None) -> go.Figure:
    """Three parameters against each other, coloured by value; by default the three most important ones."""
    return figure(joint_points(table_of(source), x, y, z))


def param_importance(source: Source) -> go.Figure:
    """How much each parameter matters, estimated by PED-ANOVA (Watanabe et al., IJCAI 2023).

    See ``param_importances`` for the numbers.
    """
    return figure(bars.draw(table_of(source)))


def param_importances(source: Source) -> dict[str, float]:
    """Label -> its share of the importance of all parameters, the most important first.

    They add up to 1; all are 0 where no parameter stands out from chance; empty where fewer than 4 trials
    have a loss. A conditional parameter counts by its values in the trials that have it. Needs no plotly.
    """
    return dict(table_of(source).importances)


def slices(source: Source, params: Sequence[str] | None = None) -> go.Figure:
    """The value of each trial against each parameter, a panel for each.

    Args:
        source: see the module.
        params: labels; by default the 12 most important at most.
    """
    table = table_of(source)
    return figure(
        slice_panels.draw(table, _chosen(table, params) or table.most_important(slice_panels.MAX_PANELS))
    )


def timeline(source: Source) -> go.Figure:
    """When each trial ran, in slots; the title shows which share of the slots' time was used."""
    return figure(timelines.draw(table_of(source)))


def joint_points(table: Table, *wanted: str | None) -> Spec:
    """Trials as points in so many parameters; None is one of the most important.

    Raises:
        ValueError: there is no parameter of that name.
    """
    given = [label for label in wanted if label is not None]
    _check(table, given)
    labels = list(wanted)
    suggested = [*_joint(table, len(wanted)), *table.most_important(len(table.axes))]
    free = [label for label in dict.fromkeys(suggested) if label not in given]
    for place, label in enumerate(labels):
        if label is None and free:
            labels[place] = free.pop(0)
    found = [label for label in labels if label is not None]
    if len(found) < len(wanted):
        why = f"the trials have {len(table.axes)} parameters, and {len(wanted)} are needed"
        return empty(points.TITLE, why)
    return points.draw(table, found)


def _joint(table: Table, n: int) -> list[str]:
    """At most ``n`` labels: the most important that the best trial has, and that vary together.

    Where a parameter is active only with one value of another, their joint picture is empty.
    """
    best = table.best
    order = [label for label in table.most_important(len(table.axes)) if best is None or label in best.params]

    def weight(label: str) -> float:
        return table.importances.get(label, 0.0)

    def n_options(labels: Sequence[str]) -> int:
        # Options against each other show little.
        return sum(table.axes[label].kind == "category" for label in labels)

    for size in range(min(n, len(order)), 0, -1):
        choices = itertools.combinations(order[:JOINT_CANDIDATES], size)
        by_share = sorted(choices, key=lambda labels: (n_options(labels) > 1, -sum(map(weight, labels))))
        for labels in by_share:
            if _vary_together(table, labels):
                return list(labels)
    return order[:n]


def _vary_together(table: Table, labels: Sequence[str]) -> bool:
    rows = [row for row in table.with_loss if all(label in row.params for label in labels)]
    axes = [table.axes[label] for label in labels]
    return all(len({axis.coordinate(row.params[axis.label]) for row in rows}) > 1 for axis in axes)


def ordered(table: Table, limit: int) -> list[str]:
    """The most important parameters; those that are always active first."""
    chosen = table.most_important(limit)
    return sorted(chosen, key=lambda label: table.axes[label].is_conditional)


def _chosen(table: Table, params: Sequence[str] | None) -> list[str]:
    if params is None:
        return []
    labels = [params] if isinstance(params, str) else list(params)
    if not labels:
        raise ValueError(
            "params is empty; name at least one parameter, or leave it out for the most important ones"
        )
    _check(table, labels)
    return labels


def _check(table: Table, labels: Sequence[str]) -> None:
    unknown = [label for label in labels if label not in table.axes]
    if unknown:
        known = ", ".join(map(repr, table.axes)) or "none"
        raise ValueError(f"there is no parameter {unknown[0]!r}; the trials have {known}")
